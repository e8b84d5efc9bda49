"""Few packs for units of given sizes: best-fit decreasing, and patterns of sizes where that leaves much room.

    sizes ─rounded up a little─▶ how many of each ─▶ patterns (which stand together, how often) ─▶ packs

Best-fit looks at one unit at a time. With pictures of hundreds of tokens only two or three conversations fit into a
pack, and which of them stand together decides how full it gets. That is the cutting stock problem; what is here is
sequential value correction (Belov and Scheithauer, INFORMS Journal on Computing 19, 2007). A knapsack finds the pattern
that is worth most, which is used as often as its sizes last, and so on until nothing is left. Sizes that stood in
patterns with waste become dearer, so they are placed earlier when all begins anew. The best of all rounds is taken.
Sums, products, quotients and roots of float64 are the same on every machine, so plans are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_FULL = 0.99  # best-fit that leaves so little room is taken as it is
_ROUNDS = 10
_KNAPSACKS = 3000  # no round is begun after so many


class Pattern(NamedTuple):
    """Sizes that fill a pack, each with its number, and how many packs are filled so."""

    members: list[tuple[int, int]]
    times: int


def pack(units: Sequence[list[int]], sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """The members of units that stand in a pack together; a unit stays whole, and none is larger than `capacity`."""
    packs = best_fit(units, sizes, capacity)
    total = sum(sizes)
    if len(packs) <= math.ceil(total / capacity) or total >= _FULL * capacity * len(packs):
        return packs
    found = _patterns_of(sizes, capacity)
    if not 0 < sum(pattern.times for pattern in found) < len(packs):
        return packs
    del packs  # a million lists
    return _filled(found, units, sizes, capacity)


def best_fit(units: Sequence[list[int]], sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: the largest unit first, each into the fullest pack that still has room for it.

    The packs with room are kept by how much they have, and which amounts occur as the bits of one integer, so a unit
    finds its pack in a few operations whatever their number.
    """
    packs: list[list[int]] = []
    room: list[list[int]] = [[] for _ in range(capacity + 1)]  # numbers of packs with exactly so much room
    present = 0
    for number in sorted(range(len(units)), key=lambda number: -sizes[number]):
        size = sizes[number]
        fitting = present >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1
            found = room[left].pop()
            if not room[left]:
                present ^= 1 << left
            packs[found] += units[number]
        else:
            left, found = capacity, len(packs)
            packs.append(list(units[number]))
        room[left - size].append(found)
        present |= 1 << (left - size)
    return packs


def _step(capacity: int) -> int:
    """Tokens that a pack is counted in: what is rounded up is lost, and each halving doubles the time."""
    return max(1, min(capacity // 512, 8), capacity // 1024)


def _patterns_of(sizes: Sequence[int], capacity: int) -> list[Pattern]:
    """In steps of `_step`; none, where a unit rounded up is larger than a pack rounded down."""
    step = _step(capacity)
    rounded = -(-np.asarray(sizes, dtype=np.int64) // step)
    places = capacity // step
    if rounded.max() > places:
        return []
    return patterns(np.bincount(rounded, minlength=places + 1).tobytes())


def _filled(
    found: Sequence[Pattern], units: Sequence[list[int]], sizes: Sequence[int], capacity: int
) -> list[list[int]]:
    step = _step(capacity)
    waiting: list[list[int]] = [[] for _ in range(capacity // step + 1)]
    for number in range(len(units) - 1, -1, -1):
        waiting[-(-sizes[number] // step)].append(number)
    packs = []
    for pattern in found:
        for _ in range(pattern.times):
            members: list[int] = []
            for size, count in pattern.members:
                for _ in range(count):
                    members += units[waiting[size].pop()]
            packs.append(members)
    return packs


@functools.lru_cache(maxsize=4)  # every epoch has the same sizes, unless a mixture draws others
def patterns(counted: bytes) -> list[Pattern]:
    """Patterns that hold each size as often as it is there.

    Args:
        counted: of each size from 0 to a pack's how many there are, int64.
    """
    counts = np.frombuffer(counted, dtype=np.int64)
    size = np.arange(len(counts), dtype=np.float64)
    worth = size * np.sqrt(np.sqrt(size))  # a little more a token in a large unit, which is harder to place
    values = worth.copy()
    best: list[Pattern] = []
    fewest = knapsacks = 0
    for _ in range(_ROUNDS):
        found = _round(counts, worth, values)
        packs = sum(pattern.times for pattern in found)
        if not best or packs < fewest:
            best, fewest = found, packs
        knapsacks += len(found)
        if knapsacks > _KNAPSACKS:
            break
    return best


def _round(counts: Counts, worth: Array, values: Array) -> list[Pattern]:
    """Patterns until nothing is left; `values` are corrected on the way."""
    left = counts.copy()
    capacity = len(counts) - 1
    found = []
    while left.any():
        members = _most_valuable(np.where(left > 0, values, -np.inf), left)
        times = min(int(left[size]) // number for size, number in members)
        if times == 0:  # more of a size than there are
            members, times = [(size, min(number, int(left[size]))) for size, number in members], 1
        filled = sum(size * number for size, number in members)
        for size, number in members:
            share = number * times / float(counts[size] + left[size])
            values[size] = (1 - share) * values[size] + share * (worth[size] * capacity / filled)
            left[size] -= number * times
        found.append(Pattern(members, times))
    return found


def _most_valuable(values: Array, left: Counts) -> list[tuple[int, int]]:
    """The sizes that together are worth most in one pack, each with its number: an unbounded knapsack."""
    there = np.flatnonzero(left)
    smallest, largest = int(there[0]), int(there[-1])
    capacity = len(values) - 1
    best = np.zeros(capacity + 1)
    last = np.zeros(capacity + 1, dtype=np.int64)  # the size that was put in last; 0: a place that stays free
    for room in range(smallest, capacity + 1):
        most = min(room, largest)
        sums = best[room - most : room - smallest + 1] + values[smallest : most + 1][::-1]
        place = int(sums.argmax())
        if sums[place] > best[room - 1]:
            best[room], last[room] = sums[place], most - place
        else:
            best[room] = best[room - 1]
    numbers: dict[int, int] = {}
    room = capacity
    while room > 0:
        size = int(last[room])
        if size:
            numbers[size] = numbers.get(size, 0) + 1
        room -= size or 1
    return list(numbers.items())
