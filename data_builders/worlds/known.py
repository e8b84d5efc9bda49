"""A question that a world knows the answer of: what templates say in a model's stead."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


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


def varied(known: Sequence[Known], chance: random.Random, count: int) -> list[Known]:
    """So many of them, or all; of questions that begin alike few, while there are others."""
    alike: dict[str, list[Known]] = defaultdict(list)
    for one in chance.sample(known, len(known)):
        alike[" ".join(one.question.split()[:2])].append(one)
    rows = list(alike.values())
    chance.shuffle(rows)
    longest = max(map(len, rows), default=0)
    taken = [row[turn] for turn in range(longest) for row in rows if turn < len(row)]
    return taken[:count]
