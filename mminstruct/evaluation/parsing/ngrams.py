"""Runs of words: their counts and longest common subsequences, and what BLEU adds up of them over a corpus."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

ORDERS = (1, 2, 3, 4)


def ngrams(words: Sequence[Hashable], longest: int = 4) -> Counter[tuple[Hashable, ...]]:
    """How often each run of 1 to `longest` words occurs."""
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, longest + 1)
        for start in range(len(words) - length + 1)
    )


def common_subsequence(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence."""
    if len(first) < len(second):
        first, second = second, first
    row = [0] * (len(second) + 1)
    for one in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = row[place]
            row[place] = diagonal + 1 if one == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def bleu_parts(words: Sequence[Hashable], references: Sequence[Sequence[Hashable]]) -> tuple[float, ...]:
    """What BLEU adds up: words, words of the closest reference (the shorter of two that are as close), then for each
    order from 1 to 4 how many n-grams there are, and for each how many are in a reference, each as often as in the
    reference that has it most often."""
    most: Counter[tuple[Hashable, ...]] = Counter()
    for reference in references:
        most |= ngrams(reference)
    right = dict.fromkeys(ORDERS, 0)
    for gram, count in ngrams(words).items():
        right[len(gram)] += min(count, most[gram])
    closest = min((len(reference) for reference in references), key=lambda length: (abs(length - len(words)), length))
    there = (max(0, len(words) - order + 1) for order in ORDERS)
    return (len(words), closest, *there, *right.values())


def added(parts: Iterable[Sequence[float]]) -> list[float]:
    """Sums of parts, place by place."""
    return [math.fsum(column) for column in zip(*parts, strict=True)]
