"""Clips: the shapes of a scene appear one after the other, in frames of which the last shows them all.

clip(seed, number) ──▶ Clip(scene, order) ──frames──▶ [picture, ...]
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mminstruct.data_builders.worlds.scenes import Scene, Thing, scene

FRAMES = 4


@dataclass(frozen=True)
class Clip:
    """`order` is that in which the things appear; one with each frame but the first, which shows all the others."""

    id: str
    scene: Scene
    order: tuple[Thing, ...]

    @property
    def first(self) -> int:
        """How many things the first frame shows."""
        return len(self.order) - FRAMES + 1

    def frames(self) -> list[Image.Image]:
        shown = (set(self.order[: self.first + extra]) for extra in range(FRAMES))
        return [
            dataclasses.replace(self.scene, things=tuple(one for one in self.scene.things if one in there)).draw()
            for there in shown
        ]


def clip(seed: int, number: int) -> Clip:
    """The clip of a seed and a number, the same everywhere."""
    found = next(
        drawn
        for drawn in (scene(seed, 1_000_000 + 16 * number + extra) for extra in itertools.count())
        if len(drawn.things) >= FRAMES
    )
    order = list(found.things)
    random.Random(f"clips/{seed}/{number}").shuffle(order)
    return Clip(f"clips/{seed}/{number}", found, tuple(order))


Slots = dict[str, Any]


def last(drawn: Clip, chance: random.Random) -> Slots | None:
    return {"answer": drawn.order[-1].name}


def count_first(drawn: Clip, chance: random.Random) -> Slots | None:
    return {"answer": str(drawn.first)}


def count_last(drawn: Clip, chance: random.Random) -> Slots | None:
    return {"answer": str(len(drawn.order))}


def earlier(drawn: Clip, chance: random.Random) -> Slots | None:
    """Which of two things appears first; one that is there from the beginning may be among them, two may not."""
    late = range(drawn.first, len(drawn.order))
    one, other = chance.sample([drawn.first - 1, *late], 2)
    names = drawn.order[one].name, drawn.order[other].name
    return {"one": names[0], "other": names[1], "answer": names[0] if one < other else names[1]}


def from_beginning(drawn: Clip, chance: random.Random) -> Slots | None:
    """Whether a thing is there in the first frame, as often as not."""
    there = chance.random() < 0.5
    thing = chance.choice(drawn.order[: drawn.first] if there else drawn.order[drawn.first :])
    return {"name": thing.name, "answer": "yes" if there else "no"}


KINDS: dict[str, Callable[[Clip, random.Random], Slots | None]] = {
    "last": last,
    "count-first": count_first,
    "count-last": count_last,
    "earlier": earlier,
    "from-beginning": from_beginning,
}
