"""What a scene of shapes answers: facts by name, each with all its fills, and a caption that says them.

    Scene ──known──▶ Known(caption, fills={"left-of": [Fill({"one": ..., "other": ...}, "Yes"), ...], ...})

Widths are compared only where six pixels or more lie between them, so that what is said can be seen.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from mminstruct.data_builders.worlds.fills import Fill, Known, judged
from mminstruct.data_builders.worlds.scenes import COLORS, GROUNDS, NUMBERS, SHAPES, SIZE, Scene, Thing, a, listed

_PLAIN = 6  # pixels between widths that are compared
_PLACES = [" ".join([row, column]).strip() for row in ("top", "", "bottom") for column in ("left", "", "right")]
PLACES = [f"at the {place}" if place else "in the middle" for place in _PLACES]


def known(scene: Scene, chance: random.Random) -> Known:
    """Facts in an order, and of absent things some, by `chance`."""
    facts: dict[str, list[Fill]] = {
        **_of_pairs(scene),
        **_of_ends(scene, chance),
        **_of_counts(scene, chance),
        **_of_each(scene, chance),
        **_told(scene),
    }
    return Known(caption=caption(scene), fills={name: fills for name, fills in facts.items() if fills})


def place(thing: Thing) -> str:
    """In which third of the picture a thing's middle is: `at the top left`, `in the middle`."""
    column, row = (0 if 3 * middle < SIZE else 2 if 3 * middle > 2 * SIZE else 1 for middle in thing.centre)
    return PLACES[3 * row + column]


def caption(scene: Scene) -> str:
    """All that the facts ask for."""
    things = list(scene.things)
    across, down, wide = _across(scene), _down(scene), _wide(scene)
    total = len(things)
    sentences = [
        scene.captions()[0],
        f"There are {NUMBERS[total]} shapes in all: {listed(_counts(scene))}.",
        *(f"The {thing.name} is {place(thing)}." for thing in things),
        f"From left to right, the picture has {_row(across)}, so the {across[0].name} is furthest to the left and the "
        f"{across[-1].name} furthest to the right.",
        f"From top to bottom, it has {_row(down)}, so the {down[0].name} is the highest and the {down[-1].name} the "
        "lowest.",
    ]
    if _ends_are_plain(wide):
        sentences.append(f"The widest shape is the {wide[0].name}, and the narrowest is the {wide[-1].name}.")
    sentences.append("The shapes are filled with plain colors and do not touch each other.")
    return " ".join(sentences)


def absent(scene: Scene, chance: random.Random) -> list[str]:
    """Names of things that are not there, first those that share a shape or a color with one that is."""
    names = {thing.name for thing in scene.things}
    away = [(color, shape) for color in COLORS for shape in SHAPES if f"{color} {shape}" not in names]
    chance.shuffle(away)
    colors, shapes = {thing.color for thing in scene.things}, {thing.shape for thing in scene.things}
    away.sort(key=lambda one: -((one[0] in colors) + (one[1] in shapes)))
    return [f"{color} {shape}" for color, shape in away]


def _across(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: thing.centre[0])


def _down(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: thing.centre[1])


def _wide(scene: Scene) -> list[Thing]:
    return sorted(scene.things, key=lambda thing: -thing.side)


def _ends_are_plain(wide: list[Thing]) -> bool:
    return wide[0].side - wide[1].side >= _PLAIN and wide[-2].side - wide[-1].side >= _PLAIN


def _row(things: list[Thing]) -> str:
    return listed([f"the {thing.name}" for thing in things])


def _counts(scene: Scene) -> list[str]:
    counted = [(shape, sum(thing.shape == shape for thing in scene.things)) for shape in SHAPES]
    return [f"{NUMBERS[count]} {shape}{'s' * (count > 1)}" for shape, count in counted if count]


def _of_pairs(scene: Scene) -> dict[str, list[Fill]]:
    """Of two things: which is further left, higher, wider, both ways round."""
    left, above, wider = [], [], []
    for one, other in itertools.permutations(scene.things, 2):
        words = {"one": one.name, "other": other.name}
        left.append(judged(words, one.centre[0] < other.centre[0]))
        above.append(judged(words, one.centre[1] < other.centre[1]))
        if abs(one.side - other.side) >= _PLAIN:
            wider.append(judged(words, one.side > other.side))
    return {"left-of": left, "above": above, "wider": wider}


def _of_ends(scene: Scene, chance: random.Random) -> dict[str, list[Fill]]:
    """The first and the last by width and by place; wrong are the others, then absent things."""
    away = absent(scene, chance)

    def end(thing: Thing) -> list[Fill]:
        others = [f"the {other.name}" for other in scene.things if other != thing]
        return [Fill({}, f"the {thing.name}", (*others, *(f"the {name}" for name in away))[: max(3, len(others))])]

    across, down, wide = _across(scene), _down(scene), _wide(scene)
    plain = _ends_are_plain(wide)
    return {
        "leftmost": end(across[0]),
        "rightmost": end(across[-1]),
        "highest": end(down[0]),
        "lowest": end(down[-1]),
        "widest": end(wide[0]) if plain else [],
        "narrowest": end(wide[-1]) if plain else [],
    }


def _of_counts(scene: Scene, chance: random.Random) -> dict[str, list[Fill]]:
    """How many of a shape, and of all; wrong are the numbers beside it."""
    counts = {shape: sum(thing.shape == shape for thing in scene.things) for shape in SHAPES}
    exactly = []
    for shape, count in counts.items():
        near = chance.choice([other for other in (count - 1, count + 1) if 1 <= other <= 6])
        for said in (count, near) if count else (near,):
            noun = shape if said == 1 else f"{shape}s"
            words = {"be": "Is" if said == 1 else "Are", "count": NUMBERS[said], "shape": noun}
            exactly.append(judged(words, said == count))
    total = len(scene.things)
    said = chance.choice([other for other in (total - 1, total + 1) if 1 < other < len(NUMBERS)])
    return {
        "exactly": exactly,
        "count": [_counted({"shape": f"{shape}s"}, count) for shape, count in counts.items() if count],
        "total": [_counted({}, total)],
        "total-is": [judged({"count": NUMBERS[number]}, number == total) for number in (total, said)],
    }


def _counted(words: dict[str, str], count: int) -> Fill:
    first = min(max(1, count - 2), 3)
    return Fill(words, NUMBERS[count], [NUMBERS[other] for other in range(first, first + 4) if other != count])


def _of_each(scene: Scene, chance: random.Random) -> dict[str, list[Fill]]:
    """Of single things: whether they are there, where, in which color, of which shape; and the background."""
    away = absent(scene, chance)
    there = [judged({"item": a(thing.name)}, True) for thing in scene.things]
    there += [judged({"item": a(name)}, False) for name in away[: len(scene.things)]]
    grounds = sorted(set(GROUNDS) - {scene.ground})
    alone = [thing for thing in scene.things if sum(other.shape == thing.shape for other in scene.things) == 1]
    only = [thing for thing in scene.things if sum(other.color == thing.color for other in scene.things) == 1]
    return {
        "there": there,
        "which-there": [Fill({}, f"the {thing.name}", [f"the {name}" for name in away[:8]]) for thing in scene.things],
        "background-is": [judged({"color": ground}, ground == scene.ground) for ground in (scene.ground, *grounds)],
        "background": [Fill({}, scene.ground, grounds)],
        "where": [
            Fill({"thing": thing.name}, place(thing), [other for other in PLACES if other != place(thing)])
            for thing in scene.things
        ],
        "color": [Fill({"shape": thing.shape}, thing.color, sorted(set(COLORS) - {thing.color})) for thing in alone],
        "shape": [Fill({"color": thing.color}, thing.shape, sorted(set(SHAPES) - {thing.shape})) for thing in only],
    }


def _told(scene: Scene) -> dict[str, list[Fill]]:
    """Answers of whole sentences."""
    across, down, wide = _across(scene), _down(scene), _wide(scene)
    pairs = list(itertools.permutations(scene.things, 2))
    total = NUMBERS[len(across)]
    return {
        "order-across": [
            Fill(
                {}, f"From left to right, the picture has {_row(across)}. The {across[0].name} is furthest to the left."
            )
        ],
        "order-down": [
            Fill({}, f"The highest is the {down[0].name}. From top to bottom, the picture has {_row(down)}.")
        ],
        "kinds": [
            Fill({}, f"There are {total} shapes in all: {listed(_counts(scene))}. The background is {scene.ground}.")
        ],
        "about": [
            Fill({"thing": thing.name}, f"The {thing.name} is {place(thing)} of the picture. {beside}")
            for thing, beside in ((thing, " ".join(_beside(scene, thing))) for thing in scene.things)
        ],
        "compare": [
            Fill({"one": one.name, "other": other.name}, " ".join(_compared(one, other)))
            for one, other in pairs
            if abs(one.side - other.side) >= _PLAIN
        ],
        "ends": [
            Fill(
                {},
                f"The widest shape is the {wide[0].name}, which is {place(wide[0])}. The narrowest is the "
                f"{wide[-1].name}, which is {place(wide[-1])}.",
            )
        ]
        if _ends_are_plain(wide)
        else [],
    }


def _beside(scene: Scene, thing: Thing) -> Iterator[str]:
    """What stands next to a thing in the two orders."""
    across, down = _across(scene), _down(scene)
    at = across.index(thing)
    if at == 0:
        yield f"Nothing is further to the left, and next to the right of it comes the {across[1].name}."
    elif at == len(across) - 1:
        yield f"Nothing is further to the right, and next to the left of it comes the {across[-2].name}."
    else:
        yield f"From left to right, it comes between the {across[at - 1].name} and the {across[at + 1].name}."
    at = down.index(thing)
    if at == 0:
        yield "It is higher up than everything else."
    elif at == len(down) - 1:
        yield "It is lower down than everything else."
    else:
        yield f"It is lower than the {down[at - 1].name} and higher than the {down[at + 1].name}."


def _compared(one: Thing, other: Thing) -> Iterator[str]:
    side = "left" if one.centre[0] < other.centre[0] else "right"
    height = "higher up" if one.centre[1] < other.centre[1] else "lower down"
    width = "wider" if one.side > other.side else "narrower"
    yield f"The {one.name} is {width} than the {other.name}. It is further to the {side} and {height}."
    if one.color == other.color:
        yield f"Both are {one.color}."
    if one.shape == other.shape:
        yield f"Both are {one.shape}s."
