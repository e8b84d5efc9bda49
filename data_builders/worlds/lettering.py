"""Text drawn with DejaVu, and the place of every line: what worlds with text are made of.

Face(family, bold, italic, size) ──▶ Block(rows of text, place, angle) ──▶ ink in a picture, and lines with quads

A line's quad is as wide as its ink. It goes from the tops of tall letters to the bottoms of hanging ones, whether the
line has such letters or not, and further where accents do, so that all lines of one face are about as high. A pixel of
air lies around it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from mminstruct.data_builders.worlds.fonts import font
from mminstruct.evidence.ocr import Point, TextLine

Family = Literal["sans", "serif", "mono"]
Color = tuple[int, int, int]
Align = Literal["left", "centre", "right"]

AIR = 1  # pixels around a line's ink; a rotated edge is blurred by less
_NAMES = {"sans": ("DejaVuSans", "Oblique"), "serif": ("DejaVuSerif", "Italic"), "mono": ("DejaVuSansMono", "Oblique")}


@dataclass(frozen=True)
class Face:
    family: Family
    size: int
    bold: bool = False
    italic: bool = False

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        stem, slanted = _NAMES[self.family]
        style = f"{'Bold' if self.bold else ''}{slanted if self.italic else ''}"
        return font(self.size, f"{stem}-{style}" if style else stem)

    def box(self, text: str) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a line from the start of its baseline, air included."""
        return _box(self, text)

    def width(self, text: str) -> int:
        left, _, right, _ = self.box(text)
        return right - left

    @property
    def height(self) -> int:
        _, top, _, bottom = self.box("dp")
        return bottom - top

    def wrapped(self, text: str, room: int) -> list[str]:
        """The text in rows that are at most about so wide, where no single word is wider."""
        rows: list[str] = []
        for word in text.split():
            if rows and self.font.getlength(f"{rows[-1]} {word}") <= room:
                rows[-1] = f"{rows[-1]} {word}"
            else:
                rows.append(word)
        return rows


@dataclass(frozen=True)
class Block:
    """Rows of text in one face, one below the other, turned as a whole.

    Attributes:
        left, top: of the box around the turned block, in the picture.
        pitch: from baseline to baseline, in sizes of the face.
        angle: in degrees, clockwise as seen.
    """

    rows: tuple[str, ...]
    face: Face
    color: Color
    left: int = 0
    top: int = 0
    align: Align = "left"
    pitch: float = 1.3
    angle: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the box around the turned block."""
        return _turned_size(self._flat(), self.angle)

    def draw(self, picture: Image.Image) -> None:
        mask = Image.new("L", self._flat(), 0)
        pen = ImageDraw.Draw(mask)
        for row, (left, top) in zip(self.rows, self._corners(), strict=True):
            box = self.face.box(row)
            pen.text((left - box[0], top - box[1]), row, fill=255, font=self.face.font, anchor="ls")
        if self.angle:
            mask = mask.rotate(-self.angle, Image.Resampling.BICUBIC, expand=True)
        picture.paste(self.color, (self.left, self.top), mask)

    def lines(self) -> list[TextLine]:
        found = []
        for row, (left, top) in zip(self.rows, self._corners(), strict=True):
            box = self.face.box(row)
            right, bottom = left + box[2] - box[0], top + box[3] - box[1]
            a, b, c, d = (
                self._turned(corner) for corner in [(left, top), (right, top), (right, bottom), (left, bottom)]
            )
            found.append(TextLine(row, (a, b, c, d)))
        return found

    def _flat(self) -> tuple[int, int]:
        """Width and height before the block is turned."""
        last = self.face.box(self.rows[-1])
        bottom = self._corners()[-1][1] + last[3] - last[1]
        return max(self.face.width(row) for row in self.rows), bottom

    def _corners(self) -> list[tuple[int, int]]:
        """The top left corner of each row's box, before the block is turned."""
        widths = [self.face.width(row) for row in self.rows]
        share = {"left": 0.0, "centre": 0.5, "right": 1.0}[self.align]
        first = -self.face.box(self.rows[0])[1]
        step = round(self.pitch * self.face.size)
        return [
            (round(share * (max(widths) - width)), first + number * step + self.face.box(row)[1])
            for number, (row, width) in enumerate(zip(self.rows, widths, strict=True))
        ]

    def _turned(self, point: Point) -> Point:
        """Where a point of the flat block is in the picture."""
        flat, turned = self._flat(), self.size
        x, y = point[0] - flat[0] / 2, point[1] - flat[1] / 2
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return (
            self.left + turned[0] / 2 + x * cosine - y * sine,
            self.top + turned[1] / 2 + x * sine + y * cosine,
        )


@functools.lru_cache(maxsize=1000)
def _turned_size(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """As Pillow makes it: of the picture that holds the turned one."""
    return Image.new("1", size).rotate(-angle, expand=True).size if angle else size


@functools.lru_cache(maxsize=20_000)
def _box(face: Face, text: str) -> tuple[int, int, int, int]:
    left, top, right, bottom = _ink(face.font, text)
    _, tall, _, hanging = _ink(face.font, "dp")
    return left - AIR, min(top, tall) - AIR, right + AIR, max(bottom, hanging) + AIR


def _ink(font: ImageFont.FreeTypeFont, text: str) -> tuple[int, int, int, int]:
    """Of pixels, not of the pen's way, in which a letter may stand far to the right."""
    mask, (x, y) = font.getmask2(text, "L", anchor="ls")
    left, top, right, bottom = mask.getbbox() or (0, 0, 1, 1)
    return left + x, top + y, right + x, bottom + y
