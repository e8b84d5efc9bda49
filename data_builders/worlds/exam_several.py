"""Questions of an examination about more than one picture or turn: clips, rules to be learnt, and instructions.

In-context learning shows pictures with their answers before the one that is asked about. What links a picture to its
answer is said nowhere, and only one of the rules that one may think of fits all pictures shown:

- `naming`: two invented words, for the two values of one property (colour, shape, size or side). The other properties,
  and the ground, take both of their values with each word, so they explain nothing.
- `number`: how many there are of a shape, or of all shapes. No other count of shapes or of one colour fits.
- `property`: the colour, the shape, or the ground of the picture.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mminstruct.data_builders.worlds.clip_facts import happens
from mminstruct.data_builders.worlds.clips import Clip, clip
from mminstruct.data_builders.worlds.exam import Form, Make, Question
from mminstruct.data_builders.worlds.scenes import COLORS, GROUNDS, SHAPES, SIZE, Scene, Thing, scene

# --- clips ------------------------------------------------------------------------------------------------------------

APART = 15  # frames: a model that sees eight frames of a clip sees one between
STAYS = 10  # frames that a colour is to be seen
SIDES = ("left", "right", "top", "bottom")
SCENES = ("1", "2", "3")


def _clip(ask: Callable[[Clip, str, random.Random], tuple[str, tuple[str, ...], list[str]] | None]) -> Make:
    def make(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
        found = clip(seed, number)
        asked = ask(found, target, chance)
        if asked is None:
            return None
        text, answers, wrong = asked
        return Question(text, answers, tuple(wrong), (found.id,), clip=found)

    return make


def _order(found: Clip, target: str, chance: random.Random) -> tuple[str, tuple[str, ...], list[str]] | None:
    events = found.events()
    seen = Counter((event.name, event.kind, event.detail) for event in events)
    single = [event for event in events if seen[event.name, event.kind, event.detail] == 1 and event.kind != "leaves"]
    pairs = [
        (one, two)
        for one, two in itertools.combinations(single, 2)
        if two.frame - one.frame >= APART and one.name != two.name
    ]
    if not pairs:
        return None
    first, later = chance.choice(pairs)
    named = (first, later) if target == "one" else (later, first)
    text = f"What happens first: {happens(named[0])}, or {happens(named[1])}?"
    return text, (happens(first), first.name), [happens(later)]


def _side(found: Clip, target: str, chance: random.Random) -> tuple[str, tuple[str, ...], list[str]] | None:
    coming = [mover for mover in found.movers() if mover.manner == "enters" and mover.events[0].detail == target]
    if not coming:
        return None
    text = f"From which side does the {coming[0].name} come in: {', '.join(SIDES[:3])} or {SIDES[3]}?"
    return text, (target, f"the {target}", f"from the {target}"), [side for side in SIDES if side != target]


def _scenes(found: Clip, target: str, chance: random.Random) -> tuple[str, tuple[str, ...], list[str]] | None:
    if len(found.shots) != int(target):
        return None
    text = "A new scene begins when the background changes. How many scenes does the clip have?"
    return text, (target,), [other for other in SCENES if other != target]


def _turns(found: Clip, target: str, chance: random.Random) -> tuple[str, tuple[str, ...], list[str]] | None:
    for shot in found.shots:
        for mover in shot.movers:
            if mover.manner == "changes" and STAYS <= mover.events[0].frame - shot.first <= shot.length - STAYS:
                right = mover.colors[-1]
                others = [color for color in COLORS if color not in (right, mover.colors[0])]
                return f"Which color does the {mover.name} turn?", (right,), chance.sample(others, 3)
    return None


VIDEO = (
    Form("order", _clip(_order), ("one", "other"), shared=True),
    Form("side", _clip(_side), SIDES, shared=True),
    Form("scenes", _clip(_scenes), SCENES, shared=True),
    Form("color", _clip(_turns), shared=True),
)

# --- rules to be learnt -----------------------------------------------------------------------------------------------

WORDS = ("dax", "wug", "blick", "toma", "fep", "zorp", "mib", "kiki")
SIZES = {"small": 60, "large": 130}
PLACES = {"left": 0.27, "right": 0.73}


def _alone(name: str, value: dict[str, str]) -> Scene:
    """A picture of one shape with these properties."""
    side = SIZES[value["size"]]
    left = round(PLACES[value["side"]] * SIZE - side / 2)
    top = (SIZE - side) // 2
    return Scene(name, value["ground"], (Thing(value["shape"], value["color"], (left, top, left + side, top + side)),))


def _shown(text: str, told: Sequence[str], scenes: Sequence[Scene], right: str, wrong: Sequence[str]) -> Question:
    return Question(
        text,
        (right,),
        tuple(wrong),
        tuple(one.id for one in scenes),
        tuple(one.draw() for one in scenes),
        told=tuple(told),
    )


def naming(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    """`target`: the property, and which of its values the last picture has."""
    rule, _, which = target.partition(" ")
    values = {
        "color": chance.sample(sorted(COLORS), 2),
        "shape": chance.sample(SHAPES, 2),
        "size": chance.sample(sorted(SIZES), 2),
        "side": chance.sample(sorted(PLACES), 2),
        "ground": chance.sample(sorted(GROUNDS), 2),
    }
    words = chance.sample(WORDS, 2)
    examples = [(word, other) for word in (0, 1) for other in (0, 1)]
    chance.shuffle(examples)
    scenes = [
        _alone(f"naming/{seed}/{number}/{place}", {name: pair[word if name == rule else other]
                                                   for name, pair in values.items()})
        for place, (word, other) in enumerate(examples)
    ]  # fmt: skip
    last = {name: pair[int(which) if name == rule else chance.randrange(2)] for name, pair in values.items()}
    scenes.append(_alone(f"naming/{seed}/{number}/last", last))
    told = [words[word] for word, _ in examples]
    return _shown("What is this called?", told, scenes, words[int(which)], [words[1 - int(which)]])


RULES: dict[str, Callable[[Scene], int]] = {
    "all": lambda found: len(found.things),
    **{shape: lambda found, shape=shape: sum(one.shape == shape for one in found.things) for shape in SHAPES},  # type: ignore[misc]
    **{color: lambda found, color=color: sum(one.color == color for one in found.things) for color in COLORS},  # type: ignore[misc]
    "kinds of shapes": lambda found: len({one.shape for one in found.things}),
    "kinds of colors": lambda found: len({one.color for one in found.things}),
}
COUNTS = ("1", "2", "3", "4")


def number_rule(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    rule = chance.choice(("all", *SHAPES))
    shown = [scene(seed, 5 * number + place) for place in range(4)]
    told = [RULES[rule](one) for one in shown[:3]]
    if RULES[rule](shown[3]) != int(target) or len(set(told)) < 2:
        return None
    if any(name != rule and [count(one) for one in shown[:3]] == told for name, count in RULES.items()):
        return None
    others = [count for count in COUNTS if count != target]
    return _shown("Which number belongs to this picture?", list(map(str, told)), shown, target, others)


def property_rule(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    kinds: dict[str, Sequence[str]] = {"color": sorted(COLORS), "shape": SHAPES, "ground": sorted(GROUNDS)}
    sides, sizes = sorted(PLACES), sorted(SIZES)
    shown = [
        {"size": chance.choice(sizes), "side": chance.choice(sides)}
        | {name: chance.choice(values) for name, values in kinds.items()}
        for _ in range(3)
    ]
    told = [one[target] for one in shown[:2]]
    right = shown[2][target]
    if len({*told, right}) < 3:
        return None
    rest = [shown[2][name] for name in kinds if name != target]
    extra = chance.choice(sorted(kinds))  # of any kind, so that the kinds of the options tell nothing
    rest.append(chance.choice([value for value in kinds[extra] if value != shown[2][extra]]))
    scenes = [_alone(f"property/{seed}/{number}/{place}", one) for place, one in enumerate(shown)]
    return _shown("What is the answer for this picture?", told, scenes, right, rest)


IN_CONTEXT = (
    Form("naming", naming, tuple(f"{name} {which}" for which in "01" for name in ("color", "shape", "size", "side"))),
    Form("number", number_rule, COUNTS),
    Form("property", property_rule, ("color", "shape", "ground")),
)

# --- instructions over several turns ----------------------------------------------------------------------------------

Check = dict[str, Any]
ORDERS: dict[str, tuple[str, Check]] = {
    "capitals": ("write in capital letters only", {"id": "change_case:english_capital"}),
    "lower case": ("write in lower case letters only", {"id": "change_case:english_lowercase"}),
    "quotes": ("put your whole answer in double quotation marks", {"id": "startend:quotation"}),
    "end": (
        'end with the words "that is all"',
        {"id": "startend:end_checker", "kwargs": {"end_phrase": "that is all"}},
    ),
    "start": ('begin with the words "I see"', {"id": "sentences:start", "kwargs": {"start": "I see"}}),
    "long": (
        "use at least six words",
        {"id": "length_constraints:number_words", "kwargs": {"relation": "at least", "num_words": 6}},
    ),
}
PAIRS = (
    ("capitals", "quotes"),
    ("capitals", "end"),
    ("lower case", "start"),
    ("lower case", "long"),
    ("quotes", "lower case"),
    ("end", "capitals"),
    ("start", "end"),
    ("long", "quotes"),
)


def conversation(seed: int, number: int, target: str, chance: random.Random) -> Question | None:
    """Three turns: an order and a question, a question, another order and a question. Both orders stay in force."""
    found = scene(seed, number)
    first, second = (ORDERS[name] for name in target.split(" + "))
    shapes = Counter(thing.shape for thing in found.things)
    alone = [thing for thing in found.things if shapes[thing.shape] == 1]
    if not alone or len(found.things) < 3:
        return None
    asks: list[tuple[str, str, tuple[str, ...]]] = [
        ("How many shapes are there?", str(len(found.things)), ()),  # an answer may well count by kinds, too
        (f"Which color is the {alone[0].shape}?", alone[0].color, tuple(COLORS)),
        (f"Which shape is {alone[-1].color}?", alone[-1].shape, SHAPES),
        ("Which color is the background?", found.ground, tuple(sorted(GROUNDS))),
    ]
    if sum(thing.color == alone[-1].color for thing in found.things) > 1:
        del asks[2]
    (one, a, a_all), (two, b, b_all), (three, c, c_all) = chance.sample(asks, 3)
    picture = (found.draw(),)
    return Question(
        f"From now on, in every answer: {first[0]}. {one}", (a,), tuple(other for other in a_all if other != a),
        (found.id,), picture, checks=(first[1],), later=(
            Question(two, (b,), tuple(other for other in b_all if other != b), (found.id,), picture,
                     checks=(first[1],)),
            Question(f"From now on, in every answer, also {second[0]}. {three}", (c,),
                     tuple(other for other in c_all if other != c), (found.id,), picture,
                     checks=(first[1], second[1])),
        ),
    )  # fmt: skip


INSTRUCTIONS = (Form("orders", conversation, tuple(" + ".join(pair) for pair in PAIRS)),)
