"""Edit distance, character error rate and overlap of quads, against plain definitions."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mminstruct.evidence.measures import area, character_error_rate, edit_distance, quad_iou
from mminstruct.evidence.ocr import Quad, TextLine, box_quad


def by_table(first: str, second: str) -> int:
    """The textbook's dynamic programme."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def test_the_edit_distance_is_that_of_the_table() -> None:
    chance = random.Random(0)
    for _ in range(250):
        first = "".join(chance.choices("abcü ", k=chance.randint(0, 90)))
        second = "".join(chance.choices("abcü ", k=chance.randint(0, 90)))
        if chance.random() < 0.5:  # near to the first
            second = "".join(letter for letter in first if chance.random() < 0.9)
        assert edit_distance(first, second) == by_table(first, second) == edit_distance(second, first)


@pytest.mark.parametrize(
    ("found", "truth", "rate"),
    [
        ("kitten", "sitting", 3 / 7),
        ("same", "same", 0),
        ("a  b\n", "a b", 0),
        ("ab", "a b", 1 / 3),
        ("", "abc", 1),
        ("abcdef", "a", 5),
        ("", "", 0),
        ("x", "", 1),
        ("Straße", "Strasse", 2 / 7),
    ],
)
def test_character_error_rates(found: str, truth: str, rate: float) -> None:
    assert character_error_rate(found, truth) == pytest.approx(rate)


def turned(box: tuple[float, float, float, float], degrees: float) -> Quad:
    """The corners of a box that is turned about its middle."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    angle = math.radians(degrees)
    a, b, c, d = (
        (x + u * math.cos(angle) - v * math.sin(angle), y + u * math.sin(angle) + v * math.cos(angle))
        for u, v in ((left - x, top - y), (right - x, top - y), (right - x, bottom - y), (left - x, bottom - y))
    )
    return a, b, c, d


def painted(quad: Quad) -> np.ndarray:
    picture = Image.new("1", (600, 600))
    ImageDraw.Draw(picture).polygon([(x * 4, y * 4) for x, y in quad], fill=1)
    return np.asarray(picture)


def test_overlap_is_that_of_painted_pixels() -> None:
    chance = random.Random(1)
    some = 0
    for _ in range(150):
        quads = []
        for _ in range(2):
            left, top = chance.uniform(30, 70), chance.uniform(30, 70)
            box = (left, top, left + chance.uniform(10, 50), top + chance.uniform(10, 30))
            quads.append(turned(box, chance.choice((0, chance.uniform(-180, 180)))))
        one, other = painted(quads[0]), painted(quads[1])
        share = (one & other).sum() / (one | other).sum()
        assert quad_iou(quads[0], quads[1]) == pytest.approx(share, abs=0.02)
        assert quad_iou(quads[0], quads[1]) == pytest.approx(quad_iou(quads[1], quads[0]))
        some += share > 0.1
    assert some > 50


def test_overlap_of_upright_boxes() -> None:
    one = box_quad((0, 0, 10, 10))
    assert quad_iou(one, one) == pytest.approx(1)
    assert quad_iou(one, box_quad((5, 0, 15, 10))) == pytest.approx(1 / 3)
    assert quad_iou(one, box_quad((10, 0, 20, 10))) == 0
    assert quad_iou(one, box_quad((3, 3, 3, 3))) == 0
    assert area(one) == 100


def test_what_a_line_knows_of_its_place() -> None:
    for degrees in (-170, -90, -30, 0, 8, 90, 135, 180):
        line = TextLine("a", turned((10, 20, 70, 35), degrees))
        assert line.height == pytest.approx(15) and line.length == pytest.approx(60)
        assert (line.angle - degrees) % 360 == pytest.approx(0, abs=1e-6) or line.angle == pytest.approx(degrees)
        twice = line.scaled(2)
        assert twice.height == pytest.approx(30) and twice.box[2] == pytest.approx(2 * line.box[2])
