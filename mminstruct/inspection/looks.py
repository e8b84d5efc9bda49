"""Pictures that look alike: a perceptual hash, and an index of hashes in which near ones are found.

    picture ──grey, 32 x 32──▶ cosine transform, the 64 lowest frequencies ──above their median?──▶ 64 bits
                            └▶ 16 x 16 grey values, which must rise and fall alike too

Two hashes at most `radius` bits apart agree wholly in one of `radius + 1` bands of bits, so only those that share one
are compared. JPEG, size and small changes of colour move a few bits; a crop, a turn or a mirror image moves many and is
not found. Plain drawings of one style have hashes of few values; the grey values keep them apart.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from PIL import Image

BITS = 64
RADIUS = 8
ALIKE = 0.97  # correlation of the grey values of a picture and its copy, at least
_PLAIN = 2.0  # spread of grey values of a picture that shows nothing
_SIDE, _LOW, _SMALL = 32, 8, 16


@dataclass(frozen=True)
class Look:
    """What a picture looks like: 64 bits, and 16 x 16 grey values from the top left."""

    bits: int
    grey: bytes

    def near(self, other: Look, radius: int) -> bool:
        if (self.bits ^ other.bits).bit_count() > radius:
            return False
        one, two = (np.frombuffer(look.grey, np.uint8).astype(np.float64) for look in (self, other))
        spread = float(one.std()), float(two.std())
        if min(spread) < _PLAIN:
            return max(spread) < _PLAIN
        return float(((one - one.mean()) * (two - two.mean())).mean()) >= ALIKE * spread[0] * spread[1]


@functools.cache
def _cosines() -> np.ndarray:
    """`[8, 32]`, the first rows of the cosine transform's matrix (DCT-II, not scaled)."""
    rows, columns = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    return np.cos(np.pi * rows * (2 * columns + 1) / (2 * _SIDE))


def look_of(picture: Image.Image) -> Look:
    """The look of an RGB picture."""
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0).convert("L")
    values = np.asarray(small, np.float64)
    low = (_cosines() @ values @ _cosines().T).ravel()
    # The first is the brightness alone, far above all others.
    above = low > np.median(low[1:]) + 1e-6
    bits = int.from_bytes(np.packbits(above).tobytes(), "big")
    grey = small.resize((_SMALL, _SMALL), Image.Resampling.BOX)
    return Look(bits, grey.tobytes())


class NearIndex:
    """Looks with names, and those of them that are near another look."""

    def __init__(self, radius: int = RADIUS) -> None:
        self.radius = radius
        edges = np.linspace(0, BITS, radius + 2).round().astype(int).tolist()
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in itertools.pairwise(edges)]
        self._looks: list[Look] = []
        self._names: list[str] = []
        self._shelves: defaultdict[tuple[int, int], list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._looks)

    def _keys(self, look: Look) -> list[tuple[int, int]]:
        return [(low, look.bits >> low & mask) for low, mask in self._bands]

    def add(self, look: Look, name: str) -> None:
        for key in self._keys(look):
            self._shelves[key].append(len(self._looks))
        self._looks.append(look)
        self._names.append(name)

    def find(self, look: Look) -> list[str]:
        """The names of all that are near, in the order in which they came."""
        candidates = {number for key in self._keys(look) for number in self._shelves.get(key, ())}
        return [self._names[number] for number in sorted(candidates) if self._looks[number].near(look, self.radius)]
