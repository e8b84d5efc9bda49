"""What can be asked about a scene: a kind gives the slots of a question with its answer, or None where it does not fit.

    KINDS["relation"](scene, chance) ──▶ {"one": "red circle", "other": "blue square", "answer": "left", ...}

The words around the slots are not here: they are those of the task or template that asks. Where the picture would not
show an answer plainly (two things about equally large, equally near), nothing is asked.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mminstruct.data_builders.worlds.scenes import COLORS, GROUNDS, NUMBERS, SHAPES, SIZE, Scene, Thing, listed

Slots = dict[str, Any]

PLACES = (
    *("top left", "top middle", "top right"),
    *("middle left", "center", "middle right"),
    *("bottom left", "bottom middle", "bottom right"),
)
SIDES = ("left", "right", "top", "bottom")
_PLAIN = 10  # pixels by which a size or a distance must differ to be called different


def box(thing: Thing) -> str:
    """`[left, top, right, bottom]` in shares of the picture, two digits."""
    return f"[{', '.join(f'{edge / SIZE:.2f}' for edge in thing.box)}]"


def place(thing: Thing) -> str:
    """In which of nine fields of the picture the middle is."""
    x, y = thing.centre
    return PLACES[3 * int(3 * y // SIZE) + int(3 * x // SIZE)]


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _mixed(words: Sequence[str], chance: random.Random) -> list[str]:
    return chance.sample(list(words), len(words))


def _names(scene: Scene) -> list[str]:
    return [thing.name for thing in scene.things]


def _once(words: Sequence[str]) -> list[int]:
    """The places of words that stand only once."""
    counts = Counter(words)
    return [index for index, word in enumerate(words) if counts[word] == 1]


def count(scene: Scene, chance: random.Random) -> Slots | None:
    return {"answer": str(len(scene.things))}


def count_shape(scene: Scene, chance: random.Random) -> Slots | None:
    shape = chance.choice(SHAPES)
    return {"shape": shape, "answer": str(sum(thing.shape == shape for thing in scene.things))}


def count_color(scene: Scene, chance: random.Random) -> Slots | None:
    present = sorted({thing.color for thing in scene.things})
    color = chance.choice(present if chance.random() < 0.8 else list(COLORS))  # mostly one that is there
    return {"color": color, "answer": str(sum(thing.color == color for thing in scene.things))}


def color_of_shape(scene: Scene, chance: random.Random) -> Slots | None:
    alone = _once([thing.shape for thing in scene.things])
    if not alone:
        return None
    thing = scene.things[chance.choice(alone)]
    return {"shape": thing.shape, "answer": thing.color, "options": _mixed(list(COLORS), chance)}


def shape_of_color(scene: Scene, chance: random.Random) -> Slots | None:
    alone = _once([thing.color for thing in scene.things])
    if not alone:
        return None
    thing = scene.things[chance.choice(alone)]
    return {"color": thing.color, "answer": thing.shape, "options": _mixed(SHAPES, chance)}


def ground(scene: Scene, chance: random.Random) -> Slots | None:
    return {"answer": scene.ground, "options": _mixed(sorted(GROUNDS), chance)}


def presence(scene: Scene, chance: random.Random) -> Slots | None:
    """Whether a thing is there, as often as not; one that is not shares its color or its shape with one that is."""
    names = set(_names(scene))
    name = chance.choice(_names(scene))
    if chance.random() < 0.5:
        return {"name": name, "a_name": _a(name), "answer": "yes", "options": ["yes", "no"]}
    color, shape = name.split()
    near = [f"{color} {other}" for other in SHAPES] + [f"{other} {shape}" for other in COLORS]
    name = chance.choice([other for other in near if other not in names])
    return {"name": name, "a_name": _a(name), "answer": "no", "options": ["yes", "no"]}


def relation(scene: Scene, chance: random.Random) -> Slots | None:
    one, other = chance.sample(scene.things, 2)
    return {
        "one": one.name,
        "other": other.name,
        "answer": "left" if one.centre[0] < other.centre[0] else "right",
        "options": ["left", "right"],
    }


def height(scene: Scene, chance: random.Random) -> Slots | None:
    one, other = chance.sample(scene.things, 2)
    return {
        "one": one.name,
        "other": other.name,
        "answer": "above" if one.centre[1] < other.centre[1] else "below",
        "options": ["above", "below"],
    }


def which_place(scene: Scene, chance: random.Random) -> Slots | None:
    thing = chance.choice(scene.things)
    return {"name": thing.name, "answer": place(thing), "options": list(PLACES)}


def _from_edge(scene: Scene, side: str) -> list[Thing]:
    """The two things that are nearest to an edge; fewer where it depends on whether centers or rims are compared."""
    axis, sign, rim = {"left": (0, 1, 0), "right": (0, -1, 2), "top": (1, 1, 1), "bottom": (1, -1, 3)}[side]
    by_center = sorted(scene.things, key=lambda thing: sign * thing.centre[axis])[:2]
    by_rim = sorted(scene.things, key=lambda thing: sign * thing.box[rim])[:2]
    agreed: list[Thing] = []
    for one, other in zip(by_center, by_rim, strict=True):
        if one is not other or sum(thing.box[rim] == one.box[rim] for thing in scene.things) > 1:
            break
        agreed.append(one)
    return agreed


def extreme(scene: Scene, chance: random.Random) -> Slots | None:
    side = chance.choice(SIDES)
    found = _from_edge(scene, side)
    if not found:
        return None
    return {"side": side, "answer": found[0].name, "options": _mixed(_names(scene), chance)}


def _by_size(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: thing.side)


def largest(scene: Scene, chance: random.Random) -> Slots | None:
    *_, second, first = _by_size(scene)
    if first.side - second.side < _PLAIN:
        return None
    return {"answer": first.name, "options": _mixed(_names(scene), chance)}


def smallest(scene: Scene, chance: random.Random) -> Slots | None:
    first, second, *_ = _by_size(scene)
    if second.side - first.side < _PLAIN:
        return None
    return {"answer": first.name, "options": _mixed(_names(scene), chance)}


def compare_sizes(scene: Scene, chance: random.Random) -> Slots | None:
    one, other = chance.sample(scene.things, 2)
    if abs(one.side - other.side) < _PLAIN:
        return None
    return {
        "one": one.name,
        "other": other.name,
        "answer": (one if one.side > other.side else other).name,
        "options": [one.name, other.name],
    }


def nearest(scene: Scene, chance: random.Random) -> Slots | None:
    if len(scene.things) < 3:
        return None
    thing = chance.choice(scene.things)
    others = [other for other in scene.things if other is not thing]
    first, second, *_ = sorted(others, key=lambda other: math.dist(thing.centre, other.centre))
    if math.dist(thing.centre, second.centre) - math.dist(thing.centre, first.centre) < _PLAIN:
        return None
    return {
        "name": thing.name,
        "answer": first.name,
        "options": _mixed([other.name for other in others], chance),
    }


def order(scene: Scene, chance: random.Random) -> Slots | None:
    axis = chance.choice([0, 1])
    found = sorted(scene.things, key=lambda thing: thing.centre[axis])
    return {
        "direction": ("from left to right", "from top to bottom")[axis],
        "answer": ", ".join(thing.name for thing in found),
    }


def size_order(scene: Scene, chance: random.Random) -> Slots | None:
    found = _by_size(scene)
    if len(found) < 3 or any(b.side - a.side < _PLAIN for a, b in itertools.pairwise(found)):
        return None
    return {"answer": ", ".join(thing.name for thing in found)}


def count_beside(scene: Scene, chance: random.Random) -> Slots | None:
    thing = chance.choice(scene.things)
    side = chance.choice(["left", "right"])
    sign = 1 if side == "left" else -1
    found = sum(sign * other.centre[0] < sign * thing.centre[0] for other in scene.things)
    return {"name": thing.name, "side": side, "answer": str(found)}


def odd_one_out(scene: Scene, chance: random.Random) -> Slots | None:
    """The one thing of another shape than all others, which share one."""
    shapes = Counter(thing.shape for thing in scene.things)
    if len(scene.things) < 3 or len(shapes) != 2 or min(shapes.values()) != 1:
        return None
    odd = next(thing for thing in scene.things if shapes[thing.shape] == 1)
    common = max(shapes, key=lambda shape: shapes[shape])
    return {"common": common, "shape": odd.shape, "answer": odd.name, "options": _mixed(_names(scene), chance)}


def same_shape(scene: Scene, chance: random.Random) -> Slots | None:
    """Whether two things have one shape, as often as not where the scene has both."""
    pairs = [(one, other) for index, one in enumerate(scene.things) for other in scene.things[index + 1 :]]
    same = [pair for pair in pairs if pair[0].shape == pair[1].shape]
    other_shapes = [pair for pair in pairs if pair[0].shape != pair[1].shape]
    if not same or not other_shapes:
        return None
    truth = chance.random() < 0.5
    one, other = chance.choice(same if truth else other_shapes)
    return {"one": one.name, "other": other.name, "answer": "yes" if truth else "no", "options": ["yes", "no"]}


def more_shapes(scene: Scene, chance: random.Random) -> Slots | None:
    counts = Counter(thing.shape for thing in scene.things)
    one, other = chance.sample(SHAPES, 2)
    if counts[one] == counts[other]:
        return None
    plural = [f"{one}s", f"{other}s"]
    return {
        "one": plural[0],
        "other": plural[1],
        "answer": plural[0] if counts[one] > counts[other] else plural[1],
        "options": plural,
    }


def statement(scene: Scene, chance: random.Random) -> Slots | None:
    """A sentence about the scene, true or false with equal chance."""
    truth = chance.random() < 0.5
    one, other = chance.sample(scene.things, 2)
    kind = chance.randrange(3)
    if kind == 0:
        left = (one.centre[0] < other.centre[0]) == truth
        said = f"The {one.name} is to the {'left' if left else 'right'} of the {other.name}."
    elif kind == 1:
        above = (one.centre[1] < other.centre[1]) == truth
        said = f"The {one.name} is {'above' if above else 'below'} the {other.name}."
    else:
        shown = len(scene.things)
        told = shown if truth else chance.choice([number for number in range(2, 7) if number != shown])
        said = f"The picture shows {NUMBERS[told]} shapes."
    return {"statement": said, "answer": "true" if truth else "false", "options": ["true", "false"]}


def locate(scene: Scene, chance: random.Random) -> Slots | None:
    thing = chance.choice(scene.things)
    return {"name": thing.name, "answer": box(thing)}


def name_in_box(scene: Scene, chance: random.Random) -> Slots | None:
    thing = chance.choice(scene.things)
    return {"box": box(thing), "answer": thing.name, "options": _mixed(_names(scene), chance)}


def refer(scene: Scene, chance: random.Random) -> Slots | None:
    """An expression that fits the thing in a box and no other."""
    thing = chance.choice(scene.things)
    shapes, colors = (Counter(getattr(each, key) for each in scene.things) for key in ("shape", "color"))
    if shapes[thing.shape] == 1:
        said = f"the only {thing.shape}"
    elif colors[thing.color] == 1:
        said = f"the only {thing.color} shape"
    else:
        said = f"the {thing.name} at the {place(thing)}".replace("at the center", "in the center")
    return {"box": box(thing), "answer": said}


def detect(scene: Scene, chance: random.Random) -> Slots | None:
    return {"answer": "\n".join(f"{thing.name}: {box(thing)}" for thing in scene.things)}


def caption(scene: Scene, chance: random.Random) -> Slots | None:
    captions = scene.captions()
    return {"answer": chance.choice(captions[:2]), "answers": captions[:2]}


def description(scene: Scene, chance: random.Random) -> Slots | None:
    first = scene.captions()[0]
    where = [
        f"The {thing.name} is at the {place(thing)}".replace("at the center", "in the center") for thing in scene.things
    ]
    sizes = _by_size(scene)
    size = f"The {sizes[-1].name} is the largest" if sizes[-1].side - sizes[-2].side >= _PLAIN else ""
    return {"answer": ". ".join([first.rstrip("."), *where, *([size] if size else [])]) + "."}


def colors(scene: Scene, chance: random.Random) -> Slots | None:
    found = list(dict.fromkeys(thing.color for thing in scene.things))
    return {"answer": ", ".join(sorted(found))}


def shapes(scene: Scene, chance: random.Random) -> Slots | None:
    found = sorted({thing.shape for thing in scene.things})
    return {"answer": ", ".join(found), "spoken": listed(found)}


def without(scene: Scene, chance: random.Random) -> Slots | None:
    """What is outermost once the outermost thing is taken away."""
    side = chance.choice(SIDES)
    found = _from_edge(scene, side)
    if len(found) < 2:
        return None
    first, second = found
    return {"side": side, "first": first.name, "answer": second.name, "options": _mixed(_names(scene), chance)}


def question(scene: Scene, chance: random.Random) -> Slots | None:
    """A question that a given answer is right for, and no other thing of the scene."""
    side = chance.choice(SIDES)
    found = _from_edge(scene, side)
    if not found:
        return None
    return {"given": found[0].name, "answer": f"Which object is nearest to the {side} edge of the picture?"}


_SPOKEN = (
    ("count", "How many shapes are there?"),
    ("ground", "What color is the background?"),
    ("count-shape", "How many {shape}s are there?"),
    ("color-of-shape", "What color is the {shape}?"),
    ("shape-of-color", "What shape is the {color} one?"),
    ("presence", "Is there {a_name}?"),
    ("relation", "Is the {one} on the left or on the right of the {other}?"),
    ("height", "Is the {one} above or below the {other}?"),
    ("compare-sizes", "Which is larger, the {one} or the {other}?"),
)


def dialogue(scene: Scene, chance: random.Random) -> Slots | None:
    """What two people said about the scene, two to four questions with their answers, and the next question."""
    said: dict[str, str] = {}
    for kind, wording in chance.sample(_SPOKEN, chance.randint(4, 6)):
        slots = KINDS[kind](scene, chance)
        if slots is not None:
            said[wording.format_map(slots)] = slots["answer"]
    *before, (asked, answer) = list(said.items())[:5]
    if len(before) < 2:
        return None
    return {"history": " ".join(f"Q: {one} A: {reply}." for one, reply in before), "question": asked, "answer": answer}


KINDS: dict[str, Callable[[Scene, random.Random], Slots | None]] = {
    "count": count,
    "count-shape": count_shape,
    "count-color": count_color,
    "color-of-shape": color_of_shape,
    "shape-of-color": shape_of_color,
    "ground": ground,
    "presence": presence,
    "relation": relation,
    "height": height,
    "place": which_place,
    "extreme": extreme,
    "largest": largest,
    "smallest": smallest,
    "compare-sizes": compare_sizes,
    "nearest": nearest,
    "order": order,
    "size-order": size_order,
    "count-beside": count_beside,
    "odd-one-out": odd_one_out,
    "same-shape": same_shape,
    "more-shapes": more_shapes,
    "statement": statement,
    "locate": locate,
    "name-in-box": name_in_box,
    "refer": refer,
    "detect": detect,
    "caption": caption,
    "description": description,
    "colors": colors,
    "shapes": shapes,
    "without": without,
    "question": question,
    "dialogue": dialogue,
}
