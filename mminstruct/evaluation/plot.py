"""What training logged, as pictures: the loss inside a report's page, and whole runs beside each other.

    metrics.jsonl ─▶ Run of [Curve], a stage each ─▶ stage after stage on one axis ─▶ "<svg ...>...</svg>", PNG, page

Text is left as text and coloured by the page, lines are mid-grey or of matplotlib's own cycle: readable on light and on
dark ground.
"""

from __future__ import annotations

import html
import io
import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mminstruct.errors import ConfigError, DataError, RunError, did_you_mean
from mminstruct.files import atomic_path, read_jsonl, write_text

SMOOTHING = 0.8
"""Weight of the past in the exponential mean that is drawn over the raw values."""

FORMATS = (".png", ".svg", ".pdf", ".html")
METRICS = ("loss", "validation_loss", "learning_rate", "supervised_tokens_per_second", "memory_gb", "mfu")
"""What is drawn of a run where nothing else is asked for, as far as it was logged."""

_LABELS = {
    "loss": "training loss",
    "validation_loss": "validation loss",
    "learning_rate": "learning rate",
    "supervised_tokens": "supervised tokens",
    "supervised_tokens_per_second": "supervised tokens / s",
    "tokens_per_second": "tokens / s",
    "conversations_per_second": "conversations / s",
    "memory_gb": "peak memory (GB)",
    "mfu": "model FLOPs utilisation",
    "grad_norm": "gradient norm",
    "step": "optimizer step",
}
_LOGARITHMIC = ("loss", "validation_loss", "grad_norm")  # they fall by powers of ten from the first steps to the last


@dataclass
class Curve:
    """What was logged in one training stage, line after line."""

    label: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """A metric, line by line; nan where it was not logged."""
        found = (line.get(name) for line in self.lines)
        return [float(value) if isinstance(value, int | float) else math.nan for value in found]

    def having(self, name: str) -> Curve:
        """The lines in which a metric was logged: lines of the log have others than those of a validation."""
        return Curve(self.label, [line for line in self.lines if name in line])

    @property
    def steps(self) -> list[float]:
        return self.values("step")

    @property
    def losses(self) -> list[float]:
        return self.values("loss")


@dataclass
class Run:
    """The stages of a run, in their order."""

    name: str
    curves: list[Curve]

    @property
    def metrics(self) -> set[str]:
        return {name for curve in self.curves for line in curve.lines for name in line}


def read_curves(files: Sequence[Path]) -> list[Curve]:
    """One curve for each stage of each file; lines without a loss (summaries) are passed over.

    Raises:
        DataError: a file is missing, is no JSONL, or has no line with a step and a loss.
    """
    curves: list[Curve] = []
    for path in files:
        of_file: dict[str, Curve] = {}
        for number, line in read_jsonl(path):
            if not isinstance(line, dict):
                raise DataError(f"{path}:{number} is not a JSON object; give a metrics.jsonl that training wrote")
            if not isinstance(line.get("step"), int | float):
                continue
            if not any(isinstance(line.get(name), int | float) for name in ("loss", "validation_seconds")):
                continue
            label = str(line.get("stage") or path.parent.name)
            of_file.setdefault(label, Curve(label)).lines.append(line)
        if not any(curve.having("loss").lines for curve in of_file.values()):
            raise DataError(f"{path} has no line with a step and a loss; give a metrics.jsonl that training wrote")
        curves += of_file.values()
    return curves


def read_runs(places: Sequence[Path]) -> list[Run]:
    """Each run by its folder or its `metrics.jsonl`, named after the folder, or where names meet, by the whole path.

    Raises:
        DataError: as `read_curves`.
    """
    folders = [place if place.is_dir() or place.suffix != ".jsonl" else place.parent for place in places]
    names = [folder.resolve().name for folder in folders]
    return [
        Run(
            name if names.count(name) == 1 else str(folder),
            read_curves([place if folder is not place else folder / "metrics.jsonl"]),
        )
        for name, folder, place in zip(names, folders, places, strict=True)
    ]


def smooth(values: Sequence[float]) -> list[float]:
    """Exponential mean, corrected for its start as in Adam; a value that is not finite stays and is not averaged in."""
    smoothed, mean, weight = [], 0.0, 0.0
    for value in values:
        if not math.isfinite(value):
            smoothed.append(value)
            continue
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        smoothed.append(mean / weight)
    return smoothed


def loss_svg(curves: Sequence[Curve]) -> str:
    """The losses one stage after the other on one axis of optimizer steps, as an SVG element without a background.

    Raises:
        RunError: matplotlib is not installed.
    """
    with _styles():
        figure = _figure(8, 3.2)
        axes = figure.add_subplot()
        _draw(axes, [Run("", list(curves))], "loss", "step")
        axes.legend(frameon=False)
        return _svg(figure)


def draw_runs(runs: Sequence[Run], out: Path, metrics: Sequence[str] = ()) -> None:
    """Draw what runs logged, over optimizer steps; the loss over supervised tokens as well.

    Args:
        out: a file whose name ends as one of `FORMATS`.
        metrics: names of what `metrics.jsonl` holds; default: `METRICS`, as far as they were logged.

    Raises:
        ConfigError: a metric that no run has logged, or an ending that is not known.
        RunError: matplotlib is not installed.
    """
    if out.suffix not in FORMATS:
        raise ConfigError(f"{out} does not end as a picture does; known endings: {', '.join(FORMATS)}")
    logged = set().union(*(run.metrics for run in runs))
    for name in metrics:
        if name not in logged:
            raise ConfigError(f"no run has logged {name!r}.{did_you_mean(name, logged)}")
    panels = [(name, "step") for name in metrics or METRICS if name in logged]
    if ("loss", "step") in panels and "supervised_tokens" in logged:
        panels.insert(panels.index(("loss", "step")) + 1, ("loss", "supervised_tokens"))
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    with _styles():
        figure = _figure(6.2 * columns, 3.1 * rows + 0.9)
        for place, (metric, over) in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, place)
            title = f"{_label(metric)} by {_label(over)}"
            axes.set_title(title[0].upper() + title[1:], fontsize=11)
            _draw(axes, runs, metric, over)
        figure.suptitle(" · ".join(run.name for run in runs) if len(runs) < 4 else f"{len(runs)} runs", fontsize=13)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
        if out.suffix == ".html":
            title = html.escape(", ".join(run.name for run in runs))
            write_text(
                out,
                f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
                f"<body>{_svg(figure)}</body></html>\n",
            )
            return
        with atomic_path(out) as temporary:
            figure.savefig(temporary, format=out.suffix[1:], dpi=150)


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " "))


def _styles() -> AbstractContextManager[None]:
    try:
        import matplotlib
    except ImportError:
        raise RunError("plots need matplotlib, which is missing; run: pip install 'mminstruct[eval]'") from None
    styles: dict[Any, Any] = {
        "svg.fonttype": "none",  # real text: sharp at any size, and coloured by the page
        "svg.hashsalt": "mminstruct",  # the same ids, and so the same bytes, in every run
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "xtick.color": "#888888",
        "ytick.color": "#888888",
        "grid.color": "#88888855",
    }
    return matplotlib.rc_context(styles)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    return drawn[drawn.index("<svg") :]


def _draw(axes: Any, runs: Sequence[Run], metric: str, over: str) -> None:
    """One metric: a colour for each stage of a single run, or for each of several runs, whose stages are set apart."""
    for number, run in enumerate(runs):
        offset = 0.0
        for place, curve in enumerate(run.curves):
            colour = f"C{(place if len(runs) == 1 else number) % 10}"
            of_several = run.name if place == 0 else "_"  # matplotlib's word for no entry in the legend
            label = curve.label if len(runs) == 1 else of_several
            logged = curve.having(metric)
            end = curve.steps if over == "step" else list(itertools.accumulate(curve.having(over).values(over)))
            own = logged.steps if over == "step" else list(itertools.accumulate(logged.values(over)))
            positions = [offset + position for position in own]
            if len(runs) > 1 and number == 0:
                axes.text(offset, 1, f" {curve.label}", color="#888888", va="top", transform=axes.get_xaxis_transform())
            if place:
                axes.axvline(offset, color="#888888" if len(runs) == 1 else colour, linestyle=":", linewidth=1)
            values = logged.values(metric)
            if metric == "learning_rate":  # it is exact, so there is nothing to smooth
                axes.plot(positions, values, color=colour, linewidth=1.8, label=label)
            else:
                axes.plot(positions, values, ".-", color=colour, alpha=0.3, linewidth=0.8, markersize=3)
                axes.plot(positions, smooth(values), color=colour, linewidth=1.8, label=label)
            offset += end[-1] if end else 0.0
    axes.set_xlabel(_label(over))
    axes.margins(x=0.02)
    axes.set_ylabel(_label(metric))
    axes.grid(axis="y")
    if metric in _LOGARITHMIC:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    elif metric != "learning_rate":
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    if over != "step":
        axes.xaxis.set_major_formatter("{x:,.0f}")
