"""How far two readings agree."""

from __future__ import annotations

import pytest

from mminstruct.evidence.agreement import agreement, matches
from mminstruct.evidence.ocr import TextLine, box_quad


def line(text: str, top: float, left: float = 0, right: float = 100) -> TextLine:
    return TextLine(text, box_quad((left, top, right, top + 10)))


def test_equal_readings_agree_wholly_and_empty_ones_too() -> None:
    lines = [line("Total 9.00", 0), line("Cash 10.00", 20)]
    found = agreement(lines, lines)
    assert (found.matched, found.error_rate, found.disagreement) == (2, 0, 0)
    assert agreement([], []).disagreement == 0


def test_edits_and_what_one_alone_saw_count_by_characters() -> None:
    first = [line("Total 9.00", 0), line("Cash", 20)]
    second = [line("Total 9.60", 1), line("THANK YOU", 60)]
    found = agreement(first, second)
    assert found.matched == 1 and found.error_rate == pytest.approx(1 / 10)
    assert found.only_first == ("Cash",) and found.only_second == ("THANK YOU",)
    assert found.disagreement == pytest.approx((1 + 4 + 9) / (10 + 4 + 9))
    assert agreement(second, first).disagreement == found.disagreement
    assert found.record()["error_rate"] == 0.1


def test_rows_that_are_cut_in_other_places_agree() -> None:
    whole = [line("Total 9.00", 0)]
    cut = [line("9.00", 0, 80, 100), line("Total", 1, 0, 50)]
    assert agreement(whole, cut).disagreement == 0


def test_nothing_in_common_is_one() -> None:
    assert agreement([line("abc", 0)], [line("xyz", 50)]).disagreement == 1
    assert agreement([line("abc", 0)], []).disagreement == 1


def test_each_line_is_matched_once_and_the_best_first() -> None:
    first = [line("a", 0), line("b", 4)]
    second = [line("c", 4)]
    assert matches(first, second, 0.3) == [(1, 0)]
    assert matches(first, second, 1.01) == []
