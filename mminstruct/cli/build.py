"""`mminstruct build`: images and their annotations into conversations."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from mminstruct.errors import ConfigError


def build(
    builder: Annotated[str, typer.Argument(metavar="BUILDER", help="A builder's name or file, or: list.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="The builder's options, e.g. split=test.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A new folder for the data set.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest, or the list, as JSON.")] = False,
) -> None:
    """Build a data set, or list the builders.

    Example: `mminstruct build easy-vqa --out runs/easy-vqa turns=single limit=100`

    What there is to build, and with which options: `mminstruct build list`
    """
    if builder == "list":
        if out is not None or options:
            raise ConfigError("build list takes neither --out nor options; leave them out, or name a builder")
        _list(as_json)
        return
    if out is None:
        raise ConfigError(f"no folder given for what {builder} builds; add --out DIR")

    from mminstruct.building import load_builder, run
    from mminstruct.files import require_new

    chosen = load_builder(builder, options or ())
    require_new(out)  # before the work, and again when the folder appears
    with _progress(chosen.name, chosen.count()) as advance:
        manifest = run(chosen, out, advance)
    if as_json:
        typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{out}: {manifest.conversations:,} conversations, {manifest.images:,} images")


def _list(as_json: bool) -> None:
    from mminstruct import catalog
    from mminstruct.building import builder_class

    classes = [builder_class(name) for name in catalog.names(catalog.BUILDER)]
    if as_json:
        rows = [
            {
                "name": each.name,
                "version": each.version,
                "summary": each.summary,
                "licence": each.licence,
                "options": {key: field.get_default() for key, field in each.Options.model_fields.items()},
            }
            for each in classes
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("builder", "what it builds", "licence", "options")
    for each in classes:
        table.add_row(each.name, each.summary, each.licence, ", ".join(each.Options.model_fields))
    Console().print(table)


@contextlib.contextmanager
def _progress(name: str, total: int | None) -> Iterator[Callable[[], None] | None]:
    """A bar with an estimate on stderr where a person looks at it; nothing in logs and pipes."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)
        yield lambda: bar.advance(task)
