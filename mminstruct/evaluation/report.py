"""The report of an evaluation: `report.json` for programs, `report.html` for people.

    [BenchmarkResult], metrics.jsonl files, facts ─▶ report.json, timing.json
                                                  └▶ report.html (one file: nothing is fetched from anywhere)

`report.json` is {"benchmarks": {"some_key": {...}}, "model": {...}, "checkpoint": {hashes}, "code": {version, commit},
"versions": {...}}; a benchmark's numbers are those of `BenchmarkResult.numbers`. It and the page have the same bytes
whenever the same model answers the same questions on the same code; when that was, on which machine and how long it
took stands in `timing.json`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mminstruct.evaluation.facts import code, machine, versions
from mminstruct.evaluation.gallery import PAGE_ITEMS, collection
from mminstruct.evaluation.page import render
from mminstruct.evaluation.plot import loss_svg, read_curves
from mminstruct.evaluation.results import BenchmarkResult
from mminstruct.files import write_json, write_text

GALLERY_EACH = 8
"""How many right and how many wrong answers of each benchmark the page shows where scripts are off."""


def write_report(
    folder: Path,
    results: Sequence[BenchmarkResult],
    *,
    metrics_files: Sequence[Path] = (),
    seconds: Mapping[str, float] | None = None,
    model_facts: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, str] | None = None,
    title: str = "Evaluation report",
    seed: int = 0,
    page_items: int = PAGE_ITEMS,
) -> dict[str, Any]:
    """Write `report.json` and `report.html` into a folder and return what `report.json` holds.

    Args:
        metrics_files: `metrics.jsonl` of the training stages, in their order, to plot the loss.
        seconds: how long the parts of a training run took, by name.
        model_facts: what to say of the model (`mminstruct.evaluation.facts.model_facts`).
        checkpoint: hashes of the weights and of the processor (`mminstruct.evaluation.facts.checkpoint_hashes`).
        seed: of the sample that the page shows.
        page_items: how many questions of each benchmark the page holds at most.

    Raises:
        DataError: a metrics file holds no losses.
        MediaError: an image of the gallery cannot be read any more.
        RunError: there are metrics files but no matplotlib.
    """
    report: dict[str, Any] = {
        "benchmarks": {result.benchmark.key: result.numbers() for result in results},
        "model": dict(model_facts or {}),
        "checkpoint": dict(checkpoint or {}),
        "code": code(),
        "versions": versions(),
    }
    if seconds is not None:
        report["seconds"] = dict(seconds)
    timing = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "benchmarks": {result.benchmark.key: result.timing() for result in results},
    }
    page = render(
        "report.html.jinja",
        title=title,
        report=report,
        plot=Markup(loss_svg(read_curves(metrics_files))) if metrics_files else None,
        collections={result.benchmark.key: collection(result, page_items, seed, GALLERY_EACH) for result in results},
    )
    write_json(folder / "timing.json", timing)
    write_json(folder / "report.json", report)
    write_text(folder / "report.html", page)
    return report
