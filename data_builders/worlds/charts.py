"""Charts: bar, line and pie charts and small tables whose every value can be read off the picture, and is known.

chart(seed, number) ──▶ Chart(labels, series, values, colors) ──draw──▶ picture [400, 300]

A value is either written beside its mark, or lies on a grid line that has a number. No two labels of one series have
the same value, so there is one largest and one smallest, and a bar or a point can be told by its value.
"""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from mminstruct.data_builders.worlds.fonts import font

Kind = Literal["bar", "line", "pie", "table"]

WIDTH, HEIGHT = 400, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 388, 56, 240  # the frame of bars and lines
PIE = (30, 64, 230, 264)  # the box of a pie
KINDS: tuple[Kind, ...] = ("bar", "line", "pie", "table")
COLORS = {
    "red": (204, 41, 41),
    "orange": (240, 150, 40),
    "green": (46, 140, 58),
    "blue": (38, 84, 190),
    "purple": (122, 52, 160),
    "brown": (120, 76, 40),
    "pink": (240, 140, 180),
}
MOST_TICKS = 10  # grid lines above zero

_GREYS = 16  # steps from white to black: text has smooth edges although a pixel is one byte
_BLACK, _GRID, _SHADE, _FIRST_COLOR = _GREYS - 1, _GREYS, _GREYS + 1, _GREYS + 2
_PALETTE = [
    *(level for step in range(_GREYS) for level in [round(255 * (1 - step / (_GREYS - 1)))] * 3),
    *(214, 214, 214),
    *(230, 236, 244),
    *(part for color in COLORS.values() for part in color),
]
_SMOOTH = bytes(round(level * (_GREYS - 1) / 255) for level in range(256))  # of a grey level, its place in the palette
_SHADED = bytes(_SHADE if level < 128 else _BLACK for level in range(256))
_FILL = {color: _FIRST_COLOR + index for index, color in enumerate(COLORS)}


@dataclass(frozen=True)
class Topic:
    """What a chart can be about: `quantity` of each `label_kind` of `labels`, for each `series_kind` of `series`."""

    quantity: str
    label_kind: str
    labels: tuple[str, ...]
    series_kind: str
    series: tuple[str, ...]
    steps: tuple[int, ...]  # between grid lines
    ordered: bool = False  # whether the labels are a course of time


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_YEARS = tuple(str(year) for year in range(2012, 2026))
_TOWNS = ("Arden", "Lowick", "Marsby", "Tilford")

TOPICS = (
    Topic("Visitors", "Day", _DAYS, "Museum", ("Harbour", "City", "Science"), (10, 20, 50, 100), True),
    Topic("Rainfall in mm", "Month", _MONTHS, "Town", _TOWNS, (5, 10, 20), True),
    Topic("Books borrowed", "Month", _MONTHS, "Library", ("North", "South", "East"), (10, 50, 100), True),
    Topic("Hours of sun", "Month", _MONTHS, "Town", _TOWNS, (10, 20, 50), True),
    Topic("Passengers", "Year", _YEARS, "Line", ("Line A", "Line B", "Line C"), (100, 200, 500), True),
    Topic("Houses built", "Year", _YEARS, "District", ("Old Town", "Docks", "Hillside"), (2, 5, 10, 20), True),
    Topic("Emails answered", "Day", _DAYS, "Team", ("Sales", "Support", "Press"), (5, 10, 20), True),
    Topic("Cups sold", "Drink", ("Tea", "Coffee", "Cocoa", "Juice", "Milk", "Cider"), "Shop", _TOWNS, (5, 10, 20)),
    Topic(
        *("Goals", "Team", ("Foxes", "Owls", "Bears", "Wolves", "Hawks", "Otters"), "Season"),
        *(("Spring", "Summer", "Autumn"), (1, 2, 5)),
    ),
    Topic(
        *("Students", "Course", ("Art", "Biology", "History", "Music", "Physics", "Latin"), "School"),
        *(("North", "South", "East"), (5, 10, 20)),
    ),
    Topic(
        *("Energy used in kWh", "Room", ("Kitchen", "Office", "Bedroom", "Hall", "Cellar", "Attic"), "House"),
        *(("House 1", "House 2", "House 3"), (2, 5, 10, 20)),
    ),
    Topic(
        *("Points", "Player", ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana"), "Round"),
        *(("Round 1", "Round 2", "Round 3"), (1, 2, 5, 10)),
    ),
    Topic(
        *("Animals treated", "Animal", ("Cats", "Dogs", "Rabbits", "Birds", "Horses", "Goats"), "Clinic"),
        *(("Mill Road", "Park Lane", "Quay"), (2, 5, 10)),
    ),
    Topic(
        *("Fruit picked in kg", "Fruit", ("Apples", "Pears", "Plums", "Figs", "Cherries", "Quinces"), "Orchard"),
        *(("Upper", "Lower", "Walled"), (5, 10, 20, 50)),
    ),
)
_TITLES = ("{quantity} by {label_kind}", "{quantity} per {label_kind}", "{quantity}, {label_kind} by {label_kind}")


@dataclass(frozen=True)
class Chart:
    """
    Attributes:
        quantity: what the values are; `label_kind` and `series_kind` what labels and series are.
        values: of each series, one for each label; of a pie the shares in percent, 100 together.
        colors: of each series; of a pie of each label; none of a table.
        step: between two grid lines.
        printed: whether the values stand beside bars and points.
        turn: where a pie's first slice begins, in degrees clockwise from three o'clock.
    """

    id: str
    kind: Kind
    title: str
    quantity: str
    label_kind: str
    series_kind: str
    labels: tuple[str, ...]
    series: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    colors: tuple[str, ...]
    step: int
    printed: bool
    turn: int
    ordered: bool

    @property
    def top(self) -> int:
        """The number of the highest grid line."""
        return self.step * max(4, -(-max(max(row) for row in self.values) // self.step))

    def draw(self) -> Image.Image:
        picture = Image.new("P", (WIDTH, HEIGHT), 0)
        picture.putpalette(_PALETTE)
        pen = ImageDraw.Draw(picture)
        _write(picture, self.title, (WIDTH // 2, 16), 16, bold=True)
        {"bar": self._axes, "line": self._axes, "pie": self._pie, "table": self._table}[self.kind](picture, pen)
        return picture

    def bar(self, series: int, label: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of a bar, the edges being its outermost pixels."""
        slot = (RIGHT - LEFT) / len(self.labels)
        width = min(46, int(slot * 0.76 / len(self.series)))
        left = round(LEFT + slot * (label + 0.5) - width * len(self.series) / 2) + width * series
        return left, self.height(self.values[series][label]), left + width - 2, BOTTOM

    def point(self, series: int, label: int) -> tuple[int, int]:
        """The middle of a line's marker."""
        slot = (RIGHT - LEFT) / len(self.labels)
        return round(LEFT + slot * (label + 0.5)), self.height(self.values[series][label])

    def height(self, value: int) -> int:
        """The row of pixels at which a value stands."""
        return BOTTOM - round((BOTTOM - TOP) * value / self.top)

    def _axes(self, picture: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        for tick in range(0, self.top + 1, self.step):
            row = self.height(tick)
            pen.line((LEFT, row, RIGHT, row), fill=_GRID if tick else _BLACK)
            _write(picture, str(tick), (LEFT - 5, row), 11, anchor="right")
        pen.line((LEFT, TOP, LEFT, BOTTOM), fill=_BLACK)
        for index, label in enumerate(self.labels):
            _write(picture, label, (self.point(0, index)[0], BOTTOM + 12), 12)
        _write(picture, self.label_kind, ((LEFT + RIGHT) // 2, HEIGHT - 16), 12, bold=True)
        _write(picture, self.quantity, (12, (TOP + BOTTOM) // 2), 12, bold=True, upright=True)
        if len(self.series) > 1:
            self._legend_in_a_row(picture, pen)
        (self._bars if self.kind == "bar" else self._lines)(picture, pen)

    def _legend_in_a_row(self, picture: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        names = [_tile(name, 12, False, False).width for name in self.series]
        x = (WIDTH - sum(names) - 30 * len(names) + 14) // 2
        for name, color, width in zip(self.series, self.colors, names, strict=True):
            pen.rectangle((x, 33, x + 10, 43), fill=_FILL[color])
            _write(picture, name, (x + 16, 38), 12, anchor="left")
            x += width + 30

    def _bars(self, picture: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        for series, row in enumerate(self.values):
            for label, value in enumerate(row):
                left, top, right, bottom = self.bar(series, label)
                pen.rectangle((left, top, right, bottom - 1), fill=_FILL[self.colors[series]])
                if self.printed:
                    _write(picture, str(value), ((left + right) // 2, top - 7), 11)

    def _lines(self, picture: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        for series, row in enumerate(self.values):
            fill = _FILL[self.colors[series]]
            points = [self.point(series, label) for label in range(len(row))]
            pen.line(points, fill=fill, width=3)
            for x, y in points:
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=fill)
            if self.printed:
                for label, ((x, y), value) in enumerate(zip(points, row, strict=True)):
                    # Where the line comes from above and goes up again there is room below.
                    beside = [row[place] for place in (label - 1, label + 1) if 0 <= place < len(row)]
                    _write(picture, str(value), (x, y + 11 if min(beside) > value else y - 11), 11)

    def _pie(self, picture: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        angle = float(self.turn)
        middle, centre, radius = (PIE[0] + PIE[2]) / 2, (PIE[1] + PIE[3]) / 2, (PIE[2] - PIE[0]) / 2
        edges = []
        for value, color in zip(self.values[0], self.colors, strict=True):
            # A corner for each 1.8 degrees: as round as it gets at this size, and drawn in a quarter of the time.
            turns = [math.radians(angle + 1.8 * step) for step in range(2 * value + 1)]
            rim = [(middle + radius * math.cos(turn), centre + radius * math.sin(turn)) for turn in turns]
            pen.polygon([(middle, centre), *rim], fill=_FILL[color])
            edges.append(rim[0])
            half = turns[value]
            place = (round(middle + (radius + 17) * math.cos(half)), round(centre + (radius + 13) * math.sin(half)))
            _write(picture, f"{value}%", place, 11)
            angle += 3.6 * value
        for edge in edges:
            pen.line(((middle, centre), edge), fill=0)
        for index, (label, color) in enumerate(zip(self.labels, self.colors, strict=True)):
            y = HEIGHT // 2 + 14 - 12 * len(self.labels) + 24 * index
            pen.rectangle((282, y - 6, 294, y + 6), fill=_FILL[color])
            _write(picture, label, (302, y), 13, anchor="left")

    def _table(self, picture: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        rows, columns = len(self.labels) + 1, len(self.series) + 1
        width, height = 360 // columns, min(36, 236 // rows)
        pen.rectangle((20, 44, 20 + width * columns, 44 + height), fill=_SHADE)
        for row in range(rows + 1):
            pen.line((20, 44 + height * row, 20 + width * columns, 44 + height * row), fill=_BLACK)
        for column in range(columns + 1):
            pen.line((20 + width * column, 44, 20 + width * column, 44 + height * rows), fill=_BLACK)
        for row, texts in enumerate(self.cells()):
            for column, text in enumerate(texts):
                place = (20 + width * column + width // 2, 44 + height * row + height // 2)
                _write(picture, text, place, 13, bold=row == 0, shade=row == 0)

    def texts(self) -> list[str]:
        """Everything that is written in the picture, tick numbers aside, from above."""
        head, *body = self.cells()
        marks = [cell for row in body for cell in (row if self.printed else row[:1])]
        names = [self.label_kind, self.quantity] if self.kind in ("bar", "line") else []
        series = list(self.series) if len(self.series) > 1 and self.kind != "table" else []
        return [self.title, *series, *(head if self.kind == "table" else []), *marks, *names]

    def cells(self) -> list[list[str]]:
        """The texts of a table, the head line first; of a chart, those of the table that it stands for."""
        columns = self.series if len(self.series) > 1 or self.kind == "table" else (self.quantity,)
        unit = "%" if self.kind == "pie" else ""
        body = [[label, *(f"{row[index]}{unit}" for row in self.values)] for index, label in enumerate(self.labels)]
        return [[self.label_kind, *columns], *body]


@functools.lru_cache(maxsize=16384)
def _tile(text: str, size: int, bold: bool, shade: bool) -> Image.Image:
    """A text on its ground, one byte a pixel, in this file's palette; on a shaded ground without smooth edges."""
    grey = Image.new("L", (size * len(text) + size, round(1.2 * size)), 0)
    ImageDraw.Draw(grey).text((1, round(0.93 * size)), text, font=font(size, bold=bold), fill=255, anchor="ls")
    ink = grey.getbbox() or (0, 0, 1, 1)
    grey = grey.crop((max(0, ink[0] - 1), 0, ink[2] + 1, grey.height))
    return Image.frombytes("P", grey.size, grey.tobytes().translate(_SHADED if shade else _SMOOTH))


@functools.lru_cache(maxsize=256)
def _upright(text: str, size: int, bold: bool) -> Image.Image:
    return _tile(text, size, bold, False).transpose(Image.Transpose.ROTATE_90)


def _write(
    picture: Image.Image,
    text: str,
    place: tuple[int, int],
    size: int,
    *,
    anchor: Literal["left", "middle", "right"] = "middle",
    bold: bool = False,
    upright: bool = False,
    shade: bool = False,
) -> None:
    """A text around, right of or left of a place; each text is drawn once and pasted from then on."""
    tile = _upright(text, size, bold) if upright else _tile(text, size, bold, shade)
    left = place[0] - {"left": 0, "middle": tile.width // 2, "right": tile.width}[anchor]
    picture.paste(tile, (left, place[1] - tile.height // 2))


def chart(seed: int, number: int, kinds: tuple[Kind, ...] = KINDS) -> Chart:
    """The chart of a seed and a number, the same everywhere; one kind after the other."""
    chance = random.Random(f"charts/{seed}/{number}")
    kind = kinds[number % len(kinds)]
    topic = chance.choice([one for one in TOPICS if one.ordered or kind != "line"])
    count = chance.randint(3, 6)
    if topic.ordered:
        first = chance.randint(0, len(topic.labels) - count)
        labels = topic.labels[first : first + count]
    else:
        labels = tuple(chance.sample(topic.labels, count))
    most = {"bar": 2 if count > 4 else 3, "line": 3, "pie": 1, "table": 3}[kind]
    series = tuple(chance.sample(topic.series, chance.randint(1, most)))
    step = chance.choice(topic.steps)
    # Many bars leave no room for numbers, and those of one line would stand on another.
    room = count * len(series) <= 8 if kind == "bar" else len(series) == 1
    printed = kind in ("pie", "table") or (room and chance.random() < 0.5)
    if kind == "pie":
        values: tuple[tuple[int, ...], ...] = (_shares(chance, count),)
    else:
        values = _values(chance, count, len(series), step, printed and step > 1)
    colors = chance.sample(sorted(COLORS), {"pie": count, "table": 0}.get(kind, len(series)))
    quantity = topic.quantity if kind != "pie" else topic.quantity.partition(" in ")[0]  # shares are in percent
    title = chance.choice(_TITLES).format(quantity=quantity, label_kind=topic.label_kind.lower())
    if kind == "pie":
        title = f"Share of {title[0].lower()}{title[1:]}"
    if len(series) == 1 and kind != "table" and len(title) < 30 and chance.random() < 0.5:
        title = f"{title} ({series[0]})"
    return Chart(
        id=f"charts/{seed}/{number}",
        kind=kind,
        title=title,
        quantity=quantity,
        label_kind=topic.label_kind,
        series_kind=topic.series_kind,
        labels=labels,
        series=series,
        values=values,
        colors=tuple(colors),
        step=step,
        printed=printed,
        turn=chance.randrange(0, 360, 15),
        ordered=topic.ordered,
    )


def _values(chance: random.Random, count: int, series: int, step: int, between: bool) -> tuple[tuple[int, ...], ...]:
    """Of each series; on grid lines, or anywhere. No value stands twice in a series or, of two series, at one label."""
    pool = range(max(1, step // 2), MOST_TICKS * step) if between else range(step, (MOST_TICKS + 1) * step, step)
    rows: list[tuple[int, ...]] = []
    while len(rows) < series:
        row = tuple(chance.sample(pool, count))
        if all(one != other for before in rows for one, other in zip(row, before, strict=True)):
            rows.append(row)
    return tuple(rows)


def _shares(chance: random.Random, count: int) -> tuple[int, ...]:
    """Different whole percents, 100 together, none below 6."""
    while True:
        cuts = sorted(chance.sample(range(1, 100), count - 1))
        shares = tuple(high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True))
        if min(shares) >= 6 and len(set(shares)) == count:
            return shares
