"""`mminstruct zoo card | docs | record`: a row as a model card, the page of all rows, numbers put into a row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    model: Annotated[str, typer.Argument(help="A model's name or the path of a row's YAML.")],
    out: Annotated[Path | None, typer.Option(help="The README.md to write; default: print it.")] = None,
) -> None:
    """Write a model's card for the Hugging Face hub: parts, use, memory, numbers, licence, limits.

    Example: mminstruct zoo card llava-1.5-7b --out runs/llava/README.md
    """
    from mminstruct.models import pages

    _give(str(pages.model_card(model)), out)


def docs(
    out: Annotated[Path | None, typer.Option(help="The page to write; default: print it.")] = None,
) -> None:
    """Write the page that lists every model of the zoo.

    Example: mminstruct zoo docs --out docs/zoo.md
    """
    from mminstruct.models import pages

    _give(pages.zoo_page(), out)


def record(
    model: Annotated[str, typer.Argument(help="A model's name or the path of a row's YAML.")],
    report: Annotated[Path, typer.Argument(help="The report.json of an evaluation, its timing.json beside it.")],
) -> None:
    """Put an evaluation's scores into a model's row, as measured numbers; the card shows them.

    Example: mminstruct zoo record nano runs/quickstart/report.json
    """
    from mminstruct import catalog
    from mminstruct.models.record import record as put

    path = catalog.find(catalog.MODEL, model)
    fresh = put(path, report)
    for entry in fresh:
        typer.echo(f"{path}: {entry.benchmark}, {entry.metric}: {entry.value:g}")
    if not fresh:
        typer.echo(f"{path} holds these numbers already")


def _give(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    from mminstruct.files import write_text

    write_text(out, text)
    typer.echo(f"saved: {out}")
