"""MM-Vet: grades of 0.0 to 1.0 that a language model gave, by capability and by set of capabilities.

    mm-vet.json {id: {question, answer, capability, ...}} ─▶ gold
    MODEL_JUDGE-grade-Nruns.json {id: {"score": [0.5, ...]}} ─▶ one grade per run

What is kept of the official program (yuweihao/MM-Vet `mm-vet_evaluator.py`): each run's sum is divided by all questions
of the set, so a question without a grade counts 0; `std` is the population's, over the runs; a question with several
capabilities counts for each. Its own grades are 0.0 where the judge could not be read after five tries, so a grade file
does not tell failures from wrong answers. It names a set of capabilities by the order of a Python set, which changes
from run to run; here the names are sorted. It prints per cent rounded to one place; figures here are unrounded shares.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_object, record, unique_items
from mminstruct.evaluation.scorers.metric import Figures, Metric, Predictions, Variant, Verdict, missing_is_wrong


class Question(Official):
    """A question of mm-vet.json."""

    imagename: str
    question: str
    answer: str
    capability: list[str]


class Needs(Official):
    """What an item knows beyond its answer."""

    capability: tuple[str, ...]


class Graded(Official):
    """A question's entry in a grade file."""

    score: list[float]


def read_gold(path: Path) -> list[Item]:
    """The questions of mm-vet.json; `kind` is the set of capabilities. Raises `DataError` with file and id."""

    def items() -> Any:
        for name, place, value in json_object(path):
            found = record(place, value, Question)
            capabilities = sorted(set(found.capability))
            yield (
                place,
                Item(
                    id=name,
                    question=found.question,
                    answers=(found.answer,),
                    kind="_".join(capabilities),
                    cluster=found.imagename,
                    facts={"capability": capabilities},
                ),
            )

    return unique_items(items())


def read_grades(path: Path) -> dict[str, str]:
    """id -> the grades of its runs, as JSON. Raises `DataError` with file and id; runs must be equally many."""
    found: dict[str, str] = {}
    runs: dict[int, str] = {}
    for name, place, value in json_object(path):
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = [value]
        if isinstance(value, list):
            value = {"score": value}
        grades = record(place, value, Graded).score
        if not grades:
            raise DataError(f"{place} holds no grades; each question needs one for every run")
        runs.setdefault(len(grades), name)
        if len(runs) > 1:
            (first, one), (second, other) = list(runs.items())[:2]
            raise DataError(f"{path}: {one!r} has {first} grades and {other!r} {second}; finish all runs of the judge")
        found[name] = json.dumps(grades)
    if not found:
        raise DataError(f"{path} holds no grades; give the file of the judge's grades")
    return found


def grades_of(text: str) -> list[float | None] | None:
    """The grades of a text as `read_grades` writes it, None in place of one that failed; None for any other text."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or not found:
        return None
    if not all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in found):
        return None
    return [None if one is None else float(one) for one in found]


def _judged(missing: Verdict) -> Any:
    def judge_all(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
        return [missing if text is None else _verdict(text) for text in predictions]

    return judge_all


def _verdict(text: str) -> Verdict:
    """`parts` are the runs' grades, NaN for one that failed."""
    grades = grades_of(text)
    known = [grade for grade in grades or () if grade is not None]
    if grades is None or not known:
        return Verdict(0.0, parsed=False, excluded=True)
    parts = tuple(math.nan if grade is None else grade for grade in grades)
    return Verdict(math.fsum(known) / len(known), answer=text, parts=parts)


def _total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    counted = [pair for pair in zip(items, verdicts, strict=True) if not pair[1].excluded]
    groups: dict[str, list[float]] = defaultdict(list)
    for item, verdict in counted:
        for capability in record(f"item {item.id!r}", dict(item.facts), Needs).capability:
            groups[capability].append(verdict.score)
    sets: dict[str, list[float]] = defaultdict(list)
    for item, verdict in counted:
        sets[f"set {item.kind}"].append(verdict.score)
    figures: Figures = {"score": _mean([verdict.score for _, verdict in counted])}
    for group in (groups, sets):
        # The most frequent first, as the official tables have them.
        figures |= {name: _mean(group[name]) for name in sorted(group, key=lambda name: (-len(group[name]), name))}
    runs = [_mean(run) for run in _runs([verdict for _, verdict in counted])]
    if len(runs) > 1:
        known = [run for run in runs if run is not None]
        middle = math.fsum(known) / len(known)
        figures["std"] = math.sqrt(math.fsum((run - middle) ** 2 for run in known) / len(known))
        figures |= {f"run {number}": run for number, run in enumerate(runs, 1)}
    return figures


def _runs(verdicts: Sequence[Verdict]) -> list[list[float]]:
    """The grades of each run; what has none at all counts 0 in every run, a failed one in none."""
    count = max((len(verdict.parts) for verdict in verdicts), default=0)
    runs: list[list[float]] = [[] for _ in range(count)]
    for verdict in verdicts:
        for run, grade in zip(runs, verdict.parts or (0.0,) * count, strict=False):
            if not math.isnan(grade):
                run.append(grade)
    return runs


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


METRIC = Metric(
    name="mm-vet",
    summary="Grades from 0 to 1 by a language model, by capability (MM-Vet).",
    variants=(
        Variant(
            "official",
            "yuweihao/MM-Vet mm-vet_evaluator.py: the mean over runs of the mean grade; a question without a grade "
            "counts 0. Judgements that failed in a run of this project are left out.",
            _judged(Verdict(0.0, parsed=False)),
            _total,
        ),
        Variant(
            "graded-only",
            "As official, but questions without a grade are left out, for grades of a part of the set.",
            _judged(Verdict(0.0, parsed=False, excluded=True)),
            _total,
        ),
    ),
    files="gold: mm-vet.json; predictions: the judge's ...-grade-Nruns.json {id: {score: [...]}}, or {id: [...]}",
    gold=read_gold,
    predictions=read_grades,
    pairing=missing_is_wrong,
)
