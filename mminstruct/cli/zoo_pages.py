"""`mminstruct zoo card | docs`: a row as a Hugging Face model card, and the page that lists all rows."""

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


def _give(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    from mminstruct.files import write_text

    write_text(out, text)
    typer.echo(f"saved: {out}")
