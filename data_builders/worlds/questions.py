"""Questions that a scene's picture answers, each with its true answer in a full sentence.

scene ──▶ [(question, answer), ...]: how many, which colour, what stands at an edge, how large, what is behind it all
"""

from __future__ import annotations

from collections import Counter

from mminstruct.data_builders.worlds.scenes import NUMBERS, Scene, listed

EDGES = {
    "farthest to the left": (0, 1),
    "farthest to the right": (0, -1),
    "highest up": (1, 1),
    "lowest down": (1, -1),
}


def questions(scene: Scene, subject: str = "the picture") -> list[tuple[str, str]]:
    """(question, answer) of all that can be asked; `subject` is what the picture is called."""
    things = scene.things
    shapes = Counter(thing.shape for thing in things)
    colors = Counter(thing.color for thing in things)
    total = NUMBERS[len(things)]
    found = [
        (f"How many shapes are there in {subject}?", f"There are {total} shapes: {_each(shapes)}."),
        (f"What is the background of {subject} like?", f"The background is plain {scene.ground}."),
    ]
    for name, (axis, sign) in EDGES.items():
        first, second = sorted(things, key=lambda thing: sign * thing.centre[axis])[:2]
        found.append(
            (f"Which shape in {subject} is {name}?", f"That is the {first.name}; after it comes the {second.name}.")
        )
    largest, *_, smallest = sorted(things, key=lambda thing: -thing.side)
    found += [
        (f"Which shape in {subject} is the largest?", f"The largest shape is the {largest.name}."),
        (f"Which shape in {subject} is the smallest?", f"The smallest shape is the {smallest.name}."),
    ]
    for thing in things:
        if shapes[thing.shape] == 1:
            found.append((f"What colour is the {thing.shape} in {subject}?", f"The {thing.shape} is {thing.color}."))
        if colors[thing.color] == 1:
            found.append(
                (f"What shape is the {thing.color} thing in {subject}?", f"The {thing.color} thing is a {thing.shape}.")
            )
    return found


def _each(shapes: Counter[str]) -> str:
    return listed([f"{NUMBERS[count]} {shape}{'s' * (count > 1)}" for shape, count in sorted(shapes.items())])
