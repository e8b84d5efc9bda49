"""A question that a world knows the answer of: what templates say in a model's stead."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """
    Attributes:
        kind: about where things are, or about when and in which order something happens.
        answer: a true one, in a sentence.
        wrong: a plausible one that is not true.
        evidence: what is seen, that shows the one to be true and the other not.
    """

    kind: Literal["spatial", "temporal"]
    question: str
    answer: str
    wrong: str
    evidence: str


def varied(found: Sequence[T], question: Callable[[T], str], chance: random.Random, count: int) -> list[T]:
    """So many of them, or all, in no order; of those whose questions begin alike few, while there are others."""
    alike: dict[str, list[T]] = defaultdict(list)
    for one in chance.sample(found, len(found)):
        alike[" ".join(question(one).split()[:2])].append(one)
    rows = list(alike.values())
    chance.shuffle(rows)
    longest = max(map(len, rows), default=0)
    return [row[turn] for turn in range(longest) for row in rows if turn < len(row)][:count]
