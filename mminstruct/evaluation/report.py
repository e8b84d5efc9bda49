"""The report of an evaluation: `report.json` for programs, `report.html` for people.

    [BenchmarkResult], metrics.jsonl files, facts ─▶ report.json, timing.json
                                                  └▶ report.html (one file: no scripts, nothing fetched from anywhere)

`report.json` is {"benchmarks": {"easy_vqa": {...}}, "model": {...}, "versions": {...}}; a benchmark's numbers are those
of `BenchmarkResult.numbers`. It and the page have the same bytes whenever the same model answers the same questions;
when that was and how long it took stands in `timing.json`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mminstruct.evaluation.facts import versions
from mminstruct.evaluation.gallery import exhibits
from mminstruct.evaluation.plot import loss_svg, read_curves
from mminstruct.evaluation.results import BenchmarkResult
from mminstruct.evaluation.scorers import scorer
from mminstruct.files import write_json, write_text

GALLERY_EACH = 8
"""How many right and how many wrong answers of each benchmark the gallery shows."""


def write_report(
    folder: Path,
    results: Sequence[BenchmarkResult],
    *,
    metrics_files: Sequence[Path] = (),
    seconds: Mapping[str, float] | None = None,
    model_facts: Mapping[str, Any] | None = None,
    title: str = "Evaluation report",
    seed: int = 0,
) -> dict[str, Any]:
    """Write `report.json` and `report.html` into a folder and return what `report.json` holds.

    Args:
        metrics_files: `metrics.jsonl` of the training stages, in their order, to plot the loss.
        seconds: how long the parts of a training run took, by name.
        model_facts: what to say of the model (`mminstruct.evaluation.facts.model_facts`).
        seed: of the sample that the gallery shows.

    Raises:
        DataError: a metrics file holds no losses.
        MediaError: an image of the gallery cannot be read any more.
        RunError: there are metrics files but no matplotlib.
    """
    report: dict[str, Any] = {
        "benchmarks": {result.benchmark.key: result.numbers() for result in results},
        "model": dict(model_facts or {}),
        "versions": versions(),
    }
    if seconds is not None:
        report["seconds"] = dict(seconds)
    timing = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "benchmarks": {result.benchmark.key: result.timing() for result in results},
    }
    page = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=title,
            report=report,
            plot=Markup(loss_svg(read_curves(metrics_files))) if metrics_files else None,
            galleries={result.benchmark.key: exhibits(result, GALLERY_EACH, seed) for result in results},
        )
    )
    write_json(folder / "timing.json", timing)
    write_json(folder / "report.json", report)
    write_text(folder / "report.html", page)
    return report


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # questions and answers are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "headline": headline,
        "points": points,
        "duration": duration,
        "fact": fact,
    }
    return environment


def percent(value: float | None) -> str:
    """An accuracy in [0, 1] as people read it."""
    return "not run" if value is None else f"{100 * value:.2f}\N{NO-BREAK SPACE}%"


def headline(numbers: Mapping[str, Any]) -> str:
    """The score of a benchmark by its scorer's own total, which need not be the mean over single answers."""
    value, best = numbers["score"], scorer(numbers["scorer"]).metric.best
    if value is None:
        return "undefined"
    return percent(value) if best == 1 else f"{value:,.2f} of {best:,.0f}"


def points(value: float | None) -> str:
    """A standard error in percentage points."""
    return "unknown" if value is None else f"±\N{NO-BREAK SPACE}{100 * value:.2f}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def fact(value: Any) -> str:
    """A value of the facts table: large numbers in groups of three, None as a dash."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
