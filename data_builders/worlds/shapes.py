"""The shapes that plane figures are grown of: each on an edge whose length is known, with what follows from what.

    draft(kind, s, random) ──▶ Draft(new vertices, outline, in the edge's own frame) ──write(vertices)──▶ givens, rules

In that frame the edge runs from V0 = (0, 0) to V1 = (s, 0) and the shape lies above it. Every shape is convex.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from mminstruct.data_builders.worlds.exact import PI, Exact, root
from mminstruct.data_builders.worlds.figure import Given, Quantities, Value

Point = tuple[float, float]

SINES = {30: Exact.of(Fraction(1, 2)), 45: root(2) / 2, 60: root(3) / 2, 90: Exact.of(1)}
SINES |= {180 - degrees: sine for degrees, sine in SINES.items()}
TANGENTS = {30: root(3) / 3, 45: Exact.of(1), 60: root(3)}
ARC = 40  # straight pieces of a half circle


def edge(one: str, other: str) -> str:
    """The key, and the name, of the edge between two vertices."""
    return one + other if one < other else other + one


def angle(one: str, corner: str, other: str) -> str:
    return f"∠{one}{corner}{other}" if one < other else f"∠{other}{corner}{one}"


@dataclass
class Sheet:
    """What is written down of a figure while it grows.

    Attributes:
        marks: (kind, vertices, text) of what the picture shows: `edge`, `angle`, `inside`, `right`, `equal`.
        asks: (key, phrase, unit) of what may be asked.
    """

    quantities: Quantities = field(default_factory=Quantities)
    givens: list[Given] = field(default_factory=list)
    marks: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    asks: list[tuple[str, str, str]] = field(default_factory=list)

    def give_edge(self, one: str, other: str, length: Exact) -> None:
        key = edge(one, other)
        self.quantities.given(key, length)
        self.givens.append(Given(key, f"{key} = {length}", (str(length),)))
        self.marks.append(("edge", (one, other), str(length)))

    def give_angle(self, one: str, corner: str, other: str, degrees: int) -> str:
        key = angle(one, corner, other)
        self.quantities.given(key, Exact.of(degrees))
        self.givens.append(Given(key, f"{key} = {degrees}°", (f"{degrees}°",)))
        self.marks.append(("angle", (one, corner, other), f"{degrees}°"))
        return key

    def give_inside(self, what: str, name: str, vertices: Sequence[str], value: Exact) -> str:
        """An area or a perimeter, written into the shape."""
        key = f"{what} of {name}"
        self.quantities.given(key, value)
        self.givens.append(Given(key, f"the {key} is {value}", (f"{what} {value}",)))
        self.marks.append(("inside", tuple(vertices), f"{what} {value}"))
        return key

    def length(self, one: str, other: str, reason: str, formula: str, value: Exact) -> None:
        key = edge(one, other)
        if key not in self.quantities.values:
            self.quantities.rule(key, reason, formula, value)
            self.asks.append((key, f"the length of {key}", ""))

    def corner(self, one: str, corner: str, other: str, reason: str, formula: str, value: int | Fraction) -> None:
        key = angle(one, corner, other)
        if key not in self.quantities.values:
            self.quantities.rule(key, reason, formula, Exact.of(value))
            self.asks.append((key, f"the size of {key} in degrees", "°"))

    def measure(self, key: str, reason: str, formula: str, value: Value) -> None:
        """An area, a perimeter, the length of an arc, a height."""
        if key not in self.quantities.values:
            self.quantities.rule(key, reason, formula, value)
            self.asks.append((key, f"the {key}", ""))

    def __getitem__(self, key: str) -> Exact:
        return self.quantities.exact(key)


@dataclass
class Draft:
    """A shape that may be attached.

    Attributes:
        new: its vertices behind V1.
        arc: the curve from V1 to the last vertex (a sector) or back to V0 (a semicircle).
        write: notes what is given and what follows, once the vertices have letters.
        name, setting: made of the letters.
    """

    kind: str
    new: list[Point]
    write: Callable[[Sheet, Sequence[str]], None]
    name: Callable[[Sequence[str]], str] = "".join
    setting: Callable[[Sequence[str]], str] = "".join
    arc: list[Point] = field(default_factory=list)


def sides_sum(sheet: Sheet, vertices: Sequence[str], kind: str, name: str) -> None:
    keys = [edge(one, other) for one, other in zip(vertices, [*vertices[1:], vertices[0]], strict=True)]
    total = Exact.of(0)
    for key in keys:
        total = total + sheet[key]
    formula = " + ".join(f"{{{key}}}" for key in keys)
    sheet.measure(f"perimeter of {name}", f"the perimeter of a {kind} is the sum of its sides", formula, total)


def square(s: Exact, rng: random.Random, first: bool) -> Draft:
    given = rng.choice(["side", "area", "perimeter"]) if first else "side"

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c, d = v
        name = "".join(v)
        ab = edge(a, b)
        if ab not in sheet.quantities.values:
            if given == "area":
                key = sheet.give_inside("area", name, v, s * s)
                sheet.length(a, b, "the area of a square is the square of its side", f"√{{{key}}}", s)
            elif given == "perimeter":
                key = sheet.give_inside("perimeter", name, v, s * 4)
                sheet.length(a, b, "the four sides of a square are equal", f"{{{key}}} / 4", s)
            else:
                sheet.give_edge(a, b, s)
        for one, other in ((b, c), (c, d), (d, a)):
            sheet.length(one, other, f"all sides of the square {name} are equal", f"{{{ab}}}", s)
        sheet.length(a, c, "the diagonal of a square is √2 times its side", f"√2 × {{{ab}}}", s * root(2))
        sheet.measure(f"area of {name}", "the area of a square is the square of its side", f"{{{ab}}}²", s * s)
        sheet.measure(f"perimeter of {name}", "a square has four equal sides", f"4 × {{{ab}}}", s * 4)
        sheet.marks.append(("right", (c, d, a), ""))

    side = float(s)
    return Draft("square", [(side, side), (0, side)], write, setting=lambda v: f"{''.join(v)} is a square")


def rectangle(s: Exact, rng: random.Random, first: bool) -> Draft:
    h = _near(s, rng)
    given = rng.choice(["side", "side", "area", "perimeter"]) if s.integer else "side"

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c, d = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab, bc = edge(a, b), edge(b, c)
        if given == "area":
            key = sheet.give_inside("area", name, v, s * h)
            sheet.length(
                b, c, "the area of a rectangle is the product of its sides", f"{{{key}}} / {{{ab}}}", Exact.of(h)
            )
        elif given == "perimeter":
            key = sheet.give_inside("perimeter", name, v, (s + h) * 2)
            sheet.length(
                b, c, "half the perimeter of a rectangle is the sum of its two sides",
                f"{{{key}}} / 2 − {{{ab}}}", Exact.of(h),
            )  # fmt: skip
        else:
            sheet.give_edge(b, c, Exact.of(h))
        opposite = f"opposite sides of the rectangle {name} are equal"
        sheet.length(c, d, opposite, f"{{{ab}}}", s)
        sheet.length(d, a, opposite, f"{{{bc}}}", Exact.of(h))
        sheet.length(
            a, c, "by the Pythagorean theorem for the diagonal of a rectangle", f"√({{{ab}}}² + {{{bc}}}²)",
            root((s * s).fraction + h * h),
        )  # fmt: skip
        product = "the area of a rectangle is the product of its sides"
        sheet.measure(f"area of {name}", product, f"{{{ab}}} × {{{bc}}}", s * h)
        twice = "the perimeter of a rectangle is twice the sum of its sides"
        sheet.measure(f"perimeter of {name}", twice, f"2 × ({{{ab}}} + {{{bc}}})", (s + h) * 2)
        sheet.marks.append(("right", (c, d, a), ""))

    side = float(s)
    return Draft("rectangle", [(side, h), (0, h)], write, setting=lambda v: f"{''.join(v)} is a rectangle")


def right_triangle(s: Exact, rng: random.Random, first: bool) -> Draft:
    """With the edge as a leg, and the right angle at V1."""
    given = rng.choice(["leg", "leg", "angle"] + ["area"] * s.integer)
    degrees = rng.choice([30, 45, 60])
    leg = s * TANGENTS[degrees] if given == "angle" else Exact.of(_near(s, rng))

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab, bc = edge(a, b), edge(b, c)
        if given == "angle":
            key = sheet.give_angle(b, a, c, degrees)
            tangent = f"{bc} is opposite to {key} and {ab} beside it in the right triangle {name}"
            sheet.length(b, c, tangent, f"{{{ab}}} × tan {{{key}}}", leg)
            acute = f"the acute angles of the right triangle {name} add up to 90°"
            sheet.corner(a, c, b, acute, f"90° − {{{key}}}", 90 - degrees)
        elif given == "area":
            key = sheet.give_inside("area", name, v, s * leg / 2)
            half = "the area of a right triangle is half the product of its legs"
            sheet.length(b, c, half, f"2 × {{{key}}} / {{{ab}}}", leg)
        else:
            sheet.give_edge(b, c, leg)
        hypotenuse = root((s * s + leg * leg).fraction)
        pythagoras = f"by the Pythagorean theorem in the right triangle {name}"
        sheet.length(a, c, pythagoras, f"√({{{ab}}}² + {{{bc}}}²)", hypotenuse)
        half = "the area of a right triangle is half the product of its legs"
        sheet.measure(f"area of {name}", half, f"{{{ab}}} × {{{bc}}} / 2", s * leg / 2)
        sides_sum(sheet, v, "triangle", name)
        sheet.marks.append(("right", (a, b, c), ""))

    return Draft("right triangle", [(float(s), float(leg))], write, setting=_right_at(1))


def triangle_on_hypotenuse(s: Exact, rng: random.Random, first: bool) -> Draft:
    """A right triangle with the edge as its hypotenuse and an angle of 30°, 45° or 60° at V0."""
    degrees = rng.choice([30, 45, 60])
    near, far = s * SINES[90 - degrees], s * SINES[degrees]

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab, bc, ac = edge(a, b), edge(b, c), edge(a, c)
        key = sheet.give_angle(b, a, c, degrees)
        triangle = f"in the right triangle {name} with hypotenuse {ab}"
        sheet.length(a, c, f"{triangle}, {ac} is beside {key}", f"{{{ab}}} × cos {{{key}}}", near)
        sheet.length(b, c, f"{triangle}, {bc} is opposite to {key}", f"{{{ab}}} × sin {{{key}}}", far)
        acute = f"the acute angles of the right triangle {name} add up to 90°"
        sheet.corner(a, b, c, acute, f"90° − {{{key}}}", 90 - degrees)
        half = "the area of a right triangle is half the product of its legs"
        sheet.measure(f"area of {name}", half, f"{{{ac}}} × {{{bc}}} / 2", near * far / 2)
        sides_sum(sheet, v, "triangle", name)
        sheet.marks.append(("right", (a, c, b), ""))

    x = float(near) * math.cos(math.radians(degrees))
    return Draft("right triangle", [(x, x * math.tan(math.radians(degrees)))], write, setting=_right_at(2))


def equilateral(s: Exact, rng: random.Random, first: bool) -> Draft:
    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab = edge(a, b)
        for one, other in ((b, c), (c, a)):
            sheet.length(one, other, f"all sides of the equilateral triangle {name} are equal", f"{{{ab}}}", s)
        third = "the three angles of an equilateral triangle are equal and add up to 180°"
        sheet.corner(a, c, b, third, "180° / 3", 60)
        quarter = "the area of an equilateral triangle is √3/4 times its squared side"
        sheet.measure(f"area of {name}", quarter, f"√3 / 4 × {{{ab}}}²", s * s * root(3) / 4)
        sheet.measure(f"perimeter of {name}", "an equilateral triangle has three equal sides", f"3 × {{{ab}}}", s * 3)

    x = float(s)
    return Draft(
        "equilateral triangle",
        [(x / 2, x * math.sqrt(3) / 2)],
        write,
        setting=lambda v: f"{''.join(v)} is an equilateral triangle",
    )


def isosceles(s: Exact, rng: random.Random, first: bool) -> Draft:
    """With the edge as its base: a leg is given, or an angle."""
    given = rng.choice(["leg", "leg", "base angle", "apex angle"])
    base = float(s)
    if given == "leg":
        leg = math.floor(base * rng.uniform(0.62, 1.25)) + 1
        leg += leg == base  # else it is an equilateral triangle
        height = root(leg * leg - (s * s).fraction / 4)
        degrees = 0
        top = float(height)
    else:
        degrees = rng.choice([*range(36, 60), *range(61, 69)])
        top = base / 2 * math.tan(math.radians(degrees))

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab, ac = edge(a, b), edge(a, c)
        area = f"area of {name}"
        sheet.marks += [("equal", (a, c), ""), ("equal", (b, c), "")]
        if given == "leg":
            sheet.give_edge(a, c, Exact.of(leg))
            legs = f"the legs of the isosceles triangle {name} are equal"
            sheet.length(b, c, legs, f"{{{ac}}}", Exact.of(leg))
            key = f"height of {name} from {c}"
            halved = f"the height from the apex halves the base {ab}, and by the Pythagorean theorem"
            sheet.measure(key, halved, f"√({{{ac}}}² − ({{{ab}}} / 2)²)", height)
            half = "the area of a triangle is half the product of base and height"
            sheet.measure(area, half, f"{{{ab}}} × {{{key}}} / 2", s * height / 2)
            sides_sum(sheet, v, "triangle", name)
            return
        equal = f"the base angles of the isosceles triangle {name} are equal and its angles add up to 180°"
        if given == "base angle":
            key = sheet.give_angle(b, a, c, degrees)
            sheet.corner(a, c, b, equal, f"180° − 2 × {{{key}}}", 180 - 2 * degrees)
            sheet.corner(a, b, c, f"the base angles of the isosceles triangle {name} are equal", f"{{{key}}}", degrees)
        else:
            apex = sheet.give_angle(a, c, b, 180 - 2 * degrees)
            key = angle(b, a, c)
            sheet.corner(b, a, c, equal, f"(180° − {{{apex}}}) / 2", degrees)
            sheet.corner(a, b, c, equal, f"(180° − {{{apex}}}) / 2", degrees)
        tangent = (
            f"half the base {ab} times the tangent of a base angle is the height, and half the base times it the area"
        )
        value = float(s * s) / 4 * math.tan(math.radians(degrees))
        sheet.measure(area, tangent, f"({{{ab}}} / 2)² × tan {{{key}}}", value)

    return Draft(
        "isosceles triangle",
        [(base / 2, top)],
        write,
        setting=lambda v: f"{''.join(v)} is an isosceles triangle with apex {v[2]}",
    )


def parallelogram(s: Exact, rng: random.Random, first: bool, equal: bool = False) -> Draft:
    """With an angle given at V0, and a side, unless all are equal (a rhombus)."""
    side = s if equal else Exact.of(_near(s, rng))
    degrees = rng.choice([45, 60, 120, 135, rng.randint(50, 76), rng.randint(104, 130)])
    kind = "rhombus" if equal else "parallelogram"

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c, d = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab, bc = edge(a, b), edge(b, c)
        if equal:
            for one, other in ((b, c), (c, d), (d, a)):
                sheet.length(one, other, f"all sides of the rhombus {name} are equal", f"{{{ab}}}", s)
            sheet.measure(f"perimeter of {name}", "a rhombus has four equal sides", f"4 × {{{ab}}}", s * 4)
        else:
            sheet.give_edge(b, c, side)
            opposite = f"opposite sides of the parallelogram {name} are equal"
            sheet.length(c, d, opposite, f"{{{ab}}}", s)
            sheet.length(d, a, opposite, f"{{{bc}}}", side)
            twice = "the perimeter of a parallelogram is twice the sum of two neighbouring sides"
            sheet.measure(f"perimeter of {name}", twice, f"2 × ({{{ab}}} + {{{bc}}})", (s + side) * 2)
        key = sheet.give_angle(b, a, d, degrees)
        beside = f"neighbouring angles of the {kind} {name} add up to 180°"
        sheet.corner(a, b, c, beside, f"180° − {{{key}}}", 180 - degrees)
        sheet.corner(b, c, d, f"opposite angles of the {kind} {name} are equal", f"{{{key}}}", degrees)
        exact = SINES.get(degrees)
        value = float(s * side) * math.sin(math.radians(degrees)) if exact is None else s * side * exact
        sine = f"the area of a {kind} is the product of two neighbouring sides and the sine of their angle"
        formula = f"{{{ab}}}² × sin {{{key}}}" if equal else f"{{{ab}}} × {{{bc}}} × sin {{{key}}}"
        sheet.measure(f"area of {name}", sine, formula, value)

    turn = math.radians(degrees)
    x, y = float(side) * math.cos(turn), float(side) * math.sin(turn)
    return Draft(kind, [(float(s) + x, y), (x, y)], write, setting=lambda v: f"{''.join(v)} is a {kind}")


def rhombus(s: Exact, rng: random.Random, first: bool) -> Draft:
    return parallelogram(s, rng, first, equal=True)


def right_trapezium(s: Exact, rng: random.Random, first: bool) -> Draft:
    """The edge is the longer of the parallel sides; its right angles are at V0 and V3. `s` is a whole number."""
    long = int(s.fraction)
    top = rng.randint(math.ceil(0.4 * long), math.ceil(0.8 * long) - 1)
    height = rng.randint(math.ceil(0.4 * long), long)

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c, d = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        sheet.give_edge(c, d, Exact.of(top))
        sheet.give_edge(d, a, Exact.of(height))
        ab, cd, da = edge(a, b), edge(c, d), edge(d, a)
        foot = f"by the Pythagorean theorem in the triangle under {edge(b, c)}, whose legs are {da} and {ab} − {cd}"
        slanted = root(height * height + (long - top) ** 2)
        sheet.length(b, c, foot, f"√({{{da}}}² + ({{{ab}}} − {{{cd}}})²)", slanted)
        mean = "the area of a trapezium is half the sum of its parallel sides times its height"
        area = Exact.of(Fraction((long + top) * height, 2))
        sheet.measure(f"area of {name}", mean, f"({{{ab}}} + {{{cd}}}) × {{{da}}} / 2", area)
        sides_sum(sheet, v, "trapezium", name)
        sheet.marks.append(("right", (d, a, b), ""))
        sheet.marks.append(("right", (a, d, c), ""))

    return Draft(
        "trapezium",
        [(top, height), (0, height)],
        write,
        setting=lambda v: (
            f"{''.join(v)} is a trapezium with {edge(v[0], v[1])} parallel to {edge(v[2], v[3])} "
            f"and right angles at {v[0]} and {v[3]}"
        ),
    )


def isosceles_trapezium(s: Exact, rng: random.Random, first: bool) -> Draft:
    """The edge is the longer of the parallel sides. `s` is a whole number."""
    long = int(s.fraction)
    top = rng.randint(math.ceil(0.4 * long), math.ceil(0.8 * long) - 1)
    step = Fraction(long - top, 2)
    leg = rng.randint(math.floor(step) + max(1, math.ceil(0.3 * long)), math.floor(step) + long)
    height = root(leg * leg - step * step)

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c, d = v
        name = "".join(v)
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        sheet.give_edge(c, d, Exact.of(top))
        sheet.give_edge(b, c, Exact.of(leg))
        ab, bc, cd = edge(a, b), edge(b, c), edge(c, d)
        sheet.length(d, a, f"the legs of the isosceles trapezium {name} are equal", f"{{{bc}}}", Exact.of(leg))
        key = f"height of {name}"
        foot = f"each leg stands over half of {ab} − {cd}, and by the Pythagorean theorem"
        sheet.measure(key, foot, f"√({{{bc}}}² − (({{{ab}}} − {{{cd}}}) / 2)²)", height)
        mean = "the area of a trapezium is half the sum of its parallel sides times its height"
        area = height * Fraction(long + top, 2)
        sheet.measure(f"area of {name}", mean, f"({{{ab}}} + {{{cd}}}) × {{{key}}} / 2", area)
        sides_sum(sheet, v, "trapezium", name)

    x, y = float(step), float(height)
    return Draft(
        "isosceles trapezium",
        [(long - x, y), (x, y)],
        write,
        setting=lambda v: (
            f"{''.join(v)} is an isosceles trapezium with {edge(v[0], v[1])} parallel to {edge(v[2], v[3])}"
        ),
    )


def semicircle(s: Exact, rng: random.Random, first: bool) -> Draft:
    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b = v
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab = edge(a, b)
        name = f"the semicircle on {ab}"
        arc = f"length of the arc of {name}"
        sheet.measure(
            arc, "half the circumference of a circle is π times half the diameter", f"π × {{{ab}}} / 2", s * PI / 2
        )
        half = "a semicircle has half the area of its circle, and its radius is half the diameter"
        sheet.measure(f"area of {name}", half, f"π × ({{{ab}}} / 2)² / 2", s * s * PI / 8)
        both = "the perimeter of a semicircle is its arc and its diameter"
        sheet.measure(f"perimeter of {name}", both, f"{{{arc}}} + {{{ab}}}", s * PI / 2 + s)

    r = float(s) / 2
    turns = [math.pi * number / ARC for number in range(ARC + 1)]
    return Draft(
        "semicircle",
        [],
        write,
        name=lambda v: f"the semicircle on {edge(v[0], v[1])}",
        setting=lambda v: f"a semicircle has {edge(v[0], v[1])} as its diameter",
        arc=[(r + r * math.cos(turn), r * math.sin(turn)) for turn in turns],
    )


def sector(s: Exact, rng: random.Random, first: bool) -> Draft:
    """With its centre at V0 and the edge as a radius: its angle is given, or its area."""
    degrees = rng.choice([30, 40, 45, 60, 60, 72, 80, 90, 100, 120])
    given = rng.choice(["angle", "angle", "area"])

    def write(sheet: Sheet, v: Sequence[str]) -> None:
        a, b, c = v
        if edge(a, b) not in sheet.quantities.values:
            sheet.give_edge(a, b, s)
        ab = edge(a, b)
        name = f"the sector {b}{a}{c}"
        key = angle(b, a, c)
        area, part = s * s * PI * Fraction(degrees, 360), "the part of the circle that the sector's angle is of 360°"
        if given == "area":
            sheet.quantities.given(f"area of {name}", area)
            sheet.givens.append(Given(f"area of {name}", f"the area of {name} is {area}", (f"area {area}",)))
            sheet.marks.append(("inside", (a, b, c), f"area {area}"))
            share = "a sector has that part of its circle's area which its angle is of 360°"
            formula = f"360° × {{area of {name}}} / (π × {{{ab}}}²)"
            sheet.corner(b, a, c, share, formula, degrees)
        else:
            sheet.give_angle(b, a, c, degrees)
            sheet.measure(f"area of {name}", f"a sector's area is {part}", f"{{{key}}} / 360° × π × {{{ab}}}²", area)
        sheet.length(a, c, f"{ab} and {edge(a, c)} are radii of one circle", f"{{{ab}}}", s)
        arc = f"length of the arc of {name}"
        length = s * PI * Fraction(degrees, 180)
        around = f"a sector's arc is {part}".replace("the part of the circle", "the part of the circumference")
        sheet.measure(arc, around, f"{{{key}}} / 360° × 2 × π × {{{ab}}}", length)
        both = "the perimeter of a sector is its arc and two radii"
        sheet.measure(f"perimeter of {name}", both, f"{{{arc}}} + 2 × {{{ab}}}", length + s * 2)

    r, end = float(s), math.radians(degrees)
    steps = max(8, ARC * degrees // 180)
    turns = [end * number / steps for number in range(steps + 1)]
    return Draft(
        "sector",
        [(r * math.cos(end), r * math.sin(end))],
        write,
        name=lambda v: f"the sector {v[1]}{v[0]}{v[2]}",
        setting=lambda v: f"{v[1]}{v[0]}{v[2]} is a sector of a circle with centre {v[0]}",
        arc=[(r * math.cos(turn), r * math.sin(turn)) for turn in turns],
    )


def _near(s: Exact, rng: random.Random) -> int:
    """A whole length that is not far from `s`."""
    length = float(s)
    found = max(2, round(length * rng.uniform(0.5, 1.6)))
    return found + 1 if found == length else found


def _right_at(index: int) -> Callable[[Sequence[str]], str]:
    return lambda v: f"{''.join(v)} is a right triangle with the right angle at {v[index]}"


Maker = Callable[[Exact, random.Random, bool], Draft]
ANY: list[tuple[str, Maker]] = [
    ("square", square),
    ("rectangle", rectangle),
    ("right triangle", right_triangle),
    ("right triangle", triangle_on_hypotenuse),
    ("equilateral triangle", equilateral),
    ("isosceles triangle", isosceles),
    ("parallelogram", parallelogram),
    ("rhombus", rhombus),
    ("semicircle", semicircle),
    ("sector", sector),
]
WHOLE: list[tuple[str, Maker]] = [("trapezium", right_trapezium), ("isosceles trapezium", isosceles_trapezium)]
KINDS = list(dict.fromkeys(kind for kind, _ in [*ANY, *WHOLE]))
