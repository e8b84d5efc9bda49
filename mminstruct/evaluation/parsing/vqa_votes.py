"""Agreement with ten annotators, each left out in turn: the formula that the VQA data sets share, in its two readings.

    prediction, golds [10] ── leave_one_out ──────▶ annotators told apart by their place
                           ── leave_equal_out ────▶ annotators told apart by what their record holds

The official VQA scorer leaves out, for each annotator, every record that equals his. With `answer_id` in the records
nobody else is left out, and both readings agree. In files without it (VizWiz) all who gave one answer with one
confidence go together: ten equal records leave nobody to agree with, and a right answer scores 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, record

FULL_CREDIT = 3  # that many others who agree


def leave_one_out(prediction: str, golds: Sequence[str]) -> float:
    """Mean over the annotators of min(1, matches among the *other* annotators / min(3, number of others)).

    Annotators are told apart by their place in `golds`, so two who gave the same answer are two.

    Raises:
        ValueError: `golds` is empty.
    """
    if not golds:
        raise ValueError("VQA accuracy needs at least one gold answer")
    matches, others = sum(gold == prediction for gold in golds), len(golds) - 1
    if others == 0:
        return float(matches)
    enough = min(FULL_CREDIT, others)
    # Leaving out one of the `matches` annotators who agree leaves matches - 1; leaving out another leaves them all.
    agreeing = matches * min(1.0, (matches - 1) / enough)
    differing = (len(golds) - matches) * min(1.0, matches / enough)
    return (agreeing + differing) / len(golds)


def leave_equal_out(prediction: str, golds: Sequence[str], marks: Sequence[str]) -> float:
    """As `leave_one_out`, but with an annotator go all whose answer *and* mark are the same.

    `marks` says of each annotator what his record holds beside the answer; where it is empty each is told apart.

    Raises:
        ValueError: `golds` is empty, or there are marks but not one for each gold.
    """
    if not marks:
        return leave_one_out(prediction, golds)
    if len(marks) != len(golds):
        raise ValueError(f"{len(golds)} golds and {len(marks)} marks; give one for each")
    records = Counter(zip(golds, marks, strict=True))
    matches = sum(gold == prediction for gold in golds)
    total = 0.0
    for (gold, _), count in records.items():
        left = matches - count if gold == prediction else matches
        total += count * min(1.0, left / FULL_CREDIT)
    return total / len(golds)


class Vote(Official):
    """One annotator's answer in an official file."""

    answer: str
    answer_confidence: str | None = None
    answer_id: int | str | None = None


class Facts(Official):
    """What the official scorer tells annotators apart by, where `answer_id` does not."""

    marks: tuple[str, ...] = ()


def marks_of(item: Item) -> tuple[str, ...]:
    """The marks of an item's annotators. Raises `DataError` where its facts hold something else, or too few."""
    if not item.facts:
        return ()
    marks = record(f"the facts of {item.id!r}", dict(item.facts), Facts).marks
    if marks and len(marks) != len(item.answers):
        raise DataError(f"the facts of {item.id!r} have {len(marks)} marks for {len(item.answers)} answers")
    return marks


def facts_of(votes: Sequence[Vote]) -> dict[str, Any]:
    """The facts of an item from its official votes: marks, but only where two records may be the same."""
    ids = {vote.answer_id for vote in votes}
    if len(ids) == len(votes) and None not in ids:
        return {}
    marks = [f"{vote.answer_confidence}/{vote.answer_id}" for vote in votes]
    return {"marks": marks} if len(set(marks)) < len(marks) else {}
