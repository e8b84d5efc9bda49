"""What is true of a scene, of two, and of an album: sentences, and questions with their answers."""

from __future__ import annotations

import itertools
import random
from collections import Counter

from mminstruct.data_builders.worlds.changes import Album, Change, place
from mminstruct.data_builders.worlds.clip_facts import a
from mminstruct.data_builders.worlds.scenes import NUMBERS, Scene, Thing, listed

ORDINALS = ("first", "second", "third", "fourth")
Pairs = list[tuple[str, str]]


def things_of(scene: Scene) -> list[str]:
    """A sentence on each thing: what it is and where."""
    largest = max(scene.things, key=lambda thing: thing.side)
    return [
        f"{a(thing.name).capitalize()} is {place(thing)}{', and is the largest of all' if thing is largest else ''}."
        for thing in scene.things
    ]


def difference(change: Change) -> str:
    """A change between two pictures, in a sentence."""
    before, after = change.before, change.after
    if change.kind == "recoloured" and after is not None:
        return f"The {change.name} of the first picture is {after.color} in the second."
    if change.kind == "moved" and before is not None and after is not None:
        return f"The {change.name} is {place(before)} in the first picture and {place(after)} in the second."
    if before is not None:
        return f"The {change.name} {place(before)} of the first picture is not in the second."
    assert after is not None
    return f"The second picture has {a(change.name)} {place(after)} that the first has not."


def happening(change: Change) -> str:
    """A change as something that happens, in a sentence."""
    before, after = change.before, change.after
    if change.kind == "recoloured" and after is not None:
        return f"The {change.name} turns {after.color}."
    if change.kind == "moved" and before is not None and after is not None:
        return f"The {change.name} moves: it was {place(before)} and is now {place(after)}."
    if before is not None:
        return f"The {change.name}, which was {place(before)}, goes away."
    assert after is not None
    return f"{a(change.name).capitalize()} appears {place(after)}."


def of_scene(scene: Scene) -> Pairs:
    things = scene.things
    found = [
        ("How many shapes are there?", f"There are {_count(things)}: {listed([a(one.name) for one in things])}."),
        ("Which colour is the background?", f"It is {scene.ground}."),
        ("Which shape is the largest?", f"The {max(things, key=lambda one: one.side).name} is the largest."),
        ("Which shape is the smallest?", f"The {min(things, key=lambda one: one.side).name} is the smallest."),
        ("What is furthest to the left?", f"That is the {things[0].name}."),
        ("What is furthest to the right?", f"That is the {things[-1].name}."),
        ("Which shape is the highest?", f"The {min(things, key=lambda one: one.centre[1]).name} is the highest."),
    ]
    found += [(f"Where is the {one.name}?", f"It is {place(one)}.") for one in things]
    for one, other in itertools.combinations(things, 2):
        bigger, smaller = (one, other) if one.side > other.side else (other, one)
        found.append(
            (f"Which is larger, the {one.name} or the {other.name}?", f"The {bigger.name} is, not the {smaller.name}.")
        )
    shapes = Counter(thing.shape for thing in things)
    for shape, count in sorted(shapes.items()):
        if count > 1:
            same = [f"the {thing.color} one" for thing in things if thing.shape == shape]
            found.append((f"Is there more than one {shape}?", f"Yes, there are {NUMBERS[count]}: {listed(same)}."))
    return found


def of_pair(album: Album) -> Pairs:
    """Of two scenes of which the second is the changed first."""
    first, second = album.scenes
    changes = album.changes[0]
    by_kind = {
        kind: [one for one in changes if one.kind == kind] for kind in ("recoloured", "moved", "removed", "added")
    }
    alike = sorted({one.name for one in first.things} - {change.name for change in changes})
    asked = "What is" if len(changes) == 1 else "Which differences are there"
    tail = "different in the second picture?" if len(changes) == 1 else "between the two pictures?"
    found = [
        (f"{asked} {tail}", " ".join(difference(change) for change in changes)),
        (
            "How many shapes does each picture have?",
            f"The first has {_count(first.things)} and the second {_count(second.things)}.",
        ),
        ("Is the background the same in both pictures?", f"Yes, it is {first.ground} in both."),
        (
            "Has any shape another colour in the second picture?",
            _answer([f"the {one.name} is {one.after.color} there" for one in by_kind["recoloured"] if one.after]),
        ),
        (
            "Has any shape another place in the second picture?",
            _answer([f"the {one.name} is {place(one.after)} there" for one in by_kind["moved"] if one.after]),
        ),
        (
            "Is anything of the first picture missing in the second?",
            _answer([f"the {one.name} is not there any more" for one in by_kind["removed"]]),
        ),
        (
            "Is there anything in the second picture that the first has not?",
            _answer([f"there is {a(one.name)} {place(one.after)}" for one in by_kind["added"] if one.after]),
        ),
    ]
    if alike:
        is_are = "is" if len(alike) == 1 else "are"
        found.append(
            ("What has stayed as it was?", _sentence(f"{listed([f'the {one}' for one in alike])} {is_are} the same"))
        )
    return found


def of_two(one: Scene, other: Scene, chance: random.Random) -> Pairs:
    """Of two scenes that have nothing to do with each other: a pair on what differs, and one on what they share."""
    here, there = ({thing.name for thing in scene.things} for scene in (one, other))
    grounds = (
        f"The backgrounds differ: {one.ground} in the first, {other.ground} in the second."
        if one.ground != other.ground
        else f"Both backgrounds are {one.ground}."
    )
    differ: Pairs = [
        ("How do the two pictures differ?", f"The first shows {_names(one)}, the second {_names(other)}. {grounds}"),
        (
            "Which picture has more shapes?",
            f"Both have {_count(one.things)}."
            if len(one.things) == len(other.things)
            else f"The {'first' if len(one.things) > len(other.things) else 'second'} one: there are "
            f"{_count(one.things)} in the first and {_count(other.things)} in the second.",
        ),
    ]
    colors = sorted({thing.color for thing in one.things} & {thing.color for thing in other.things})
    shapes = sorted({thing.shape for thing in one.things} & {thing.shape for thing in other.things})
    same = sorted(here & there)
    share: Pairs = [
        (
            "Which colours do shapes of both pictures have?",
            _sentence(f"{listed(colors)} {'is' if len(colors) == 1 else 'are'} found in both")
            if colors
            else "None: no colour of a shape is found in both.",
        ),
        (
            "Which kinds of shapes are in both pictures?",
            f"Both have {listed([f'{shape}s' for shape in shapes])}."
            if shapes
            else "None: the pictures have no kind of shape in common.",
        ),
        (
            "Is there a shape that both pictures show in the same colour?",
            f"Yes: {listed([a(name) for name in same])}." if same else "No, every shape is in one of them only.",
        ),
    ]
    large, small = sorted((_largest(one), _largest(other)), key=lambda thing: -thing.side)
    if large.side > small.side:
        which = "first" if large in one.things else "second"
        differ.append(
            ("Which picture has the largest shape?", f"The {which}: its {large.name} is larger than all others.")
        )
    return [chance.choice(differ), chance.choice(share)]


def of_story(album: Album) -> Pairs:
    scenes = album.scenes
    names = [{thing.name for thing in scene.things} for scene in scenes]
    always = sorted(set.intersection(*names))
    found = [
        (
            f"What happens between the {ORDINALS[number]} and the {ORDINALS[number + 1]} picture?",
            " ".join(happening(change) for change in changes),
        )
        for number, changes in enumerate(album.changes)
    ]
    found += [
        ("How does the story begin?", f"It begins with {_names(scenes[0])} on a {scenes[0].ground} background."),
        ("How does the story end?", f"In the end there are {_names(scenes[-1])}."),
        (
            "Are there more shapes at the end than at the beginning?",
            f"At the beginning there are {_count(scenes[0].things)}, at the end {_count(scenes[-1].things)}, so "
            f"{_more(len(scenes[0].things), len(scenes[-1].things))}.",
        ),
        (
            "Which shapes are in every picture, in one and the same colour?",
            _sentence(listed([f"the {name}" for name in always])) if always else "None of them.",
        ),
    ]
    for number, changes in enumerate(album.changes, start=1):
        for change in changes:
            if change.kind == "added":
                found.append((f"When does the {change.name} appear?", f"In the {ORDINALS[number]} picture."))
            elif change.kind == "removed":
                found.append((f"In which picture is the {change.name} seen last?", f"In the {ORDINALS[number - 1]}."))
    return found


def _largest(scene: Scene) -> Thing:
    return max(scene.things, key=lambda thing: thing.side)


def _names(scene: Scene) -> str:
    return listed([a(thing.name) for thing in scene.things])


def _count(things: tuple[Thing, ...]) -> str:
    return NUMBERS[len(things)]


def _more(before: int, after: int) -> str:
    return "there are as many" if before == after else "there are more" if after > before else "there are fewer"


def _answer(found: list[str]) -> str:
    return f"Yes, {listed(found)}." if found else "No."


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."
