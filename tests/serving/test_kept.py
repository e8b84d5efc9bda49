"""Kept: the longest known beginning, as a walk over all of them finds it, within its memory."""

from __future__ import annotations

import random

import numpy as np
import torch

from mminstruct.serving.kept import SHORTEST, Kept, keys_of


def layers(keys: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two layers whose numbers tell the key and the place that they belong to."""
    one = torch.tensor(keys, dtype=torch.float64).view(1, -1, 1) + torch.arange(len(keys)).view(1, -1, 1) / 1000
    return [(one, -one), (one * 2, -one * 2)]


def slow_longest(kept: list[np.ndarray], keys: np.ndarray) -> int:
    best = 0
    for other in kept:
        length = 0
        while length < min(len(other), len(keys) - 1) and other[length] == keys[length]:
            length += 1
        while length and keys[length] < 0 and keys[length] == keys[length - 1]:
            length -= 1
        best = max(best, length)
    return best if best >= SHORTEST else 0


def test_the_longest_beginning_is_found_and_holds_its_own_numbers() -> None:
    draw = random.Random(0)

    def some() -> np.ndarray:
        keys: list[int] = []
        while len(keys) < 60:
            keys += [draw.randrange(2)] * 1 if draw.random() < 0.8 else [-1 - draw.randrange(2)] * 9
            if len(keys) < 40:
                keys = keys[:1] * 20 if len(keys) == 1 else keys
        return np.array(keys)

    kept, known = Kept(10**9), []
    hits = 0
    for _ in range(300):
        keys = some()
        length, found = kept.longest(keys)
        assert length == slow_longest(known, keys)
        for got, expected in zip(found, layers(keys[:length]), strict=bool(length)):
            assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
        hits += length > 0
        kept.add(keys, layers(keys))
        known.append(keys)
    assert hits > 50


def test_what_was_not_used_for_longest_goes_first() -> None:
    rows = [np.arange(100 * number, 100 * number + 20) for number in range(4)]
    size = sum(part.nbytes for layer in layers(rows[0]) for part in layer)
    kept = Kept(3 * size)
    for keys in rows[:3]:
        kept.add(keys, layers(keys))
    assert kept.longest(np.append(rows[0], 7))[0] == 20  # used again
    kept.add(rows[3], layers(rows[3]))
    assert [kept.longest(np.append(keys, 7))[0] for keys in rows] == [20, 0, 20, 20]
    assert kept.bytes == 3 * size
    assert kept.clear() == 3 * size and kept.bytes == 0 and len(kept) == 0


def test_a_longer_chat_takes_the_place_of_its_beginning() -> None:
    keys = np.arange(50)
    kept = Kept(10**9)
    kept.add(keys[:30], layers(keys[:30]))
    kept.add(keys, layers(keys))
    assert len(kept) == 1
    kept.add(keys[:40], layers(keys[:40]))  # known already
    assert len(kept) == 1


def test_what_is_larger_than_all_memory_is_not_kept() -> None:
    kept = Kept(100)
    kept.add(np.arange(50), layers(np.arange(50)))
    assert len(kept) == 0 and kept.bytes == 0


def test_a_mediums_places_have_one_number_of_its_content() -> None:
    ids = torch.tensor([5, 9, 9, 9, 6, 9, 9])
    keys = keys_of(ids, [(2**63 - 1, 1, 3), (-(2**63), 5, 2)])
    assert keys[0] == 5 and keys[4] == 6
    assert len(set(keys[1:4])) == len(set(keys[5:])) == 1
    assert keys[1] < 0 and keys[5] < 0 and keys[1] != keys[5]
