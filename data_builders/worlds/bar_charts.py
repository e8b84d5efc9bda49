"""Bar charts: three to six bars of whole numbers with their names and values written out; all is known exactly.

chart(seed, number) ──▶ Chart(title, unit, bars) ──draw──▶ picture [320 high, 420 wide]
                                                └known──▶ caption, lines of text, facts
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from mminstruct.data_builders.worlds.fills import Fill, Known, judged
from mminstruct.data_builders.worlds.scenes import NUMBERS, listed

WIDTH, HEIGHT = 420, 320
LEFT, RIGHT, BASE, TOP = 24, 404, 280, 70  # of the plot; TOP is where a bar of the greatest value ends
COLORS = {"red": (196, 60, 56), "blue": (52, 98, 176), "green": (60, 140, 84), "orange": (226, 140, 44)}

# What is counted, of whom, and the bars' names.
SUBJECTS = (
    ("Books lent by the library", "books", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat")),
    ("Trees planted in the parks", "trees", ("Oak", "Elm", "Pine", "Birch", "Maple", "Ash")),
    ("Visitors of the museum", "visitors", ("Jan", "Feb", "Mar", "Apr", "May", "Jun")),
    ("Loaves sold at the bakery", "loaves", ("Rye", "Wheat", "Oat", "Corn", "Spelt", "Rice")),
    ("Goals in the school league", "goals", ("Lions", "Owls", "Bears", "Foxes", "Hawks", "Wolves")),
    ("Bicycles at the station", "bicycles", ("North", "South", "East", "West", "Gate", "Yard")),
)


@dataclass(frozen=True)
class Chart:
    """`bars` are (name, value) from left to right, values all different and at least two apart."""

    id: str
    title: str
    unit: str
    color: str
    bars: tuple[tuple[str, int], ...]

    def columns(self) -> list[tuple[int, int, int, int]]:
        """Each bar's box (left, top, right, bottom) in pixels, both edges filled."""
        step = (RIGHT - LEFT) // len(self.bars)
        most = max(value for _, value in self.bars)
        return [
            (LEFT + step * place + 10, BASE - (BASE - TOP) * value // most, LEFT + step * (place + 1) - 10, BASE)
            for place, (_, value) in enumerate(self.bars)
        ]

    def draw(self) -> Image.Image:
        picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
        pen = ImageDraw.Draw(picture)
        large, small = ImageFont.load_default(20), ImageFont.load_default(15)
        pen.text((WIDTH / 2, 24), self.title, "black", large, anchor="mm")
        for (name, value), box in zip(self.bars, self.columns(), strict=True):
            pen.rectangle(box, COLORS[self.color])
            pen.text(((box[0] + box[2]) / 2, box[1] - 12), str(value), "black", small, anchor="mm")
            pen.text(((box[0] + box[2]) / 2, BASE + 18), name, "black", small, anchor="mm")
        pen.line((LEFT, BASE + 1, RIGHT, BASE + 1), "black", 2)
        return picture

    def text(self) -> list[str]:
        """The lines of text from top to bottom: the title, the values and the names, each from left to right."""
        highest_first = sorted(self.bars, key=lambda bar: -bar[1])
        return [self.title, *(str(value) for _, value in highest_first), *(name for name, _ in self.bars)]


def chart(seed: int, number: int) -> Chart:
    """The chart of a seed and a number, the same everywhere."""
    chance = random.Random(f"bar-charts/{seed}/{number}")
    title, unit, names = chance.choice(SUBJECTS)
    count = chance.randint(3, 6)
    first = chance.randint(0, len(names) - count)
    odd = chance.randint(0, 1)
    values = [2 * half + odd for half in chance.sample(range(2, 25), count)]
    bars = tuple(zip(names[first : first + count], values, strict=True))
    return Chart(f"charts/{seed}/{number}", title, unit, chance.choice(sorted(COLORS)), bars)


def known(found: Chart, chance: random.Random) -> Known:
    facts = {**_judged(found, chance), **_named(found, chance), **_told(found)}
    return Known(
        caption=caption(found),
        text=tuple(found.text()),
        knowledge=f"{found.title}, in {found.unit}.",
        fills={name: fills for name, fills in facts.items() if fills},
    )


def caption(found: Chart) -> str:
    """All that the facts ask for, the greatest difference and the total too."""
    ranked = _ranked(found)
    (most, greatest), (second, _), (least, smallest) = ranked[0], ranked[1], ranked[-1]
    return " ".join(
        [
            f"The picture is a bar chart with the title {found.title!r}.",
            f"It has {NUMBERS[len(found.bars)]} {found.color} bars on a white background, with the value written above "
            "each bar and its name below.",
            f"From left to right, the bars are {listed([f'{name} with {value}' for name, value in found.bars])}.",
            f"The tallest bar is {most} with {greatest} {found.unit}, the second tallest is {second}, and the shortest "
            f"is {least} with {smallest} {found.unit}.",
            f"Between the tallest and the shortest lies a difference of {greatest - smallest}.",
            f"All the bars together come to a total of {_total(found)} {found.unit}.",
        ]
    )


def _ranked(found: Chart) -> list[tuple[str, int]]:
    return sorted(found.bars, key=lambda bar: -bar[1])


def _total(found: Chart) -> int:
    return sum(value for _, value in found.bars)


def near(value: int, chance: random.Random, count: int = 3) -> list[str]:
    """Other numbers, near enough to be mistaken."""
    around = [other for step in (1, 2, 3, 5, 10) for other in (value - step, value + step) if other > 0]
    return [str(other) for other in chance.sample(around, count)]


def _judged(found: Chart, chance: random.Random) -> dict[str, list[Fill]]:
    taller, value_is, more_than = [], [], []
    for (one, first), (other, second) in itertools.permutations(found.bars, 2):
        taller.append(judged({"one": one, "other": other}, first > second))
    for name, value in found.bars:
        (wrong,) = near(value, chance, 1)
        value_is += [judged({"bar": name, "value": str(number)}, number == value) for number in (value, int(wrong))]
        below, beyond = value - chance.randint(1, 2), value + chance.randint(1, 9)
        more_than += [
            judged({"bar": name, "value": str(number), "unit": found.unit}, value > number)
            for number in (below, beyond)
        ]
    names = dict.fromkeys(name for _, _, row in SUBJECTS for name in row)
    others = [name for name in names if name not in dict(found.bars)]
    there = [judged({"bar": name}, True) for name, _ in found.bars]
    there += [judged({"bar": name}, False) for name in chance.sample(others, len(found.bars))]
    return {"taller": taller, "value-is": value_is, "more-than": more_than, "bar-there": there}


def _named(found: Chart, chance: random.Random) -> dict[str, list[Fill]]:
    ranked = _ranked(found)
    names = [name for name, _ in found.bars]
    away = next(row for title, _, row in SUBJECTS if title == found.title)
    rest = [name for name in away if name not in names]

    def bar(name: str, words: dict[str, str]) -> Fill:
        return Fill(words, name, [other for other in [*names, *rest] if other != name][: max(3, len(names) - 1)])

    count = len(names)
    gap = ranked[0][1] - ranked[-1][1]
    titles = [title for title, _, _ in SUBJECTS if title != found.title]
    return {
        "value": [Fill({"bar": name}, str(value), near(value, chance)) for name, value in found.bars],
        "tallest": [bar(ranked[0][0], {})],
        "second": [bar(ranked[1][0], {})],
        "shortest": [bar(ranked[-1][0], {})],
        "first-bar": [bar(names[0], {})],
        "last-bar": [bar(names[-1], {})],
        "bar-of": [bar(name, {"value": str(value)}) for name, value in found.bars],
        "bar-count": [Fill({}, NUMBERS[count], [NUMBERS[other] for other in range(3, 7) if other != count])],
        "bar-color": [Fill({}, found.color, sorted(set(COLORS) - {found.color}))],
        "chart-title": [Fill({}, found.title, titles)],
        "gap": [Fill({}, str(gap), near(gap, chance))],
        "sum": [Fill({"unit": found.unit}, str(_total(found)), near(_total(found), chance))],
    }


def _told(found: Chart) -> dict[str, list[Fill]]:
    ranked = _ranked(found)
    (most, greatest), (least, smallest) = ranked[0], ranked[-1]
    values = " + ".join(str(value) for _, value in found.bars)
    return {
        "ranking": [
            Fill(
                {},
                f"From the tallest bar to the shortest, they are "
                f"{listed([f'{name} with {value}' for name, value in ranked])}.",
            )
        ],
        "range": [
            Fill(
                {"unit": found.unit},
                f"The tallest bar is {most} with {greatest} {found.unit}, and the shortest is {least} with {smallest}. "
                f"The difference is {greatest} - {smallest} = {greatest - smallest}.",
            )
        ],
        "total-told": [
            Fill({"unit": found.unit}, f"Adding all the bars gives {values} = {_total(found)} {found.unit}.")
        ],
        "describe": [
            Fill(
                {},
                f"It is a bar chart with the title {found.title!r}. It has {NUMBERS[len(found.bars)]} {found.color} "
                f"bars: {listed([f'{name} with {value}' for name, value in found.bars])}.",
            )
        ],
        "compare-bars": [
            Fill(
                {"one": one, "other": other},
                f"{one} has {first} {found.unit} and {other} has {second}, so the bar of "
                f"{one if first > second else other} is the taller one.",
            )
            for (one, first), (other, second) in itertools.permutations(found.bars, 2)
        ],
    }
