"""What of an answer can be pointed at in a picture: boxes that it names, and words that stand in both.

    "The sign at [0.1, 0.2, 0.5, 0.6] says STOP." ── boxes_of ──▶ boxes in pixels
                                                  ── words_in ──▶ those words of the picture that the answer has

What the numbers of a box mean no text says; it is the model's convention, which the visitor chooses (`Measure`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from mminstruct.evaluation.parsing.boxes import all_boxes, scaled
from mminstruct.evidence.ocr import Box, TextLine

Measure = Literal["unit", "thousand", "pixel"]
MEASURES: dict[str, Measure] = {"parts of 1": "unit", "thousandths": "thousand", "pixels": "pixel"}

BOX_COLOUR, WORD_COLOUR = "#e11d48", "#2563eb"
_WORD = re.compile(r"\w+(?:[.,:'-]\w+)*")


@dataclass(frozen=True)
class Mark:
    """A box in pixels (left, top, right, bottom) with what stands at it."""

    box: Box
    label: str
    colour: str


def boxes_of(answer: str, size: tuple[int, int], measure: Measure) -> list[Mark]:
    """The boxes in an answer, numbered, as far as they lie in a picture of `size` (width, height)."""
    width, height = size
    parts = {"unit": 1.0, "thousand": 1000.0}.get(measure)
    across, down = (width / parts, height / parts) if parts is not None else (1.0, 1.0)
    found = []
    for number, box in enumerate(all_boxes(answer), start=1):
        left, top, right, bottom = scaled(box, across, down)
        left, right = max(0.0, left), min(float(width), right)
        top, bottom = max(0.0, top), min(float(height), bottom)
        if left < right and top < bottom:
            found.append(Mark((left, top, right, bottom), str(number), BOX_COLOUR))
    return found


def words_in(answer: str, words: Sequence[TextLine]) -> list[Mark]:
    """The words of a picture that stand in the answer, whatever their case; single letters do not count."""
    spoken = {match[0].casefold() for match in _WORD.finditer(answer)}
    found = []
    for word in words:
        own = {match[0].casefold() for match in _WORD.finditer(word.text)}
        if any((len(part) > 1 or part.isdigit()) and part in spoken for part in own):
            found.append(Mark(word.box, word.text, WORD_COLOUR))
    return found


def drawn(picture: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    """A copy of the picture with the marks on it."""
    marked = picture.copy()
    draw = ImageDraw.Draw(marked)
    thick = max(2, round(max(picture.size) / 250))
    font = ImageFont.load_default(size=max(12, round(max(picture.size) / 40)))
    for mark in marks:
        left, top, right, bottom = mark.box
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=mark.colour, width=thick)
        text = draw.textbbox((left, top), mark.label, font=font, anchor="lb")
        if text[1] < 0:  # no room above: inside
            text = draw.textbbox((left + thick, top + thick), mark.label, font=font, anchor="lt")
        draw.rectangle((text[0] - 2, text[1] - 2, text[2] + 2, text[3] + 2), fill=mark.colour)
        draw.text((text[0], text[1]), mark.label, fill="white", font=font, anchor="lt")
    return marked
