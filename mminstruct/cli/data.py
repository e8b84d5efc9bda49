"""`mminstruct data`: look at data sets and turn one format into another."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mminstruct.cli.corrections import correct, queue
from mminstruct.cli.look import card, check, view
from mminstruct.cli.mask import mask

app = typer.Typer(help="Convert and look at data sets.", no_args_is_help=True)
app.command()(mask)
app.command()(queue)
app.command()(correct)
app.command()(check)
app.command()(card)
app.command()(view)

Source = Annotated[Path, typer.Argument(help="A data set: a folder or a file of a format of docs/formats.md.")]
FormatOption = Annotated[str | None, typer.Option("--from", help="The format of the source. Default: seen by content.")]
MediaRoot = Annotated[
    Path | None,
    typer.Option("--media-root", help="The folder that the source's media paths start from. Default: the source's."),
]

Split = Annotated[str | None, typer.Option("--split", help="table, mavis: the split, where there are several.")]
Language = Annotated[str | None, typer.Option("--language", help="mavis: en, zh or all.")]


@app.command()
def convert(
    source: Source,
    to: Annotated[
        str, typer.Option("--to", help="A format of docs/formats.md that is written: native, llava, messages, ...")
    ],
    out: Annotated[Path, typer.Option("--out", help="The new file, or folder for native.")],
    from_: FormatOption = None,
    media_root: MediaRoot = None,
    split: Split = None,
    unpack: Annotated[
        Path | None,
        typer.Option(
            "--unpack", help="table, webdataset, mimicit, mavis: the new folder for the pictures within the files."
        ),
    ] = None,
    language: Language = None,
    keep_paths: Annotated[
        bool, typer.Option("--keep-paths", help="Leave media paths as they are. Default: they lead on to their files.")
    ] = False,
    image_position: Annotated[
        str | None, typer.Option("--image-position", help="llava: keep, or first as LLaVA's training code does.")
    ] = None,
    duplicate_ids: Annotated[
        str | None, typer.Option("--duplicate-ids", help="What a repeated id does: error, or number for 17, 17#2.")
    ] = None,
) -> None:
    """Write a data set in another format. Media files stay where they are.

    Example: `mminstruct data convert runs/easy-vqa --to llava --out runs/easy-vqa.json`
    """
    from mminstruct import formats
    from mminstruct.errors import ConfigError
    from mminstruct.files import new_folder

    given = {
        "image_position": image_position,
        "duplicate_ids": duplicate_ids,
        "split": split,
        "language": language,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    target = formats.named(to)
    from_ = from_ or formats.detect(source)
    within = formats.embeds(source, from_, options)
    if within and (unpack is None or media_root is not None):
        raise ConfigError(
            f"the pictures of {source} stand within its files; say where to write them with --unpack alone"
        )
    if unpack is not None and not within:
        raise ConfigError(f"the pictures of {source} are files already; leave --unpack out")

    def write(folder: Path | None) -> int:
        conversations = formats.read(source, from_, unpack=folder, **options)
        if not keep_paths:
            new_root = out if target.is_folder else out.parent
            conversations = formats.relocate(conversations, unpack or formats.media_root(source, media_root), new_root)
        return formats.write(conversations, out, to)

    if unpack is None:
        count = write(None)
    else:
        with new_folder(unpack) as folder:
            count = write(folder)
    typer.echo(f"{out}: {count:,} conversations")


@app.command()
def stats(
    source: Source,
    from_: FormatOption = None,
    media_root: MediaRoot = None,
    split: Split = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count conversations, turns and images, and say how long the texts are.

    Example: `mminstruct data stats runs/easy-vqa`
    """
    from mminstruct import formats
    from mminstruct.formats.stats import statistics

    options: dict[str, Any] = {} if split is None else {"split": split}
    conversations = formats.read(source, from_, **options)
    found = dataclasses.asdict(statistics(conversations, formats.media_root(source, media_root)))
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("figure", "value")
    for name, value in found.items():
        for key, figure in (value if isinstance(value, dict) else {"": value}).items():
            # `Text`, since a task of somebody's data may look like markup.
            table.add_row(Text(f"{name.replace('_', ' ')} {key}".strip()), f"{figure:,}")
    Console().print(table)
