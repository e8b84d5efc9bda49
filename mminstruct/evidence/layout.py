"""Lines of text in the order in which they are read, as rows and paragraphs.

    lines ──angle──▶ groups ──upright──▶ rows (left to right) ──gaps──▶ paragraphs, from top to bottom

Boxes whose heights overlap by more than half of the smaller one stand in one row. A row goes on with the paragraph
above it while the gap between them is less than a line's height and they overlap from left to right. Text that is
rotated is laid out by itself, turned upright.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mminstruct.evidence.ocr import Box, Point, Quad, TextLine

SAME_ROW = 0.5  # overlap of heights, in the smaller one
SAME_ANGLE = 8.0  # degrees; engines' quads of short texts are a little aslant


@dataclass(frozen=True)
class Paragraph:
    """Rows of lines, each from left to right."""

    rows: tuple[tuple[TextLine, ...], ...]

    @property
    def lines(self) -> list[TextLine]:
        return [line for row in self.rows for line in row]

    def text(self, between_rows: str = " ") -> str:
        return between_rows.join(" ".join(line.text for line in row) for row in self.rows)


@dataclass(frozen=True)
class _Placed:
    """A line with its box in the frame in which it is upright."""

    line: TextLine
    box: Box


def paragraphs(lines: Sequence[TextLine], gap: float = 1.0, column_gap: float | None = None) -> list[Paragraph]:
    """The paragraphs, from top to bottom by their first rows.

    Args:
        gap: the widest one between two rows of a paragraph, in heights of a line.
        column_gap: boxes of one row that are further apart than so many heights stand in different columns, and do not
            share a paragraph; None: a row goes over the whole width, as receipts and forms need it.
    """
    found = [paragraph for group in _by_angle(lines) for paragraph in _paragraphs(group, gap, column_gap)]
    return [paragraph for _, paragraph in sorted(found, key=lambda one: one[0])]


def reading_order(lines: Sequence[TextLine]) -> list[TextLine]:
    """The lines paragraph by paragraph."""
    return [line for paragraph in paragraphs(lines) for line in paragraph.lines]


def rows(lines: Sequence[TextLine]) -> list[TextLine]:
    """Each row as one line, so that engines which cut rows in different places can be compared.

    Its quad is the box around its parts, in their direction; its confidence is theirs by length of text.
    """
    joined = []
    for angle, placed in _by_angle(lines):
        for row in _rows(placed):
            left, top, right, bottom = _around([one.box for one in row])
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
            a, b, c, d = (_turned(corner, angle) for corner in corners)
            weights = [max(1, len(one.line.text)) for one in row]
            confidence = sum(w * one.line.confidence for w, one in zip(weights, row, strict=True)) / sum(weights)
            quad: Quad = row[0].line.quad if len(row) == 1 else (a, b, c, d)
            joined.append(TextLine(" ".join(one.line.text for one in row), quad, confidence))
    return sorted(joined, key=lambda line: (line.box[1], line.box[0]))


def _by_angle(lines: Sequence[TextLine]) -> list[tuple[float, list[_Placed]]]:
    """(angle, lines with boxes turned upright) of each group; the longest lines say which angles there are."""
    groups: list[tuple[float, list[TextLine]]] = []
    for line in sorted(lines, key=lambda one: -one.length):
        near = [group for angle, group in groups if abs((line.angle - angle + 180) % 360 - 180) <= SAME_ANGLE]
        if near:
            near[0].append(line)
        else:
            groups.append((line.angle, [line]))
    found = []
    for first, group in groups:
        angle = first if abs(first) > 1 else 0.0  # what is all but upright stays as it is
        placed = [_Placed(line, _upright(line, angle)) for line in group]
        found.append((angle, placed))
    return found


def _rows(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    """From top to bottom; a box joins the row whose last boxes it overlaps most."""
    found: list[list[_Placed]] = []
    for one in sorted(placed, key=lambda each: ((each.box[1] + each.box[3]) / 2, each.box[0])):
        best, most = None, SAME_ROW
        for row in found[-3:]:
            overlap = max(_overlap(one.box, other.box, 1) for other in row)
            if overlap > most and all(_overlap(one.box, other.box, 0) < SAME_ROW for other in row):
                best, most = row, overlap
        if best is None:
            found.append([one])
        else:
            best.append(one)
    for row in found:
        row.sort(key=lambda each: each.box[0])
    return found


def _paragraphs(
    group: tuple[float, list[_Placed]], gap: float, column_gap: float | None
) -> list[tuple[tuple[float, float], Paragraph]]:
    """((top, left) in the picture, paragraph) of one angle's lines."""
    angle, placed = group
    open_ones: list[list[tuple[list[_Placed], Box]]] = []  # rows, each with the box around it
    for row in _rows(placed):
        for part in _columns(row, column_gap):
            box = _around([one.box for one in part])
            above = [one for one in open_ones if _continues(box, one[-1][1], gap)]
            if above:
                max(above, key=lambda one: one[-1][1][3]).append((part, box))
            else:
                open_ones.append([(part, box)])
    found = []
    for one in open_ones:
        left, top, _, _ = one[0][1]
        corner = _turned((left, top), angle)
        paragraph = Paragraph(tuple(tuple(each.line for each in row) for row, _ in one))
        found.append(((corner[1], corner[0]), paragraph))
    return found


def _columns(row: list[_Placed], column_gap: float | None) -> list[list[_Placed]]:
    if column_gap is None:
        return [row]
    parts = [[row[0]]]
    for before, one in itertools.pairwise(row):
        height = (before.box[3] - before.box[1] + one.box[3] - one.box[1]) / 2
        if one.box[0] - before.box[2] > column_gap * height:
            parts.append([])
        parts[-1].append(one)
    return parts


def _continues(box: Box, above: Box, gap: float) -> bool:
    height = min(box[3] - box[1], above[3] - above[1])
    return box[1] - above[3] < gap * height and _overlap(box, above, 0) > 0 and box[3] > above[3]


def _overlap(first: Box, second: Box, axis: int) -> float:
    """Of two boxes from left to right (axis 0) or top to bottom (1), in the shorter one."""
    common = min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis])
    shorter = min(first[axis + 2] - first[axis], second[axis + 2] - second[axis])
    return common / shorter if shorter > 0 else 0.0


def _turned(point: Point, degrees: float) -> Point:
    """Clockwise as seen, about the picture's top left."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return point[0] * cosine - point[1] * sine, point[0] * sine + point[1] * cosine


def _upright(line: TextLine, angle: float) -> Box:
    """The box of a line that is turned back by an angle."""
    if angle == 0:
        return line.box
    xs, ys = zip(*(_turned(corner, -angle) for corner in line.quad), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
