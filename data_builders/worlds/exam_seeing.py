"""Questions of an examination about scenes: how many, where, and whether something is there at all.

In `yes-no`, half of the answers are no. Of things that are not there, `random` asks for one that shares neither colour
nor shape with anything in the picture, and `adversarial` for one whose colour and whose shape are both there, apart
(the hardest of POPE's three ways, Li et al., arXiv 2305.10355).
"""

from __future__ import annotations

import random
from collections import Counter

from mminstruct.data_builders.worlds.exam import Form, Question
from mminstruct.data_builders.worlds.scene_questions import extreme as farthest
from mminstruct.data_builders.worlds.scene_questions import nearest as next_to
from mminstruct.data_builders.worlds.scenes import COLORS, SHAPES, SIZE, Scene, Thing, a, scene

PLAIN = 14  # pixels by which sizes and places must differ to be told apart
SAY = "Say its color and shape."


def _question(found: Scene, text: str, answer: str, wrong: list[str]) -> Question:
    return Question(text, (answer,), tuple(wrong), (found.id,), (found.draw(),))


def _others(values: tuple[str, ...], right: str) -> list[str]:
    return [value for value in values if value != right]


# --- counting ---------------------------------------------------------------------------------------------------------

MANY = ("3", "4", "5", "6")
FEW = ("0", "1", "2", "3")


def count_all(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    if len(found.things) != int(target):
        return None
    return _question(found, "How many shapes are there in the picture?", target, _others(MANY, target))


def count_shape(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    counted = Counter(thing.shape for thing in found.things)
    fitting = [shape for shape in SHAPES if counted[shape] == int(target)]
    if not fitting:
        return None
    return _question(found, f"How many {chance.choice(fitting)}s are there?", target, _others(FEW, target))


def count_color(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    counted = Counter(thing.color for thing in found.things)
    fitting = [color for color in COLORS if counted[color] == int(target)]
    if not fitting:
        return None
    return _question(found, f"How many {chance.choice(fitting)} shapes are there?", target, _others(FEW, target))


# --- where ------------------------------------------------------------------------------------------------------------


def _apart(one: Thing, other: Thing, axis: int) -> bool:
    """Whether one stands wholly before the other, by rims and not only by centres."""
    return one.box[axis + 2] + PLAIN < other.box[axis] or other.box[axis + 2] + PLAIN < one.box[axis]


def _two(found: Scene, axis: int, chance: random.Random) -> tuple[Thing, Thing] | None:
    one, other = chance.sample(found.things, 2)
    return (one, other) if _apart(one, other, axis) else None


def left_right(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    return _beside(seed, number, target, chance, 0, ("left", "right"), "to the left or to the right of")


def above_below(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    return _beside(seed, number, target, chance, 1, ("above", "below"), "above or below")


def _beside(
    seed: int, number: int, target: str, chance: random.Random, axis: int, words: tuple[str, str], asked: str
) -> Question | None:
    found = scene(seed, number)
    pair = _two(found, axis, chance)
    if pair is None or words[pair[0].centre[axis] > pair[1].centre[axis]] != target:
        return None
    return _question(found, f"Is the {pair[0].name} {asked} the {pair[1].name}?", target, _others(words, target))


CORNERS = ("top left", "top right", "bottom left", "bottom right")


def corner(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    high, left = target.startswith("top"), target.endswith("left")
    fitting = [
        thing
        for thing in found.things
        if (thing.centre[1] < SIZE / 3 if high else thing.centre[1] > 2 * SIZE / 3)
        and (thing.centre[0] < SIZE / 3 if left else thing.centre[0] > 2 * SIZE / 3)
    ]
    if len(fitting) != 1:
        return None
    text = f"In which corner of the picture is the {fitting[0].name}: {', '.join(CORNERS[:3])} or {CORNERS[3]}?"
    asked = _question(found, text, target, _others(CORNERS, target))
    return asked


def extreme(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    """Only where centres and rims agree on what is farthest."""
    found = scene(seed, number)
    slots = farthest(found, chance) if len(found.things) >= 4 else None
    if slots is None or slots["side"] != target:
        return None
    words = {"left": "farthest to the left", "right": "farthest to the right", "top": "highest", "bottom": "lowest"}
    return _named(found, f"Which shape is {words[target]} in the picture? {SAY}", slots["answer"], chance)


def nearest(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    slots = next_to(found, chance) if len(found.things) >= 5 else None
    if slots is None:
        return None
    text = f"Which shape is nearest to the {slots['name']}? {SAY}"
    return _named(found, text, slots["answer"], chance, but=slots["name"])


def _named(found: Scene, text: str, answer: str, chance: random.Random, but: str = "") -> Question:
    names = [thing.name for thing in found.things if thing.name not in (answer, but)]
    return _question(found, text, answer, chance.sample(names, 3))


def larger(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    one, other = chance.sample(found.things, 2)
    if one.shape != other.shape or abs(one.side - other.side) < PLAIN or (one.side > other.side) != (target == "one"):
        return None
    big, small = (one, other) if target == "one" else (other, one)
    return _question(found, f"Which is larger, the {one.name} or the {other.name}?", big.name, [small.name])


# --- yes or no --------------------------------------------------------------------------------------------------------

YES_NO = ("yes", "no")


def there(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    colors, shapes = {thing.color for thing in found.things}, {thing.shape for thing in found.things}
    absent = [f"{color} {shape}" for color in COLORS if color not in colors for shape in SHAPES if shape not in shapes]
    names = [thing.name for thing in found.things] if target == "yes" else absent
    return _there(found, target, names, chance)


def there_adversarial(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    found = scene(seed, number)
    present = [thing.name for thing in found.things]
    colors, shapes = Counter(thing.color for thing in found.things), Counter(thing.shape for thing in found.things)
    mixed = [f"{color} {shape}" for color in sorted(colors) for shape in sorted(shapes)]
    names = [name for name in mixed if (name in present) == (target == "yes")]
    return _there(found, target, names, chance) if len(shapes) > 1 and len(colors) > 1 else None


def _there(found: Scene, target: str, names: list[str], chance: random.Random) -> Question | None:
    if not names:
        return None
    text = f"Is there {a(chance.choice(names))} in the picture?"
    return _question(found, text, target, _others(YES_NO, target))


def is_left(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    return _is(seed, number, target, chance, 0, "to the left of")


def is_above(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    return _is(seed, number, target, chance, 1, "above")


def _is(seed: int, number: int, target: str, chance: random.Random, axis: int, words: str) -> Question | None:
    found = scene(seed, number)
    pair = _two(found, axis, chance)
    if pair is None or (pair[0].centre[axis] < pair[1].centre[axis]) != (target == "yes"):
        return None
    return _question(found, f"Is the {pair[0].name} {words} the {pair[1].name}?", target, _others(YES_NO, target))


COUNTING = (
    Form("all", count_all, MANY),
    Form("shape", count_shape, FEW),
    Form("color", count_color, FEW),
)
SPATIAL = (
    Form("left-right", left_right, ("left", "right")),
    Form("above-below", above_below, ("above", "below")),
    Form("corner", corner, CORNERS),
    Form("extreme", extreme, ("left", "right", "top", "bottom")),
    Form("nearest", nearest),
    Form("larger", larger, ("one", "other")),
)
YES_OR_NO = (
    Form("random", there, YES_NO),
    Form("adversarial", there_adversarial, YES_NO),
    Form("left", is_left, YES_NO),
    Form("above", is_above, YES_NO),
)
