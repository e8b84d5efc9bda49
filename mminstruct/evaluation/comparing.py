"""Two evaluations on the same questions, question by question: is b better than a, where, and by how much.

    RUN/report.json, RUN/KEY/predictions.jsonl ── read_run, Run.answers ──▶ Answers
    Answers of a, Answers of b ── require_same ── compare_answers ──▶ comparison.json, comparison.html

Answers are judged again by the scorers of today, both runs' by the same. Whatever would make the difference one of
questions and not of models is refused: other questions, gold answers, prompts, media, protocols or scorers.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.benchmark import Benchmark
from mminstruct.evaluation.gallery import Collection, Exhibit, Pictures, asked, side, stills
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import json_lines, records, unique_items
from mminstruct.evaluation.own_files import GoldLine, question_line
from mminstruct.evaluation.page import render
from mminstruct.evaluation.requests import Keys
from mminstruct.evaluation.results import protocol_facts
from mminstruct.evaluation.runner import first_asked
from mminstruct.evaluation.scorers import Score, scorer
from mminstruct.evaluation.scorers.metric import Total, Verdict, mean
from mminstruct.evaluation.statistics import compare, is_mean
from mminstruct.files import read_json, write_json, write_text

SHOWN = 3
STILLS = 6
_LOOKS = {1: "right", 0: "partly", -1: "wrong"}


class RunLine(GoldLine):
    """A line of a run's `predictions.jsonl`."""

    prediction: str
    finish: str = "end"
    asked: str = ""
    images: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Answers:
    """What a run answered to a benchmark.

    Attributes:
        name: of the run.
        benchmark, scorer: the benchmark's name, and of its scorers the primary one.
        scorers, protocol: as `report.json` has them.
        asked: a hash of each prompt and its media; empty texts where they are not known.
    """

    name: str
    benchmark: str
    scorer: str
    scorers: tuple[str, ...]
    protocol: dict[str, Any]
    items: list[Item]
    texts: list[str]
    cut_off: list[bool]
    asked: list[str]

    def score(self) -> Score:
        """The primary scorer's judgement."""
        return scorer(self.scorer).score(self.items, self.texts)


@dataclass(frozen=True)
class Run:
    """The folder of an evaluation."""

    folder: Path
    report: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def keys(self) -> list[str]:
        """Of its benchmarks."""
        return list(self.report["benchmarks"])

    def answers(self, key: str) -> Answers:
        """Raises `DataError` where the run has no such benchmark or its files are broken."""
        if key not in self.report["benchmarks"]:
            known = ", ".join(self.keys)
            raise DataError(f"{self.folder} holds no answers to {key!r}, only to {known}; compare what both were asked")
        numbers, path = self.report["benchmarks"][key], self.folder / key / "predictions.jsonl"
        found = list(records(json_lines(path), RunLine))
        items = unique_items((place, _item(line)) for place, line in found)
        lines = [line for _, line in found]
        return Answers(
            self.name,
            numbers["name"],
            numbers["scorer"],
            tuple(sorted(one["name"] for one in numbers["scorers"].values())),
            numbers["protocol"],
            items,
            [line.prediction for line in lines],
            [line.finish == "length" for line in lines],
            [line.asked for line in lines],
        )


def _item(line: RunLine) -> Item:
    fields = line.model_dump(exclude={"prediction", "finish", "asked"})
    return Item(**(fields | {"id": str(line.id), "cluster": line.cluster or str(line.id)}))


def read_run(folder: Path) -> Run:
    """The evaluation in a folder. Raises `DataError` where there is none."""
    path = folder / "report.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no evaluation (report.json is missing); give the folder that eval wrote")
    report = read_json(path)
    if not isinstance(report, dict) or not isinstance(report.get("benchmarks"), dict) or not report["benchmarks"]:
        raise DataError(f"{path} names no benchmarks; give the folder that eval wrote")
    return Run(folder, report)


def expected(benchmark: Benchmark, limit: int | None) -> Answers:
    """What a run is going to ask, without answers: to be refused before a model is loaded, if it is to be refused."""
    items, keys = benchmark.questions(limit), Keys({})
    return Answers(
        "the run to come",
        benchmark.name,
        scorer(benchmark.primary_scorer).name,
        tuple(sorted(scorer(name).name for name in benchmark.scorer_names)),
        protocol_facts(benchmark),
        items,
        [],
        [],
        [keys.question(first_asked(benchmark, item)) for item in items],
    )


def require_same(a: Answers, b: Answers) -> None:
    """Raises `DataError` unless both were asked the same questions in the same way and are scored alike."""
    where = f"{a.benchmark}: {a.name} and {b.name}"
    for name in sorted(a.protocol.keys() | b.protocol.keys()):
        one, other = a.protocol.get(name), b.protocol.get(name)
        if one != other:
            raise DataError(f"{where} were asked by different protocols ({name}: {one!r} and {other!r}); run one again")
    if a.scorer != b.scorer or a.scorers != b.scorers:
        rules = [", ".join([one.scorer, *(name for name in one.scorers if name != one.scorer)]) for one in (a, b)]
        raise DataError(f"{where} have different scorers ({rules[0]}; {rules[1]}); run one again")
    ids_a, ids_b = [item.id for item in a.items], [item.id for item in b.items]
    for ids, others, name in ((ids_a, set(ids_b), b.name), (ids_b, set(ids_a), a.name)):
        missing = [each for each in ids if each not in others]
        if missing:
            raise DataError(f"{where} have different questions: {name} lacks {_some(missing)}; ask both the same ones")
    pairs = {item.id: (item, hashed) for item, hashed in zip(b.items, b.asked, strict=True)}
    differing: dict[str, list[str]] = defaultdict(list)
    for item, hashed in zip(a.items, a.asked, strict=True):
        other, other_hash = pairs[item.id]
        if question_line(item) != question_line(other):
            what = "gold answers" if item.question == other.question else "questions"
            differing[what].append(item.id)
        elif hashed and other_hash and hashed != other_hash:
            differing["prompts or media"].append(item.id)
    for what, ids in differing.items():
        raise DataError(f"{where} have different {what} under {_some(ids)}; ask both the same ones")
    if ids_a != ids_b:
        place = next(place for place, (x, y) in enumerate(zip(ids_a, ids_b, strict=True)) if x != y)
        raise DataError(
            f"{where} have their questions in another order, first {ids_a[place]!r} and {ids_b[place]!r}; run one again"
        )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f"id{'s' if len(ids) > 1 else ''} " + ", ".join(map(repr, ids[:SHOWN])) + more


def compare_answers(a: Answers, b: Answers) -> dict[str, Any]:
    """b against a: of all questions and of each type, the figures, their difference, its interval and p, wins.

    Raises:
        DataError: as `require_same`.
    """
    require_same(a, b)
    rule = scorer(a.scorer)
    verdicts = a.score().verdicts, b.score().verdicts
    total = rule.variant.total
    if all(is_mean(a.items, found, total) for found in verdicts):
        total = mean
    places_of: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(a.items):
        for name in item.types:
            places_of[name].append(place)

    def figures(places: Sequence[int]) -> dict[str, Any]:
        first, second = ([found[place] for place in places] for found in verdicts)
        return _figures([a.items[place] for place in places], first, second, total)

    return {
        "name": a.benchmark,
        "scorer": a.scorer,
        "best": rule.metric.best,
        **figures(range(len(a.items))),
        "by_type": {name: figures(places) for name, places in sorted(places_of.items())},
    }


def _figures(items: Sequence[Item], a: Sequence[Verdict], b: Sequence[Verdict], total: Total) -> dict[str, Any]:
    found = compare(items, a, b, total)
    if found is not None:
        facts = asdict(found)
        return facts | {"interval": [facts.pop("low"), facts.pop("high")]}
    first, second = total(items, a)["score"], total(items, b)["score"]
    signs = [_sign(x, y) for x, y in zip(a, b, strict=True)]
    return {
        "n": len(items),
        "a": first,
        "b": second,
        "difference": None if first is None or second is None else second - first,
        "interval": None,
        "p": None,
        "wins": signs.count(1),
        "losses": signs.count(-1),
        "ties": signs.count(0),
    }


def _sign(a: Verdict, b: Verdict) -> int:
    return (b.score > a.score) - (b.score < a.score)


def write_comparison(out: Path, a: Run, b: Run, keys: Sequence[str], page_items: int, seed: int = 0) -> dict[str, Any]:
    """Write `comparison.json` and `comparison.html` and return what the former holds.

    Args:
        keys: of the benchmarks that are compared.
        page_items: how many questions of each benchmark the page holds at most.

    Raises:
        DataError: as `require_same`.
    """
    pairs = {key: (a.answers(key), b.answers(key)) for key in keys}
    known = set(a.keys) | set(b.keys)
    comparison: dict[str, Any] = {
        "a": {"name": a.name, "model": a.report.get("model", {}), "checkpoint": a.report.get("checkpoint", {})},
        "b": {"name": b.name, "model": b.report.get("model", {}), "checkpoint": b.report.get("checkpoint", {})},
        "benchmarks": {key: compare_answers(*pair) for key, pair in pairs.items()},
        "left_out": sorted(known - set(keys)),
    }
    page = render(
        "comparison.html.jinja",
        title=f"{b.name} against {a.name}",
        comparison=comparison,
        collections={key: collection(*pair, page_items, seed) for key, pair in pairs.items()},
    )
    write_json(out / "comparison.json", comparison)
    write_text(out / "comparison.html", page)
    return comparison


def collection(a: Answers, b: Answers, most: int, seed: int) -> Collection:
    """At most `most` questions with both answers, those first that one of the two answers better; b's wins lead."""
    first, second = a.score().verdicts, b.score().verdicts
    signs = [_sign(x, y) for x, y in zip(first, second, strict=True)]
    draw = random.Random(seed)
    decided = [place for place, sign in enumerate(signs) if sign]
    rest = [place for place, sign in enumerate(signs) if not sign]
    chosen = draw.sample(decided, min(most, len(decided)))
    chosen += draw.sample(rest, min(most - len(chosen), len(rest)))
    replies_a = {item.id: text for item, text in zip(a.items, a.texts, strict=True)}
    replies_b = {item.id: text for item, text in zip(b.items, b.texts, strict=True)}
    questions = {item.id: item.question for item in a.items}
    pictures = Pictures(missing=True)
    exhibits = []
    for place in sorted(chosen):
        item, x, y = a.items[place], first[place], second[place]
        exhibits.append(
            Exhibit(
                head=_head(x, y, signs[place]),
                look=_LOOKS[signs[place]],
                earlier=[
                    [questions[name], f"model A: {replies_a[name]}\nmodel B: {replies_b[name]}"]
                    for name in item.after
                    if name in questions
                ],
                tags=_tags(x, y, a.texts[place] != b.texts[place]),
                sides=[
                    side("model A", item, a.texts[place], x, a.cut_off[place]),
                    side("model B", item, b.texts[place], y, b.cut_off[place]),
                ],
                order={"place": place, "gain": y.score - x.score, "a": x.score, "b": y.score},
                **asked(item, pictures),
            )
        )
    orders = [
        ("-gain", "B's wins first"),
        ("gain", "A's wins first"),
        ("place", "as asked"),
        ("b", "lowest of B first"),
    ]
    groups = [[one for one in exhibits if one.look == look] for look in ("right", "wrong", "partly")]
    return Collection(
        exhibits,
        pictures.sources,
        len(a.items),
        orders,
        "those on which A and B differ in score first, as many as fit, then others, drawn at random",
        stills(groups, pictures.sources, STILLS, seed),
    )


def _head(a: Verdict, b: Verdict, sign: int) -> str:
    if sign:
        return f"model {'B' if sign > 0 else 'A'} better: A {a.score:g}, B {b.score:g}"
    return "both right" if a.score >= 1 else "both wrong" if a.score <= 0 else f"both {a.score:g}"


def _tags(a: Verdict, b: Verdict, differ: bool) -> list[str]:
    right = (a.score >= 1, b.score >= 1)
    wrong = a.score <= 0 and b.score <= 0
    names = {(True, True): "both right", (True, False): "only A right", (False, True): "only B right"}
    found = [names[right]] if right in names else ["both wrong"] if wrong else []
    return found + (["answers differ"] if differ else [])
