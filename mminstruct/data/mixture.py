"""Which conversations an epoch is made of: so many of each source, a function of (seed, epoch) alone.

    sizes, caps, repeats, weights, balance ──▶ conversations of each source in an epoch
    source's own order: one shuffle behind the other, without end ──▶ epoch e takes the e-th piece of it

So nothing of a source comes a second time before all of it came once, and a cap takes another part each epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mminstruct.errors import DataError

Balance = Literal["sizes", "sqrt", "weights"]


@dataclass(frozen=True)
class Member:
    """One source of a mixture.

    Attributes:
        name: what errors and reports call it.
        indices: global indices of its conversations that can be trained on.
        weight: what its share is multiplied by.
        cap: conversations of it in an epoch, at most.
        repeat: it counts as so many times its size.
    """

    name: str
    indices: np.ndarray
    weight: float = 1.0
    cap: int | None = None
    repeat: float = 1.0

    @property
    def amount(self) -> float:
        """Conversations that it brings to an epoch by itself."""
        amount = len(self.indices) * self.repeat
        return amount if self.cap is None else min(amount, self.cap)


class Mixture:
    """See the module. Shares are of conversations.

    Args:
        balance: what a source's share is proportional to: its amount, the square root of its amount (InstructBLIP,
            arXiv 2305.06500, section 2.4), or its weight alone. The first two are multiplied by the weight.

    Attributes:
        counts: conversations of each member in an epoch. Together as many as the members' amounts, fewer where one
            would pass its cap.

    Raises:
        DataError: a member has nothing to train on, or so small a share that no epoch would have any of it.
    """

    def __init__(self, members: Sequence[Member], balance: Balance = "sizes") -> None:
        self.members = list(members)
        for member in members:
            if not len(member.indices):
                raise DataError(f"the source {member.name} has no conversation to train on; take it out or mend it")
        amounts = np.array([member.amount for member in members])
        shares = np.array([member.weight for member in members])
        if balance != "weights":
            shares = shares * (amounts if balance == "sizes" else np.sqrt(amounts))
        shares = shares / shares.sum()
        caps = [member.cap / share for member, share in zip(members, shares, strict=True) if member.cap is not None]
        total = min([amounts.sum(), *caps])
        self.counts = _rounded(shares * total)
        for member, count in zip(members, self.counts, strict=True):
            if count == 0:
                raise DataError(
                    f"an epoch of {sum(self.counts)} conversations would have none of the source {member.name}; "
                    "raise its weight or its repeat"
                )

    def epoch(self, seed: int, number: int) -> list[int]:
        """The global indices of an epoch, ascending; one that comes several times stands there as often."""
        pieces = [
            self._piece(seed, place, number * count, (number + 1) * count) for place, count in enumerate(self.counts)
        ]
        found: list[int] = np.sort(np.concatenate(pieces)).tolist()
        return found

    def _piece(self, seed: int, place: int, start: int, end: int) -> np.ndarray:
        """From `start` to `end` in a source's own endless order."""
        indices = self.members[place].indices
        size = len(indices)
        first, last = start // size, (end - 1) // size
        rounds = [
            indices[np.random.default_rng([seed, place, turn]).permutation(size)] for turn in range(first, last + 1)
        ]
        return np.concatenate(rounds)[start - first * size : end - first * size]


def _rounded(values: np.ndarray) -> list[int]:
    """Whole numbers with the sum that the values have, rounded down, each next to its value."""
    floors = np.floor(values + 1e-9).astype(int)
    left = int(np.floor(values.sum() + 1e-9)) - int(floors.sum())
    for place in np.argsort(floors - values, kind="stable")[:left]:
        floors[place] += 1
    return [int(value) for value in floors]
