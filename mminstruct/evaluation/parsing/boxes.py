r"""Boxes out of a model's text, in the ways that models write them, and their overlap.

    "It is at [12, 40, 300, 512]." ── first_box ──▶ (12, 40, 300, 512)     four numbers, as written: no scale yet
    box, how it is written, width and height ── pixels ──▶ (x1, y1, x2, y2) in pixels

Conventions of where numbers stand: `[x1, y1, x2, y2]` (Shikra, LLaVA, Qwen2.5-VL), `(x1,y1),(x2,y2)` (Qwen-VL, with or
without `<box>`), `{<12><40><30><51>}` (MiniGPT-v2), `[[12,40,300,512]]` (InternVL, CogVLM).
"""

from __future__ import annotations

import re

Box = tuple[float, float, float, float]

_NUMBER = r"\s*(-?\d*\.?\d+)\s*"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"\({_NUMBER},{_NUMBER}\)\s*,?\s*\({_NUMBER},{_NUMBER}\)",
        rf"[\[({{]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])}}]",
        rf"<{_NUMBER}>\s*<{_NUMBER}>\s*<{_NUMBER}>\s*<{_NUMBER}>",
    )
)
_BARE = re.compile(rf"\A{_NUMBER}[,\s]{_NUMBER}[,\s]{_NUMBER}[,\s]{_NUMBER}\.?\s*\Z")


def first_box(text: str) -> Box | None:
    """The first box of a text; four numbers without brackets are one only where there is nothing else. Else None."""
    found = [match for form in _FORMS if (match := form.search(text)) is not None]
    bare = _BARE.match(text)
    if bare is not None:
        found.append(bare)
    if not found:
        return None
    first = min(found, key=lambda match: match.start())
    x1, y1, x2, y2 = (float(number) for number in first.groups())
    return x1, y1, x2, y2


def all_boxes(text: str) -> list[Box]:
    """The boxes of a text, in its order; four numbers without brackets are none."""
    found = sorted((match for form in _FORMS for match in form.finditer(text)), key=lambda match: match.start())
    boxes: list[Box] = []
    end = 0
    for match in found:
        if match.start() >= end:  # a form may lie inside of another: `[[1,2,3,4]]`
            x1, y1, x2, y2 = (float(number) for number in match.groups())
            boxes.append((x1, y1, x2, y2))
            end = match.end()
    return boxes


def scaled(box: Box, horizontal: float, vertical: float) -> Box:
    """A box with its coordinates multiplied."""
    return box[0] * horizontal, box[1] * vertical, box[2] * horizontal, box[3] * vertical


def overlap(first: Box, second: Box) -> float:
    """Area of the intersection by area of the union of two boxes (x1, y1, x2, y2); 0 where a box has no area.

    A box whose corners are in the wrong order has no area, as with torchvision's `box_iou`, which public scorers use.
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0 or _area(first) <= 0 or _area(second) <= 0:
        return 0.0
    common = width * height
    return common / (_area(first) + _area(second) - common)


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
