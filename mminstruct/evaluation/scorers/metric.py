"""What a metric is: named variants, each a pure function from predictions to a score, and readers of its files.

    items, predictions ── judge_all ──▶ [Verdict] ── total ──▶ {"score": headline, further figures}
    official gold file ── gold ──▶ [Item]        official predictions file ── predictions ──▶ {id: text}

A metric is one file of `mminstruct/evaluation/scorers/` with a `METRIC`. Two programs that print the same metric's
name often disagree, so each published behaviour is a `Variant` with a name and a source of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mminstruct.errors import ConfigError, DataError, did_you_mean
from mminstruct.evaluation.item import Item

Figures = dict[str, float | None]
"""Figures by name, "score" first: the headline. None stands for one that is not defined (0 / 0)."""
Predictions = Sequence[str | None]
"""One text per item, in the items' order; None where there is no prediction at all."""
MISSING_SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """What became of one prediction.

    Attributes:
        score: in [0, 1] unless the metric says otherwise.
        answer: what was read out of the text ("B", "yes", "12"); None where nothing could be.
        parsed: whether an answer could be read at all. An unparsed prediction is counted; what it scores is the
            variant's business.
        parts: what the metric adds up over a corpus where that is more than the score (BLEU's counts).
        excluded: it could not be judged, and is in no mean; such predictions are counted.
    """

    score: float
    answer: str | None = None
    parsed: bool = True
    parts: tuple[float, ...] = ()
    excluded: bool = False


@dataclass(frozen=True)
class Score:
    """The result over all items; `figures["score"]` is the headline."""

    figures: Figures
    verdicts: tuple[Verdict, ...]

    @property
    def score(self) -> float | None:
        return self.figures["score"]

    @property
    def unparsed(self) -> int:
        return sum(not verdict.parsed for verdict in self.verdicts)

    @property
    def excluded(self) -> int:
        return sum(verdict.excluded for verdict in self.verdicts)


JudgeAll = Callable[[Sequence[Item], Predictions], list[Verdict]]
Total = Callable[[Sequence[Item], Sequence[Verdict]], Figures]


def mean(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The mean of the verdicts' scores: the `total` of most metrics."""
    return {"score": math.fsum(verdict.score for verdict in verdicts) / len(verdicts) if verdicts else None}


def mean_with_kinds(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The mean over all items, and over those of each kind under the kind's name."""
    by_kind: dict[str, list[Verdict]] = defaultdict(list)
    for item, verdict in zip(items, verdicts, strict=True):
        if item.kind:
            by_kind[item.kind].append(verdict)
    kinds = {kind: mean((), found)["score"] for kind, found in sorted(by_kind.items())}
    return mean(items, verdicts) | kinds


@dataclass(frozen=True)
class Variant:
    """One published behaviour of a metric.

    Attributes:
        name: as `--variant` takes it.
        source: whose behaviour it is (file, version, paper section) and what sets it apart, in a sentence or two.
        judge_all: a verdict on each prediction, in the items' order; pure.
        total: the figures of some items and their verdicts; pure, and defined for any subset, so that scores by
            category and bootstrap intervals can be taken.
        predictions: id -> text where this behaviour reads another part of the official file than the metric's reader
            does (the answers that the authors' program read out, say, and not the model's words).
    """

    name: str
    source: str
    judge_all: JudgeAll
    total: Total = mean
    predictions: Callable[[Path], dict[str, str]] | None = None

    def score(self, items: Sequence[Item], predictions: Predictions) -> Score:
        """Judge and add up. Raises `ValueError` where items and predictions are not equally many."""
        if len(items) != len(predictions):
            raise ValueError(f"{len(items)} items and {len(predictions)} predictions; give one for each")
        verdicts = self.judge_all(items, predictions)
        return Score(self.total(items, verdicts), tuple(verdicts))


def each(judge: Callable[[str, Item], Verdict]) -> JudgeAll:
    """`judge_all` of a judge that looks at one prediction at a time. A missing prediction scores 0, unparsed."""

    def judge_all(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
        return [
            Verdict(0.0, parsed=False) if text is None else judge(text, item)
            for item, text in zip(items, predictions, strict=True)
        ]

    return judge_all


def by_answers(scorer: Callable[[str, Sequence[str]], float]) -> JudgeAll:
    """`judge_all` of a function (prediction, gold answers) -> score. Every text counts as parsed."""
    return each(lambda text, item: Verdict(scorer(text, item.answers), answer=text))


Pairing = Callable[[Sequence[Item], Mapping[str, str], Path], tuple[list[Item], list[str | None]]]
"""Which items are scored, and with which texts: (items, {id: text}, predictions file) -> (items, texts)."""


def all_predicted(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """Every item needs a prediction. Raises `DataError` with the first missing ids, or the first unknown ones."""
    _none_unknown(items, found, path)
    missing = [item.id for item in items if item.id not in found]
    if missing:
        raise DataError(f"{path} lacks the {_some(missing)} of the gold file; predict every question")
    return list(items), [found[item.id] for item in items]


def missing_is_wrong(
    items: Sequence[Item], found: Mapping[str, str], path: Path
) -> tuple[list[Item], list[str | None]]:
    """An item without a prediction stays and is wrong. Raises `DataError` with the first unknown ids."""
    _none_unknown(items, found, path)
    return list(items), [found.get(item.id) for item in items]


def only_predicted(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """Items without a prediction are left out. Raises `DataError` with the first unknown ids."""
    _none_unknown(items, found, path)
    kept = [item for item in items if item.id in found]
    return kept, [found[item.id] for item in kept]


def _none_unknown(items: Sequence[Item], found: Mapping[str, str], path: Path) -> None:
    known = {item.id for item in items}
    unknown = [name for name in found if name not in known]
    if unknown:
        raise DataError(f"{path} has the {_some(unknown)}, which the gold file lacks; both must be of one data set")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:MISSING_SHOWN])
    more = f" and {len(names) - MISSING_SHOWN} more" if len(names) > MISSING_SHOWN else ""
    return f"id{'s' if len(names) > 1 else ''} {shown}{more}"


@dataclass(frozen=True)
class Metric:
    """A metric: its variants (the first is the default) and the readers of its official files.

    Attributes:
        name: as `mminstruct score` takes it; the module's name with `-` for `_`.
        summary: one line on what is measured, with a full stop.
        files: one line on the official layouts that `gold` and `predictions` read.
        gold: the items of a gold file. Raises `DataError` with file and place.
        predictions: id -> text of a predictions file. Raises `DataError` with file and place.
        pairing: which items are scored where predictions are missing.
        best: the highest score there is; shown as per cent where it is 1.
    """

    name: str
    summary: str
    variants: tuple[Variant, ...]
    files: str
    gold: Callable[[Path], list[Item]]
    predictions: Callable[[Path], dict[str, str]]
    pairing: Pairing = all_predicted
    best: float = 1.0

    def variant(self, name: str | None = None) -> Variant:
        """The variant of a name, the default for None. Raises `ConfigError` with the nearest names."""
        if name is None:
            return self.variants[0]
        for found in self.variants:
            if found.name == name:
                return found
        known = [found.name for found in self.variants]
        raise ConfigError(f"{self.name} has no variant {name!r}.{did_you_mean(name, known)}")
