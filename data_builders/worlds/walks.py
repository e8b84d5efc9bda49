"""Walks: what someone sees who walks along a wall of shapes, to and fro; where and when is known.

walk(seed, number) ──▶ Walk(things on a wall [120, 640], legs) ──draw────────▶ frames [120, 160], what is seen of it
                                                              └narrations──▶ (start, end, what is done, what is in view)
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from mminstruct.data_builders.worlds.clips import GROUNDS, HEIGHT, RATE, WIDTH
from mminstruct.data_builders.worlds.scenes import COLORS, NUMBERS, SHAPES, Thing, listed

WALL = 640
Way = Literal["right", "left", ""]


@dataclass(frozen=True)
class Leg:
    """Frames from `first` up to, and without, `end`, in which the walker goes one way or, with none, stands still."""

    first: int
    end: int
    way: Way


@dataclass(frozen=True)
class Walk:
    """`things` stand on the wall from left to right; `eyes` is the left edge of what is seen, for each frame."""

    id: str
    ground: str
    things: tuple[Thing, ...]
    eyes: tuple[int, ...]
    legs: tuple[Leg, ...]

    def draw(self, frame: int) -> Image.Image:
        wall = Image.new("RGB", (WALL, HEIGHT), GROUNDS[self.ground])
        pen = ImageDraw.Draw(wall)
        for thing in self.things:
            left, top, right, bottom = thing.box
            x, y = (left + right) // 2, (top + bottom) // 2
            fill = COLORS[thing.color]
            if thing.shape == "circle":
                pen.ellipse(thing.box, fill=fill)
            elif thing.shape == "square":
                pen.rectangle(thing.box, fill=fill)
            elif thing.shape == "triangle":
                pen.polygon([(x, top), (right, bottom), (left, bottom)], fill=fill)
            else:
                pen.polygon([(x, top), (right, y), (x, bottom), (left, y)], fill=fill)
        return wall.crop((self.eyes[frame], 0, self.eyes[frame] + WIDTH, HEIGHT))

    def frames(self) -> list[Image.Image]:
        return [self.draw(frame) for frame in range(len(self.eyes))]

    def view(self, first: int, end: int) -> list[Thing]:
        """What is wholly seen in one of these frames, from left to right."""
        seen = range(min(self.eyes[first:end]), max(self.eyes[first:end]) + 1)
        return [one for one in self.things if one.box[0] >= seen.start and one.box[2] < seen.stop - 1 + WIDTH]

    def met(self) -> list[Thing]:
        """What is wholly seen at some time, by when that is first; from left to right where it is at once."""
        found: dict[Thing, None] = {}
        for frame in range(len(self.eyes)):
            found |= dict.fromkeys(self.view(frame, frame + 1))
        return list(found)

    def narrations(self) -> list[tuple[float, float, str, list[str]]]:
        """(start, end, what the walker does, names of what is in view) of each leg; seconds."""
        return [
            (
                leg.first / RATE,
                leg.end / RATE,
                f"The wearer walks to the {leg.way}." if leg.way else "The wearer stands still.",
                [thing.name for thing in self.view(leg.first, leg.end)],
            )
            for leg in self.legs
        ]

    def known(self) -> list[tuple[str, str]]:
        """Questions that the walker may ask, and answers."""
        met = self.met()
        ways = [leg.way for leg in self.legs if leg.way]
        found = [
            ("What do I see when I begin?", f"You see {_the(self.view(0, 1))}."),
            ("Which way do I walk first?", f"You walk to the {ways[0]} first."),
            ("How many different shapes do I see in all?", f"You see {NUMBERS[len(met)]}: {_the(met)}."),
            (
                "What is in front of me at the end?",
                f"In front of you {_is(self.view(len(self.eyes) - 1, len(self.eyes)))}.",
            ),
            (
                "Do I turn around on my way?",
                f"Yes, you walk to the {ways[0]} first, and later to the {'left' if ways[0] == 'right' else 'right'}."
                if len(set(ways)) > 1
                else f"No, you only walk to the {ways[0]}.",
            ),
            ("What colour is the wall that I walk along?", f"The wall is {self.ground}."),
        ]
        for one, other in itertools.pairwise(met):
            found.append(
                (f"What do I see next after the {one.name} comes into my view?", f"Next you see the {other.name}.")
            )
        order = [thing for thing in self.things if thing in met]
        for one, other in itertools.pairwise(order):
            found.append((f"What hangs next to the {one.name}, on my right?", f"On your right hangs the {other.name}."))
            found.append((f"What hangs next to the {other.name}, on my left?", f"On your left hangs the {one.name}."))
        for one, other in itertools.combinations(order, 2):
            for here, there, way in ((one, other, "right"), (other, one, "left")):
                found.append(
                    (
                        f"How do I get from the {here.name} to the {there.name}?",
                        f"Walk to the {way}, and you come to it.",
                    )
                )
        return found


def walk(seed: int, number: int) -> Walk:
    """The walk of a seed and a number, the same everywhere: some 70 to 100 frames."""
    chance = random.Random(f"walks/{seed}/{number}")
    names = chance.sample([(shape, color) for shape in SHAPES for color in COLORS], 6)
    things = []
    for place, (shape, color) in enumerate(names):
        side = 2 * chance.randint(11, 18)
        left, top = 16 + 102 * place + chance.randint(0, 40), chance.randint(8, HEIGHT - side - 8)
        things.append(Thing(shape, color, (left, top, left + side, top + side)))
    starts = [eyes for eyes in range(0, WALL - WIDTH, 4) if _sees(things, eyes)]
    eyes = [chance.choice(starts)]
    legs: list[Leg] = []
    ways: list[Way] = ["right", "left"] if eyes[0] < (WALL - WIDTH) / 2 else ["left", "right"]
    plan: list[Way] = chance.choice([[ways[0], "", ways[1], ""], [ways[0], "", ways[0], ""], [ways[0], "", ways[1]]])
    for way in plan:
        first = len(eyes) - 1 if not legs else len(eyes)
        step = chance.randint(4, 6) * {"right": 1, "left": -1, "": 0}[way]
        for _ in range(chance.randint(8, 14) if not way else chance.randint(24, 36)):
            following = eyes[-1] + step
            if 0 <= following <= WALL - WIDTH:
                eyes.append(following)
        while way and not _sees(things, eyes[-1]):  # it ends where there is something to see
            eyes.append(eyes[-1] + (1 if step > 0 else -1))
        if len(eyes) > first + 1:
            legs.append(Leg(first, len(eyes), way))
    return Walk(f"walks/{seed}/{number}", chance.choice(sorted(GROUNDS)), tuple(things), tuple(eyes), tuple(legs))


def _sees(things: list[Thing], eyes: int) -> bool:
    return any(thing.box[0] >= eyes and thing.box[2] < eyes + WIDTH for thing in things)


def _the(things: list[Thing]) -> str:
    return listed([f"the {thing.name}" for thing in things])


def _is(things: list[Thing]) -> str:
    return f"{'is' if len(things) == 1 else 'are'} {_the(things)}"
