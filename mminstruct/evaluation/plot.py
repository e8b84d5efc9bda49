"""The training loss as an SVG picture that can stand inside a page.

    metrics.jsonl files, in the order of the stages ─▶ [Curve] ─▶ one axis, stage after stage ─▶ "<svg ...>...</svg>"

Text is left as text and coloured by the page, lines are mid-grey or of matplotlib's own cycle: readable on light and on
dark ground.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError, RunError
from mminstruct.files import read_jsonl

SMOOTHING = 0.8
"""Weight of the past in the exponential mean that is drawn over the raw losses."""


@dataclass
class Curve:
    """The losses of one training stage, in the order in which they were logged."""

    label: str
    steps: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def read_curves(files: Sequence[Path]) -> list[Curve]:
    """One curve for each stage of each file; lines without a loss (evaluations, summaries) are passed over.

    Raises:
        DataError: a file is missing, is no JSONL, or has no line with a step and a loss.
    """
    curves: list[Curve] = []
    for path in files:
        of_file: dict[str, Curve] = {}
        for number, line in read_jsonl(path):
            if not isinstance(line, dict):
                raise DataError(f"{path}:{number} is not a JSON object; give a metrics.jsonl that training wrote")
            step, loss = line.get("step"), line.get("loss")
            if not (isinstance(step, int | float) and isinstance(loss, int | float)):
                continue
            label = str(line.get("stage") or path.parent.name)
            curve = of_file.setdefault(label, Curve(label))
            curve.steps.append(step)
            curve.losses.append(loss)
        if not of_file:
            raise DataError(f"{path} has no line with a step and a loss; give a metrics.jsonl that training wrote")
        curves += of_file.values()
    return curves


def smooth(losses: Sequence[float]) -> list[float]:
    """Exponential mean, corrected for its start as in Adam; a loss that is not finite stays and is not averaged in."""
    smoothed, mean, weight = [], 0.0, 0.0
    for loss in losses:
        if not math.isfinite(loss):
            smoothed.append(loss)
            continue
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        smoothed.append(mean / weight)
    return smoothed


def loss_svg(curves: Sequence[Curve]) -> str:
    """The curves one after the other on one axis of optimizer steps, as an SVG element without a background.

    Raises:
        RunError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise RunError(
            "the plot of the training loss needs matplotlib, which is missing; run: pip install 'mminstruct[eval]'"
        ) from None
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
    with matplotlib.rc_context(styles):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        _draw(figure.add_subplot(), curves)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = stream.getvalue()
    return drawn[drawn.index("<svg") :]


def _draw(axes: Any, curves: Sequence[Curve]) -> None:
    offset = 0.0
    for place, curve in enumerate(curves):
        colour = f"C{place % 10}"
        steps = [offset + step for step in curve.steps]
        if place:
            axes.axvline(offset, color="#888888", linestyle=":", linewidth=1)
        axes.plot(steps, curve.losses, color=colour, alpha=0.3, linewidth=0.8)
        axes.plot(steps, smooth(curve.losses), color=colour, linewidth=1.8, label=curve.label)
        offset = max(steps)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("training loss")
    axes.grid(axis="y")
    axes.set_yscale("log")  # from the first steps to the last the loss falls by powers of ten
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False)
