"""The contract of text recognition: a picture in, lines of text with their places out.

    picture ──OcrEngine.read──▶ TextLine(text, quad, confidence), ...

A `quad` is four corners in pixels, clockwise from the text's own top left, so that rotated text has a place too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from PIL import Image

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TextLine:
    """One line of text.

    Attributes:
        quad: its corners in pixels, clockwise from the text's top left.
        confidence: of the engine, 0 to 1.
    """

    text: str
    quad: tuple[Point, Point, Point, Point]
    confidence: float = 1.0

    @property
    def box(self) -> Box:
        """The upright box around it: (left, top, right, bottom) in pixels."""
        xs, ys = zip(*self.quad, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


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
