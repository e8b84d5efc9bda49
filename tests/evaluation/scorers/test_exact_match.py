"""Exact match, forgiving and strict."""

from __future__ import annotations

import pytest

from mminstruct.evaluation.scorers.exact_match import forgiving, strict


@pytest.mark.parametrize(
    ("prediction", "answers", "loose", "exact"),
    [
        ("red", ["red"], 1.0, 1.0),
        ("Red.", ["red"], 1.0, 0.0),
        ("  red \n", ["red"], 1.0, 0.0),
        ("red", ["blue", "Red."], 1.0, 0.0),
        ("red ...", ["red"], 1.0, 0.0),
        ("red!", ["red"], 0.0, 0.0),
        ("dark red", ["red"], 0.0, 0.0),
        ("", ["red"], 0.0, 0.0),
        ("3.5", ["35"], 0.0, 0.0),
        ("red", ["blue", "red"], 1.0, 1.0),
    ],
)
def test_exact_match(prediction: str, answers: list[str], loose: float, exact: float) -> None:
    assert forgiving(prediction, answers) == loose
    assert strict(prediction, answers) == exact
