"""Figures beside the headline: the share of right answers in each part of a benchmark.

items, verdicts ── mean_by("task", "skills") ──▶ {"score": .5, "task/geometry": .4, "skills/algebra": .6, ...}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mminstruct.evaluation.item import Item
from mminstruct.evaluation.scorers.metric import Figures, Total, Verdict, mean

Parts = Callable[[Item], Iterable[str]]
"""The names of the parts that an item belongs to."""


def mean_of_parts(parts: Parts) -> Total:
    """The mean over all items, then over the items of each part, parts in order of their names."""

    def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
        return mean(items, verdicts) | part_means(items, verdicts, parts)

    return total


def mean_by(*facts: str) -> Total:
    """The mean over all items, then over those with each value of each fact, as `fact/value`.

    A fact that is a list counts for each of its values; an item without the fact counts in none of its parts.
    """
    return mean_of_parts(lambda item: [f"{fact}/{value}" for fact in facts for value in _values(item, fact)])


def part_means(items: Sequence[Item], verdicts: Sequence[Verdict], parts: Parts) -> Figures:
    """The mean score of each part, parts in order of their names."""
    found: dict[str, list[Verdict]] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        for part in dict.fromkeys(parts(item)):
            found.setdefault(part, []).append(verdict)
    return {part: mean((), found[part])["score"] for part in sorted(found)}


def _values(item: Item, fact: str) -> Sequence[str]:
    value = item.facts.get(fact)
    if value is None or value == "":
        return ()
    return [str(part) for part in value] if isinstance(value, list) else (str(value),)
