"""Figures by part: each part's own mean, items in several parts, and nothing where there are no items."""

from __future__ import annotations

import pytest

from mminstruct.evaluation.figures import mean_by, mean_of_parts
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.scorers import Verdict, metric, names

VERDICTS = [Verdict(1.0), Verdict(0.0), Verdict(1.0)]


def test_a_list_counts_for_each_of_its_values_and_a_missing_fact_for_none() -> None:
    items = [
        Item("1", facts={"task": "geometry", "skills": ["algebra", "logic", "logic"]}),
        Item("2", facts={"task": "geometry", "skills": ["logic"]}),
        Item("3", facts={"task": "", "skills": []}),
    ]
    assert mean_by("task", "skills")(items, VERDICTS) == {
        "score": pytest.approx(2 / 3),
        "skills/algebra": 1.0,
        "skills/logic": 0.5,
        "task/geometry": 0.5,
    }


def test_parts_are_in_the_order_of_their_names() -> None:
    items = [Item(name) for name in "321"]
    assert list(mean_of_parts(lambda item: [item.id])(items, VERDICTS)) == ["score", "1", "2", "3"]


@pytest.mark.parametrize("name", names())
def test_a_score_of_no_items_is_not_defined_and_no_error(name: str) -> None:
    for variant in metric(name).variants:
        assert variant.score([], []).score is None
