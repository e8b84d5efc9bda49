"""Graphs of functions with unknown coefficients, which marked points, vertices, zeros and asymptotes determine.

    figure(seed, number) ──▶ Figure        one function of a family; its picture names what is marked

The form (`f(x) = a(x − h)² + k`) is known and has no numbers; each coefficient follows from what the picture marks.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from PIL import Image

from mminstruct.data_builders.worlds.exact import PI, Exact, root
from mminstruct.data_builders.worlds.figure import Ask, Figure, Given, Quantities
from mminstruct.data_builders.worlds.plane import Plane, whole_ticks

Number = int | Fraction | Exact
SIZE = 272
SPANS = (6, 10, 16, 24)  # how far the y axis goes both ways
_SINES = {
    1: Fraction(1, 2),
    3: Fraction(1),
    5: Fraction(1, 2),
    7: Fraction(-1, 2),
    9: Fraction(-1),
    11: Fraction(-1, 2),
}


@dataclass
class Sheet:
    """What is written down of one function.

    Attributes:
        pieces: (function, from, to) of the graph.
        marked: (label, coordinates) of points.
        lines: (label, axis, value) of asymptotes.
        pi: whether the x axis is counted in π/2.
    """

    rng: random.Random
    family: str
    quantities: Quantities = field(default_factory=Quantities)
    form: str = ""
    givens: list[Given] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    pieces: list[tuple[Callable[[float], float], float, float]] = field(default_factory=list)
    marked: list[tuple[str, tuple[float, float]]] = field(default_factory=list)
    lines: list[tuple[str, str, float]] = field(default_factory=list)
    parameters: dict[str, float] = field(default_factory=dict)
    pi: bool = False

    def point(self, what: str, x: Number, y: Number, names: tuple[str, str]) -> None:
        """A marked point; `names` are the keys of its coordinates."""
        for name, value in zip(names, (x, y), strict=True):
            self.quantities.given(name, Exact.of(value))
        label = f"({Exact.of(x)}, {Exact.of(y)})"
        self.givens.append(Given(names[1], f"{what} {label}", (label,)))
        self.marked.append((label, (float(x), float(y))))

    def asymptote(self, axis: str, value: int, name: str) -> None:
        label = f"{axis} = {Exact.of(value)}"
        self.quantities.given(name, Exact.of(value))
        word = "vertical" if axis == "x" else "horizontal"
        self.givens.append(Given(name, f"the {word} asymptote is the line {label}", (label,)))
        self.lines.append((label, axis, float(value)))

    def follow(self, key: str, reason: str, formula: str, value: Number, phrase: str = "") -> None:
        self.quantities.rule(key, reason, formula, Exact.of(value))
        self.asks.append(Ask(key, phrase or f"the {key}", f"{key} = ?"))

    def value_at(self, reason_form: str, formula: str, x: Number, value: Number) -> None:
        """f at a place: the form with x put in."""
        key = f"f({Exact.of(x)})"
        self.follow(key, f"putting x = {Exact.of(x)} into {reason_form}", formula, value, f"the value of {key}")


def _inside(n: int) -> str:
    """A number within a formula."""
    return str(n) if n >= 0 else f"(−{-n})"


def _other(rng: random.Random, taken: Sequence[int], low: int = -6, high: int = 6) -> int:
    return rng.choice([n for n in range(low, high + 1) if n not in taken])


def linear(s: Sheet) -> None:
    rng = s.rng
    a = Fraction(rng.choice([-3, -2, -1, 1, 2, 3]), rng.choice([1, 1, 1, 2]))
    b = rng.choice([n for n in range(-4, 5) if n])
    x, u = sorted(rng.sample([-4, -2, 2, 4], 2))
    s.form = "f(x) = ax + b"
    s.point("the graph passes through", x, a * x + b, ("x₁", "y₁"))
    s.point("the graph passes through", u, a * u + b, ("x₂", "y₂"))
    s.follow("a", "the slope of the line is", "({y₂} − {y₁}) / ({x₂} − {x₁})", a, "the slope a")
    s.follow("b", "the point (x₁, y₁) lies on the line", "{y₁} − {a} × {x₁}", b, "the y-intercept b")
    s.follow("zero of f", "ax + b is 0 at −b / a", "−{b} / {a}", -b / a)
    t = _other(rng, (x, u, 0), -9, 9)
    s.value_at(s.form, f"{{a}} × {_inside(t)} + {{b}}", t, a * t + b)
    s.pieces.append((lambda v: float(a) * v + b, -6, 6))
    s.parameters = {"a": float(a), "b": b}


def _vertex(s: Sheet, power: str) -> None:
    """Quadratic and absolute value: a vertex and another point."""
    rng = s.rng
    square = power == "²"
    h, k = rng.randint(-3, 3), rng.choice([n for n in range(-5, 6) if n])
    a = rng.choice([Fraction(-2), Fraction(-1), Fraction(-1, 2), Fraction(1, 2), Fraction(1), Fraction(2)])
    x = h + rng.choice([-2, 2] if square or a.denominator > 1 else [-3, -2, 2, 3])
    reach = (x - h) ** 2 if square else abs(x - h)
    s.form = "f(x) = a(x − h)² + k" if square else "f(x) = a|x − h| + k"
    s.point("the vertex (h, k) is", h, k, ("h", "k"))
    s.point("the graph passes through", x, a * reach + k, ("x₁", "y₁"))
    bars = ("(", ")²") if square else ("|", "|")
    solve = "the point (x₁, y₁) lies on the graph"
    s.follow("a", solve, f"({{y₁}} − {{k}}) / {bars[0]}{{x₁}} − {{h}}{bars[1]}", a, "the coefficient a")
    s.follow(
        "y-intercept of f",
        "putting x = 0 into the form",
        f"{{a}} × {bars[0]}0 − {{h}}{bars[1]} + {{k}}",
        a * (h * h if square else abs(h)) + k,
    )
    t = _other(rng, (x, h, 0), -7, 7)
    s.value_at(
        s.form,
        f"{{a}} × {bars[0]}{_inside(t)} − {{h}}{bars[1]} + {{k}}",
        t,
        a * ((t - h) ** 2 if square else abs(t - h)) + k,
    )
    away = -k / a
    if away > 0:
        apart = root(away) if square else Exact.of(away)
        inner = "√(−{k} / {a})" if square else "(−{k} / {a})"
        s.follow(
            "larger zero of f",
            "f is 0 where the distance to h is " + ("√(−k / a)" if square else "−k / a"),
            "{h} + " + inner,
            apart + h,
        )
        s.follow("distance between the zeros of f", "both zeros are equally far from h", "2 × " + inner, apart * 2)
    extreme = "minimum" if a > 0 else "maximum"
    s.follow(f"{extreme} value of f", f"the vertex is the {'lowest' if a > 0 else 'highest'} point", "{k}", k)
    value = (lambda v: float(a) * (v - h) ** 2 + k) if square else (lambda v: float(a) * abs(v - h) + k)
    if square:
        s.pieces.append((value, -6, 6))
    else:
        s.pieces += [(value, -6, h), (value, h, 6)]
    s.parameters = {"a": float(a), "h": h, "k": k}


def quadratic(s: Sheet) -> None:
    _vertex(s, "²")


def absolute(s: Sheet) -> None:
    _vertex(s, "")


def cubic(s: Sheet) -> None:
    rng = s.rng
    q = rng.randint(-2, 2)
    p, r = q - rng.choice([2, 3]), q + rng.choice([2, 3])  # labels of nearer zeros would be taken for one another's
    a = rng.choice([Fraction(-1), Fraction(-1, 2), Fraction(-1, 4), Fraction(1, 4), Fraction(1, 2), Fraction(1)])
    spots = [n for n in range(-5, 6) if n not in (p, q, r)]
    x = rng.choice([n for n in spots if abs(a * (n - p) * (n - q) * (n - r)) <= 20] or spots)
    y = a * (x - p) * (x - q) * (x - r)
    s.form = "f(x) = a(x − p)(x − q)(x − r)"
    for name, zero, word in zip("pqr", (p, q, r), ("smallest", "middle", "largest"), strict=True):
        s.point(f"the {word} zero {name} is marked at", zero, 0, (name, f"y_{name}"))
    s.point("the graph passes through", x, y, ("x₁", "y₁"))
    product = "({0} − {{p}}) × ({0} − {{q}}) × ({0} − {{r}})"
    s.follow(
        "a", "the point (x₁, y₁) lies on the graph", "{y₁} / (" + product.format("{x₁}") + ")", a, "the coefficient a"
    )
    t = _other(rng, (x, p, q, r, 0), -6, 6)
    s.value_at(s.form, "{a} × " + product.format(_inside(t)), t, a * (t - p) * (t - q) * (t - r))
    if 0 not in (p, q, r, x):
        s.follow("y-intercept of f", "putting x = 0 into the form", "{a} × " + product.format("0"), -a * p * q * r)
    inner = p * p + q * q + r * r - p * q - q * r - p * r
    word = "minimum" if a > 0 else "maximum"
    s.follow(
        f"x-coordinate of the local {word} of f",
        f"the derivative has two zeros, and the larger one is the place of the local {word}",
        "({p} + {q} + {r} + √({p}² + {q}² + {r}² − {p} × {q} − {q} × {r} − {p} × {r})) / 3",
        (root(inner) + (p + q + r)) / 3,
    )
    s.pieces.append((lambda v: float(a) * (v - p) * (v - q) * (v - r), -6, 6))
    s.parameters = {"a": float(a), "p": p, "q": q, "r": r}


def logarithm(s: Sheet) -> None:
    rng = s.rng
    h, k = rng.randint(-4, 1), rng.randint(-3, 3)
    a = rng.choice([-2, -1, 1, 2])
    s.form = "f(x) = a · log₂(x − h) + k"
    s.asymptote("x", h, "h")
    s.point("the graph passes through", h + 1, k, ("x₁", "y₁"))
    s.point("the graph passes through", h + 2, k + a, ("x₂", "y₂"))
    s.follow("k", "at x₁ = h + 1 the logarithm is 0", "{y₁}", k, "the constant k")
    s.follow("a", "at x₂ = h + 2 the logarithm is 1", "{y₂} − {k}", a, "the coefficient a")
    power = rng.choice([2, 3, 4])
    t = h + 2**power
    s.value_at(s.form, f"{{a}} × log₂({_inside(t)} − {{h}}) + {{k}}", t, a * power + k)
    if k % a == 0:
        s.follow(
            "zero of f", "f is 0 where log₂(x − h) is −k / a", "{h} + 2^(−{k} / {a})", Fraction(2) ** (-k // a) + h
        )
    s.pieces.append((lambda v: a * math.log2(v - h) + k, h + 0.02, 6))
    s.parameters = {"a": a, "h": h, "k": k}


def exponential(s: Sheet) -> None:
    rng = s.rng
    k = rng.choice([-3, -2, -1, 1, 2])
    a = rng.choice([-2, -1, 1, 2, 3])
    b = rng.choice([Fraction(2), Fraction(3), Fraction(1, 2)])
    s.form = "f(x) = a · bˣ + k"
    s.asymptote("y", k, "k")
    s.point("the graph passes through", 0, a + k, ("x₀", "y₀"))
    s.point("the graph passes through", 1, a * b + k, ("x₁", "y₁"))
    s.follow("a", "at x = 0 the power of b is 1", "{y₀} − {k}", a, "the coefficient a")
    s.follow("b", "at x = 1 the value is ab + k", "({y₁} − {k}) / {a}", b, "the base b")
    t = rng.choice([2, 3, 4])
    s.value_at(s.form, f"{{a}} × {{b}}^{t} + {{k}}", t, a * b**t + k)
    s.value_at(s.form, "{a} × {b}^(−1) + {k}", -1, a / b + k)
    s.pieces.append((lambda v: a * float(b) ** v + k, -6, 6))
    s.parameters = {"a": a, "b": float(b), "k": k}


def sine(s: Sheet) -> None:
    _wave(s, "sin")


def cosine(s: Sheet) -> None:
    _wave(s, "cos")


def _wave(s: Sheet, name: str) -> None:
    rng = s.rng
    a, d = rng.randint(1, 4), rng.randint(-2, 2)
    b = rng.choice([Fraction(1, 2), Fraction(1), Fraction(2)])
    top, low = (Fraction(1, 2), Fraction(3, 2)) if name == "sin" else (Fraction(0), Fraction(1))
    s.form = f"f(x) = a · {name}(bx) + d with a, b > 0"
    s.pi = True
    s.point("a highest point is", PI * (top / b), a + d, ("x₁", "y₁"))
    s.point("the next lowest point to its right is", PI * (low / b), d - a, ("x₂", "y₂"))
    s.follow(
        "a",
        "the amplitude is half the distance between the highest and the lowest value",
        "({y₁} − {y₂}) / 2",
        a,
        "the amplitude a",
    )
    s.follow(
        "d",
        "the midline is halfway between the highest and the lowest value",
        "({y₁} + {y₂}) / 2",
        d,
        "the vertical shift d",
    )
    s.follow(
        "period of f", "from a highest to the next lowest point is half a period", "2 × ({x₂} − {x₁})", PI * (2 / b)
    )
    s.follow("b", f"the period of {name}(bx) is 2π / b", "2 × π / {period of f}", b, "the coefficient b")
    steps = rng.choice([1, 5, 7, 11]) if name == "sin" else rng.choice([2, 4, 8, 10])
    x = PI * (Fraction(steps, 6) / b)
    sixths = steps if name == "sin" else (steps + 3) % 12  # cos t = sin(t + π/2)
    s.value_at(s.form.partition(" with")[0], f"{{a}} × {name}({{b}} × ({x})) + {{d}}", x, a * _SINES[sixths] + d)
    wave = math.sin if name == "sin" else math.cos
    s.pieces.append((lambda v: a * wave(float(b) * v) + d, -2.25 * math.pi, 3.25 * math.pi))
    s.parameters = {"a": a, "b": float(b), "d": d}


def piecewise(s: Sheet) -> None:
    rng = s.rng
    c, y = rng.randint(-2, 2), rng.randint(-3, 3)
    m, n = rng.sample([-2, -1, 0, 1, 2], 2)
    left, right = c - rng.choice([2, 3]), c + rng.choice([2, 3])
    s.form = "f is linear to the left and to the right of the break, and continuous"
    s.point("the break (c, f(c)) is", c, y, ("c", "f(c)"))
    s.point("the left part passes through", left, y + m * (left - c), ("x₁", "y₁"))
    s.point("the right part passes through", right, y + n * (right - c), ("x₂", "y₂"))
    s.follow("slope of the left part", "between its two points", "({f(c)} − {y₁}) / ({c} − {x₁})", m)
    s.follow("slope of the right part", "between its two points", "({y₂} − {f(c)}) / ({x₂} − {c})", n)
    t = c - rng.choice([4, 5, 6])
    s.value_at("the left part", f"{{f(c)}} + {{slope of the left part}} × ({_inside(t)} − {{c}})", t, y + m * (t - c))
    t = c + rng.choice([4, 5, 6])
    s.value_at("the right part", f"{{f(c)}} + {{slope of the right part}} × ({_inside(t)} − {{c}})", t, y + n * (t - c))
    if n and Fraction(-y, n) > 0:
        s.follow(
            "zero of the right part", "from the break on the value must change by −f(c)",
            "{c} − {f(c)} / {slope of the right part}", c - Fraction(y, n),
        )  # fmt: skip
    s.pieces += [(lambda v: y + m * (v - c), -6, c), (lambda v: y + n * (v - c), c, 6)]
    s.parameters = {"c": c, "y": y, "m": m, "n": n}


def rational(s: Sheet) -> None:
    rng = s.rng
    h, k = rng.choice([-3, -2, -1, 1, 2, 3]), rng.choice([-3, -2, -1, 1, 2, 3])
    a = rng.choice([-6, -4, -3, -2, 2, 3, 4, 6])
    steps = [n for n in (-3, -2, -1, 1, 2, 3) if a % n == 0 and abs(h + n) <= 5 and h + n != 0]
    x = h + rng.choice(steps)
    s.form = "f(x) = a / (x − h) + k"
    s.asymptote("x", h, "h")
    s.asymptote("y", k, "k")
    s.point("the graph passes through", x, Fraction(a, x - h) + k, ("x₁", "y₁"))
    s.follow("a", "the point (x₁, y₁) lies on the graph", "({y₁} − {k}) × ({x₁} − {h})", a, "the coefficient a")
    s.follow("zero of f", "f is 0 where a / (x − h) is −k", "{h} − {a} / {k}", h - Fraction(a, k))
    s.follow("y-intercept of f", "putting x = 0 into the form", "{a} / (0 − {h}) + {k}", k - Fraction(a, h))
    t = _other(rng, (x, h, 0), -8, 8)
    s.value_at(s.form, f"{{a}} / ({_inside(t)} − {{h}}) + {{k}}", t, Fraction(a, t - h) + k)
    s.pieces += [(lambda v: a / (v - h) + k, -6, h - 0.05), (lambda v: a / (v - h) + k, h + 0.05, 6)]
    s.parameters = {"a": a, "h": h, "k": k}


FAMILIES: dict[str, Callable[[Sheet], None]] = {
    "linear": linear,
    "quadratic": quadratic,
    "cubic": cubic,
    "absolute value": absolute,
    "logarithm": logarithm,
    "exponential": exponential,
    "sine": sine,
    "cosine": cosine,
    "piecewise": piecewise,
    "rational": rational,
}
KINDS = list(FAMILIES)


def figure(seed: int, number: int) -> Figure:
    """The figure of a number."""
    attempt = 0
    while True:
        rng = random.Random(f"functions/{seed}/{number}/{attempt}")
        family = rng.choice(KINDS)
        sheet = Sheet(rng, family)
        FAMILIES[family](sheet)
        plane = _draw(sheet)
        if plane is not None:
            return _figure(f"functions/{seed}/{number}", sheet, plane)
        attempt += 1


@functools.lru_cache(maxsize=64)
def _plane(pi: bool, reach: int) -> tuple[Image.Image, Plane]:
    """Axes, at twice the size, which many figures have in common."""
    if pi:
        across = (-2.25 * math.pi, 3.25 * math.pi)
        named = [(n * math.pi, str(PI * n)) for n in (-2, -1, 1, 2, 3)]
    else:
        across, named = (-6.4, 6.4), whole_ticks(-6, 6, 6)
    plane = Plane((*across, -reach, reach), (SIZE, SIZE), (named, whole_ticks(-reach, reach, 6)), grid=False)
    return plane.canvas.picture, plane


def _draw(sheet: Sheet) -> Plane | None:
    """The picture; None where a label finds no place or the graph no room."""
    highest = max(abs(y) for _, (_, y) in sheet.marked) + 0.5
    reach = next((span for span in SPANS if highest < span), None)
    places = [at for _, at in sheet.marked]
    if reach is None or any(abs(y - v) < reach / 12 and abs(x - u) < 0.6 for (x, y), (u, v) in _pairs(places)):
        return None
    ground, model = _plane(sheet.pi, reach)
    span = (model.left, model.right, model.low, model.high)
    plane = Plane(span, (SIZE, SIZE), model.ticks, grid=False, ground=ground)
    canvas = plane.canvas
    for _, axis, value in sheet.lines:
        ends = ((value, plane.high), (value, plane.low)) if axis == "x" else ((plane.left, value), (plane.right, value))
        canvas.dashed(plane(ends[0]), plane(ends[1]))
    for graph, start, end in sheet.pieces:
        plane.curve(graph, start, end)
    for _, at in sheet.marked:
        canvas.dot(plane(at), 3)
    canvas.smooth()
    for label, at in sheet.marked:
        x, y = plane(at)
        spots = [(x + dx, y + dy) for dy in (-13, 13, -19, 19) for dx in (26, -26, 32, -32, 14, -14, 0)]
        spots += [(x + side * far, y + dy) for far in (30, 36, 44) for dy in (0, 7, -7) for side in (1, -1)]
        if not canvas.label(label, spots, 12, air=2):
            return None
    for label, axis, at_value in sheet.lines:
        if not canvas.label(label, list(_along(plane, axis, at_value)), 12, air=2):
            return None
    plane.number()
    return plane


def _pairs(places: list[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return [(one, other) for index, one in enumerate(places) for other in places[:index]]


def _along(plane: Plane, axis: str, value: float) -> list[tuple[float, float]]:
    """Places beside a line that is parallel to an axis."""
    shares = (0.06, 0.94, 0.12, 0.88, 0.2, 0.8, 0.3, 0.7)
    if axis == "x":
        x = plane((value, 0))[0]
        return [(x + side * 24, share * SIZE) for share in shares for side in (1, -1)]
    y = plane((0, value))[1]
    return [(share * SIZE, y + side * 10) for share in (0.1, 0.9, 0.16, 0.84, 0.25, 0.75) for side in (-1, 1)]


def _figure(name: str, sheet: Sheet, plane: Plane) -> Figure:
    values = sheet.quantities.values
    known = tuple(value for value in values.values() if isinstance(value, Exact))
    article = "an" if sheet.family[0] in "aeiou" else "a"
    kind = "linear function" if sheet.family == "linear" else f"{sheet.family} function"
    return Figure(
        id=name,
        domain="functions",
        kinds=[sheet.family],
        setting=[f"the graph is that of {article} {kind}, {sheet.form}"],
        drawn_setting=[sheet.form],
        construction=[("graph", {"kind": f"{article} {kind}", "form": sheet.form})],
        givens=sheet.givens,
        asks=[Ask(ask.key, ask.phrase, ask.mark, near=known) for ask in sheet.asks],
        values=values,
        rules=sheet.quantities.rules,
        names=sheet.quantities.names,
        picture=plane.canvas.picture,
        points={label: at for label, at in sheet.marked},
        shown=plane.canvas.shown,
        facts={
            "family": sheet.family,
            "parameters": sheet.parameters,
            "pixels": {label: [round(v, 1) for v in plane(at)] for label, at in sheet.marked},
        },
    )
