"""Questions of an examination about charts, plane figures and graphs of functions.

Of figures and graphs only whole numbers are asked for. A wrong option is a number that the figure has for something
else, or a neighbour of the answer; of a plane figure neither the answer nor a wrong option is printed in the picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mminstruct.data_builders.worlds import analytic, functions, geometry
from mminstruct.data_builders.worlds.chart_questions import KINDS, Slots
from mminstruct.data_builders.worlds.charts import Chart, chart
from mminstruct.data_builders.worlds.exact import Exact
from mminstruct.data_builders.worlds.exam import Form, Make, Question, near_numbers
from mminstruct.data_builders.worlds.figure import Ask, Figure, Value, written

# --- charts -----------------------------------------------------------------------------------------------------------


def _chart(kind: str, text: str, fits: Callable[[Chart, Slots, str], bool] = lambda *_: True) -> Make:
    def make(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
        found = chart(seed, number)
        slots = KINDS[kind](found, chance)
        if slots is None or not fits(found, slots, target):
            return None
        wrong = _wrong(found, kind, slots, chance)
        if wrong is None:
            return None
        what = "share" if found.kind == "pie" else "value"
        asked = text.format(what=what, **slots)
        right: str = slots["answer"]
        answers = (right, right.rstrip("%")) if right.endswith("%") else (right,)
        return Question(asked, answers, wrong, (found.id,), (found.draw(),))

    return make


def _wrong(found: Chart, kind: str, slots: Slots, chance: random.Random) -> tuple[str, ...] | None:
    right = slots["answer"]
    if kind == "above":
        return tuple(other for other in ABOVE if other != right)
    if "options" in slots:
        others = [option for option in slots["options"] if option != right]
        return None if len(others) == 2 else tuple(chance.sample(others, min(3, len(others))))
    unit = "%" if right.endswith("%") else ""
    values = [value for row in found.values for value in row]
    if kind == "difference":
        values = [abs(one - other) for one in values for other in values if one != other]
    step = found.step if all(value % found.step == 0 for value in values) else 1
    wrong = near_numbers(int(right.rstrip("%")) // step, [value // step for value in values], chance, 1)
    return tuple(f"{int(number) * step}{unit}" for number in wrong)


ABOVE = ("1", "2", "3", "4")


def _ordered(found: Chart, slots: Slots, target: str) -> bool:
    """Whether the one that is named first is the right one, as often as not."""
    right: bool = slots["answer"] == slots["one"]
    return right == (target == "one")


def _aimed(found: Chart, slots: Slots, target: str) -> bool:
    return bool(slots["answer"] == target)


def _trend(found: Chart, slots: Slots, target: str) -> bool:
    slots["answer"] = {"rises": "rising", "falls": "falling"}[slots["answer"]]
    slots["options"] = ["rising", "falling"]
    return _aimed(found, slots, target)


def _extreme(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    return _chart(target, f"For which {{label_kind}} is the {{what}}{{of}} the {target}?")(seed, number, target, chance)


CHARTS = (
    Form("value", _chart("value", "What is the {what} for {place}?")),
    Form("extreme", _extreme, ("largest", "smallest")),
    Form(
        "compare", _chart("compare", "Is the {what}{of} larger for {one} or for {other}?", _ordered), ("one", "other")
    ),
    Form("difference", _chart("difference", "What is the difference between the {what}s{of} for {one} and {other}?")),
    Form("above", _chart("above", "How many {what}s{of} are above {limit}?", _aimed), ABOVE),
    Form(
        "trend",
        _chart("trend", "From {one} to {other}, is the line{of} rising or falling?", _trend),
        ("rising", "falling"),
    ),
)

# --- figures with numbers ---------------------------------------------------------------------------------------------


def _whole(value: Value) -> int | None:
    text = written(value).replace("−", "-")
    return int(text) if text.lstrip("-").isdigit() else None


def _printed(figure: Figure) -> set[str]:
    return {label for given in figure.givens for label in given.labels}


def _asks(figure: Figure) -> list[Ask]:
    return [ask for ask in figure.asks if _whole(figure.values[ask.key]) is not None]


def _figure(figure: Figure, ask: Ask, others: Sequence[int], least: int | None, chance: random.Random) -> Question:
    right = _whole(figure.values[ask.key])
    assert right is not None
    setting = "; ".join(figure.setting)
    text = f"{setting[0].upper()}{setting[1:]}. What is {ask.phrase}?"
    answers = (f"{right}{ask.unit}", str(right), f"{right} degrees") if ask.unit else (str(right),)
    wrong = tuple(f"{number}{ask.unit}" for number in near_numbers(right, others, chance, least))
    return Question(text, answers, wrong, (figure.id,), (figure.picture,))


def plane(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    figure = geometry.figure(seed, number)
    printed = _printed(figure)
    asks = [
        ask
        for ask in _asks(figure)
        if written(figure.values[ask.key]) + ask.unit not in printed and len(figure.chain(ask.key)) <= 4
    ]
    if not asks or len(figure.setting) > 2:
        return None
    ask = chance.choice(asks)
    others = [one for one in map(_whole, _near(figure, ask)) if one is not None and f"{one}{ask.unit}" not in printed]
    asked = _figure(figure, ask, others, 1, chance)
    return asked if len(asked.wrong) == 3 and not printed.intersection(asked.wrong) else None


def _near(figure: Figure, ask: Ask) -> list[Value]:
    """Values of the same unit; of lengths, areas and perimeters only those of the same kind."""
    word = ask.key.split()[0] if " " in ask.key else ""
    return [
        figure.values[other.key]
        for other in figure.asks
        if other.unit == ask.unit and (other.key.split()[0] if " " in other.key else "") == word
    ]


def grid(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    figure = analytic.figure(seed, number)
    asks = [ask for ask in _asks(figure) if len(figure.chain(ask.key)) <= 4]
    if not asks or len(figure.setting) > 2:
        return None
    ask = chance.choice(asks)
    others = [one for one in map(_whole, _near(figure, ask)) if one is not None]
    positive = ask.key.split()[0] in ("area", "perimeter", "circumference", "distance") or " " not in ask.key
    asked = _figure(figure, ask, others, 1 if positive else None, chance)
    return asked if len(asked.wrong) == 3 else None


GEOMETRY = (Form("plane", plane), Form("grid", grid))

# --- functions --------------------------------------------------------------------------------------------------------

# Left out: a cosine looks like a sine, and a graph of two pieces may look like an absolute value.
FAMILIES = {
    "linear": "linear",
    "quadratic": "quadratic",
    "cubic": "cubic",
    "absolute value": "absolute value",
    "logarithm": "logarithmic",
    "exponential": "exponential",
    "sine": "sine",
    "rational": "rational",
}
LARGEST = 40  # of a value that can be guessed at all


def family(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    figure = functions.figure(seed, number)
    if figure.facts["family"] != target:
        return None
    right = FAMILIES[target]
    wrong = chance.sample([name for name in FAMILIES.values() if name != right], 3)
    answers = (right, target, f"{right} function", f"{target} function")
    text = "Which kind of function has this graph: " + ", ".join(FAMILIES.values()) + "?"
    return Question(text, tuple(dict.fromkeys(answers)), tuple(wrong), (figure.id,), (figure.picture,))


def _function(values: bool) -> Make:
    def make(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
        figure = functions.figure(seed, number)
        asks = [ask for ask in _asks(figure) if ask.key.startswith("f(") == values]
        if not asks:
            return None
        ask = chance.choice(asks)
        right = _whole(figure.values[ask.key])
        if right is None or abs(right) > LARGEST:
            return None
        near = [_whole(value) for value in ask.near if isinstance(value, Exact)]
        others = [one for one in near if one is not None and abs(one) <= LARGEST]
        return _figure(figure, ask, others, None, chance)

    return make


FUNCTIONS = (
    Form("family", family, tuple(FAMILIES)),
    Form("parameter", _function(values=False)),
    Form("value", _function(values=True)),
)
