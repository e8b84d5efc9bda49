"""What is true of a clip of `clips`: sentences with their times, and questions with a right and a wrong answer.

Clip ──sentences──▶ (start, end, "A red circle comes in from the left and stops in the middle."), ...
     └─known──────▶ Known(question, answer, wrong, evidence), ...
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

from mminstruct.data_builders.worlds.clips import GROUNDS, HEIGHT, RATE, WIDTH, Clip, Event, Mover, Shot, clear
from mminstruct.data_builders.worlds.known import Known
from mminstruct.data_builders.worlds.scenes import COLORS, NUMBERS, listed

ORDINALS = ("first", "second", "third")
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
APART = 6  # frames between two events whose order is asked for


def a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def sentences(clip: Clip) -> list[tuple[float, float, str]]:
    """(start, end, sentence), by start: what happens and what rests, scene by scene; seconds."""
    found: list[tuple[int, int, str]] = []
    for shot in clip.shots:
        end = shot.first + shot.length
        for mover in shot.movers:
            found += [(start, stop, text) for start, stop, text in _told(mover, shot.first, end) if stop > start]
    found.sort(key=lambda one: (one[0], one[1], one[2]))
    return [(start / RATE, end / RATE, text) for start, end, text in found]


def deed(mover: Mover) -> str:
    """What it does, as what stands behind its name."""
    told = {
        "stays": f"rests {mover.place(0)}",
        "changes": f"rests {mover.place(0)} and turns {mover.colors[-1]}",
        "stops": f"moves {_direction(mover)} and stops",
        "bounces": f"moves back and forth and bounces off an edge {_often(len(mover.events))}",
        "enters": f"comes in from the {mover.events[0].detail if mover.events else ''} and stops {mover.place(-1)}",
        "leaves": f"rests {mover.place(0)} and then goes out at the {mover.events[-1].detail if mover.events else ''}",
        "crosses": f"crosses the picture {_direction(mover)}",
    }
    return told[mover.manner]


def happens(event: Event) -> str:
    """An event as a clause."""
    told = {
        "enters": f"comes in from the {event.detail}",
        "stops": "stops",
        "leaves": f"sets out towards the {event.detail}",
        "goes": f"disappears at the {event.detail}",
        "bounces": f"bounces off the {event.detail} edge",
        "changes": f"turns {event.detail}",
    }
    return f"the {event.name} {told[event.kind]}"


def known(clip: Clip, chance: random.Random) -> list[Known]:
    """Questions that the clip answers, in no order that matters. `chance` chooses wrong answers."""
    return [*_scenes(clip), *_order(clip), *_moments(clip, chance), *_movers(clip, chance), *_places(clip)]


def _told(mover: Mover, first: int, end: int) -> Iterator[tuple[int, int, str]]:
    name, frames = a(mover.name).capitalize(), [event.frame for event in mover.events]
    if mover.manner in ("changes", "leaves"):
        yield first, frames[0], f"{name} rests {mover.place(0)}."
        if mover.manner == "changes":
            yield frames[0], end, f"The {mover.name} turns {mover.colors[-1]} and stays so."
        else:
            yield frames[0], frames[-1], f"The {mover.name} goes out at the {mover.events[-1].detail}."
    elif mover.manner in ("stays", "bounces"):
        yield first, end, f"{name} {deed(mover)}."
    else:
        start = first if mover.manner == "stops" else frames[0]
        yield start, frames[-1], f"{name} {deed(mover)}."


def _scenes(clip: Clip) -> Iterator[Known]:
    count = len(clip.shots)
    cuts = [f"at {shot.first / RATE:.1f} seconds" for shot in clip.shots[1:]]
    other = count % 3 + 1
    yield Known(
        "temporal",
        "How many scenes does the clip have?",
        f"It has {NUMBERS[count]} scene{'s' * (count > 1)}.",
        f"It has {NUMBERS[other]} scene{'s' * (other > 1)}.",
        f"The background changes {listed(cuts)}."
        if cuts
        else "The background is the same from the first frame to the last.",
    )
    for number, shot in enumerate(clip.shots):
        which = f"the {ORDINALS[number]} scene" if count > 1 else "the clip"
        others = sorted(set(GROUNDS) - {shot.ground})
        wrong = others[(number + clip.length) % len(others)]
        when = f"from {shot.first / RATE:.1f} to {(shot.first + shot.length) / RATE:.1f} seconds"
        yield Known(
            "temporal" if count > 1 else "spatial",
            f"Which colour is the background in {which}?",
            f"It is {shot.ground}.",
            f"It is {wrong}.",
            f"The frames {when} have a {shot.ground} background.",
        )
        names = sorted(mover.name for mover in shot.movers)
        yield Known(
            "spatial",
            f"How many shapes are to be seen in {which} in all?",
            f"There are {NUMBERS[len(names)]}: {listed([a(name) for name in names])}.",
            f"There are {NUMBERS[len(names) - 1]}: {listed([a(name) for name in names[:-1]])}."
            if len(names) > 2
            else f"There is only one, {a(names[0])}.",
            f"The {names[-1]} is to be seen in {which}, too.",
        )


def _order(clip: Clip) -> Iterator[Known]:
    events = clip.events()
    seen = Counter((event.name, event.kind, event.detail) for event in events)
    single = [event for event in events if seen[event.name, event.kind, event.detail] == 1 and event.kind != "leaves"]
    for one, two in itertools.combinations(single, 2):
        if two.frame - one.frame >= APART and one.name != two.name:
            first, second = (one, two) if (one.frame + two.frame) % 2 else (two, one)
            yield Known(
                "temporal",
                f"What happens first: {happens(first)}, or {happens(second)}?",
                f"First {happens(one)}, and after that {happens(two)}.",
                f"First {happens(two)}, and after that {happens(one)}.",
                f"At {one.time:.1f} seconds {happens(one)}, and only at {two.time:.1f} seconds {happens(two)}.",
            )


def _moments(clip: Clip, chance: random.Random) -> Iterator[Known]:
    asks = {"enters": "appear", "stops": "stop", "goes": "disappear", "changes": "change its colour"}
    for event in clip.events():
        if event.kind not in asks:
            continue
        far = [frame for frame in range(5, clip.length, 5) if abs(frame - event.frame) >= 20]
        yield Known(
            "temporal",
            f"When does the {event.name} {asks[event.kind]}?",
            f"About {event.time:.1f} seconds after the clip begins.",
            f"About {chance.choice(far) / RATE:.1f} seconds after the clip begins.",
            f"At {event.time:.1f} seconds {happens(event)}.",
        )


def _movers(clip: Clip, chance: random.Random) -> Iterator[Known]:
    for mover in clip.movers():
        name = f"the {mover.name}"
        others = sorted({deed(other) for other in clip.movers()} - {deed(mover)})
        wrong = chance.choice(others) if others else "stays where it is"
        moments = [f"at {event.time:.1f} seconds" for event in mover.events]
        shown = [f"{when} {happens(event)}" for when, event in zip(moments, mover.events, strict=True)]
        yield Known(
            "temporal",
            f"What does {name} do?",
            f"It {deed(mover)}.",
            f"It {wrong}.",
            _sentence(listed(shown) if shown else f"{name} is {mover.place(0)} in each frame that shows it"),
        )
        kinds = {event.kind: event for event in mover.events}
        if "enters" in kinds:
            side = kinds["enters"].detail
            yield Known(
                "spatial",
                f"From which side does {name} come in?",
                f"It comes in from the {side}.",
                f"It comes in from the {OPPOSITE[side]}.",
                f"At {kinds['enters'].time:.1f} seconds a part of {name} is to be seen at the {side} edge.",
            )
        if "goes" in kinds:
            side = kinds["goes"].detail
            yield Known(
                "spatial",
                f"At which edge does {name} go out of the picture?",
                f"It goes out at the {side}.",
                f"It goes out at the {OPPOSITE[side]}.",
                f"Just before {kinds['goes'].time:.1f} seconds the last of {name} is to be seen at the {side} edge.",
            )
        if "changes" in kinds:
            color = kinds["changes"].detail
            yield Known(
                "temporal",
                f"Which colour does {name} have in the end?",
                f"In the end it is {color}.",
                f"In the end it is {chance.choice(sorted(set(COLORS) - {color, mover.colors[0]}))}.",
                f"From {kinds['changes'].time:.1f} seconds on the {mover.shape} is {color}.",
            )
        if mover.manner == "bounces":
            count = len(mover.events)
            yield Known(
                "temporal",
                f"How often does {name} bounce off an edge?",
                f"It bounces {_often(count)}.",
                f"It bounces {_often(count + 1 if count < 2 else count - 1)}.",
                f"It touches an edge {listed(moments)}.",
            )


def _places(clip: Clip) -> Iterator[Known]:
    for number, shot in enumerate(clip.shots):
        which = f"the {ORDINALS[number]} scene" if len(clip.shots) > 1 else "the clip"
        words = ("above", "below") if shot.rows else ("to the left of", "to the right of")
        for one, two in itertools.combinations(shot.movers, 2):  # lanes are in order, and nothing leaves its own
            right, wrong = words
            yield Known(
                "spatial",
                f"Is the {one.name} {words[0]} or {words[1]} the {two.name}?",
                f"The {one.name} is {right} the {two.name}.",
                f"The {one.name} is {wrong} the {two.name}.",
                f"In {which} the {one.name} is at {_height(one, shot)} and the {two.name} at {_height(two, shot)}.",
            )
        sizes = sorted(shot.movers, key=lambda mover: -mover.side)
        if sizes[0].side - sizes[1].side >= 4:
            yield Known(
                "spatial",
                f"Which shape is the largest in {which}?",
                f"The {sizes[0].name} is the largest.",
                f"The {sizes[1].name} is the largest.",
                f"The {sizes[0].name} is wider and higher than the {sizes[1].name}.",
            )
        for mover in shot.movers:
            along = mover.centres[-1][0 if shot.rows else 1]
            if mover.manner in ("enters", "stops") and clear(along, WIDTH if shot.rows else HEIGHT):
                place = mover.place(-1)
                other = next(one.place(-1) for one in (*shot.movers, *shot.movers) if one is not mover)
                yield Known(
                    "spatial",
                    f"Where does the {mover.name} come to rest?",
                    f"It comes to rest {place}.",
                    f"It comes to rest {other if other != place else 'in the middle'}.",
                    f"In the last frames of {which} the {mover.name} is {place}.",
                )


def _height(mover: Mover, shot: Shot) -> str:
    place, long = (mover.centres[0][1], HEIGHT) if shot.rows else (mover.centres[0][0], WIDTH)
    return f"{round(100 * place / long)} % of the {'height' if shot.rows else 'width'}"


def _direction(mover: Mover) -> str:
    (x, y), (u, v) = mover.centres[0], mover.centres[-1]
    return (
        f"from {'left to right' if u > x else 'right to left'}"
        if u != x
        else (f"from {'top to bottom' if v > y else 'bottom to top'}")
    )


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _often(count: int) -> str:
    return (
        ("never", "once", "twice")[count] if count < 3 else f"{NUMBERS[count] if count < len(NUMBERS) else count} times"
    )
