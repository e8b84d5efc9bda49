"""What is kept of past answers, so that the next turn of a chat reads only what is new.

    keys [L] of a prompt ─Kept.longest─▶ keys and values of the longest beginning that is known, [heads, P, D] a layer

A text token's key is its id; every place of a medium has a number below zero made of the medium's content. So two
prompts have a beginning in common exactly when they have the same text and the same pictures there, whoever asks.
What was not used for longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, `[heads, L, D]`."""

# Shorter beginnings are read again sooner than they are looked for.
SHORTEST = 16


@dataclass(eq=False)
class _Entry:
    keys: np.ndarray
    layers: Layers

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for layer in self.layers for part in layer)


class Kept:
    """Keys and values of past prompts with their answers, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._next = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def fits(self, size: int) -> bool:
        """Whether so many bytes could be kept at all."""
        return size <= self._limit

    def longest(self, keys: np.ndarray) -> tuple[int, Layers]:
        """How many of `keys` `[L]` are known from the first on, at most L - 1 and never a part of a medium's places,
        and their keys and values (views: read them before the next `add`)."""
        best, found = 0, None
        for number, entry in self._entries.items():
            length = _whole(keys, _common(entry.keys, keys[:-1]))
            if length > best:
                best, found = length, number
        if found is None or best < SHORTEST:
            return 0, []
        self._entries.move_to_end(found)
        return best, [(k[:, :best], v[:, :best]) for k, v in self._entries[found].layers]

    def add(self, keys: np.ndarray, layers: Layers) -> None:
        """Keep keys and values of these; those that begin alike and go less far are no longer needed."""
        entry = _Entry(keys, layers)
        if len(keys) < SHORTEST or not self.fits(entry.bytes):
            return
        for number, other in list(self._entries.items()):
            shared = _common(other.keys, keys)
            if shared == len(keys):
                return
            if shared == len(other.keys):
                self._drop(number)
        self._entries[self._next] = entry
        self._next += 1
        self.bytes += entry.bytes
        while self.bytes > self._limit:
            self._drop(next(iter(self._entries)))

    def clear(self) -> int:
        """Forget everything. Returns how many bytes that frees."""
        freed, self.bytes = self.bytes, 0
        self._entries.clear()
        return freed

    def _drop(self, number: int) -> None:
        self.bytes -= self._entries.pop(number).bytes


def keys_of(input_ids: torch.Tensor, places: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """The keys of a prompt.

    Args:
        input_ids: `[L]`.
        places: of each medium in it a number made of its content, its first place, how many it takes.
    """
    keys = input_ids.numpy().astype(np.int64)
    for number, begin, count in places:
        keys[begin : begin + count] = -1 - (number & (2**62 - 1))
    return keys


def _common(a: np.ndarray, b: np.ndarray) -> int:
    length = min(len(a), len(b))
    differs = np.nonzero(a[:length] != b[:length])[0]
    return int(differs[0]) if len(differs) else length


def _whole(keys: np.ndarray, length: int) -> int:
    """`length`, less what would end within a medium's places."""
    while 0 < length < len(keys) and keys[length] < 0 and keys[length] == keys[length - 1]:
        length -= 1
    return length
