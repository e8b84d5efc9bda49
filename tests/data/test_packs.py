"""Packs: everything once, none too full, few of them, the same on every machine."""

from __future__ import annotations

import hashlib
import json
import random

import numpy as np
import pytest

from mminstruct.data.packs import best_fit, pack, patterns


def packed(sizes: list[int], capacity: int, how=pack) -> list[list[int]]:
    """Checked: each unit once, no pack above its capacity."""
    packs = how([[number] for number in range(len(sizes))], sizes, capacity)
    assert sorted(number for one in packs for number in one) == list(range(len(sizes)))
    assert all(sum(sizes[number] for number in one) <= capacity for one in packs)
    return packs


def conversations(count: int, scale: float = 1.0) -> list[int]:
    """Lengths like those of LLaVA's data (benchmarks/planning.py), divided by `scale`."""
    rng = np.random.default_rng(0)
    text_only = rng.random(count) < 0.06
    texts = np.where(text_only, rng.lognormal(6.3, 0.8, count), rng.lognormal(5.0, 0.8, count))
    lengths = texts.clip(min=16) + np.where(text_only, 0, 576)
    return [max(1, int(length)) for length in lengths.clip(max=2048) / scale]


def fewest(sizes: list[int], capacity: int) -> int:
    """Of all ways, by trying them: each unit into each pack that has room, or into a new one."""

    def tried(rest: list[int], room: tuple[int, ...], most: int) -> int:
        if not rest or len(room) >= most:
            return min(len(room), most)
        for number in range(len(room)):
            if room[number] >= rest[0]:
                left = (*room[:number], room[number] - rest[0], *room[number + 1 :])
                most = tried(rest[1:], tuple(sorted(left)), most)
        return tried(rest[1:], (*room, capacity - rest[0]), most)

    return tried(sorted(sizes, reverse=True), (), len(sizes))


def slow_best_fit(sizes: list[int], capacity: int) -> list[int]:
    """Each size, largest first, into the fullest pack with room: by looking at all of them. What room is left."""
    room: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [number for number, left in enumerate(room) if left >= size]
        if fitting:
            room[min(fitting, key=lambda number: room[number])] -= size
        else:
            room.append(capacity - size)
    return sorted(room)


def test_best_fit_is_best_fit():
    rng = random.Random(1)
    for _ in range(50):
        sizes = [rng.randint(1, 100) for _ in range(rng.randint(1, 150))]
        packs = packed(sizes, 100, best_fit)
        assert sorted(100 - sum(sizes[number] for number in one) for one in packs) == slow_best_fit(sizes, 100)


def test_few_units_take_as_few_packs_as_can_be():
    """Or one more, where best-fit needs one more as well."""
    rng = random.Random(2)
    best = more = 0
    for _ in range(60):
        sizes = [rng.randint(20, 60) for _ in range(rng.randint(4, 9))]
        number, least = len(packed(sizes, 100)), fewest(sizes, 100)
        assert least <= number <= min(least + 1, len(best_fit([[size] for size in sizes], sizes, 100)))
        best, more = best + (number == least), more + (number > least)
    assert best >= 57 and best + more == 60


@pytest.mark.parametrize(("capacity", "share"), [(128, 0.94), (256, 0.98)])
def test_packs_of_conversations_with_pictures_are_nearly_full(capacity, share):
    """Packs of 2,048 and 4,096 tokens, all lengths by 16."""
    sizes = conversations(6000, scale=16)
    packs = packed(sizes, capacity)
    greedy = packed(sizes, capacity, best_fit)
    assert sum(sizes) / (capacity * len(packs)) > share > sum(sizes) / (capacity * len(greedy)) + 0.02


@pytest.mark.parametrize("capacity", [2000, 2048, 2051, 5000])
def test_sizes_that_are_rounded_up_still_fit(capacity):
    rng = random.Random(capacity)
    sizes = [rng.randint(capacity // 4, capacity // 2 + capacity // 8) for _ in range(90)] + [capacity]
    packed(sizes, capacity)


def test_a_unit_stays_whole():
    units = [[0, 1], [2], [3, 4], [5], [6], [7]]
    packs = pack(units, [70, 60, 40, 39, 30, 29], 100)
    assert sorted(number for one in packs for number in one) == list(range(8))
    for unit in units:
        assert sum(set(unit) <= set(one) for one in packs) == 1


def test_plans_are_the_same_on_every_machine():
    """A run that goes on elsewhere, and each process of a run, must find the same packs: a checksum of some."""
    rng = random.Random(0)
    sizes = [37 + min(rng.randint(0, 40), rng.randint(0, 40)) for _ in range(3000)]
    packs = packed(sizes, 128)
    assert len(packs) < len(packed(sizes, 128, best_fit))  # patterns, that is
    assert hashlib.sha256(json.dumps(packs).encode()).hexdigest()[:16] == "0d068e1e482931b6"
    patterns.cache_clear()
    assert packed(sizes, 128) == packs
