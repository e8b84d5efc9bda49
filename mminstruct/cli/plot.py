"""`mminstruct plot`: draw and compare training runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that `mminstruct train` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="The picture: .png, .svg, .pdf or .html.")] = Path("runs.png"),
    metric: Annotated[str, typer.Option("--metric", help="What to draw, e.g. loss,grad_norm; default: several.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print how each stage ended as JSON.")] = False,
) -> None:
    """Draw what runs logged, one beside the other.

    Example: mminstruct plot runs/one runs/two --out compared.png
    """
    from mminstruct.evaluation.plot import draw_runs, read_runs, smooth

    found = read_runs(runs)
    draw_runs(found, out, [name.strip() for name in metric.split(",") if name.strip()])
    if not as_json:
        typer.echo(str(out))
        return
    stages = [
        {
            "run": run.name,
            "stage": curve.label,
            "steps": int(curve.steps[-1]),
            "seconds": curve.lines[-1].get("seconds"),
            "loss": curve.losses[-1],
            "smoothed_loss": smooth(curve.losses)[-1],
        }
        for run in found
        for curve in (stage.having("loss") for stage in run.curves)
        if curve.lines
    ]
    typer.echo(json.dumps({"plot": str(out), "stages": stages}))
