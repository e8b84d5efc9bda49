"""A plane with axes: grid, ticks with their numbers, and from coordinates to pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image

from mminstruct.data_builders.worlds.canvas import GRID, SOFT, Canvas, glyphs
from mminstruct.data_builders.worlds.exact import Exact

Point = tuple[float, float]
SMALL = 10  # pixels of the numbers at the axes


class Plane:
    """Coordinates from `left` to `right` and from `low` to `high`, drawn on `width` x `height` pixels.

    Args:
        ticks: for each axis (x, y) the places that have a number, with its text.
        grid: lines at whole coordinates.
        ground: such a plane's grid and axes, drawn before (`canvas.picture`).
    """

    def __init__(
        self,
        span: tuple[float, float, float, float],
        size: tuple[int, int],
        ticks: tuple[Sequence[tuple[float, str]], Sequence[tuple[float, str]]],
        grid: bool,
        margin: int = 12,
        ground: Image.Image | None = None,
    ) -> None:
        self.left, self.right, self.low, self.high = span
        self.margin = margin
        self.across = (size[0] - 2 * margin) / (self.right - self.left)
        self.up = (size[1] - 2 * margin) / (self.high - self.low)
        self.ticks = ticks
        self.canvas = Canvas(*size, ground)
        if ground is not None:
            return
        if grid:
            for x in range(math.ceil(self.left), math.floor(self.right) + 1):
                self.canvas.line([self((x, self.low)), self((x, self.high))], 0.5, GRID)
            for y in range(math.ceil(self.low), math.floor(self.high) + 1):
                self.canvas.line([self((self.left, y)), self((self.right, y))], 0.5, GRID)
        self._axes()

    def __call__(self, point: Point) -> Point:
        return (point[0] - self.left) * self.across + self.margin, (self.high - point[1]) * self.up + self.margin

    def _axes(self) -> None:
        origin = self((0, 0))
        width, height = self.canvas.size
        self.canvas.line([(4, origin[1]), (width - 4, origin[1])], 1, SOFT)
        self.canvas.line([(width - 9, origin[1] - 4), (width - 4, origin[1]), (width - 9, origin[1] + 4)], 1, SOFT)
        self.canvas.line([(origin[0], height - 4), (origin[0], 4)], 1, SOFT)
        self.canvas.line([(origin[0] - 4, 9), (origin[0], 4), (origin[0] + 4, 9)], 1, SOFT)
        for x, _ in self.ticks[0]:
            at = self((x, 0))
            self.canvas.line([(at[0], at[1] - 3), (at[0], at[1] + 3)], 1, SOFT)
        for y, _ in self.ticks[1]:
            at = self((0, y))
            self.canvas.line([(at[0] - 3, at[1]), (at[0] + 3, at[1])], 1, SOFT)

    def number(self) -> None:
        """Write the ticks' numbers, once all lines are drawn and other labels have their places; x and y, too.

        A number that would cover something is left out: the others tell the scale.
        """
        origin = self((0, 0))
        for x, text in self.ticks[0]:
            at = self((x, 0))
            width = glyphs(text, SMALL).size[0]
            self.canvas.label(text, [(at[0], at[1] + 11), (at[0] - width / 2 - 4, at[1] + 11)], SMALL, air=2)
        for y, text in self.ticks[1]:
            at = self((0, y))
            self.canvas.label(text, [(at[0] - glyphs(text, SMALL).size[0] / 2 - 6, at[1])], SMALL, air=2)
        self.canvas.label("x", [(self.canvas.size[0] - 8, origin[1] + side * 12) for side in (1, -1)], 11, air=1)
        self.canvas.label("y", [(origin[0] + side * 10, 10) for side in (1, -1)], 11, air=1)

    def curve(self, value: Callable[[float], float], start: float, end: float, steps: int = 110) -> None:
        """The graph of a function between two x, cut off where it leaves the plane."""
        piece: list[Point] = []
        before: Point | None = None
        for number in range(steps + 1):
            x = start + (end - start) * number / steps
            here = (x, value(x))
            inside = self.low <= here[1] <= self.high
            if before is not None and inside != (self.low <= before[1] <= self.high):
                edge = self.high if max(here[1], before[1]) > self.high else self.low
                share = (edge - before[1]) / (here[1] - before[1])
                piece.append(self((before[0] + share * (x - before[0]), edge)))
            if inside:
                piece.append(self(here))
            elif piece:
                self._piece(piece)
                piece = []
            before = here
        self._piece(piece)

    def _piece(self, points: list[Point]) -> None:
        if len(points) > 1:
            self.canvas.line(points, 2)


def whole_ticks(low: float, high: float, most: int = 7) -> list[tuple[float, str]]:
    """Whole numbers without 0, at most about so many."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if (high - low) / step <= most + 1)
    return [(n, str(n).replace("-", "−")) for n in range(math.ceil(low), math.floor(high) + 1) if n % step == 0 and n]


def pair(x: Exact | int, y: Exact | int) -> str:
    return f"({Exact.of(x)}, {Exact.of(y)})"
