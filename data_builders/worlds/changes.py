"""Scenes that change: a scene and a changed one, or an album of four, each made of the one before; changes are known.

pair(seed, number)  ──▶ Album(two scenes, [one to three changes])
story(seed, number) ──▶ Album(four scenes, [one change], [one change], [one change])

Each change is of another thing, and no name (colour and shape) is used twice, so a name always means one thing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mminstruct.data_builders.worlds.clips import clear, third
from mminstruct.data_builders.worlds.scenes import COLORS, SHAPES, SIZE, Scene, Thing, scene

Kind = Literal["recoloured", "moved", "removed", "added"]


@dataclass(frozen=True)
class Change:
    """`before` and `after` are the thing in the two pictures; None where it is not there."""

    kind: Kind
    before: Thing | None
    after: Thing | None

    @property
    def name(self) -> str:
        """Of the thing, as it is called before, where it was there."""
        thing = self.before or self.after
        assert thing is not None
        return thing.name


@dataclass(frozen=True)
class Album:
    """`changes[n]` are those between scene n and the next."""

    id: str
    scenes: tuple[Scene, ...]
    changes: tuple[tuple[Change, ...], ...]


def place(thing: Thing) -> str:
    """Where it is: `at the top left`, `in the middle`."""
    x, y = (int(middle) for middle in thing.centre)
    words = [third(y, SIZE, ("top", "bottom")), third(x, SIZE, ("left", "right"))]
    return f"at the {' '.join(filter(None, words))}" if any(words) else "in the middle"


def pair(seed: int, number: int) -> Album:
    chance = random.Random(f"pairs/{seed}/{number}")
    return _album(f"pairs/{seed}/{number}", chance, scene(seed, number), [chance.choice((1, 1, 2, 3))])


def story(seed: int, number: int) -> Album:
    chance = random.Random(f"stories/{seed}/{number}")
    return _album(f"stories/{seed}/{number}", chance, scene(seed, number), [1, 1, 1])


def _album(name: str, chance: random.Random, first: Scene, counts: Sequence[int]) -> Album:
    scenes, changes = [replace(first, id=f"{name}/1")], []
    used = {thing.name for thing in first.things}
    touched: set[str] = set()  # names of things that have changed, as they are called now
    for count in counts:
        now = list(scenes[-1].things)
        made: list[Change] = []
        while len(made) < count:
            change = _change(chance, now, used, touched)
            if change is None:
                continue
            if change.before is not None:
                now.remove(change.before)
            if change.after is not None:
                now.append(change.after)
                used.add(change.after.name)
                touched.add(change.after.name)
            made.append(change)
        ordered = tuple(sorted(now, key=lambda thing: thing.centre))
        scenes.append(Scene(f"{name}/{len(scenes) + 1}", first.ground, ordered))
        changes.append(tuple(made))
    return Album(name, tuple(scenes), tuple(changes))


def _change(chance: random.Random, things: list[Thing], used: set[str], touched: set[str]) -> Change | None:
    """A change that can be made, or None where what chance proposes cannot."""
    untouched = [thing for thing in things if thing.name not in touched]
    kinds: list[Kind] = ["added"] if len(things) < 6 else []
    kinds += ["recoloured", "moved"] if untouched else []
    kinds += ["removed"] if untouched and len(things) > 2 else []
    kind = chance.choice(kinds)
    if kind == "added":
        free = [(shape, color) for shape in SHAPES for color in COLORS if f"{color} {shape}" not in used]
        shape, color = chance.choice(free)
        new = _placed(chance, Thing(shape, color, (0, 0, 48, 48)), things)
        return None if new is None else Change(kind, None, new)
    thing = chance.choice(untouched)
    if kind == "removed":
        return Change(kind, thing, None)
    if kind == "recoloured":
        color = chance.choice([color for color in COLORS if f"{color} {thing.shape}" not in used])
        return Change(kind, thing, replace(thing, color=color))
    moved = _placed(chance, thing, [other for other in things if other is not thing])
    return None if moved is None or place(moved) == place(thing) else Change(kind, thing, moved)


def _placed(chance: random.Random, thing: Thing, others: list[Thing]) -> Thing | None:
    """The thing at a place that is free, and plainly in one third of width and height; None where none is found."""
    for _ in range(50):
        left, top = (chance.randint(4, SIZE - thing.side - 4) for _ in range(2))
        box = (left, top, left + thing.side, top + thing.side)
        moved = replace(thing, box=box)
        if all(clear(int(middle), SIZE) for middle in moved.centre) and all(_apart(box, one.box) for one in others):
            return moved
    return None


def _apart(a: tuple[int, int, int, int], b: tuple[int, int, int, int], air: int = 6) -> bool:
    return a[2] + air < b[0] or b[2] + air < a[0] or a[3] + air < b[1] or b[3] + air < a[1]
