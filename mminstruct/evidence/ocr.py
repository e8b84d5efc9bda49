"""The contract of text recognition: a picture in, lines of text with their places out.

    picture ──OcrEngine.read──▶ TextLine(text, quad, confidence), ...

A `quad` is four corners in pixels, clockwise from the text's own top left, so that rotated text has a place too. The
engines are `load_engine("tesseract")` and `load_engine("rapidocr")` of `mminstruct.evidence.engines`.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from PIL import Image

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TextLine:
    """One line of text.

    Attributes:
        quad: its corners in pixels, clockwise from the text's top left.
        confidence: of the engine, 0 to 1.
    """

    text: str
    quad: Quad
    confidence: float = 1.0

    @functools.cached_property
    def box(self) -> Box:
        """The upright box around it: (left, top, right, bottom) in pixels."""
        xs, ys = zip(*self.quad, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @functools.cached_property
    def height(self) -> float:
        """Of the text itself, across its own direction, in pixels."""
        first, second, third, fourth = self.quad
        return (math.dist(first, fourth) + math.dist(second, third)) / 2

    @property
    def length(self) -> float:
        """Along the text's own direction, in pixels."""
        first, second, third, fourth = self.quad
        return (math.dist(first, second) + math.dist(fourth, third)) / 2

    @property
    def angle(self) -> float:
        """Of the text's direction in degrees, clockwise as seen: 0 is upright, 90 reads downwards; -180 to 180."""
        first, second, third, fourth = self.quad
        x, y = second[0] - first[0] + third[0] - fourth[0], second[1] - first[1] + third[1] - fourth[1]
        return math.degrees(math.atan2(y, x))

    def scaled(self, factor: float) -> TextLine:
        """The same line in a picture that is `factor` times as large."""
        a, b, c, d = ((x * factor, y * factor) for x, y in self.quad)
        return TextLine(self.text, (a, b, c, d), self.confidence)


def box_quad(box: Box) -> Quad:
    """The corners of an upright box."""
    left, top, right, bottom = box
    return (left, top), (right, top), (right, bottom), (left, bottom)


class OcrEngine(ABC):
    """Reads text. Called from several threads at once.

    Attributes:
        name: of the engine.
        version: of the engine and its models, for the record of where a text comes from.
    """

    name: str
    version: str

    @abstractmethod
    def read(self, picture: Image.Image) -> list[TextLine]:
        """The lines of an RGB picture in the engine's own order; none where it sees no text.

        Raises:
            MediaError: the engine failed at this picture.
        """


def read_at(engine: OcrEngine, picture: Image.Image, short_edge: int | None) -> list[TextLine]:
    """The lines that an engine reads when the picture's shorter edge has at most `short_edge` pixels (None: as it is).

    What a vision encoder of that resolution cannot read, the engine does not read either. Places are those in the
    picture as it was given.
    """
    scale = shrinking(picture.size, short_edge)
    if scale == 1:
        return engine.read(picture)
    width, height = picture.size
    small = _resized(picture, (max(1, round(width * scale)), max(1, round(height * scale))))
    return [line.scaled(1 / scale) for line in engine.read(small)]


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bicubic. Where all channels are equal, as in most scans, one is resized for all: the same in half of the time."""
    first, *others = picture.split()
    content = first.tobytes()
    if all(content == other.tobytes() for other in others):
        return Image.merge(picture.mode, [first.resize(size, Image.Resampling.BICUBIC)] * (1 + len(others)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def shrinking(size: tuple[int, int], short_edge: int | None) -> float:
    """By what a picture is made smaller so that its shorter edge has at most `short_edge` pixels; 1 where it has."""
    return 1.0 if short_edge is None else min(1.0, short_edge / min(size))
