"""What can be written about things with boxes: twelve kinds of text, true in every statement.

    [("red circle", box), ...] ──FORMS["tour"]──▶ "We begin at the left with the red circle, ..."

Boxes are (left, top, right, bottom) in shares of the picture; the names are all different. Every form takes two things
at least, in any order, and says of them only what boxes show: which there are, in which third of the picture their
middles are, and their order from left to right and from top to bottom.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mminstruct.data_builders.worlds.scenes import NUMBERS, a, listed

Box = tuple[float, float, float, float]
Things = Sequence[tuple[str, Box]]


def place(box: Box) -> str:
    """In which third of the picture a box's middle is."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    row = "top" if 3 * y < 1 else "bottom" if 3 * y > 2 else ""
    column = "left" if 3 * x < 1 else "right" if 3 * x > 2 else ""
    return f"at the {' '.join(filter(None, (row, column)))}" if row or column else "in the middle"


def across(things: Things) -> list[tuple[str, Box]]:
    """From left to right by their middles."""
    return sorted(things, key=lambda thing: (thing[1][0] + thing[1][2], thing[0]))


def down(things: Things) -> list[tuple[str, Box]]:
    """From top to bottom by their middles."""
    return sorted(things, key=lambda thing: (thing[1][1] + thing[1][3], thing[0]))


def many(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def inventory(things: Things, rng: random.Random) -> str:
    return "\n".join(f"- {a(name)}, {place(box)}" for name, box in across(things))


def drawing(things: Things, rng: random.Random) -> str:
    ordered = across(things)
    first = rng.choice(
        ["Take an empty sheet and a pen.", "Begin with an empty sheet.", "Lay an empty sheet before you."]
    )
    verb = rng.choice(["Draw", "Add", "Put"])
    steps = [first, *(f"{verb} {a(name)} {place(box)}." for name, box in ordered)]
    check = f"Check that the {ordered[0][0]} is furthest to the left, and the {ordered[-1][0]} furthest to the right."
    return "\n".join(f"{number}. {step}" for number, step in enumerate([*steps, check], start=1))


def riddle(things: Things, rng: random.Random) -> str:
    row, column = across(things), down(things)
    name, box = rng.choice(row)
    at, height = row.index((name, box)) + 1, column.index((name, box)) + 1
    opening = rng.choice(["Look closely:", "Who am I?", "Find me if you can."])
    return (
        f"{opening} I am {place(box)}. Counted from the left I am number {at} of {len(row)}, and from the top I am "
        f"number {height}. What am I?\nSolution: the {name}."
    )


def introduction(things: Things, rng: random.Random) -> str:
    row = across(things)
    name, box = rng.choice(row)
    at = row.index((name, box))
    beside = [f"On my left I have the {row[at - 1][0]}."] if at > 0 else ["Nobody is further to the left than I am."]
    if at + 1 < len(row):
        beside.append(f"On my right there is the {row[at + 1][0]}.")
    else:
        beside.append("Nobody is further to the right.")
    hello = rng.choice(["Good day!", "Hello!", "Pleased to meet you."])
    home = rng.choice(["My place is", "I live", "You find me"])
    return f"{hello} I am the {name}. {home} {place(box)}. {' '.join(beside)}"


def table(things: Things, rng: random.Random) -> str:
    return "\n".join(
        ["| object | place |", "|---|---|", *(f"| {name} | {place(box)} |" for name, box in across(things))]
    )


def quiz(things: Things, rng: random.Random) -> str:
    row, column = across(things), down(things)
    asked = [
        ("How many objects are there?", many(len(things)).capitalize()),
        ("Which object is furthest to the left?", f"The {row[0][0]}"),
        ("Which object is furthest to the right?", f"The {row[-1][0]}"),
        ("Which object is the highest?", f"The {column[0][0]}"),
        ("Which object is the lowest?", f"The {column[-1][0]}"),
        *((f"Where is the {name}?", place(box).capitalize()) for name, box in row),
    ]
    drawn = rng.sample(asked, 3)
    return "\n".join(f"{number}. {question} {answer}." for number, (question, answer) in enumerate(drawn, start=1))


def dialogue(things: Things, rng: random.Random) -> str:
    row, column = across(things), down(things)
    one, other = rng.sample(["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"], 2)
    name, box = rng.choice(row)
    lines = [
        f"{one}: How many objects do you count?",
        f"{other}: {many(len(row)).capitalize()}. The one furthest to the left is the {row[0][0]}.",
        f"{one}: And where do you see the {name}?",
        f"{other}: It is {place(box)}.",
        f"{one}: Then what is the highest of all?",
        f"{other}: That is the {column[0][0]}, and the lowest is the {column[-1][0]}.",
    ]
    return "\n".join(lines)


def poem(things: Things, rng: random.Random) -> str:
    verbs = ["rests", "waits", "stays", "dreams", "keeps still", "is quiet"]
    rng.shuffle(verbs)
    lines = [
        f"{place(box).capitalize()} {a(name)} {verbs[number % len(verbs)]},"
        for number, (name, box) in enumerate(down(things))
    ]
    end = rng.choice(
        ["and nothing more is there to see.", "and that is all the picture holds.", "and all the rest is still."]
    )
    return "\n".join([*lines, end])


def tour(things: Things, rng: random.Random) -> str:
    first, *between, last = across(things)
    ways = [
        "Going on to the right, we come to",
        "Next comes",
        "A little further along, there is",
        "After that, you find",
    ]
    rng.shuffle(ways)
    steps = "".join(f" {ways[at % len(ways)]} the {name}, {place(box)}." for at, (name, box) in enumerate(between))
    welcome = rng.choice(["Welcome, dear visitors.", "Please come closer.", "Follow me with your eyes."])
    return (
        f"{welcome} We begin at the left with the {first[0]}, which you see {place(first[1])}.{steps} Our tour ends "
        f"with the {last[0]}, {place(last[1])}, further to the right than everything else."
    )


def directions(things: Things, rng: random.Random) -> str:
    row = across(things)
    at = rng.randrange(1, len(row))
    name, box = row[at]
    passed = [f"the {other}" for other, _ in row[1:at]]
    along = f", passing {listed(passed)}" if passed else ""
    verb = rng.choice(["Start", "Begin"])
    return (
        f"{verb} at the left edge, where the first object is the {row[0][0]}. Go on to the right{along}: the next one "
        f"is the {name}, {place(box)}."
    )


def postcard(things: Things, rng: random.Random) -> str:
    row = across(things)
    told = listed([f"{a(name)} {place(box)}" for name, box in row])
    hello = rng.choice(["Dear friend,", "Hello, my dear,", "Dear all,"])
    liking = rng.choice(["I like", "What I like best is", "My favorite is"])
    return (
        f"{hello}\nI am looking at a picture that you should see. It has {many(len(row))} objects: {told}. {liking} "
        f"the {rng.choice(row)[0]}.\nYours, {rng.choice(['Kim', 'Alex', 'Robin', 'Sam'])}"
    )


def title(things: Things, rng: random.Random) -> str:
    row = across(things)
    one, other = rng.sample(row, 2)
    name = rng.choice(
        [
            f"The {one[0].title()} and the {other[0].title()}",
            f"{many(len(row)).capitalize()} Objects",
            f"Where the {one[0].title()} Is",
        ]
    )
    return f"{name}\nA picture of {listed([a(thing) for thing, _ in row])}, from left to right."


FORMS: dict[str, Callable[[Things, random.Random], str]] = {
    form.__name__: form
    for form in (
        *(inventory, drawing, riddle, introduction, table, quiz),
        *(dialogue, poem, tour, directions, postcard, title),
    )
}
