"""LLaVA-Bench: a language model's scores of 1 to 10 of the reference's answer and the model's, as a ratio of means.

    questions.jsonl, or the reviews themselves ─▶ gold
    reviews .jsonl {"question_id", "category", "tuple": [reference, model], "content"} ─▶ one pair of scores each

The official figure (haotian-liu/LLaVA `summarize_gpt_review.py`) is 100 times the mean of the model's scores over the
mean of the reference's, for each category and for all; it can exceed 100. A review that could not be read is [-1, -1]
in the file, and is averaged in there: failures lower both means, and a file of nothing else gives 100. Here such pairs
are left out and counted; `llava` does what the script does. The script rounds both means to 3 places and the ratio to
1; figures here are unrounded shares. `model` and `reference` are the means, as shares of 10.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import field_validator

from mminstruct.evaluation.item import Item
from mminstruct.evaluation.judges.pairwise import Scores, tally
from mminstruct.evaluation.official import Official, json_lines, record, unique, unique_items
from mminstruct.evaluation.scorers.metric import Figures, Metric, Predictions, Variant, Verdict, only_predicted

PREFIX = "llava_bench_"
FAILED = (-1.0, -1.0)


class Question(Official):
    """A line of the questions, or of a file of reviews."""

    question_id: int | str
    category: str = ""
    text: str = ""
    image: str = ""

    @property
    def kind(self) -> str:
        """The category as reviews have it: `llava_bench_conv`. Reviews of other sets have names of their own."""
        return self.category if not self.text or not self.category else PREFIX + self.category


class Review(Official):
    """A line of a file of reviews; the oldest call the pair `score`."""

    question_id: int | str
    tuple: list[float] | None = None
    score: list[float] | None = None

    @field_validator("tuple", "score")
    @classmethod
    def _is_a_pair(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and len(value) != 2:
            raise ValueError(f"{len(value)} scores; a review has two, the reference's and the model's")
        return value


def read_gold(path: Path) -> list[Item]:
    """The questions of questions.jsonl, or of a file of reviews. Raises `DataError` with file and line."""

    def items() -> Iterator[tuple[str, Item]]:
        for place, value in json_lines(path):
            found = record(place, value, Question)
            name = str(found.question_id)
            yield (
                place,
                Item(id=name, question=found.text, answers=("",), kind=found.kind, cluster=found.image or name),
            )

    return unique_items(items())


def read_reviews(path: Path) -> dict[str, str]:
    """id -> [[reference, model]] as JSON. Raises `DataError` with file and line."""

    def reviews() -> Iterator[tuple[str, str, str]]:
        for place, value in json_lines(path):
            found = record(place, value, Review)
            pair = found.tuple if found.tuple is not None else found.score
            yield place, str(found.question_id), json.dumps([pair])

    return unique(reviews())


def pairs_of(text: str | None) -> list[Scores | None]:
    """The pairs (reference, model) of a text as `read_reviews` writes it, one for each order in which they were judged.

    None stands for one that failed, and for a text of another kind.
    """
    try:
        found = json.loads(text or "null")
    except ValueError:
        return [None]
    return [_pair(one) for one in found] if isinstance(found, list) and found else [None]


def _pair(value: Any) -> Scores | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
        return None
    return (float(value[0]), float(value[1])) if min(value) >= 0 else None


def _judged(failed: Scores | None) -> Callable[[Sequence[Item], Predictions], list[Verdict]]:
    def judge_all(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
        return [_verdict(pairs_of(text), failed) for text in predictions]

    return judge_all


def _verdict(pairs: Sequence[Scores | None], failed: Scores | None) -> Verdict:
    """`parts` are the reference's and the model's score in each order; the score is the model's mean as share of 10."""
    known = [failed if pair is None else pair for pair in pairs]
    if any(pair is None for pair in known):
        return Verdict(0.0, parsed=False, excluded=True)
    parts = tuple(score for pair in known if pair is not None for score in pair)
    return Verdict(math.fsum(parts[1::2]) / len(known) / 10, parsed=None not in pairs, parts=parts)


def _total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    counted = [pair for pair in zip(items, verdicts, strict=True) if not pair[1].excluded]
    everything = [verdict for _, verdict in counted]
    kinds: dict[str, list[Verdict]] = defaultdict(list)
    for item, verdict in counted:
        if item.kind:
            kinds[item.kind].append(verdict)
    figures: Figures = {"score": _ratio(everything)}
    figures |= {kind: _ratio(found) for kind, found in sorted(kinds.items())}
    figures |= {"reference": _mean(everything, 0), "model": _mean(everything, 1)}
    twice = [verdict.parts for verdict in everything if len(verdict.parts) == 4]
    if twice:
        ended = tally(((one[0], one[1]), (one[2], one[3])) for one in twice)
        counts = {"won": ended.second, "lost": ended.first, "tied": ended.tie, "disagreed": ended.disagreed}
        figures |= {name: count / len(twice) for name, count in counts.items()}
    return figures


def _mean(verdicts: Sequence[Verdict], place: int) -> float | None:
    """The mean of the reference's (0) or the model's (1) scores, as a share of 10."""
    return _sum(verdicts, place) / len(verdicts) / 10 if verdicts else None


def _sum(verdicts: Sequence[Verdict], place: int) -> float:
    """Of the scores of one side; a pair in two orders counts once, by its mean."""
    return math.fsum(math.fsum(one.parts[place::2]) / (len(one.parts) // 2) for one in verdicts)


def _ratio(verdicts: Sequence[Verdict]) -> float | None:
    reference = _sum(verdicts, 0)
    return _sum(verdicts, 1) / reference if reference else None


METRIC = Metric(
    name="llava-bench",
    summary="Mean score of the model over that of the reference, by a language model (LLaVA-Bench).",
    variants=(
        Variant(
            "readable",
            "haotian-liu/LLaVA llava/eval/summarize_gpt_review.py, but reviews that could not be read are left out.",
            _judged(None),
            _total,
        ),
        Variant(
            "llava",
            "haotian-liu/LLaVA llava/eval/summarize_gpt_review.py as it is: a review that could not be read counts "
            "as -1 for both (lmms-eval does the same).",
            _judged(FAILED),
            _total,
        ),
    ),
    files="gold: questions.jsonl, or the reviews; predictions: reviews .jsonl {question_id, category, tuple}",
    gold=read_gold,
    predictions=read_reviews,
    pairing=only_predicted,  # the script knows no questions but those of its reviews
)
