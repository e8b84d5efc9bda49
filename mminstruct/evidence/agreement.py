"""How far two readings of one picture agree: a signal of quality that costs no ground truth.

first, second ──rows──▶ pairs by overlap ──▶ Agreement(matched, error_rate, only_first, only_second, disagreement)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mminstruct.evidence.layout import rows
from mminstruct.evidence.measures import edit_distance, quad_iou
from mminstruct.evidence.ocr import TextLine

LEAST_OVERLAP = 0.3  # engines draw boxes more and less tightly; lines of text lie over one another hardly at all


@dataclass(frozen=True)
class Agreement:
    """
    Attributes:
        matched: rows that both saw at one place.
        error_rate: edits between their texts, in characters of the longer ones; 0 where none matched.
        only_first, only_second: texts of rows that one alone saw.
        disagreement: edits, and characters that one alone saw, in all characters that either saw; 0 to 1.
    """

    matched: int
    error_rate: float
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    disagreement: float

    def record(self) -> dict[str, Any]:
        """For a conversation's `extra`."""
        return {
            "matched": self.matched,
            "error_rate": round(self.error_rate, 4),
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "disagreement": round(self.disagreement, 4),
        }


def agreement(first: Sequence[TextLine], second: Sequence[TextLine]) -> Agreement:
    """Of two readings in the same picture's pixels. Two that saw nothing agree."""
    ours, theirs = rows(first), rows(second)
    pairs = matches(ours, theirs, LEAST_OVERLAP)
    edits = sum(edit_distance(ours[i].text, theirs[j].text) for i, j in pairs)
    longest = sum(max(len(ours[i].text), len(theirs[j].text)) for i, j in pairs)
    seen_i, seen_j = {i for i, _ in pairs}, {j for _, j in pairs}
    only_first = tuple(line.text for i, line in enumerate(ours) if i not in seen_i)
    only_second = tuple(line.text for j, line in enumerate(theirs) if j not in seen_j)
    alone = sum(map(len, only_first)) + sum(map(len, only_second))
    return Agreement(
        len(pairs),
        edits / max(1, longest),
        only_first,
        only_second,
        (edits + alone) / max(1, longest + alone),
    )


def matches(first: Sequence[TextLine], second: Sequence[TextLine], least: float) -> list[tuple[int, int]]:
    """Pairs (i, j) of lines that overlap by at least `least` (IoU), best first, each line in one pair at most."""
    overlaps = [
        (overlap, i, j)
        for i, one in enumerate(first)
        for j, other in enumerate(second)
        if (overlap := quad_iou(one.quad, other.quad)) >= least
    ]
    taken_i: set[int] = set()
    taken_j: set[int] = set()
    pairs = []
    for _, i, j in sorted(overlaps, key=lambda each: (-each[0], each[1], each[2])):
        if i not in taken_i and j not in taken_j:
            taken_i.add(i)
            taken_j.add(j)
            pairs.append((i, j))
    return sorted(pairs)
