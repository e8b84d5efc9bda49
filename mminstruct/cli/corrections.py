"""`mminstruct data queue` and `correct`: doubtful records out to a table that a person edits, and the table back in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[Path, typer.Argument(help="A data set: a folder or a file of a format of docs/formats.md.")]
FormatOption = Annotated[str | None, typer.Option("--from", help="The format of the source. Default: seen by content.")]


def queue(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="The new table, .csv or .jsonl.")],
    score: Annotated[
        str | None, typer.Option("--score", help="Only records that have this score. Default: all.")
    ] = None,
    below: Annotated[float, typer.Option("--below", help="And have less of it.")] = 1.0,
    from_: FormatOption = None,
) -> None:
    """Write the questions of doubtful records to a table, to correct them by hand.

    Example: `mminstruct data queue runs/mminstruct --score support --below 0.7 --out queue.csv`
    """
    from mminstruct import formats
    from mminstruct.files import require_new
    from mminstruct.formats.corrections import write_queue

    require_new(out)
    conversations = formats.relocate(formats.read(source, from_), formats.media_root(source), out.parent)
    typer.echo(f"{out}: {write_queue(conversations, out, score, below):,} questions")


def correct(
    source: Source,
    table: Annotated[Path, typer.Argument(help="The table that `data queue` wrote of it, edited.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the corrected data set.")],
    from_: FormatOption = None,
) -> None:
    """Write a data set with the corrections of an edited table. Media files stay where they are.

    Example: `mminstruct data correct runs/mminstruct queue.csv --out runs/mminstruct-corrected`
    """
    from mminstruct import formats
    from mminstruct.files import sha256
    from mminstruct.formats import corrections, native

    conversations = corrections.corrected(formats.read(source, from_), table)
    note = {
        "name": corrections.NAME,
        "version": corrections.VERSION,
        "table": sha256(table) if table.is_file() else None,
    }
    manifest = native.write(formats.relocate(conversations, formats.media_root(source), out), out, builder=note)
    typer.echo(f"{out}: {manifest.conversations:,} conversations")
