"""Analytic geometry: points, segments, triangles, circles and ellipses on a grid, with coordinates and sizes.

figure(seed, number) ──▶ Figure        two or three objects; points have whole coordinates
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from PIL import Image

from mminstruct.data_builders.worlds.canvas import Canvas, around
from mminstruct.data_builders.worlds.exact import PI, Exact, root
from mminstruct.data_builders.worlds.figure import Ask, Figure, Given, Quantities, Value
from mminstruct.data_builders.worlds.plane import Plane, pair, whole_ticks

Lattice = tuple[int, int]
Tint = tuple[str, tuple[tuple[float, float], ...]]

HALF = 8  # the grid goes from -HALF to HALF
SIZE = 268
_TURNS = [2 * math.pi * number / 48 for number in range(49)]


@dataclass
class Sheet:
    """What is written down of one figure. `shapes` draw themselves; `outlines` are what may be shaded, by key."""

    plane: Plane
    quantities: Quantities = field(default_factory=Quantities)
    points: dict[str, Lattice] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    setting: list[str] = field(default_factory=list)
    construction: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    givens: list[Given] = field(default_factory=list)
    labels: list[tuple[str, Lattice]] = field(default_factory=list)
    strokes: list[Callable[[Canvas], None]] = field(default_factory=list)
    asks: list[tuple[str, str, str, Tint | None]] = field(default_factory=list)
    facts: list[dict[str, object]] = field(default_factory=list)

    def point(self, letter: str, at: Lattice) -> None:
        self.points[letter] = at
        for axis, value in zip("xy", at, strict=True):
            self.quantities.given(f"{axis} of {letter}", Exact.of(value), f"{axis}_{letter}")
        label = f"{letter}{pair(*at)}"
        self.givens.append(Given(f"x of {letter}", f"{letter} is at {pair(*at)}", (label,)))
        self.labels.append((label, at))

    def ask(
        self, key: str, reason: str, formula: str, value: Value, phrase: str = "", tint: Tint | None = None
    ) -> None:
        self.quantities.rule(key, reason, formula, value)
        self.asks.append((key, phrase or f"the {key}", f"{key} = ?", tint))

    def exact(self, key: str) -> Exact:
        return self.quantities.exact(key)

    def free(self, at: Lattice, apart: int = 2) -> bool:
        return all(max(abs(at[0] - x), abs(at[1] - y)) >= apart for x, y in self.points.values())

    def line(self, *letters: str) -> Tint:
        return "line", tuple(self.plane(self.points[letter]) for letter in letters)


def _spot(sheet: Sheet, rng: random.Random, reach: int = HALF - 2) -> Lattice:
    while True:
        at = rng.randint(-reach, reach), rng.randint(-reach, reach)
        if sheet.free(at):
            return at


def _distance(sheet: Sheet, one: str, other: str) -> str:
    """The rule of the distance between two points; returns its key."""
    key = one + other
    (x, y), (u, v) = sheet.points[one], sheet.points[other]
    formula = f"√(({{x of {other}}} − {{x of {one}}})² + ({{y of {other}}} − {{y of {one}}})²)"
    sheet.quantities.rule(key, "by the distance formula", formula, root((u - x) ** 2 + (v - y) ** 2))
    return key


def segment(sheet: Sheet, rng: random.Random, letters: str) -> bool:
    """Two points and the segment between them."""
    one, other = letters[0], letters[1]
    a = _spot(sheet, rng)
    sheet.points[one] = a
    b = _spot(sheet, rng)
    if math.dist(a, b) < 4:
        return False
    sheet.point(one, a)
    sheet.point(other, b)
    ends = [sheet.plane(a), sheet.plane(b)]
    sheet.strokes.append(lambda canvas: canvas.line(ends, 2))
    sheet.strokes += [lambda canvas, end=end: canvas.dot(end) for end in ends]  # type: ignore[misc]
    sheet.kinds.append("segment")
    sheet.setting.append(f"the segment {one}{other} joins two points of the grid")
    sheet.construction.append(("segment", {"start": one, "end": other}))
    sheet.facts.append({"kind": "segment", "points": [one, other]})
    tint = sheet.line(one, other)
    key = _distance(sheet, one, other)
    sheet.asks.append((key, f"the length of {key}", f"{key} = ?", tint))
    _slope(sheet, one, other, tint)
    for axis, values in zip("xy", zip(a, b, strict=True), strict=True):
        sheet.ask(
            f"{axis}-coordinate of the midpoint of {key}",
            "the midpoint's coordinates are the means of the ends'",
            f"({{{axis} of {one}}} + {{{axis} of {other}}}) / 2",
            Exact.of(Fraction(sum(values), 2)),
            tint=tint,
        )  # fmt: skip
    return True


def _slope(sheet: Sheet, one: str, other: str, tint: Tint) -> None:
    (x, y), (u, v) = sheet.points[one], sheet.points[other]
    if x == u:
        return
    slope = Exact.of(Fraction(v - y, u - x))
    key = f"slope of {one}{other}"
    formula = f"({{y of {other}}} − {{y of {one}}}) / ({{x of {other}}} − {{x of {one}}})"
    sheet.ask(
        key,
        "the slope is the difference of the y-coordinates over that of the x-coordinates",
        formula,
        slope,
        tint=tint,
    )
    sheet.ask(
        f"y-intercept of the line {one}{other}",
        f"{one} lies on the line y = mx + b, so that b is y − m × x",
        f"{{y of {one}}} − {{{key}}} × {{x of {one}}}",
        slope * -x + y,
        tint=tint,
    )


def triangle(sheet: Sheet, rng: random.Random, letters: str) -> bool:
    return _polygon(sheet, rng, letters[:3], "triangle")


def quadrilateral(sheet: Sheet, rng: random.Random, letters: str) -> bool:
    return _polygon(sheet, rng, letters[:4], "quadrilateral")


def _polygon(sheet: Sheet, rng: random.Random, name: str, kind: str) -> bool:
    """A convex polygon, its letters in their order around it."""
    corners: list[Lattice] = []
    for letter in name:
        corners.append(_spot(sheet, rng))
        sheet.points[letter] = corners[-1]
    around_it = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    turns = [_cross(p, q, r) for (p, q), (_, r) in zip(around_it, [*around_it[1:], around_it[0]], strict=True)]
    if (
        min(map(abs, turns)) < 12
        or len({turn > 0 for turn in turns}) > 1
        or min(math.dist(*one) for one in around_it) < 4
    ):
        return False
    for letter, at in zip(name, corners, strict=True):
        sheet.point(letter, at)
    pixels = [sheet.plane(at) for at in corners]
    sheet.strokes.append(lambda canvas: canvas.line([*pixels, pixels[0], pixels[1]], 2))
    sheet.kinds.append(kind)
    sheet.setting.append(f"the points {', '.join(name[:-1])} and {name[-1]} are the vertices of a {kind}")
    sheet.construction.append(
        ("polygon", {"shape": kind, "name": name, "vertices": f"{', '.join(name[:-1])} and {name[-1]}"})
    )
    sheet.facts.append({"kind": kind, "points": list(name)})
    shade: Tint = ("polygon", tuple(pixels))
    pairs = list(zip(name, [*name[1:], name[0]], strict=True))
    products = [f"{{x of {p}}} × {{y of {q}}} − {{x of {q}}} × {{y of {p}}}" for p, q in pairs]
    double = sum(p[0] * q[1] - q[0] * p[1] for p, q in around_it)
    twice = f"shoelace sum of {name}"
    sheet.quantities.rule(twice, "going round the vertices", " + ".join(products), Exact.of(double))
    half = "by the shoelace formula the area is half the absolute value of that sum"
    sheet.ask(f"area of {name}", half, f"|{{{twice}}}| / 2", Exact.of(Fraction(abs(double), 2)), tint=shade)
    keys = [_distance(sheet, *sorted(ends)) for ends in pairs]
    for key in keys:
        sheet.asks.append((key, f"the length of {key}", f"{key} = ?", sheet.line(*key)))
    total = sum((sheet.exact(key) for key in keys), Exact.of(0))
    formula = " + ".join(f"{{{key}}}" for key in keys)
    sheet.ask(f"perimeter of {name}", "the perimeter is the sum of the sides", formula, total, tint=shade)
    if kind == "triangle":
        for axis in "xy":
            mean = Exact.of(Fraction(sum(at["xy".index(axis)] for at in corners), 3))
            formula = f"({' + '.join(f'{{{axis} of {letter}}}' for letter in name)}) / 3"
            key = f"{axis}-coordinate of the centroid of {name}"
            sheet.ask(key, "the centroid's coordinates are the means of the vertices'", formula, mean, tint=shade)
    return True


def _cross(p: Lattice, q: Lattice, r: Lattice) -> int:
    return (q[0] - p[0]) * (r[1] - p[1]) - (r[0] - p[0]) * (q[1] - p[1])


def circle(sheet: Sheet, rng: random.Random, letters: str) -> bool:
    centre = letters[0]
    radius = rng.randint(2, 5)
    at = _spot(sheet, rng, HALF - 1 - radius)
    if not _apart(sheet, at, radius):
        return False
    sheet.point(centre, at)
    name = f"circle {centre}"
    turn = rng.choice([0.35, 1.2, 2.2, 2.9, -0.5, -1.1, -2.3])
    rim = at[0] + radius * math.cos(turn), at[1] + radius * math.sin(turn)
    _strokes(sheet, at, radius, radius, [rim])
    key = f"radius of {name}"
    sheet.quantities.given(key, Exact.of(radius))
    sheet.givens.append(Given(key, f"the radius of {name} is {radius}", (f"r = {radius}",)))
    sheet.labels.append((f"r = {radius}", ((at[0] + rim[0]) / 2, (at[1] + rim[1]) / 2)))  # type: ignore[arg-type]
    sheet.kinds.append("circle")
    sheet.setting.append(f"{centre} is the centre of a circle")
    sheet.construction.append(("circle", {"centre": centre}))
    sheet.facts.append({"kind": "circle", "centre": centre, "radius": radius, "reach": radius})
    shade = _ring(sheet, at, radius, radius)
    r = Exact.of(radius)
    sheet.ask(
        f"area of {name}",
        "the area of a circle is π times its squared radius",
        f"π × {{{key}}}²",
        r * r * PI,
        tint=shade,
    )
    sheet.ask(
        f"circumference of {name}", "the circumference of a circle is 2π times its radius", f"2 × π × {{{key}}}",
        r * 2 * PI, tint=shade,
    )  # fmt: skip
    reach = "the highest point of a circle lies its radius above the centre"
    sheet.ask(
        f"y-coordinate of the highest point of {name}", reach, f"{{y of {centre}}} + {{{key}}}",
        Exact.of(at[1] + radius), tint=shade,
    )  # fmt: skip
    _far(sheet, centre)
    return True


def _far(sheet: Sheet, centre: str) -> None:
    """From the centre to another labelled point."""
    other = next((letter for letter in sheet.points if letter != centre), None)
    if other is not None:
        key = _distance(sheet, other, centre)
        sheet.asks.append((key, f"the distance between {other} and {centre}", f"{key} = ?", sheet.line(other, centre)))


def ellipse(sheet: Sheet, rng: random.Random, letters: str) -> bool:
    centre = letters[0]
    across, up = rng.sample(range(2, 7), 2)
    at = (rng.randint(-HALF + 1 + across, HALF - 1 - across), rng.randint(-HALF + 1 + up, HALF - 1 - up))
    if not sheet.free(at) or not _apart(sheet, at, max(across, up)):
        return False
    sheet.point(centre, at)
    name = f"ellipse {centre}"
    _strokes(sheet, at, across, up, [(at[0] + across, at[1]), (at[0], at[1] + up)])
    long, short = max(across, up), min(across, up)
    keys = []
    for word, size, end in (
        ("horizontal", across, (at[0] + across, at[1])),
        ("vertical", up, (at[0], at[1] + up)),
    ):
        key = f"{word} semi-axis of {name}"
        keys.append(key)
        sheet.quantities.given(key, Exact.of(size))
        sheet.givens.append(Given(key, f"the {key} is {size}", (str(size),)))
        sheet.labels.append((str(size), ((at[0] + end[0]) / 2, (at[1] + end[1]) / 2)))  # type: ignore[arg-type]
    sheet.kinds.append("ellipse")
    sheet.setting.append(f"{centre} is the centre of an ellipse whose axes are parallel to the coordinate axes")
    sheet.construction.append(("ellipse", {"centre": centre}))
    sheet.facts.append({"kind": "ellipse", "centre": centre, "semi_axes": [across, up], "reach": max(across, up)})
    shade = _ring(sheet, at, across, up)
    product = "the area of an ellipse is π times the product of its semi-axes"
    sheet.ask(f"area of {name}", product, f"π × {{{keys[0]}}} × {{{keys[1]}}}", PI * (across * up), tint=shade)
    big, small = (keys[0], keys[1]) if across > up else (keys[1], keys[0])
    focus = f"distance from the centre to a focus of {name}"
    linear = root(long * long - short * short)
    sheet.ask(
        focus,
        "the squared distance is the difference of the squared semi-axes",
        f"√({{{big}}}² − {{{small}}}²)",
        linear,
        tint=shade,
    )
    sheet.ask(
        f"eccentricity of {name}", "the eccentricity is that distance over the longer semi-axis",
        f"{{{focus}}} / {{{big}}}", linear / long, tint=shade,
    )  # fmt: skip
    _far(sheet, centre)
    return True


def _strokes(sheet: Sheet, at: Lattice, across: int, up: int, rims: list[tuple[float, float]]) -> None:
    """A circle or an ellipse with its centre, and dashed lines to its rim."""
    plane = sheet.plane
    middle = plane(at)
    sheet.strokes.append(lambda canvas: canvas.ellipse(middle, across * plane.across, up * plane.up, 2))
    sheet.strokes.append(lambda canvas: canvas.dot(middle))
    sheet.strokes += [lambda canvas, rim=rim: canvas.dashed(middle, plane(rim)) for rim in rims]  # type: ignore[misc]


def _ring(sheet: Sheet, at: Lattice, across: float, up: float) -> Tint:
    return "polygon", tuple(sheet.plane((at[0] + across * math.cos(t), at[1] + up * math.sin(t))) for t in _TURNS)


def _apart(sheet: Sheet, at: Lattice, reach: int) -> bool:
    """Whether a curve keeps off the other curves; it may cross lines, but passes no labelled point closely."""
    for shape in sheet.facts:
        if (
            "reach" in shape
            and math.dist(at, sheet.points[str(shape["centre"])]) < reach + int(str(shape["reach"])) + 1
        ):
            return False
    return not any(abs(math.dist(at, other) - reach) < 1.2 for other in sheet.points.values())


MAKERS: dict[str, Callable[[Sheet, random.Random, str], bool]] = {
    "segment": segment,
    "triangle": triangle,
    "quadrilateral": quadrilateral,
    "circle": circle,
    "ellipse": ellipse,
}
KINDS = list(MAKERS)
GROUPS = [
    ["segment"],
    ["triangle"],
    ["quadrilateral"],
    ["ellipse"],
    ["circle", "circle"],
    ["segment", "circle"],
    ["triangle", "circle"],
    ["segment", "ellipse"],
    ["triangle", "segment"],
]


@functools.cache
def _ground() -> Image.Image:
    """Grid and axes, at twice the size, which all figures have in common."""
    ticks = whole_ticks(-HALF, HALF, 8)
    return Plane((-HALF, HALF, -HALF, HALF), (SIZE, SIZE), (ticks, ticks), grid=True).canvas.picture


def figure(seed: int, number: int) -> Figure:
    """The figure of a number."""
    ticks = whole_ticks(-HALF, HALF, 8)
    attempt = 0
    while True:
        rng = random.Random(f"analytic/{seed}/{number}/{attempt}")
        sheet = Sheet(Plane((-HALF, HALF, -HALF, HALF), (SIZE, SIZE), (ticks, ticks), grid=True, ground=_ground()))
        letters = "ABCDEFGH"
        made = True
        for kind in rng.choice(GROUPS):
            for _ in range(12):
                known = dict(sheet.points)
                if made := MAKERS[kind](sheet, rng, letters[len(known) :]):
                    break
                sheet.points = known
            if not made:
                break
        if made and _label(sheet):
            return _figure(f"analytic/{seed}/{number}", sheet)
        attempt += 1


def _label(sheet: Sheet) -> bool:
    """Draw all lines and find places for the labels. Returns whether there are some."""
    plane = sheet.plane
    for stroke in sheet.strokes:
        stroke(plane.canvas)
    plane.canvas.smooth()
    for text, at in sheet.labels:
        x, y = plane(at)
        places = list(around((x, y), (11, 14, 18), 90, 45))
        if "(" in text:  # a wide label stands above, below or with its end at the point
            places = [(x + dx, y + dy) for dy in (-13, 14, -19, 20) for dx in (0, 16, -16, 30, -30, 38, -38)]
            places += [(x + side * far, y + dy) for far in (37, 44, 52) for dy in (0, 6, -6) for side in (1, -1)]
        elif "=" in text:
            places = [(x + dx, y + dy) for dy in (-11, 12, -16, 17, -22, 23) for dx in (0, 20, -20, 30, -30)]
        if not plane.canvas.label(text, places, 12, air=2):
            return False
    plane.number()
    return True


def _figure(name: str, sheet: Sheet) -> Figure:
    values = sheet.quantities.values
    asks = []
    for key, phrase, mark, tint in sheet.asks:
        group = key.split(" ")[0] if " " in key else "length"
        near = tuple(
            values[other]
            for other, *_ in sheet.asks
            if other != key and (other.split(" ")[0] if " " in other else "length") == group
        )
        asks.append(Ask(key, phrase, mark, "", tint, tuple(value for value in near if isinstance(value, Exact))))
    return Figure(
        id=name,
        domain="analytic",
        kinds=sheet.kinds,
        setting=sheet.setting,
        drawn_setting=[],
        construction=sheet.construction,
        givens=sheet.givens,
        asks=asks,
        values=values,
        rules=sheet.quantities.rules,
        names=sheet.quantities.names,
        picture=sheet.plane.canvas.picture,
        points={letter: (float(x), float(y)) for letter, (x, y) in sheet.points.items()},
        shown=sheet.plane.canvas.shown,
        facts={
            "points": {letter: list(at) for letter, at in sheet.points.items()},
            "shapes": sheet.facts,
            "pixels": {letter: [round(v, 1) for v in sheet.plane(at)] for letter, at in sheet.points.items()},
        },
    )
