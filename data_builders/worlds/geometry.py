"""Plane figures: a shape, and others attached to the edges of what stands; everything is drawn to scale.

    figure(seed, number) ──▶ Figure        shapes grown edge by edge, letters at vertices, a minimal set of givens

A figure whose shapes would overlap, or in which a label would cover something, is given up and grown anew.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from mminstruct.data_builders.worlds.canvas import Canvas, around
from mminstruct.data_builders.worlds.exact import Exact
from mminstruct.data_builders.worlds.figure import Ask, Figure
from mminstruct.data_builders.worlds.shapes import ANY, WHOLE, Draft, Sheet, edge

Point = tuple[float, float]

LETTERS = "ABCDEFGHIJKLMN"
EXTENT = 226  # pixels of the longer side of a figure
MARGIN = 26
SHORTEST = 36  # pixels of an edge


@dataclass
class Shape:
    """An attached shape; `outline` are points around it, curves in small pieces, in the figure's coordinates."""

    kind: str
    name: str
    setting: str
    vertices: list[str]
    outline: list[Point]
    base: str
    parent: str

    @property
    def centre(self) -> Point:
        count = len(self.outline)
        return sum(x for x, _ in self.outline) / count, sum(y for _, y in self.outline) / count


class Growth:
    """A figure while it grows.

    Attributes:
        open: directed edges that a shape may be attached to, with the shape that they belong to.
        rim: keys of the edges and arcs around the whole.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sheet = Sheet()
        self.points: dict[str, Point] = {}
        self.shapes: list[Shape] = []
        self.open: dict[tuple[str, str], Shape] = {}
        self.rim: dict[str, str] = {}  # key of a length to its name

    def start(self) -> None:
        """The first shape, on an edge of its own."""
        rng = self.rng
        _, make = rng.choice(ANY + WHOLE)
        length = Exact.of(rng.randint(4, 18))
        turn = math.radians(rng.choice([0, 0, 0, rng.randint(-40, 40)]))
        size = float(length)
        draft = make(length, rng, True)
        self._add(draft, ["A", "B"], (0.0, 0.0), (size * math.cos(turn), size * math.sin(turn)), 1, "")

    def attach(self) -> bool:
        """Try one more shape on a random open edge. Returns whether it has room."""
        rng = self.rng
        if not self.open:
            return False
        start, end = rng.choice(list(self.open))
        length = self.sheet[edge(start, end)]
        _, make = rng.choice(ANY + WHOLE * (length.integer and length.fraction >= 4))
        draft = make(length, rng, False)
        if len(self.points) + len(draft.new) > len(LETTERS):
            return False
        parent = self.open[start, end]
        if draft.kind == parent.kind == "semicircle":  # they would be one circle
            return False
        if rng.random() < 0.5:
            start, end = end, start
        p, q = self.points[start], self.points[end]
        cx, cy = parent.centre
        side = (q[0] - p[0]) * (cy - p[1]) - (q[1] - p[1]) * (cx - p[0])
        return self._add(draft, [start, end], p, q, -1 if side > 0 else 1, parent.name)

    def _add(self, draft: Draft, ends: list[str], p: Point, q: Point, side: int, parent: str) -> bool:
        """Attach on the side of p→q that `side` says (1: to the left), where nothing is in the way."""
        length = math.dist(p, q)
        ux, uy = (q[0] - p[0]) / length, (q[1] - p[1]) / length
        vx, vy = -uy * side, ux * side
        new = [(p[0] + x * ux + y * vx, p[1] + x * uy + y * vy) for x, y in draft.new]
        arc = [(p[0] + x * ux + y * vx, p[1] + x * uy + y * vy) for x, y in draft.arc]
        outline = [p, *arc] if draft.kind == "sector" else arc if arc else [p, q, *new]
        if not self._fits(outline, new, arc, length):
            return False
        letters = list(LETTERS[len(self.points) :]) if parent else list(LETTERS[2:])
        vertices = ends + letters[: len(new)]
        self.points |= dict(zip(vertices, [p, q, *new], strict=True))
        shape = Shape(draft.kind, draft.name(vertices), draft.setting(vertices), vertices, outline, edge(*ends), parent)
        draft.write(self.sheet, vertices)
        self.shapes.append(shape)
        self._renew_edges(shape, ends)
        return True

    def _fits(self, outline: list[Point], new: list[Point], arc: list[Point], length: float) -> bool:
        if any(_overlap(outline, shape.outline) for shape in self.shapes):
            return False
        everything = [*outline, *(point for shape in self.shapes for point in shape.outline)]
        extent = max(
            max(x for x, _ in everything) - min(x for x, _ in everything),
            max(y for _, y in everything) - min(y for _, y in everything),
        )
        near = extent * SHORTEST / EXTENT
        shortest = min([length, *(math.dist(a, b) for a, b in self._edges())])
        known = list(self.points.values())
        if shortest < near or any(math.dist(a, b) < near for a in new for b in [*known, *new] if a is not b):
            return False
        # A vertex must not stand on, or hard by, another shape's edge, nor an old one by a new edge.
        ends = {outline[0], outline[1]} if not arc else {outline[0], arc[-1], arc[0]}
        for shape in self.shapes:
            if any(_distance(point, shape.outline) < near / 2 for point in new):
                return False
        return not any(_distance(point, outline) < near / 2 for point in known if point not in ends)

    def _edges(self) -> list[tuple[Point, Point]]:
        return [(self.points[a], self.points[b]) for a, b in self.open]

    def _renew_edges(self, shape: Shape, ends: list[str]) -> None:
        v, base = shape.vertices, edge(*ends)
        for pair in [(ends[0], ends[1]), (ends[1], ends[0])]:
            self.open.pop(pair, None)
        was_there = self.rim.pop(base, None) is not None
        if not was_there:
            self.rim[base] = base
            self.open[v[0], v[1]] = shape
        sides = list(zip(v, [*v[1:], v[0]], strict=True))[1:] if len(v) > 2 else []
        if shape.kind in ("sector", "semicircle"):
            sides = sides[1:]
            self.rim[f"length of the arc of {shape.name}"] = f"the arc of {shape.name}"
        for one, other in sides:
            key = edge(one, other)
            self.rim[key] = key
            value = self.sheet.quantities.values.get(key)
            if isinstance(value, Exact) and len(value.terms) == 1 and (value * value).rational:
                self.open[one, other] = shape

    def whole(self) -> None:
        """What can be said of all shapes together: their area, and the way around them."""
        values, sheet = self.sheet.quantities.values, self.sheet
        areas = [f"area of {shape.name}" for shape in self.shapes]
        if len(areas) > 1 and all(isinstance(values.get(key), Exact) for key in areas):
            formula = " + ".join(f"{{{key}}}" for key in areas)
            total = sum((sheet[key] for key in areas), Exact.of(0))
            sheet.measure(
                "area of the whole figure", "the shapes do not overlap, so their areas add up", formula, total
            )
        if len(areas) > 1 and all(key in values for key in self.rim):
            formula = " + ".join(f"{{{key}}}" for key in self.rim)
            total = sum((sheet[key] for key in self.rim), Exact.of(0))
            around_it = "the perimeter of the whole figure is the sum of all lines on its rim"
            sheet.measure("perimeter of the whole figure", around_it, formula, total)


def figure(seed: int, number: int, shapes: tuple[int, int] = (1, 4)) -> Figure:
    """The figure of a number; `shapes` are the fewest and the most."""
    attempt = 0
    while True:
        rng = random.Random(f"geometry/{seed}/{number}/{attempt}")
        wanted = rng.randint(*shapes)
        growth = Growth(rng)
        growth.start()
        for _ in range(4 * wanted):
            if len(growth.shapes) == wanted:
                break
            growth.attach()
        if len(growth.shapes) >= shapes[0]:
            growth.whole()
            drawn = _draw(growth)
            if drawn is not None:
                return _figure(f"geometry/{seed}/{number}", growth, *drawn)
        attempt += 1


def _figure(name: str, growth: Growth, canvas: Canvas, pixels: dict[str, Point], place: _Place) -> Figure:
    sheet = growth.sheet
    groups: dict[str, list[tuple[str, Exact]]] = {}
    for key, value in sheet.quantities.values.items():
        if isinstance(value, Exact):
            groups.setdefault(_group(key), []).append((key, value))
    lengths = tuple(value for _, value in groups["length"])
    asks = []
    for key, phrase, unit in sheet.asks:
        near = tuple(value for other, value in groups.get(_group(key), []) if other != key)
        asks.append(Ask(key, phrase, f"{key} = ?", unit, _tint(key, growth, pixels, place), near or lengths))
    first, *rest = growth.shapes
    construction = [("start", {"shape": _noun(first), "name": first.name})]
    construction += [
        ("attach", {"shape": _noun(one), "edge": one.base, "parent": _noun_of(one.parent, growth)}) for one in rest
    ]
    return Figure(
        id=name,
        domain="geometry",
        kinds=[shape.kind for shape in growth.shapes],
        setting=[shape.setting for shape in growth.shapes],
        drawn_setting=[", ".join(_noun(shape) for shape in growth.shapes)],
        construction=construction,
        givens=sheet.givens,
        asks=asks,
        values=sheet.quantities.values,
        rules=sheet.quantities.rules,
        names=sheet.quantities.names,
        picture=canvas.picture,
        points=dict(growth.points),
        shown=canvas.shown,
        facts={
            "points": {letter: [round(x, 9), round(y, 9)] for letter, (x, y) in growth.points.items()},
            "shapes": [{"kind": one.kind, "vertices": one.vertices} for one in growth.shapes],
            "pixels": {letter: [round(x, 1), round(y, 1)] for letter, (x, y) in pixels.items()},
        },
    )


def _group(key: str) -> str:
    """What can be taken for one another: angles, lengths, areas, ..."""
    return "angle" if key[0] == "∠" else key.split(" ")[0] if " " in key else "length"


def _noun(shape: Shape) -> str:
    return shape.name.removeprefix("the ") if shape.name.startswith("the ") else f"{shape.kind} {shape.name}"


def _noun_of(name: str, growth: Growth) -> str:
    return next(_noun(shape) for shape in growth.shapes if shape.name == name)


def _tint(key: str, growth: Growth, pixels: dict[str, Point], place: _Place) -> tuple[str, tuple[Point, ...]] | None:
    if key in ("area of the whole figure", "perimeter of the whole figure"):
        return None
    if len(key) == 2:
        return "line", (pixels[key[0]], pixels[key[1]])
    if key[0] == "∠":
        return None
    shape = next((one for one in growth.shapes if key.endswith(f" of {one.name}")), None)
    if shape is None:
        return None
    if key.startswith("length of the arc"):
        outline = shape.outline[1:] if shape.kind == "sector" else shape.outline
        return "line", tuple(place(point) for point in outline)
    return "polygon", tuple(place(point) for point in shape.outline)


class _Place:
    """From the figure's coordinates to pixels."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.left, self.high = min(x for x, _ in points), max(y for _, y in points)
        across, up = max(x for x, _ in points) - self.left, self.high - min(y for _, y in points)
        self.scale = EXTENT / max(across, up)
        self.size = (math.ceil(across * self.scale) + 2 * MARGIN, math.ceil(up * self.scale) + 2 * MARGIN)

    def __call__(self, point: Point) -> Point:
        return (point[0] - self.left) * self.scale + MARGIN, (self.high - point[1]) * self.scale + MARGIN


def _draw(growth: Growth) -> tuple[Canvas, dict[str, Point], _Place] | None:
    """The picture, vertices in pixels; None where a label finds no place."""
    place = _Place([point for shape in growth.shapes for point in shape.outline])
    canvas = Canvas(*place.size)
    pixels = {letter: place(point) for letter, point in growth.points.items()}
    for shape in growth.shapes:
        points = [place(point) for point in shape.outline]
        canvas.line([*points, points[0]])
    marks = growth.sheet.marks
    for kind, letters, _ in marks:
        at = [pixels[letter] for letter in letters]
        if kind == "right":
            _right_mark(canvas, at[0], at[1], at[2])
        elif kind == "equal":
            _tick(canvas, at[0], at[1])
        elif kind == "angle":
            _angle_mark(canvas, at[0], at[1], at[2])
    canvas.smooth()
    outlines = {tuple(shape.vertices): [place(point) for point in shape.outline] for shape in growth.shapes}
    for kind, letters, text in sorted(marks, key=lambda mark: "angle inside edge right equal".index(mark[0])):
        ends = [pixels[letter] for letter in letters]
        if kind == "angle":
            places = _within(*ends)
        elif kind == "inside":
            places = _inside(outlines[letters])
        elif kind == "edge":
            places = _beside(ends[0], ends[1])
        else:
            continue
        if not canvas.label(text, places):
            return None
    for letter, point in pixels.items():
        if not canvas.label(letter, around(point, (12, 16), _outwards(letter, growth)), size=14, air=1):
            return None
    return canvas, pixels, place


def _beside(p: Point, q: Point) -> list[Point]:
    length = math.dist(p, q)
    nx, ny = (q[1] - p[1]) / length, (p[0] - q[0]) / length
    return [
        (p[0] + t * (q[0] - p[0]) + side * far * nx, p[1] + t * (q[1] - p[1]) + side * far * ny)
        for far in (11, 14, 18)
        for t in (0.5, 0.42, 0.58, 0.33, 0.67)
        for side in (1, -1)
    ]


def _within(p: Point, corner: Point, q: Point) -> list[Point]:
    """Places on the bisector of an angle."""
    (px, py), (qx, qy) = _unit(corner, p), _unit(corner, q)
    half = math.acos(max(-1.0, min(1.0, px * qx + py * qy))) / 2
    x, y = _unit((0, 0), (px + qx, py + qy))
    nearest = max(24.0, 13 / math.sin(half) + 6)
    reach = 0.75 * min(math.dist(corner, p), math.dist(corner, q))
    return [
        (corner[0] + far * x + aside * -y, corner[1] + far * y + aside * x)
        for far in (nearest, 1.15 * nearest, 1.3 * nearest, 1.5 * nearest)
        if far <= reach
        for aside in (0, 4, -4)
    ]


def _inside(outline: list[Point]) -> list[Point]:
    x, y = sum(x for x, _ in outline) / len(outline), sum(y for _, y in outline) / len(outline)
    return [(x + dx, y + dy) for dy in (0, -10, 10, -20, 20) for dx in (0, -8, 8)]


def _outwards(letter: str, growth: Growth) -> float:
    """The direction, in degrees, in the middle of the widest gap between the lines that meet at a vertex."""
    x, y = growth.points[letter]
    directions = set()
    for shape in growth.shapes:
        if letter in shape.vertices:
            at = min(range(len(shape.outline)), key=lambda index: math.dist(shape.outline[index], (x, y)))
            for other in (shape.outline[at - 1], shape.outline[(at + 1) % len(shape.outline)]):
                directions.add(round(math.degrees(math.atan2(other[1] - y, other[0] - x)), 3))
    ordered = sorted(directions)
    gaps = [
        ((after - before) % 360 or 360, before)
        for before, after in zip(ordered, [*ordered[1:], ordered[0]], strict=True)
    ]
    width, before = max(gaps)
    return before + width / 2


def _unit(p: Point, q: Point) -> Point:
    length = math.dist(p, q)
    return (q[0] - p[0]) / length, (q[1] - p[1]) / length


def _right_mark(canvas: Canvas, p: Point, corner: Point, q: Point, size: float = 8) -> None:
    (px, py), (qx, qy) = _unit(corner, p), _unit(corner, q)
    x, y = corner
    one, other = (x + size * px, y + size * py), (x + size * qx, y + size * qy)
    canvas.line([one, (x + size * (px + qx), y + size * (py + qy)), other], 1)


def _tick(canvas: Canvas, p: Point, q: Point, size: float = 4) -> None:
    x, y = _unit(p, q)
    middle = (p[0] + q[0]) / 2, (p[1] + q[1]) / 2
    canvas.line([(middle[0] - size * y, middle[1] + size * x), (middle[0] + size * y, middle[1] - size * x)], 1)


def _angle_mark(canvas: Canvas, p: Point, corner: Point, q: Point, radius: float = 15) -> None:
    one = math.degrees(math.atan2(corner[1] - p[1], p[0] - corner[0]))
    other = math.degrees(math.atan2(corner[1] - q[1], q[0] - corner[0]))
    if (other - one) % 360 > 180:
        one, other = other, one
    canvas.arc(corner, radius, one, one + (other - one) % 360)


def _overlap(one: Sequence[Point], other: Sequence[Point]) -> bool:
    """Whether two convex outlines share more than an edge: no side of either has all of the other beyond it."""
    for a, b in ((one, other), (other, one)):
        cx, cy = sum(x for x, _ in a) / len(a), sum(y for _, y in a) / len(a)
        for (x, y), (u, v) in zip(a, [*a[1:], a[0]], strict=True):
            nx, ny = v - y, x - u
            if nx * (cx - x) + ny * (cy - y) > 0:
                nx, ny = -nx, -ny
            slack = 1e-6 * math.hypot(nx, ny)
            if all(nx * (s - x) + ny * (t - y) >= -slack for s, t in b):
                return False
    return True


def _distance(point: Point, outline: Sequence[Point]) -> float:
    """From a point to a closed outline."""
    x, y = point
    nearest = math.inf
    for (ax, ay), (bx, by) in zip(outline, [*outline[1:], outline[0]], strict=True):
        dx, dy = bx - ax, by - ay
        square = dx * dx + dy * dy
        t = max(0.0, min(1.0, ((x - ax) * dx + (y - ay) * dy) / square)) if square else 0.0
        nearest = min(nearest, (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2)
    return math.sqrt(nearest)
