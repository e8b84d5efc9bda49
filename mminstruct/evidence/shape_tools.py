"""Tools for drawn scenes: they look at pixels and find plain shapes of named colours, without knowing what was drawn.

picture ──colours that are not the ground──▶ mask ──connected parts──▶ box ──overlap with ideal shapes──▶ class, score
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from mminstruct.config import Config
from mminstruct.evidence.ocr import OcrEngine, TextLine
from mminstruct.evidence.tool import Tool

COLORS = {
    "red": (204, 41, 41),
    "orange": (232, 134, 30),
    "yellow": (232, 200, 30),
    "green": (46, 140, 58),
    "blue": (38, 84, 190),
    "purple": (122, 52, 160),
    "brown": (120, 76, 40),
    "black": (24, 24, 24),
}
SHAPES = ("circle", "square", "triangle", "diamond")
LEAST_SCORE = 0.5  # of a part that is taken for a shape
LEAST_SIDE = 12  # pixels; smaller parts are specks
_NEAR = 24  # how far each of the three parts of a pixel's colour may be from a named colour


@dataclass(frozen=True)
class Found:
    """A shape that was seen; `box` is (left, top, right, bottom) in pixels, right and bottom included."""

    shape: str
    color: str
    box: tuple[int, int, int, int]
    score: float
    pixels: int

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


class Names(Config):
    caption: str = Field(min_length=1, examples=["red circle . square"])


class _ShapeTool(Tool[Names]):
    version = "1"
    arguments = Names

    def seen(self, picture: Image.Image, caption: str) -> list[Found]:
        """The shapes that a caption (`red circle . squares . object`) names, from left to right."""
        wanted = [part.split() for part in caption.lower().replace(",", " . ").split(".")]
        return [one for one in find_shapes(picture) if any(_names(words, one) for words in wanted if words)]


class ShapeDetector(_ShapeTool):
    """Where the named shapes are, in the form of an open-vocabulary detector's output."""

    name = "shape_detector"
    does = "finds objects; its argument caption names them, separated by ' . ' (for instance 'girl . cart')"

    def run(self, picture: Image.Image, arguments: Names) -> dict[str, Any]:
        found = self.seen(picture, arguments.caption)
        boxes = [list(_shares(one.box, picture.size)) for one in found]
        return {"boxes": boxes, "logits": [one.score for one in found], "phrases": [one.name for one in found]}


class ShapeSegmenter(_ShapeTool):
    """How much of the picture the named shapes cover."""

    name = "shape_segmenter"
    does = (
        "finds objects and measures which share of the picture each covers; its argument caption names them, "
        "separated by ' . '"
    )

    def run(self, picture: Image.Image, arguments: Names) -> dict[str, Any]:
        found = self.seen(picture, arguments.caption)
        boxes = [list(_shares(one.box, picture.size)) for one in found]
        areas = [one.pixels / (picture.width * picture.height) for one in found]
        return {"boxes": boxes, "areas": areas, "phrases": [one.name for one in found]}


class KnownText(OcrEngine):
    """The text of a drawn picture, which is known without looking: lines with boxes in shares of the picture."""

    name = "known-text"
    version = "1"

    def __init__(self, lines: list[tuple[str, tuple[float, float, float, float]]]) -> None:
        self.lines = lines

    def read(self, picture: Image.Image) -> list[TextLine]:
        width, height = picture.size
        found = []
        for text, (left, top, right, bottom) in self.lines:
            x, y, u, v = left * width, top * height, right * width, bottom * height
            found.append(TextLine(text, ((x, y), (u, y), (u, v), (x, v))))
        return found


def find_shapes(picture: Image.Image) -> list[Found]:
    """All shapes of a named colour, from left to right by their middles."""
    channels = [np.asarray(channel) for channel in picture.convert("RGB").split()]
    found = []
    for color, value in COLORS.items():
        mask = np.ones(channels[0].shape, bool)
        for channel, wanted in zip(channels, value, strict=True):
            mask &= (channel >= max(0, wanted - _NEAR)) & (channel <= min(255, wanted + _NEAR))
        for part in connected_parts(mask):
            box = part.box
            if min(box[2] - box[0], box[3] - box[1]) + 1 < LEAST_SIDE:
                continue  # before there is a mask of it: noise has a hundred thousand such parts
            shape, score = _classify(part.mask(box))
            if score >= LEAST_SCORE:
                found.append(Found(shape, color, box, score, part.pixels))
    return sorted(found, key=lambda one: (one.box[0] + one.box[2], one.box[1]))


@dataclass(frozen=True)
class Part:
    """Neighbouring pixels as stretches of rows: (row, first column, column behind the last), from the top down."""

    stretches: list[tuple[int, int, int]]

    @property
    def box(self) -> tuple[int, int, int, int]:
        left, right = min(start for _, start, _ in self.stretches), max(end for _, _, end in self.stretches)
        return left, self.stretches[0][0], right - 1, self.stretches[-1][0]

    @property
    def pixels(self) -> int:
        return sum(end - start for _, start, end in self.stretches)

    def mask(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """The part of the picture in `box`, which holds it: True where its pixels are."""
        left, top, right, bottom = box
        mask = np.zeros((bottom - top + 1, right - left + 1), bool)
        for row, start, end in self.stretches:
            mask[row - top, start - left : end - left] = True
        return mask


def connected_parts(mask: np.ndarray) -> list[Part]:
    """The parts of a mask [height, width] whose pixels are neighbours, upright or crosswise, from the top down.

    A row's stretches are joined with those of the row before that they touch (union of sets), and both rows are walked
    from the left side by side, so the work grows with the number of stretches, not of pixels.
    """
    parent: list[int] = []
    stretches: list[tuple[int, int, int]] = []

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), bool)
    padded[:, 1:-1] = mask
    changes = np.flatnonzero(padded[:, 1:] != padded[:, :-1])  # where stretches begin and end
    rows, edges = (found.tolist() for found in np.divmod(changes, mask.shape[1] + 1))
    before: list[int] = []
    for row, same in groupby(zip(rows[::2], edges[::2], edges[1::2], strict=True), key=itemgetter(0)):
        if before and stretches[before[0]][0] != row - 1:
            before = []
        here, first = [], 0
        for _, start, end in same:
            index = len(parent)
            parent.append(index)
            stretches.append((row, start, end))
            here.append(index)
            while first < len(before) and stretches[before[first]][2] < start:
                first += 1
            at = first
            while at < len(before) and stretches[before[at]][1] <= end:
                low, high = sorted((root(before[at]), root(index)))
                parent[high] = low
                at += 1
        before = here
    parts: dict[int, Part] = {}
    for index, stretch in enumerate(stretches):
        parts.setdefault(root(index), Part([])).stretches.append(stretch)
    return list(parts.values())


def _classify(part: np.ndarray) -> tuple[str, float]:
    """The shape whose ideal form in the same box has most in common with a part, and how much: 1 is all."""
    height, width = part.shape
    y, x = np.mgrid[0:height, 0:width]
    u, v = (x + 0.5) / width * 2 - 1, (y + 0.5) / height * 2 - 1  # -1 to 1 from edge to edge
    ideal = {
        "circle": u**2 + v**2 <= 1,
        "square": np.ones_like(part),
        "triangle": np.abs(u) <= (v + 1) / 2,
        "diamond": np.abs(u) + np.abs(v) <= 1,
    }
    scores = {shape: float((ideal[shape] & part).sum() / (ideal[shape] | part).sum()) for shape in SHAPES}
    best = max(scores, key=lambda shape: scores[shape])
    return best, scores[best]


def _names(words: list[str], one: Found) -> bool:
    """Whether a phrase names a shape: `circle`, `red circle`, `red circles`, `red object`; each word must fit."""
    *colors, noun = words
    if noun in COLORS and not colors:
        return noun == one.color
    return noun.removesuffix("s") in (one.shape, "object", "shape") and all(word == one.color for word in colors)


def _shares(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """From the outer edge of the first pixel to that of the last."""
    left, top, right, bottom = box
    return left / size[0], top / size[1], (right + 1) / size[0], (bottom + 1) / size[1]
