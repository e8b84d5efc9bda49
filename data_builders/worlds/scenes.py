"""Scenes: two to six coloured shapes that do not touch, on a plain ground; what is where is known exactly.

scene(seed, number) ──▶ Scene(things with boxes) ──draw──▶ picture [336, 336]
                                                 └facts──▶ captions and boxes, as COCO's annotators give them
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from mminstruct.evidence.shape_tools import COLORS, SHAPES

SIZE = 336
GROUNDS = {"white": (255, 255, 255), "grey": (206, 206, 206), "pink": (250, 222, 226), "light blue": (214, 232, 246)}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Thing:
    """A shape; `box` is (left, top, right, bottom) in pixels."""

    shape: str
    color: str
    box: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    @property
    def centre(self) -> tuple[float, float]:
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    @property
    def side(self) -> int:
        return self.box[2] - self.box[0]


@dataclass(frozen=True)
class Scene:
    """`things` from left to right by their centres, no two of one name."""

    id: str
    ground: str
    things: tuple[Thing, ...]

    def draw(self) -> Image.Image:
        """One byte a pixel: a picture of a few plain colours is written three times as fast as with three."""
        picture = Image.new("P", (SIZE, SIZE), 0)
        picture.putpalette([part for color in [GROUNDS[self.ground], *COLORS.values()] for part in color])
        fill = {color: index for index, color in enumerate(COLORS, start=1)}
        pen = ImageDraw.Draw(picture)
        for thing in self.things:
            left, top, right, bottom = thing.box
            middle, centre = (left + right) / 2, (top + bottom) / 2
            if thing.shape == "circle":
                pen.ellipse(thing.box, fill=fill[thing.color])
            elif thing.shape == "square":
                pen.rectangle(thing.box, fill=fill[thing.color])
            elif thing.shape == "triangle":
                pen.polygon([(middle, top), (right, bottom), (left, bottom)], fill=fill[thing.color])
            else:
                pen.polygon([(middle, top), (right, centre), (middle, bottom), (left, centre)], fill=fill[thing.color])
        return picture

    def captions(self) -> list[str]:
        """Five true descriptions, as different people would give them."""
        names = [thing.name for thing in self.things]
        shapes = Counter(thing.shape for thing in self.things)
        counted = [f"{NUMBERS[count]} {shape}{'s' * (count > 1)}" for shape, count in sorted(shapes.items())]
        largest = max(self.things, key=lambda thing: thing.side)
        highest = min(self.things, key=lambda thing: thing.centre[1])
        return [
            f"A picture of {listed([a(name) for name in names])} on a {self.ground} background.",
            f"A drawing with {listed(counted)}.",
            f"The {names[0]} is at the far left and the {names[-1]} at the far right.",
            f"The largest of the {NUMBERS[len(names)]} shapes is {a(largest.name)}.",
            f"The {highest.name} is higher up than everything else.",
        ]

    def facts(self) -> dict[str, Any]:
        """What is where, for a record's `extra["facts"]` (`mminstruct/evidence/facts.py`)."""
        return {"instances": [{"category": name, "bbox": list(box)} for name, box in self.boxes()]}

    def boxes(self) -> list[tuple[str, tuple[float, float, float, float]]]:
        """(name, box as shares of the picture's width and height, three digits)."""
        return [
            (thing.name, tuple(round(edge / SIZE, 3) for edge in thing.box))  # type: ignore[misc]
            for thing in self.things
        ]


@functools.lru_cache(maxsize=4096)  # several builders ask several things about one scene
def scene(seed: int, number: int) -> Scene:
    """The scene of a seed and a number, the same everywhere."""
    chance = random.Random(f"scenes/{seed}/{number}")
    count = chance.randint(2, 6)
    names = chance.sample([(shape, color) for shape in SHAPES for color in COLORS], count)
    sides = chance.sample(range(36, 104), count)  # no two alike, so one is the largest
    placed: list[Thing] = []
    tries = 0
    while len(placed) < count:
        shape, color = names[len(placed)]
        side = sides[len(placed)]
        left, top = chance.randint(4, SIZE - side - 4), chance.randint(4, SIZE - side - 4)
        box = (left, top, left + side, top + side)
        if _in_a_third(box) and all(_apart(box, other.box) for other in placed):
            placed.append(Thing(shape, color, box))
        tries += 1
        if tries % 200 == 0:  # what stands there may leave no room for the rest
            placed.clear()
    ground = chance.choice(sorted(GROUNDS))
    return Scene(f"scenes/{seed}/{number}", ground, tuple(sorted(placed, key=lambda thing: thing.centre)))


def _in_a_third(box: tuple[int, int, int, int]) -> bool:
    """Whether it is plain in which third of the width and of the height the middle is."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    first, second = SIZE / 3, 2 * SIZE / 3
    return abs(x - first) >= 3 and abs(x - second) >= 3 and abs(y - first) >= 3 and abs(y - second) >= 3


def _apart(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether there is air between two boxes, and left and right, above and below are plain to see."""
    air = 6
    separate = a[2] + air < b[0] or b[2] + air < a[0] or a[3] + air < b[1] or b[3] + air < a[1]
    return separate and abs(a[0] + a[2] - b[0] - b[2]) >= 2 * air and abs(a[1] + a[3] - b[1] - b[3]) >= 2 * air


def a(name: str) -> str:
    """With its article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def listed(words: list[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
