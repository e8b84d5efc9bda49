"""What lines of text in a picture answer, of a picture of which nothing else is known.

["EXIT", "Platform 2"] ──known──▶ Known(caption, text, fills)
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from mminstruct.data_builders.worlds.fills import Fill, Known, judged
from mminstruct.data_builders.worlds.scenes import NUMBERS, listed

# Lines that signs, labels and posters have; false where they are not in the picture.
OTHERS = (
    "Open daily from nine",
    "Please ring the bell",
    "Fresh bread and rolls",
    "Mind the step",
    "Tickets at the counter",
    "Return before noon",
    "Keep the gate closed",
    "Second floor",
    "Made by hand",
    "Winter sale",
)


def known(text: Sequence[str], knowledge: str, caption: str, chance: random.Random) -> Known:
    """
    Args:
        text: lines, in the order that they are read in; may be none, and then there are no fills.
        caption: one that exists; empty: the lines are told.
    """
    lines = list(dict.fromkeys(text))
    told = caption or _told(lines)
    if not lines:
        return Known(caption=told, knowledge=knowledge)
    seen = {line.casefold() for line in lines}
    others = [other for other in OTHERS if other.casefold() not in seen]
    chance.shuffle(others)
    fills = {
        "line-there": [
            *(judged({"line": repr(line)}, True) for line in lines),
            *(judged({"line": repr(line)}, False) for line in others),
        ],
        "which-line": [Fill({}, line, others) for line in lines],
        "line-count": [
            Fill({}, str(len(lines)), [str(other) for other in range(1, len(lines) + 4) if other != len(lines)])
        ],
        "first-line": [Fill({}, lines[0], [*lines[1:], *others])],
        "last-line": [Fill({}, lines[-1], [*lines[:-1], *others])],
        "after-line": [
            Fill({"line": repr(one)}, other, [*(rest for rest in lines if rest not in (one, other)), *others])
            for one, other in itertools.pairwise(lines)
        ],
        "all-lines": [Fill({}, _told(lines))],
        "around-lines": [
            Fill({}, f"The first line of text is {lines[0]!r}, and the last one that can be read is {lines[-1]!r}.")
        ],
        "text-use": [Fill({}, f"Whoever reads all of the text finds {listed([repr(line) for line in lines])} in it.")],
    }
    return Known(caption=told, text=tuple(lines), knowledge=knowledge, fills=fills)


def _told(lines: list[str]) -> str:
    if not lines:
        return ""
    count = NUMBERS[len(lines)] if len(lines) < len(NUMBERS) else str(len(lines))
    read = f"{count} lines of text" if len(lines) > 1 else "one line of text"
    return (
        f"There is text to read in this picture: {read} in all. From the top to the bottom, what can be read is "
        f"{listed([repr(line) for line in lines])}."
    )
