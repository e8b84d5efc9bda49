"""Slides: a title, two to four bullet points, a figure and a page number; every text and its place is known exactly.

slide(seed, number) ──▶ Slide(words and bars with boxes, or a shape) ──draw──▶ picture [640, 480]
                                                                    └facts──▶ captions, lines of text
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from mminstruct.data_builders.worlds.fonts import font
from mminstruct.data_builders.worlds.scenes import COLORS, NUMBERS, SHAPES, Thing, listed

WIDTH, HEIGHT = 640, 480
GROUNDS = {
    "white": (255, 255, 255),
    "cream": (252, 246, 228),
    "pale blue": (232, 242, 252),
    "pale green": (234, 246, 232),
}
INK = (30, 34, 44)
FIGURE = (420, 120, 616, 400)  # where the figure stands, in pixels
COLUMN = 372  # how wide a line of text may be

Box = tuple[int, int, int, int]

# What a slide is about: its title, what may be said of it, and what its bars show (what is counted, of what).
TOPICS: dict[str, tuple[list[str], str, list[str]]] = {
    "Growing Tomatoes": (
        [
            "Sow the seeds in March",
            "Water the soil, not the leaves",
            "Tie each plant to a stick",
            "Pick them when red",
            "Give six hours of sun a day",
            "Keep frost away in spring",
        ],
        "baskets picked",
        ["May", "June", "July", "August"],
    ),
    "Our New Library": (
        [
            "Open until nine on weekdays",
            "Three rooms for quiet work",
            "Children's books on floor one",
            "Borrow ten books at a time",
            "The café is near the door",
            "Return books at any hour",
        ],
        "visitors in hundreds",
        ["Monday", "Tuesday", "Friday", "Sunday"],
    ),
    "Safe Cycling": (
        [
            "Wear a helmet on every ride",
            "Check the brakes each week",
            "Use a light after dark",
            "Look before you turn",
            "Keep away from parked cars",
            "Ring the bell in good time",
        ],
        "riders counted",
        ["spring", "summer", "autumn", "winter"],
    ),
    "The Water Cycle": (
        [
            "The sun warms the sea",
            "Water rises as vapour",
            "Clouds form in cool air",
            "Rain falls on the hills",
            "Rivers flow back to the sea",
            "Some water stays in the ground",
        ],
        "days of rain",
        ["north", "south", "east", "west"],
    ),
    "Baking Bread": (
        [
            "Mix flour, water and salt",
            "Let the dough rest an hour",
            "Knead it for ten minutes",
            "Heat the oven well",
            "Bake until the crust is brown",
            "Let it cool before cutting",
        ],
        "loaves sold",
        ["rye", "wheat", "oat", "spelt"],
    ),
    "Team Meeting": (
        [
            "Welcome our two new members",
            "Budget for the next quarter",
            "The office moves in May",
            "Questions by Friday",
            "Next meeting in two weeks",
            "Thanks to the night shift",
        ],
        "open tasks",
        ["Anna", "Ben", "Carla", "David"],
    ),
    "Birds in Winter": (
        [
            "Offer seeds and fat, no bread",
            "Clean the feeder each week",
            "Put water out on frosty days",
            "Robins come down to the ground",
            "Many finches travel south",
            "Owls hunt in the early night",
        ],
        "birds seen",
        ["robin", "finch", "wren", "crow"],
    ),
    "How Volcanoes Work": (
        [
            "Magma rises through cracks",
            "Gas drives the eruption",
            "Lava cools to dark rock",
            "Ash can travel far",
            "Some sleep for centuries",
            "The soil around is fertile",
        ],
        "eruptions listed",
        ["Etna", "Fuji", "Hekla", "Taal"],
    ),
    "Learning the Guitar": (
        [
            "Tune the strings first",
            "Start with three chords",
            "Play slowly and in time",
            "Practise a little each day",
            "Rest when your fingers hurt",
            "Record yourself and listen",
        ],
        "songs learned",
        ["week 1", "week 2", "week 3", "week 4"],
    ),
    "Saving Energy": (
        [
            "Switch off what nobody uses",
            "Close the doors in winter",
            "Wash at thirty degrees",
            "Dry clothes in the air",
            "Lower the heating at night",
            "Cook with the lid on",
        ],
        "units used",
        ["house A", "house B", "house C", "house D"],
    ),
}


@dataclass(frozen=True)
class Words:
    """A line of text.

    Attributes:
        role: title, bullet, label (of a bar), value (of a bar), caption (of the chart) or page.
        at: the left end of its baseline, in pixels.
        box: (left, top, right, bottom) around its ink, in pixels; right and bottom are the first without ink.
    """

    text: str
    role: str
    at: tuple[int, int]
    size: int
    bold: bool
    box: Box


@dataclass(frozen=True)
class Bar:
    """A bar of the chart; `box` is (left, top, right, bottom) in pixels, right and bottom included."""

    label: str
    value: int
    box: Box


@dataclass(frozen=True)
class Slide:
    """`words` in reading order. The figure is either `shape` or `bars`."""

    id: str
    ground: str
    accent: str
    page: int
    words: tuple[Words, ...]
    shape: Thing | None
    bars: tuple[Bar, ...]

    def texts(self, role: str) -> list[str]:
        return [words.text for words in self.words if words.role == role]

    @property
    def title(self) -> str:
        return self.texts("title")[0]

    def draw(self) -> Image.Image:
        picture = Image.new("RGB", (WIDTH, HEIGHT), GROUNDS[self.ground])
        pen = ImageDraw.Draw(picture)
        pen.rectangle((32, 96, WIDTH - 33, 99), fill=COLORS[self.accent])
        for words in self.words:
            if words.role == "bullet":
                left, middle = words.at[0] - 14, words.at[1] - 7
                pen.ellipse((left - 4, middle - 4, left + 4, middle + 4), fill=COLORS[self.accent])
            pen.text(words.at, words.text, INK, font(words.size, bold=words.bold), anchor="ls")
        for bar in self.bars:
            pen.rectangle(bar.box, fill=COLORS[self.accent])
        if self.shape is not None:
            _draw_shape(pen, self.shape)
        return picture

    def captions(self) -> list[str]:
        """Four true descriptions, as different people would give them."""
        bullets = self.texts("bullet")
        if self.shape is None:
            most = max(self.bars, key=lambda bar: bar.value)
            figure = [
                f"At the right is a bar chart of {self.texts('caption')[0]} for {listed(self.texts('label'))}.",
                f"The tallest bar of the chart stands for {most.label}, with {most.value}.",
            ]
        else:
            figure = [
                f"At the right of the slide is {a_or_an(self.shape.name)}.",
                f"A slide on a {self.ground} background with text and one {self.shape.shape}.",
            ]
        return [
            f'A slide with the title "{self.title}" and {NUMBERS[len(bullets)]} bullet points.',
            f'The first bullet point says "{bullets[0]}", the last one "{bullets[-1]}".',
            *figure,
        ]

    def lines(self) -> list[tuple[str, tuple[float, float, float, float]]]:
        """(text, box as shares of the picture's width and height) of each line, in reading order."""
        return [(one.text, _shares(one.box)) for one in self.words]


def slide(seed: int, number: int) -> Slide:
    """The slide of a seed and a number, the same everywhere."""
    chance = random.Random(f"slides/{seed}/{number}")
    title = chance.choice(sorted(TOPICS))
    points, counted, labels = TOPICS[title]
    accent = chance.choice(sorted(COLORS))
    words = [_words(title, "title", (32, 78), 34, True)]
    for row, point in enumerate(chance.sample(points, chance.randint(2, 4))):
        words.append(_words(point, "bullet", (60, 152 + 62 * row), 20, False))
    shape: Thing | None = None
    bars: tuple[Bar, ...] = ()
    if chance.random() < 0.5:
        side = chance.randint(90, 170)
        left, top = (FIGURE[0] + FIGURE[2] - side) // 2, (FIGURE[1] + FIGURE[3] - side) // 2
        color = chance.choice(sorted(COLORS))
        shape = Thing(chance.choice(SHAPES), color, (left, top, left + side, top + side))
    else:
        names = [name for name in labels if chance.random() < 0.8]
        names = labels[:2] if len(names) < 2 else names
        values = chance.sample(range(3, 21), len(names))  # no two alike, so one bar is the tallest
        bars = _bars(names, values)
        words.append(_words(counted, "caption", (FIGURE[0], FIGURE[1] + 16), 14, True))
        for bar in bars:
            middle = (bar.box[0] + bar.box[2] + 1) // 2
            words.append(_words(str(bar.value), "value", (middle, bar.box[1] - 6), 14, False, centred=True))
            words.append(_words(bar.label, "label", (middle, FIGURE[3] - 4), 11, False, centred=True))
    page = chance.randint(1, 40)
    words.append(_words(str(page), "page", (WIDTH - 56, HEIGHT - 24), 16, False))
    return Slide(f"slides/{seed}/{number}", chance.choice(sorted(GROUNDS)), accent, page, tuple(words), shape, bars)


def _bars(names: list[str], values: list[int]) -> tuple[Bar, ...]:
    """Bars side by side, as high as their values are."""
    left, top, right, bottom = FIGURE[0], FIGURE[1] + 44, FIGURE[2], FIGURE[3] - 24
    step = (right - left) // len(names)
    found = []
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        start = left + place * step + step // 5
        height = (bottom - top) * value // 20
        found.append(Bar(name, value, (start, bottom - height, start + 3 * step // 5, bottom)))
    return tuple(found)


def _words(text: str, role: str, at: tuple[int, int], size: int, bold: bool, centred: bool = False) -> Words:
    """A line with its left end, or its middle, at a place; a line that is too long becomes smaller."""
    widest = COLUMN if role == "bullet" else WIDTH - 64
    while font(size, bold=bold).getlength(text) > widest:
        size -= 1
    if centred:
        at = (at[0] - round(font(size, bold=bold).getlength(text) / 2), at[1])
    mask, (x, y) = font(size, bold=bold).getmask2(text, "L", anchor="ls")
    left, top, right, bottom = mask.getbbox()  # of the ink itself; `getbbox` of the font has the space beside it
    box = (at[0] + x + left, at[1] + y + top, at[0] + x + right, at[1] + y + bottom)
    return Words(text, role, at, size, bold, box)


def a_or_an(name: str) -> str:
    """A name behind its article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _draw_shape(pen: ImageDraw.ImageDraw, thing: Thing) -> None:
    left, top, right, bottom = thing.box
    middle, centre = (left + right) / 2, (top + bottom) / 2
    outlines: dict[str, list[tuple[float, float]]] = {
        "triangle": [(middle, top), (right, bottom), (left, bottom)],
        "diamond": [(middle, top), (right, centre), (middle, bottom), (left, centre)],
    }
    if thing.shape == "circle":
        pen.ellipse(thing.box, fill=COLORS[thing.color])
    elif thing.shape == "square":
        pen.rectangle(thing.box, fill=COLORS[thing.color])
    else:
        pen.polygon(outlines[thing.shape], fill=COLORS[thing.color])


def _shares(box: Box) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT
