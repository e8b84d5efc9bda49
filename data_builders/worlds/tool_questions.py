"""Questions about the worlds that a tool answers, the arguments that it needs, and what its output says.

ask(tool, objects) ──▶ question ──arguments──▶ {"caption": "red circle"} ──tool──▶ output ──answer──▶ sentence

Each step sees what a model would see: arguments come of the question alone, the answer of the question and the output.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mminstruct.data_builders.worlds.scenes import COLORS, SHAPES, listed
from mminstruct.data_builders.worlds.slides import a_or_an
from mminstruct.errors import ConfigError

Output = dict[str, Any]
Objects = list[tuple[str, tuple[float, float, float, float]]]

_ALL_OF_IT = (0.0, 0.0, 1.0, 1.0)
_TOP, _BULLETS, _CHART, _CORNER = (
    (0.0, 0.0, 1.0, 0.2),
    (0.0, 0.2, 0.62, 0.93),
    (0.62, 0.2, 1.0, 0.9),
    (0.8, 0.9, 1.0, 1.0),
)


@dataclass(frozen=True)
class Kind:
    """A kind of question.

    Attributes:
        phrasings: ways to ask, with {0} and {1} for the names in question.
        names: what may be asked about, out of the objects; None where this cannot be asked of them.
        arguments: of the tool, out of the names.
        answer: out of the names and the tool's output.
    """

    tool: str
    phrasings: tuple[str, ...]
    names: Callable[[Objects, random.Random], list[str] | None]
    arguments: Callable[[list[str]], dict[str, Any]]
    answer: Callable[[list[str], Output, random.Random], str]


def ask(tool: str, objects: Objects, rng: random.Random, before: Sequence[str] = ()) -> str:
    """A question that a tool answers, of another kind than those before, or about something else.

    Raises:
        ConfigError: a tool that the worlds do not have.
    """
    kinds = [kind for kind in KINDS if kind.tool == tool]
    if not kinds:
        raise ConfigError(f"the templates know no questions for the tool {tool!r}; let a model ask them with --backend")
    known = [_match(tool, question) for question in before]
    while True:
        kind = rng.choice(kinds)
        names = kind.names(objects, rng)
        if names is not None and (kind, names) not in known:
            return rng.choice(kind.phrasings).format(*names)


def arguments(tool: str, question: str) -> dict[str, Any]:
    """What a tool has to be given to answer a question of `ask`."""
    kind, names = _understood(tool, question)
    return kind.arguments(names)


def answer(tool: str, question: str, output: Output, rng: random.Random) -> str:
    """What a tool's output says about a question of `ask`."""
    kind, names = _understood(tool, question)
    return kind.answer(names, output, rng)


def _understood(tool: str, question: str) -> tuple[Kind, list[str]]:
    found = _match(tool, question)
    if found is not None:
        return found
    raise ConfigError(f"the templates do not know the question {question!r}; let a model answer it with --backend")


def _match(tool: str, question: str) -> tuple[Kind, list[str]] | None:
    for kind in KINDS:
        for phrasing in kind.phrasings if kind.tool == tool else ():
            pattern = re.escape(phrasing).replace(r"\{0\}", "(.+?)").replace(r"\{1\}", "(.+?)")
            match = re.fullmatch(pattern, question)
            if match:
                return kind, list(match.groups())
    return None


# --- what may be asked about ------------------------------------------------------------------------------------------


def _one(objects: Objects, rng: random.Random) -> list[str] | None:
    return [rng.choice(objects)[0]]


def _two(objects: Objects, rng: random.Random) -> list[str] | None:
    return [name for name, _ in rng.sample(objects, 2)]


def _shape(objects: Objects, rng: random.Random) -> list[str] | None:
    return [rng.choice(SHAPES)]


def _perhaps_there(objects: Objects, rng: random.Random) -> list[str] | None:
    """A name that is there, or one of a colour or a shape that is."""
    if rng.random() < 0.5:
        return _one(objects, rng)
    color, shape = rng.choice(objects)[0].split()
    names = [f"{color} {other}" for other in SHAPES] + [f"{other} {shape}" for other in COLORS]
    return [rng.choice([name for name in names if name not in dict(objects)])]


def _nothing(objects: Objects, rng: random.Random) -> list[str] | None:
    return []


def _of_a_chart(objects: Objects, rng: random.Random) -> list[str] | None:
    return [] if _bars([text for text, _ in objects], [list(box) for _, box in objects]) else None


def _label(objects: Objects, rng: random.Random) -> list[str] | None:
    bars = _bars([text for text, _ in objects], [list(box) for _, box in objects])
    return [rng.choice(sorted(bars))] if bars else None


def _bars(texts: list[str], boxes: list[list[float]]) -> dict[str, int]:
    """Label to value of the bars in a slide's lines: the value stands above its bar, the label below, one middle."""
    right = [(text, box) for text, box in zip(texts, boxes, strict=True) if (box[0] + box[2]) / 2 > _CHART[0]]
    inside = [(text, box) for text, box in right if box[3] < _CHART[3]]
    values = [(text, box) for text, box in inside if text.isdecimal()]
    if not values:
        return {}
    labels = sorted((one for one in inside if not one[0].isdecimal()), key=lambda one: -one[1][1])[: len(values)]
    return {text: int(min(values, key=lambda one: abs(_middle(one[1]) - _middle(box)))[0]) for text, box in labels}


def _middle(box: list[float]) -> float:
    return (box[0] + box[2]) / 2


# --- what is answered -------------------------------------------------------------------------------------------------


def _where(names: list[str], output: Output, rng: random.Random) -> str:
    if not output["boxes"]:
        return f"I cannot see {a_or_an(names[0])} in the picture."
    box = output["boxes"][0]
    return rng.choice(
        [
            f"The {names[0]} is {_place(box)}, within the box {box}.",
            f"It is {_place(box)}. Its box is {box}.",
            f"You find the {names[0]} {_place(box)}, at {box}.",
        ]
    )


def _count(names: list[str], output: Output, rng: random.Random) -> str:
    found = output["phrases"]
    if not found:
        return f"There are no {names[0]}s in the picture."
    are = f"is one {names[0]}" if len(found) == 1 else f"are {len(found)} {names[0]}s"
    colors = listed([f"the {name}" for name in found])
    return rng.choice([f"There {are}: {colors}.", f"There {are} in the picture, namely {colors}."])


def _exists(names: list[str], output: Output, rng: random.Random) -> str:
    if not output["boxes"]:
        return rng.choice([f"No, there is no {names[0]}.", f"No, I do not see {a_or_an(names[0])} in the picture."])
    place = _place(output["boxes"][0])
    return rng.choice([f"Yes, there is {a_or_an(names[0])} {place}.", f"Yes. The {names[0]} is {place}."])


def _first_from_the_left(names: list[str], output: Output, rng: random.Random) -> str:
    middles = {name: _middle(box) for name, box in zip(output["phrases"], output["boxes"], strict=True)}
    first, last = sorted(names, key=lambda name: middles[name])
    return rng.choice(
        [f"The {first} is further to the left.", f"The {first}; the {last} is further to the right."],
    )


def _everything(names: list[str], output: Output, rng: random.Random) -> str:
    told = [f"{a_or_an(name)} {_place(box)}" for name, box in zip(output["phrases"], output["boxes"], strict=True)]
    return rng.choice(["From left to right there is {}.", "Going from left to right, I see {}."]).format(listed(told))


def _share(names: list[str], output: Output, rng: random.Random) -> str:
    share = round(100 * output["areas"][0])
    about = f"about {share} %" if share else "less than 1 %"
    return rng.choice(
        [f"The {names[0]} covers {about} of the picture.", f"It takes up {about} of the picture's area."],
    )


def _covers_more(names: list[str], output: Output, rng: random.Random) -> str:
    areas = dict(zip(output["phrases"], output["areas"], strict=True))
    less, more = sorted(names, key=lambda name: areas[name])
    percent = [round(100 * areas[name]) for name in (more, less)]
    if percent[0] == percent[1]:
        return f"They cover about the same share of the picture, {percent[0]} % each."
    return rng.choice(
        [
            f"The {more} covers more: about {percent[0]} % of the picture, the {less} about {percent[1]} %.",
            f"The {more}, with about {percent[0]} % of the picture against {percent[1]} %.",
        ]
    )


def _place(box: list[float]) -> str:
    """In which third of the picture the box's middle is."""
    x, y = _middle(box), (box[1] + box[3]) / 2
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    return f"at the {' '.join(part for part in (row, column) if part)}" if row or column else "in the middle"


def _title(names: list[str], output: Output, rng: random.Random) -> str:
    title = output["texts"][0]
    return rng.choice([f'The title is "{title}".', f'At the top it says "{title}".', f'It is called "{title}".'])


def _points(names: list[str], output: Output, rng: random.Random) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(output["texts"], start=1))


def _number_of_points(names: list[str], output: Output, rng: random.Random) -> str:
    count = len(output["texts"])
    return rng.choice([f"There are {count} bullet points.", f"The slide has {count}, from {{}} to {{}}."]).format(
        *(f'"{output["texts"][place]}"' for place in (0, -1))
    )


def _page(names: list[str], output: Output, rng: random.Random) -> str:
    return rng.choice(["It is page {}.", "The number in the corner is {}."]).format(output["texts"][0])


def _value(names: list[str], output: Output, rng: random.Random) -> str:
    value = _bars(output["texts"], output["boxes"])[names[0]]
    return rng.choice([f"The chart shows {value} for {names[0]}.", f"For {names[0]} it is {value}."])


def _tallest(names: list[str], output: Output, rng: random.Random) -> str:
    bars = _bars(output["texts"], output["boxes"])
    label = max(bars, key=lambda name: bars[name])
    return rng.choice(
        [f"The bar of {label} is the tallest, with {bars[label]}.", f"It is {label}, with a value of {bars[label]}."]
    )


def _sum(names: list[str], output: Output, rng: random.Random) -> str:
    bars = _bars(output["texts"], output["boxes"])
    total = sum(bars.values())
    return f"{' + '.join(str(value) for value in bars.values())} = {total}, so the bars add up to {total}."


def _caption(names: list[str]) -> dict[str, Any]:
    return {"caption": " . ".join(names) if names else "object"}


def _box(box: tuple[float, float, float, float]) -> Callable[[list[str]], dict[str, Any]]:
    return lambda names: {} if box == _ALL_OF_IT else {"box": list(box)}


def _all_text(names: list[str], output: Output, rng: random.Random) -> str:
    return "\n".join(output["texts"])


KINDS = (
    Kind(
        "shape_detector",
        ("Where is the {0}?", "Can you locate the {0} in this picture?", "Please point out where the {0} is."),
        _one,
        _caption,
        _where,
    ),
    Kind(
        "shape_detector",
        ("How many {0}s are there?", "Count the {0}s in the picture, please.", "What is the number of {0}s here?"),
        _shape,
        _caption,
        _count,
    ),
    Kind(
        "shape_detector",
        ("Is there any {0} in the picture?", "Can you see any {0} here?", "Does the image show one {0} or none?"),
        _perhaps_there,
        _caption,
        _exists,
    ),
    Kind(
        "shape_detector",
        (
            "Which is further to the left, the {0} or the {1}?",
            "Coming from the left, do I meet the {0} or the {1} first?",
        ),
        _two,
        _caption,
        _first_from_the_left,
    ),
    Kind(
        "shape_detector",
        ("Which objects are there, from left to right?", "Find every object and say where it is."),
        _nothing,
        _caption,
        _everything,
    ),
    Kind(
        "shape_segmenter",
        ("How much of the picture does the {0} cover?", "Which share of the image is taken up by the {0}?"),
        _one,
        _caption,
        _share,
    ),
    Kind(
        "shape_segmenter",
        ("Which covers more of the picture, the {0} or the {1}?", "Does the {0} or the {1} take up more room?"),
        _two,
        _caption,
        _covers_more,
    ),
    Kind(
        "text_reader",
        ("What is the title of this slide?", "What does it say at the top of the slide?", "What is this slide called?"),
        _nothing,
        _box(_TOP),
        _title,
    ),
    Kind(
        "text_reader",
        ("List the bullet points of this slide.", "Which points does the slide make?"),
        _nothing,
        _box(_BULLETS),
        _points,
    ),
    Kind(
        "text_reader",
        ("How many bullet points are there?", "Count the points in the list on this slide."),
        _nothing,
        _box(_BULLETS),
        _number_of_points,
    ),
    Kind(
        "text_reader",
        ("Which page is this?", "What number stands in the bottom right corner?"),
        _nothing,
        _box(_CORNER),
        _page,
    ),
    Kind(
        "text_reader",
        ("Read all the text on this slide.", "Please copy out everything that is written here."),
        _nothing,
        _box(_ALL_OF_IT),
        _all_text,
    ),
    Kind(
        "text_reader",
        ("What value does the chart show for {0}?", "How tall is the bar of {0} in the chart?"),
        _label,
        _box(_CHART),
        _value,
    ),
    Kind(
        "text_reader",
        ("Which bar of the chart is the tallest?", "Where does the chart reach its greatest value?"),
        _of_a_chart,
        _box(_CHART),
        _tallest,
    ),
    Kind(
        "text_reader",
        ("What do the bars of the chart add up to?", "What is the sum of all values in the chart?"),
        _of_a_chart,
        _box(_CHART),
        _sum,
    ),
)
