"""The pages on scorers name every variant of the metrics that they describe, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mminstruct.evaluation import scorers

PAGES = Path(__file__).parents[3] / "docs" / "scorers"
ROW = re.compile(r"^\| (?:`(?P<metric>[^`]+)`)? ?\| (?P<variants>`[^|]+`) \|", re.MULTILINE)


@pytest.mark.parametrize(("name", "metrics"), [("choice", 12), ("captions-retrieval-instructions", 8)])
def test_the_table_of_variants_is_the_metrics_own(name: str, metrics: int) -> None:
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8").partition("\n## ")[0]
    told: dict[str, list[str]] = {}
    metric = ""
    for row in ROW.finditer(page):
        metric = row["metric"] or metric
        told.setdefault(metric, []).extend(re.findall(r"`([^`]+)`", row["variants"]))
    assert len(told) == metrics
    for metric, variants in told.items():
        assert variants == [variant.name for variant in scorers.metric(metric).variants]
