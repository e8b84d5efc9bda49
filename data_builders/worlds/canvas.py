"""Drawing of lines with smooth edges and of labels that cover nothing.

    Canvas(width, height) ──lines, arcs at twice the size──▶ smooth() ──▶ labels into free places ──▶ picture, mode L

Ink is 0 on 255. A label's place is free where the picture is still light, so a picture is its own map of what is
taken. Texts are drawn once each and then pasted (`glyphs`), which is ten times as fast.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image, ImageChops, ImageDraw

from mminstruct.data_builders.worlds.fonts import font

Point = tuple[float, float]
Box = tuple[int, int, int, int]

GRID, TINT, SOFT, INK = 222, 205, 100, 0
_TAKEN = 200  # darker than this is a line or a text; a grid may lie below a label
AIR = 3  # pixels around a label


@functools.lru_cache(maxsize=8192)
def glyphs(text: str, size: int) -> Image.Image:
    """A text as a mask, mode L: as wide as its letters, from the top of an A, or what is higher, to what is lowest."""
    face = font(size)
    left, top, right, bottom = face.getbbox(text)
    top = min(top, face.getbbox("A")[1])
    mask = Image.new("L", (int(right - left), int(max(bottom, face.getbbox("A")[3]) - top)), 0)
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=face)
    return mask


@functools.lru_cache(maxsize=8192)
def rise(text: str, size: int) -> int:
    """By how many pixels a text stands higher than an A."""
    face = font(size)
    return int(max(0, face.getbbox("A")[1] - face.getbbox(text)[1]))


def _stamp(picture: Image.Image, mask: Image.Image, left: int, top: int, ink: int) -> None:
    """`picture.paste(ink, (left, top), mask)`, which spends most of its time on finding out what it was given."""
    width, height = mask.size
    picture.im.paste(ink, (left, top, left + width, top + height), mask.im)


class Canvas:
    """A picture of `width` x `height` pixels; coordinates are pixels of it, y downwards.

    Attributes:
        shown: (text, box) of each label.
    """

    def __init__(self, width: int, height: int, ground: Image.Image | None = None) -> None:
        """`ground` is what is drawn already, at twice the size."""
        self.size = (width, height)
        self._large = Image.new("L", (2 * width, 2 * height), 255) if ground is None else ground.copy()
        self._pen = ImageDraw.Draw(self._large)
        self.picture = self._large
        self.shown: list[tuple[str, Box]] = []

    def line(self, points: Sequence[Point], width: float = 1.5, ink: int = INK) -> None:
        """A line through the points."""
        joint = "curve" if len(points) > 2 and width > 1 else None
        self._pen.line([(2 * x, 2 * y) for x, y in points], fill=ink, width=round(2 * width), joint=joint)

    def dashed(self, start: Point, end: Point, width: float = 1, ink: int = SOFT, dash: float = 4) -> None:
        length = math.dist(start, end)
        count = max(1, int(length / (2 * dash)))
        dx, dy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
        for number in range(count + 1):
            a, b = 2 * dash * number, min(length, 2 * dash * number + dash)
            if a < b:
                self.line([(start[0] + a * dx, start[1] + a * dy), (start[0] + b * dx, start[1] + b * dy)], width, ink)

    def arc(self, centre: Point, radius: float, start: float, end: float, width: float = 1, ink: int = INK) -> None:
        """From one angle to another, degrees against the clock from the right, as in mathematics."""
        x, y, r = 2 * centre[0], 2 * centre[1], 2 * radius
        self._pen.arc((x - r, y - r, x + r, y + r), -end, -start, fill=ink, width=round(2 * width))

    def ellipse(self, centre: Point, across: float, down: float, width: float = 1.5, ink: int = INK) -> None:
        x, y = 2 * centre[0], 2 * centre[1]
        self._pen.ellipse(
            (x - 2 * across, y - 2 * down, x + 2 * across, y + 2 * down), outline=ink, width=round(2 * width)
        )

    def dot(self, centre: Point, radius: float = 2.5, hollow: bool = False) -> None:
        x, y, r = 2 * centre[0], 2 * centre[1], 2 * radius
        self._pen.ellipse((x - r, y - r, x + r, y + r), fill=255 if hollow else INK, outline=INK, width=2)

    def smooth(self) -> None:
        """End the lines; from here on only labels come."""
        self.picture = self._large.reduce(2)

    def free(self, box: Box) -> bool:
        """Whether a box lies within the picture and nothing dark is in it."""
        left, top, right, bottom = box
        if left < 1 or top < 1 or right >= self.size[0] - 1 or bottom >= self.size[1] - 1:
            return False
        if any(left < u and x < right and top < v and y < bottom for _, (x, y, u, v) in self.shown):
            return False
        darkest = self.picture.im.crop(box).getextrema()[0]  # `Image.crop` takes three times as long for so small a box
        return bool(darkest > _TAKEN)

    def label(self, text: str, places: Iterable[Point], size: int = 13, air: int = AIR) -> bool:
        """Write a text with its middle at the first place that is free. Returns whether there is one."""
        mask = glyphs(text, size)
        width, height = mask.size
        for x, y in places:
            left, top = round(x - width / 2), round(y - height / 2)
            if self.free((left - air, top - air, left + width + air, top + height + air)):
                self.write(mask, left, top, text)
                return True
        return False

    def write(self, mask: Image.Image, left: int, top: int, text: str, ink: int = INK) -> None:
        _stamp(self.picture, mask, left, top, ink)
        self.shown.append((text, (left, top, left + mask.size[0], top + mask.size[1])))


@functools.cache
def _turns(step: float) -> list[float]:
    """0, then alternately to both sides, up to the opposite direction; radians."""
    count = round(360 / step)
    return [math.radians(step * ((number + 1) // 2) * (1 if number % 2 else -1)) for number in range(count)]


def around(point: Point, distances: Sequence[float], first: float = 90, step: float = 30) -> Iterator[Point]:
    """Places around a point: directions from `first` on (degrees), alternately to both sides, nearest first."""
    start = math.radians(first)
    for distance in distances:
        for turn in _turns(step):
            yield point[0] + distance * math.cos(start + turn), point[1] - distance * math.sin(start + turn)


def tinted(picture: Image.Image, kind: str, points: Sequence[Point]) -> Image.Image:
    """A copy with a polygon shaded, or a line underlaid, beneath what is drawn."""
    shade = Image.new("L", picture.size, 255)
    pen = ImageDraw.Draw(shade)
    if kind == "polygon":
        pen.polygon(list(points), fill=TINT)
    else:
        pen.line(list(points), fill=TINT, width=9, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=TINT)
    return ImageChops.darker(picture, shade)


def with_lines(picture: Image.Image, lines: Sequence[str], size: int = 12) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """The picture with lines of text beneath it, wrapped at words, and the boxes of these lines.

    Words are drawn one by one: nearly all have been drawn before.
    """
    space = size // 3
    width = max(picture.size[0], 150)
    wrapped: list[tuple[list[str], int]] = []  # the words of a line, and its width
    for line in lines:
        words: list[str] = []
        across = 0
        for word in line.split(" "):
            wide = glyphs(word, size).size[0]
            if words and across + space + wide > width - 12:
                wrapped.append((words, across))
                words, across = [], 0
            across += wide + space * bool(words)
            words.append(word)
        wrapped.append((words, across))
    width = max([width, *(across + 12 for _, across in wrapped)])
    step = size + 5
    whole = Image.new("L", (width, picture.size[1] + step * len(wrapped) + 5), 255)
    whole.paste(picture, ((width - picture.size[0]) // 2, 0))
    boxes = []
    for number, (words, across) in enumerate(wrapped):
        start = left = (width - across) // 2
        top = picture.size[1] + 3 + step * number
        for word in words:
            mask = glyphs(word, size)
            _stamp(whole, mask, left, top - rise(word, size), INK)
            left += mask.size[0] + space
        boxes.append((" ".join(words), (start, top, left - space, top + size)))
    return whole, boxes


def inked(picture: Image.Image, palette: bytes) -> Image.Image:
    """A copy in mode P, which PNG writes several times as fast as mode L and with any colour of ink."""
    copy = picture.copy()
    copy.putpalette(palette)
    return copy


@functools.cache
def ramp(ink: tuple[int, int, int]) -> bytes:
    """The palette from ink (0) to white (255)."""
    return bytes(round(part + (255 - part) * level / 255) for level in range(256) for part in ink)
