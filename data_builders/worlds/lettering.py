"""Text drawn with DejaVu, and the place of every line: what worlds with text are made of.

Face(family, bold, italic, size) ──▶ Block(rows of text, place, angle) ──printed──▶ picture
                                                                       └─lines────▶ text and quad of each row

A line's quad is as wide as its ink. It goes from the tops of tall letters to the bottoms of hanging ones, whether the
line has such letters or not, and further where accents do, so that all lines of one face are about as high. A pixel of
air lies around it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageChops, ImageFont

from mminstruct.data_builders.worlds.fonts import font
from mminstruct.evidence.ocr import Point, TextLine

Family = Literal["sans", "serif", "mono"]
Color = tuple[int, int, int]
Align = Literal["left", "centre", "right"]
Box = tuple[int, int, int, int]

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

    def advance(self, word: str) -> float:
        """How far a word moves the pen."""
        return _advance(self, word)

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
        reached = 0.0
        for word in text.split():
            longer = reached + self.advance(" ") + self.advance(word)
            if rows and longer <= room:
                rows[-1] = f"{rows[-1]} {word}"
                reached = longer
            else:
                rows.append(word)
                reached = self.advance(word)
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

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the box around the turned block."""
        return _turned_size(self._flat, self.angle)

    @property
    def height(self) -> int:
        """That of `size`; of an upright block without measuring all rows."""
        return self.size[1] if self.angle else self._bottom

    def mask(self) -> Image.Image:
        """How much ink is where in the turned block, mode L."""
        mask = Image.new("L", self._flat, 0)
        for row, (left, top) in zip(self.rows, self._corners, strict=True):
            letters, box = _letters(self.face, row)
            around = self.face.box(row)
            mask.paste(letters, (left + box[0] - around[0], top + box[1] - around[1]))
        return mask.rotate(-self.angle, Image.Resampling.BICUBIC, expand=True) if self.angle else mask

    def lines(self) -> list[TextLine]:
        found = []
        for row, (left, top) in zip(self.rows, self._corners, strict=True):
            box = self.face.box(row)
            right, bottom = left + box[2] - box[0], top + box[3] - box[1]
            a, b, c, d = (
                self._turned(corner) for corner in [(left, top), (right, top), (right, bottom), (left, bottom)]
            )
            found.append(TextLine(row, (a, b, c, d)))
        return found

    @functools.cached_property
    def _flat(self) -> tuple[int, int]:
        """Width and height before the block is turned."""
        return max(self.face.width(row) for row in self.rows), self._bottom

    @property
    def _bottom(self) -> int:
        """That of the last row, from the top of the first, before the block is turned."""
        first, last = self.face.box(self.rows[0]), self.face.box(self.rows[-1])
        return (len(self.rows) - 1) * self._step + last[3] - first[1]

    @property
    def _step(self) -> int:
        """From baseline to baseline."""
        return round(self.pitch * self.face.size)

    @functools.cached_property
    def _corners(self) -> list[tuple[int, int]]:
        """The top left corner of each row's box, before the block is turned."""
        widths = [self.face.width(row) for row in self.rows]
        share = {"left": 0.0, "centre": 0.5, "right": 1.0}[self.align]
        first = -self.face.box(self.rows[0])[1]
        return [
            (round(share * (max(widths) - width)), first + number * self._step + self.face.box(row)[1])
            for number, (row, width) in enumerate(zip(self.rows, widths, strict=True))
        ]

    def _turned(self, point: Point) -> Point:
        """Where a point of the flat block is in the picture."""
        if not self.angle:
            return self.left + point[0], self.top + point[1]
        flat, turned = self._flat, self.size
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
def _advance(face: Face, word: str) -> float:
    return face.font.getlength(word)


@functools.lru_cache(maxsize=20_000)
def _box(face: Face, text: str) -> tuple[int, int, int, int]:
    left, top, right, bottom = _letters(face, text)[1]
    _, tall, _, hanging = _letters(face, "dp")[1]
    return left - AIR, min(top, tall) - AIR, right + AIR, max(bottom, hanging) + AIR


@functools.lru_cache(maxsize=4000)
def _letters(face: Face, text: str) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """A line's ink, mode L, and its box from the start of the baseline.

    Of pixels, not of the pen's way, in which a letter may stand far to the right.
    """
    core, (x, y) = face.font.getmask2(text, "L", anchor="ls")
    mask = Image.new("L", core.size)
    mask.im.paste(core, (0, 0, *core.size))
    left, top, right, bottom = box = mask.getbbox() or (0, 0, 1, 1)
    return mask.crop(box), (left + x, top + y, right + x, bottom + y)


def printed(
    size: tuple[int, int], ground: Color, blocks: Sequence[Block], bars: Sequence[tuple[Box, Color]] = ()
) -> Image.Image:
    """A sheet with bars and blocks that do not overlap, mode P: from ground to ink in as many steps as a byte has.

    A picture of one byte a pixel is written in a quarter of the time, and its file is half as large.
    """
    inks = tuple(dict.fromkeys([*(color for _, color in bars), *(block.color for block in blocks)]))
    steps = 255 // max(1, len(inks))
    whole = Image.new("L", size, 0)
    for number, ink in enumerate(inks):
        layer = Image.new("L", size, 0)  # how much of this ink is where
        for (left, top, right, bottom), color in bars:
            if color == ink:
                layer.paste(255, (left, top, right + 1, bottom + 1))
        for block in blocks:
            if block.color == ink:
                layer.paste(255, (block.left, block.top), block.mask())
        levels = layer.tobytes().translate(_levels(steps, steps * number))
        whole = ImageChops.lighter(whole, Image.frombytes("L", size, levels))
    picture = Image.frombytes("P", size, whole.tobytes())
    picture.putpalette(_ramps(ground, inks, steps))
    return picture


@functools.lru_cache(maxsize=100)
def _ramps(ground: Color, inks: tuple[Color, ...], steps: int) -> bytes:
    """The palette: the ground, then from each step towards an ink to the ink itself."""
    shares = [number / steps for number in range(1, steps + 1)]
    return bytes(ground) + bytes(
        round(one + share * (other - one))
        for ink in inks
        for share in shares
        for one, other in zip(ground, ink, strict=True)
    )


@functools.lru_cache(maxsize=100)
def _levels(steps: int, first: int) -> bytes:
    """Of how much ink there is, 0 to 255, the place in the palette of the ramp behind `first`; 0 of none."""
    return bytes([0, *(first + max(1, round(level * steps / 255)) for level in range(1, 256))])
