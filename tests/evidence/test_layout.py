"""Reading order and paragraphs of boxes made by hand."""

from __future__ import annotations

import math
import random

import pytest

from mminstruct.evidence.layout import paragraphs, reading_order, rows
from mminstruct.evidence.ocr import TextLine, box_quad
from tests.evidence.test_measures import turned


def line(text: str, left: float, top: float, right: float, bottom: float, degrees: float = 0) -> TextLine:
    box = (left, top, right, bottom)
    return TextLine(text, turned(box, degrees) if degrees else box_quad(box))


def texts(lines: list[TextLine], **settings: float) -> list[str]:
    return [one.text("/") for one in paragraphs(lines, **settings)]


def test_words_of_a_row_are_read_from_left_to_right_whatever_their_order() -> None:
    words = [line("one", 0, 0, 30, 10), line("two", 34, 2, 60, 12), line("three", 65, -3, 99, 8)]
    for seed in range(6):
        random.Random(seed).shuffle(words)
        assert texts(words) == ["one two three"]


def test_less_than_half_of_the_smaller_height_is_another_row() -> None:
    assert texts([line("a", 0, 0, 40, 20), line("b", 50, 9, 90, 29)]) == ["a b"]
    assert texts([line("b", 50, 11, 90, 31), line("a", 0, 0, 40, 20)])[0] != "a b"
    # A small note beside a tall title is in its row: what counts is the smaller height.
    assert texts([line("TITLE", 0, 0, 90, 40), line("note", 95, 14, 120, 24)]) == ["TITLE note"]


def test_boxes_over_one_another_are_not_beside_one_another() -> None:
    """Rows that are set so tightly that their boxes touch stay rows."""
    assert texts([line("upper", 0, 0, 90, 20), line("lower", 0, 9, 90, 29)]) == ["upper/lower"]


def test_a_paragraph_ends_where_the_gap_is_a_line_high() -> None:
    upper, lower = line("a", 0, 0, 90, 10), line("b", 0, 18, 90, 28)
    assert texts([upper, lower]) == ["a/b"]
    assert texts([upper, line("b", 0, 21, 90, 31)]) == ["a", "b"]
    assert texts([upper, lower], gap=0.5) == ["a", "b"]
    # The smaller of both heights counts, so a title does not swallow the text below it.
    assert texts([line("Title", 0, 0, 90, 40), line("text", 0, 56, 90, 66)]) == ["Title", "text"]


def test_a_paragraph_goes_on_only_below_itself() -> None:
    assert texts([line("a", 0, 0, 40, 10), line("b", 60, 14, 99, 24)]) == ["a", "b"]
    assert texts([line("a", 0, 0, 40, 10), line("b", 30, 14, 99, 24)]) == ["a/b"]


def test_columns_are_rows_over_the_whole_width_or_paragraphs_of_their_own() -> None:
    left = [line(f"l{row}", 0, 14 * row, 90, 14 * row + 10) for row in range(3)]
    right = [line(f"r{row}", 130, 14 * row + 1, 220, 14 * row + 11) for row in range(3)]
    assert texts([*left, *right]) == ["l0 r0/l1 r1/l2 r2"]
    assert texts([*left, *right], column_gap=3) == ["l0/l1/l2", "r0/r1/r2"]
    assert texts([*left, *right], column_gap=5) == ["l0 r0/l1 r1/l2 r2"]


@pytest.mark.parametrize("degrees", [-90, -35, 20, 90, 150])
def test_rotated_text_is_laid_out_by_itself(degrees: float) -> None:
    upright = [line("first", 0, 0, 200, 12), line("second", 0, 16, 200, 28)]
    upper = line("up", 60, 150, 140, 162, degrees)
    # The second row is below the first in their own direction.
    right, down = -17 * math.sin(math.radians(degrees)), 17 * math.cos(math.radians(degrees))
    a, b, c, d = ((x + right, y + down) for x, y in upper.quad)
    lower = TextLine("low", (a, b, c, d))
    shuffled = [lower, upright[1], upper, upright[0]]
    assert texts(shuffled) == ["first/second", "up/low"]
    assert [one.text for one in reading_order(shuffled)] == ["first", "second", "up", "low"]


def test_slightly_slanted_boxes_of_an_engine_are_upright() -> None:
    lines = [line(str(row), 10, 15 * row, 200, 15 * row + 11, degrees) for row, degrees in enumerate((-2, 3, 0.4))]
    assert texts(lines) == ["0/1/2"]


def test_rows_join_what_engines_cut() -> None:
    joined = rows([line("Total", 0, 0, 40, 10), line("9.00", 200, 1, 240, 11), line("Cash", 0, 20, 40, 30)])
    assert [one.text for one in joined] == ["Total 9.00", "Cash"]
    assert joined[0].box == (0, 0, 240, 11)
    sure = [TextLine("aaaa", box_quad((0, 0, 40, 10)), 1.0), TextLine("b", box_quad((50, 0, 60, 10)), 0.5)]
    assert rows(sure)[0].confidence == pytest.approx(0.9)


def test_nothing_is_nothing() -> None:
    assert paragraphs([]) == [] == rows([])
