"""MAVIS' builder: every answer and every step of a rationale is computed again, from coordinates and the text."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.conversation import Conversation
from mminstruct.data_builders import mavis
from mminstruct.data_builders.worlds.figure import Figure
from mminstruct.errors import ConfigError
from tests.building.formulas import value

FIGURES = 270
Problem = dict[str, Conversation]  # by variant


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mavis") / "set"
    run(load_builder("mavis", [f"figures={FIGURES}"]), out)
    return out


@pytest.fixture(scope="module")
def found(built: Path) -> list[Conversation]:
    return list(formats.read(built))


@pytest.fixture(scope="module")
def problems(found: list[Conversation]) -> list[Problem]:
    by_name: dict[str, Problem] = defaultdict(dict)
    for one in found:
        if one.task != "mavis+caption":
            assert one.extra is not None and one.task is not None
            by_name[one.extra["problem"]][one.task.removeprefix("mavis+")] = one
    return list(by_name.values())


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    domains = itertools.cycle(["geometry", "analytic", "functions"])
    return [mavis.WORLDS[domain](0, number) for number, domain in zip(range(FIGURES), domains, strict=False)]


def number_of(problem: Conversation) -> int:
    return int(problem.id.split("/")[3])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12√3", 12 * math.sqrt(3)),
        ("9π/2", 4.5 * math.pi),
        ("7 + √74", 7 + math.sqrt(74)),
        ("√(((−5) − 5)² + (−3)²) / 2", math.sqrt(109) / 2),
        ("60° / 360° × π × (2√3)²", 2 * math.pi),
        ("2 + 2^(−(−3) / 3)", 4),
        ("−1.5", -1.5),
        ("|(−40)| / 2 − 8 × sin 30°", 16),
    ],
)
def test_the_tests_calculator_reads_formulas(text: str, expected: float) -> None:
    assert value(text) == pytest.approx(expected)


def agrees(told: str, expected: float, exact: bool) -> bool:
    """An exact form has the value; a decimal is it rounded."""
    if exact:
        return math.isclose(value(told), expected, rel_tol=2e-6, abs_tol=1e-7)
    return abs(value(told) - expected) <= 0.005 + 1e-6 * max(1, abs(expected)) and bool(
        re.fullmatch(r"−?\d+(\.\d{1,2})?", told)
    )


def answer(problem: Conversation) -> str:
    """The value that a conversation gives as its answer, by its last line."""
    assert problem.answers is not None
    last = problem.messages[-1].text.rpartition("\n")[2]
    assert last == f"Answer: {problem.answers[0]}"
    if problem.options is None:
        return problem.answers[0].removesuffix("°")
    return problem.options["ABCD".index(problem.answers[0])].removesuffix("°")


# --- what answers should be, from coordinates ----------------------------------------------------------------------

Points = dict[str, tuple[float, float]]


def shoelace(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def around(points: np.ndarray) -> float:
    return float(np.linalg.norm(points - np.roll(points, -1, axis=0), axis=1).sum())


def turned(centre: np.ndarray, start: np.ndarray, degrees: float, count: int = 3000) -> np.ndarray:
    """Points of the arc around a centre."""
    angles = np.radians(np.linspace(0, degrees, count))
    x, y = start - centre
    return centre + np.stack([x * np.cos(angles) - y * np.sin(angles), x * np.sin(angles) + y * np.cos(angles)], 1)


def corner(p: np.ndarray, at: np.ndarray, q: np.ndarray) -> float:
    one, other = p - at, q - at
    return math.degrees(math.acos(float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))))


def plane_shape(name: str, points: Points) -> tuple[np.ndarray, np.ndarray]:
    """(outline, arc) of a shape by its name; the arc is empty for polygons."""
    at = {letter: np.array(place) for letter, place in points.items()}
    if name.startswith("the semicircle on "):
        p, q = (at[letter] for letter in name[-2:])
        arc = turned((p + q) / 2, p, 180)
        return arc, arc
    if name.startswith("the sector "):
        p, centre, q = (at[letter] for letter in name[-3:])
        size = corner(p, centre, q)
        left = (p - centre)[0] * (q - centre)[1] - (p - centre)[1] * (q - centre)[0] > 0
        arc = turned(centre, p, size if left else -size)
        return np.concatenate([[centre], arc]), arc
    return np.array([points[letter] for letter in name]), np.empty((0, 2))


def plane_geometry(asked: str, points: Points, shapes: list[tuple[str, str]]) -> float:
    """`shapes` are (kind, name)."""
    at = {letter: np.array(place) for letter, place in points.items()}
    if asked.startswith("∠"):
        return corner(*(at[letter] for letter in asked[1:]))
    if len(asked) == 2:
        return float(np.linalg.norm(at[asked[0]] - at[asked[1]]))
    what, _, name = asked.partition(" of ")
    if name == "the whole figure":
        if what == "area":
            return sum(shoelace(plane_shape(one, points)[0]) for _, one in shapes)
        total = sum(
            float(np.linalg.norm(np.diff(plane_shape(one, points)[1], axis=0), axis=1).sum()) for _, one in shapes
        )
        edges: Counter[frozenset[str]] = Counter()
        for kind, one in shapes:
            letters = one[-2:] if kind == "semicircle" else one[-3:] if kind == "sector" else one
            pairs = list(zip(letters, [*letters[1:], letters[0]], strict=True))
            pairs = pairs[:1] if kind == "semicircle" else pairs[:2] if kind == "sector" else pairs
            edges.update(frozenset(pair) for pair in pairs)
        for edge in (edge for edge, count in edges.items() if count == 1):
            p, q = (at[letter] for letter in edge)
            total += float(np.linalg.norm(p - q))
        return total
    if what == "height":
        name, _, apex = name.partition(" from ")
        p, q = at[name[0]], at[name[1]]
        across, away = q - p, at[apex or name[2]] - p
        return abs(float(across[0] * away[1] - across[1] * away[0])) / float(np.linalg.norm(across))
    if what == "length":
        arc = plane_shape(name.removeprefix("the arc of "), points)[1]
        return float(np.linalg.norm(np.diff(arc, axis=0), axis=1).sum())
    outline, _ = plane_shape(name, points)
    return shoelace(outline) if what == "area" else around(outline)


def coordinates(asked: str, givens: list[str]) -> float:
    """Of analytic figures, from what the text states."""
    points = {m[1]: (value(m[2]), value(m[3])) for one in givens if (m := re.match(r"(\w) is at \((.+), (.+)\)", one))}
    sizes = {m[1]: value(m[2]) for one in givens if (m := re.match(r"the (.+) is (\d+)$", one))}
    what, _, name = asked.rpartition(" of ")
    if len(asked) == 2:
        return math.dist(points[asked[0]], points[asked[1]])
    ends = [points[letter] for letter in name[-2:]] if name[-2:].isalpha() and name[-2:].isupper() else []
    if what == "slope":
        return math.tan(math.atan2(ends[1][1] - ends[0][1], ends[1][0] - ends[0][0]))
    if asked.startswith("y-intercept of the line"):
        return float(np.polyfit(*np.array(ends).T, 1)[1])
    if what.endswith("-coordinate of the midpoint"):
        return float(np.mean(ends, axis=0)["xy".index(what[0])])
    if what.endswith("-coordinate of the centroid"):
        return float(np.mean([points[letter] for letter in name], axis=0)["xy".index(what[0])])
    if name.startswith(("circle", "ellipse")):
        centre = points[name[-1]]
        across, up = sizes.get(f"radius of {name}"), sizes.get(f"radius of {name}")
        across = across or sizes[f"horizontal semi-axis of {name}"]
        up = up or sizes[f"vertical semi-axis of {name}"]
        angles = np.linspace(0, 2 * math.pi, 6000, endpoint=False)
        rim = np.stack([centre[0] + across * np.cos(angles), centre[1] + up * np.sin(angles)], 1)
        if what == "area":
            return shoelace(rim)
        if what == "circumference":
            return around(rim)
        if what == "y-coordinate of the highest point":
            return float(rim[:, 1].max())
        # The focus is where the sum of both distances is the same at the end of either axis.
        long, short = max(across, up), min(across, up)
        focus = root(lambda c: 2 * math.hypot(c, short) - (long - c) - (long + c), 0, long)
        return focus / long if what == "eccentricity" else focus
    outline = np.array([points[letter] for letter in name])
    return shoelace(outline) if what == "area" else around(outline)


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """By halving."""
    sign = f(low) > 0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (f(middle) > 0) == sign else (low, middle)
    return (low + high) / 2


FORMS: dict[str, Callable[..., float]] = {
    "linear": lambda x, a, b: a * x + b,
    "quadratic": lambda x, a, h, k: a * (x - h) ** 2 + k,
    "absolute value": lambda x, a, h, k: a * abs(x - h) + k,
    "cubic": lambda x, a, p, q, r: a * (x - p) * (x - q) * (x - r),
    "logarithm": lambda x, a, h, k: a * math.log(x - h, 2) + k,
    "exponential": lambda x, a, b, k: a * b**x + k,
    "sine": lambda x, a, b, d: a * math.sin(b * x) + d,
    "cosine": lambda x, a, b, d: a * math.cos(b * x) + d,
    "piecewise": lambda x, c, y, m, n: y + (m if x < c else n) * (x - c),
    "rational": lambda x, a, h, k: a / (x - h) + k,
}


def of_function(asked: str, family: str, parameters: dict[str, float]) -> float:
    """By evaluating, sampling and looking for roots."""

    def f(x: float) -> float:
        return FORMS[family](x, **parameters)

    if asked in parameters:
        return parameters[asked]
    if match := re.fullmatch(r"f\((.+)\)", asked):
        return f(value(match[1]))
    if asked == "y-intercept of f":
        return f(0)
    if asked == "period of f":
        start = 0.37
        steps = [n * math.pi / 4 for n in range(1, 40)]
        return next(t for t in steps if all(abs(f(start + s + t) - f(start + s)) < 1e-9 for s in (0, 0.1, 0.7, 1.9)))
    if asked.endswith("value of f"):
        values = [f(n / 100) for n in range(-1200, 1201)]
        return min(values) if asked.startswith("minimum") else max(values)
    if asked.startswith("x-coordinate of the local"):
        # Between the two larger zeros of a cubic.
        low, high = sorted(parameters[name] for name in "pqr")[1:]
        step = 1e-5
        return root(lambda x: f(x + step) - f(x - step), low, high)
    if asked.startswith("slope of the"):
        x = parameters["c"] + (-3 if "left" in asked else 3)
        return f(x + 0.5) - f(x - 0.5)
    edges = [n / 8 + 1 / 64 for n in range(-800, 801)]
    if family == "logarithm":
        edges = [parameters["h"] + 2**n for n in np.linspace(-12, 12, 300)]
    zeros = [
        root(f, low, high)
        for low, high in itertools.pairwise(edges)
        if (f(low) > 0) != (f(high) > 0) and not (family == "rational" and low < parameters["h"] < high)
    ]
    if asked == "distance between the zeros of f":
        return zeros[-1] - zeros[0]
    return zeros[-1]  # the only one, the larger one, or that of the right part


def expected(problem: Conversation, figure: Figure) -> float:
    assert problem.extra is not None
    asked = problem.extra["asked"]
    if figure.domain == "geometry":
        names = [key.partition(" of ")[2] for key in figure.values if key.startswith("area of ")]
        shapes = list(zip(figure.kinds, [name for name in names if name != "the whole figure"], strict=False))
        if "whole" in asked:  # by their vertices, without the world's names
            shapes = [
                (kind, _named(kind, one["vertices"]))
                for kind, one in zip(figure.kinds, figure.facts["shapes"], strict=True)
            ]  # type: ignore[call-overload]
        return plane_geometry(asked, figure.points, shapes)
    if figure.domain == "analytic":
        return coordinates(asked, problem.extra["givens"])
    return of_function(asked, figure.kinds[0], figure.facts["parameters"])  # type: ignore[arg-type]


def _named(kind: str, vertices: list[str]) -> str:
    if kind == "semicircle":
        return f"the semicircle on {vertices[0]}{vertices[1]}"
    return f"the sector {vertices[1]}{vertices[0]}{vertices[2]}" if kind == "sector" else "".join(vertices)


def test_every_answer_is_what_the_coordinates_give(problems: list[Problem], figures: list[Figure]) -> None:
    assert len(problems) >= 1000
    asked: Counter[str] = Counter()
    for problem in problems:
        one = problem["text-dominant"]
        figure = figures[number_of(one)]
        decimal = "two decimal places" in one.messages[0].text
        assert agrees(answer(one), expected(one, figure), not decimal), (one.id, answer(one), expected(one, figure))
        assert one.extra is not None
        asked[f"{figure.domain}/{one.extra['asked'].split(' of ')[0]}"] += 1
    assert len(asked) > 30


def test_only_the_right_option_has_the_value(problems: list[Problem], figures: list[Figure]) -> None:
    lettered = [one["text-dominant"] for one in problems if one["text-dominant"].options is not None]
    assert 0.35 < len(lettered) / len(problems) < 0.6
    letters: Counter[str] = Counter()
    for one in lettered:
        assert one.options is not None and one.answers is not None
        letters.update(one.answers)
        right = expected(one, figures[number_of(one)])
        values = [value(option) for option in one.options]
        assert len(values) == 4 and sum(math.isclose(v, right, rel_tol=1e-2, abs_tol=0.006) for v in values) == 1
        for letter, option in zip("ABCD", one.options, strict=True):
            assert f"\n{letter}. {option}" in one.messages[0].text
    assert min(letters[letter] for letter in "ABCD") > len(lettered) / 6


def test_every_step_of_every_rationale_computes(problems: list[Problem], figures: list[Figure]) -> None:
    steps = 0
    for problem in problems:
        one = problem["text-dominant"]
        lines = one.messages[-1].text.split("\n")[1:-1]
        known = stated(one)
        for line in lines:
            reason, _, equation = line.removesuffix(".").rpartition(": ")
            assert len(reason) > 10, line
            *pieces, last = re.split(r" = | ≈ ", equation)
            rounded = " ≈ " in equation
            name, *formulas = pieces
            for formula in formulas:
                formula = put_in(formula, known)
                assert math.isclose(value(formula), value(last), rel_tol=1e-9, abs_tol=0.00501 if rounded else 1e-9), (
                    line
                )
            steps += 1
            if not reason.startswith("Rounded"):
                known[name] = f"({last})"
            elif formulas:
                raise AssertionError(line)
            else:
                assert math.isclose(value(name), value(last), abs_tol=0.00501), line
        # The last line's value is the answer.
        assert math.isclose(value(last), value(answer(one)), rel_tol=1e-12), one.id
    assert steps > 2 * len(problems)


def stated(problem: Conversation) -> dict[str, str]:
    """The names of all that the question states, with its value."""
    assert problem.extra is not None
    known: dict[str, str] = {}
    passed = 0
    for given in problem.extra["givens"]:
        assert given in problem.messages[0].text
        if match := re.fullmatch(r"(\w) is at \((.+), (.+)\)", given):
            known |= {f"x_{match[1]}": f"({match[2]})", f"y_{match[1]}": f"({match[3]})"}
        elif match := re.fullmatch(r"the (.+) is (?!the line)(\d[^(]*)", given):
            known[match[1]] = f"({match[2]})"
        elif match := re.fullmatch(r"(\S+) = (.+)", given):
            known[match[1]] = match[2] if "°" in match[2] else f"({match[2]})"
        elif match := re.fullmatch(r"the (vertical|horizontal) asymptote is the line [xy] = (.+)", given):
            known["h" if match[1] == "vertical" else "k"] = f"({match[2]})"
        elif match := re.fullmatch(r"the vertex \(h, k\) is \((.+), (.+)\)", given):
            known |= {"h": f"({match[1]})", "k": f"({match[2]})"}
        elif match := re.fullmatch(r"the break \(c, f\(c\)\) is \((.+), (.+)\)", given):
            known |= {"c": f"({match[1]})", "f(c)": f"({match[2]})"}
        elif match := re.fullmatch(r"the \w+ zero (\w) is marked at \((.+), 0\)", given):
            known[match[1]] = f"({match[2]})"
        else:
            match = re.fullmatch(r"[^(]+ \((.+), (.+)\)", given)
            assert match is not None, given
            first = 0 if "exponential" in problem.extra["kinds"] else 1
            index = "₀₁₂"[passed + first]
            known |= {f"x{index}": f"({match[1]})", f"y{index}": f"({match[2]})"}
            passed += 1
    return known


def put_in(formula: str, known: dict[str, str]) -> str:
    """A formula with values for names, the longest names first."""
    names = sorted(known, key=len, reverse=True)
    pattern = "|".join(rf"(?<![A-Za-z∠_]){re.escape(name)}(?![A-Za-z₀₁₂_])" for name in names)
    put = re.sub(pattern, lambda match: known[match[0]], formula) if names else formula
    return re.sub(r"\((\d+°)\)", r"\1", put)


def test_the_three_variants_ask_the_same_in_fewer_words(problems: list[Problem], figures: list[Figure]) -> None:
    for problem in problems:
        assert list(problem) == ["text-dominant", "text-lite", "vision-dominant"]
        dominant, lite, vision = problem.values()
        assert dominant.extra == lite.extra == vision.extra
        assert dominant.answers == lite.answers == vision.answers
        assert dominant.options == lite.options == vision.options
        assert dominant.messages[1] == lite.messages[1] == vision.messages[1]
        assert dominant.media == lite.media != vision.media
        figure = figures[number_of(dominant)]
        ask = next(ask for ask in figure.asks if dominant.extra is not None and ask.key == dominant.extra["asked"])
        questions = [one.messages[0].text.partition("\nChoices:")[0] for one in (dominant, lite, vision)]
        assert ask.phrase in questions[0] and ask.phrase in questions[1]
        assert f" {ask.phrase}" not in questions[2]
        for given in figure.givens:
            assert given.text in questions[0]
            assert given.text not in questions[1] and given.text not in questions[2]
        for setting in figure.setting:
            assert setting[1:] in questions[0] and setting[1:] in questions[1] and setting[1:] not in questions[2]


def test_all_that_is_given_stands_in_the_picture(figures: list[Figure]) -> None:
    for figure in figures:
        written = [text for text, _ in figure.shown]
        for given in figure.givens:
            assert set(given.labels) <= set(written), figure.id
        pixels = np.asarray(figure.picture)
        assert pixels.shape[0] <= 300 and pixels.shape[1] <= 300
        boxes = [box for _, box in figure.shown]
        for (left, top, right, bottom), (text, _) in zip(boxes, figure.shown, strict=True):
            assert 0 <= left < right <= pixels.shape[1] and 0 <= top < bottom <= pixels.shape[0]
            assert pixels[top:bottom, left:right].min() < 90, (figure.id, text)
        for one, other in itertools.combinations(boxes, 2):
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, figure.id
        if figure.domain == "geometry":
            assert set(figure.points) <= set(written)


def test_pictures_have_ink_where_the_geometry_says(figures: list[Figure]) -> None:
    """Along the edges, on circles and graphs, and nowhere beneath a label but the label's own."""
    for figure in figures:
        picture = np.asarray(figure.picture).astype(int)
        at = {name: np.array(place) for name, place in figure.facts["pixels"].items()}  # type: ignore[attr-defined]
        lines = []
        if figure.domain == "geometry":
            for shape in figure.facts["shapes"]:  # type: ignore[attr-defined]
                letters = shape["vertices"]
                pairs = list(zip(letters, [*letters[1:], letters[0]], strict=True))
                lines += [
                    (at[p], at[q]) for p, q in (pairs[:1] if shape["kind"] in ("semicircle", "sector") else pairs)
                ]
        elif figure.domain == "analytic":
            for shape in figure.facts["shapes"]:  # type: ignore[attr-defined]
                if "points" in shape:
                    letters = shape["points"]
                    pairs = zip(letters, [*letters[1:], letters[0]], strict=True)
                    lines += [(at[p], at[q]) for p, q in pairs]
        for p, q in lines:
            for share in np.linspace(0.02, 0.98, 25):
                x, y = p + share * (q - p)
                assert near(picture, x, y) < 140, (figure.id, x, y)
        if figure.domain == "functions":
            for x, y in at.values():
                assert near(picture, x, y) < 20


def inside(points: np.ndarray, picture: np.ndarray) -> bool:
    high, wide = picture.shape
    return bool((points >= 0).all() and (points[:, 0] < wide).all() and (points[:, 1] < high).all())


def near(picture: np.ndarray, x: float, y: float) -> int:
    """The darkest of the pixels around a place."""
    column, row = int(x), int(y)
    return int(picture[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].min())


def test_figures_are_to_scale_and_their_shapes_do_not_overlap(figures: list[Figure]) -> None:
    """The areas of polygons that are filled one after another add up, so no pixel is filled twice."""
    for figure in figures:
        if figure.domain != "geometry":
            continue
        names = [_named(one["kind"], one["vertices"]) for one in figure.facts["shapes"]]  # type: ignore[attr-defined]
        at = figure.facts["pixels"]
        lengths = {key: v for key, v in figure.values.items() if len(key) == 2}
        scales = [math.dist(at[key[0]], at[key[1]]) / float(length) for key, length in lengths.items()]  # type: ignore[index]
        assert max(scales) - min(scales) < 0.01 * max(scales)
        count = np.zeros((320, 320), int)
        for name in names:
            outline, arc = plane_shape(name, {letter: (x, y) for letter, (x, y) in at.items()})  # type: ignore[attr-defined]
            if name.startswith("the semicircle"):  # on the side that has its ink
                other = arc[0] + arc[-1] - arc
                picture = np.asarray(figure.picture)
                drawn = [
                    max(near(picture, x, y) for x, y in one[50:-50:97]) < 140 if inside(one, picture) else False
                    for one in (arc, other)
                ]
                assert any(drawn), figure.id
                outline = arc if drawn[0] else other
            sheet = Image.new("1", (320, 320))
            middle = outline.mean(axis=0)
            ImageDraw.Draw(sheet).polygon([tuple(p) for p in middle + 0.93 * (outline - middle)], fill=1)
            count += np.asarray(sheet)
        assert count.max() == 1, figure.id


def test_captions_tell_the_construction_and_what_is_marked(found: list[Conversation], figures: list[Figure]) -> None:
    captions = [one for one in found if one.task == "mavis+caption"]
    assert len(captions) == FIGURES
    openings = set()
    for one, figure in zip(captions, figures, strict=True):
        question, told = (message.text.strip() for message in one.messages)
        openings.add(told.split(" ")[0])
        assert question in mavis.phrases().caption.questions[figure.domain]
        assert all(given.text in told for given in figure.givens)
        at = -1
        for kind in figure.kinds:  # in the order that they were built in
            word = kind if figure.domain != "analytic" or kind not in ("segment",) else "segment"
            at = told.find(word, at + 1)
            assert at >= 0, (one.id, kind, told)
    assert len(openings) > 5


def test_vision_dominant_pictures_ask_the_question(figures: list[Figure], built: Path, problems: list[Problem]) -> None:
    for problem in problems[::9]:
        one = problem["vision-dominant"]
        assert one.extra is not None
        figure = figures[number_of(one)]
        ask = next(ask for ask in figure.asks if ask.key == one.extra["asked"])
        picture, lines = mavis.posed(figure, ask)
        assert " ".join(text for text, _ in lines).endswith(ask.mark) and ask.mark.endswith("= ?")
        assert all(right <= picture.size[0] and bottom <= picture.size[1] for _, (_, _, right, bottom) in lines)
        with Image.open(built / one.media[0].path) as stored:
            assert stored.size == picture.size == (one.media[0].width, one.media[0].height)
            dark = np.asarray(stored.convert("L")) < 140
        assert (dark == (np.asarray(picture) < 140)).mean() > 0.97
        assert dark[figure.picture.size[1] :].any()  # the question stands beneath the figure


def test_options_choose_what_is_built(tmp_path: Path) -> None:
    run(load_builder("mavis", ["figures=6", "kinds=[problem]", "variants=[vision-dominant]", "domains=[functions]",
                               "choices=1", "problems=1"]), tmp_path / "a")  # fmt: skip
    some = list(formats.read(tmp_path / "a"))
    assert len(some) == 6 and {one.task for one in some} == {"mavis+vision-dominant"}
    assert all(one.options and one.id.startswith("mavis/functions/") for one in some)
    assert not (tmp_path / "a/images/functions/0/0.png").exists()  # no picture that nobody sees
    run(load_builder("mavis", ["figures=6", "kinds=[caption]", "seed=1"]), tmp_path / "b")
    assert [one.task for one in formats.read(tmp_path / "b")] == ["mavis+caption"] * 6
    with pytest.raises(ConfigError, match="domains"):
        load_builder("mavis", ["domains=[algebra]"])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 3)):
        run(load_builder("mavis", ["figures=12"]), tmp_path / name, BuildConfig(workers=workers))
    files = [sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*")) for name in "ab"]
    assert files[0] == files[1]
    for file in files[0]:
        if (tmp_path / "a" / file).is_file():
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
