"""`mminstruct data check`, `card` and `view`: look at a data set before a model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mminstruct.inspection.check import Report
    from mminstruct.inspection.repair import Repaired

Source = Annotated[Path, typer.Argument(help="A data set: a folder or a file of a format of docs/formats.md.")]
FormatOption = Annotated[str | None, typer.Option("--from", help="The format of the source. Default: seen by content.")]
MediaRoot = Annotated[
    Path | None,
    typer.Option("--media-root", help="The folder that the source's media paths start from. Default: the source's."),
]
Split = Annotated[str | None, typer.Option("--split", help="table: the split, where there are several.")]
Calls = Annotated[Path | None, typer.Option("--calls", help="The log of replies. Default: the data set's own, if any.")]
_SHOWN = 5  # findings of each kind in a terminal


def check(
    source: Source,
    from_: FormatOption = None,
    media_root: MediaRoot = None,
    split: Split = None,
    against: Annotated[
        list[Path] | None, typer.Option("--against", help="A data set whose pictures must not be in it; repeatable.")
    ] = None,
    radius: Annotated[
        int, typer.Option(min=0, max=20, help="Bits of 64 in which pictures that look alike differ.")
    ] = 8,
    workers: Annotated[int, typer.Option(min=1, help="Media that are opened side by side.")] = 4,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="The largest picture.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="The largest file of a picture.")] = None,
    calls: Calls = None,
    most: Annotated[int, typer.Option(min=1, help="Findings of each kind that are listed; all are counted.")] = 1000,
    repair: Annotated[
        Path | None, typer.Option("--repair", help="A new folder for a data set without what is wrong.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find what is wrong with a data set: media, turns, ids, answers that are cut off, pictures of a test set.

    Exit code 0: nothing; 1: something was found; 2: it cannot be read.

    Example: `mminstruct data check llava_v1_5.json --media-root /data --against runs/test --repair runs/mended`
    """
    from mminstruct.files import require_new
    from mminstruct.inspection.check import CheckConfig
    from mminstruct.inspection.check import check as run
    from mminstruct.inspection.repair import notes
    from mminstruct.inspection.repair import repair as mend

    given: dict[str, Any] = {"max_pixels": max_pixels, "max_bytes": max_bytes}
    config = CheckConfig(
        format=from_,
        media_root=media_root,
        split=split,
        workers=workers,
        against=tuple(against or ()),
        radius=radius,
        most=most,
        calls=calls,
        **{name: value for name, value in given.items() if value is not None},
    )
    if repair is not None:
        require_new(repair)
    report = run(source, config)
    done = None if repair is None else mend(source, repair, config, report)
    if as_json:
        found: dict[str, Any] = {
            "items": report.items,
            "media": report.media,
            "counts": dict(sorted(report.findings.counts.items())),
            "findings": [one.fields() for one in report.findings.kept],
        }
        if done is not None:
            found["repaired"] = notes(report, done)
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _show(source, report)
        if done is not None:
            _show_repaired(repair, done)
    if not report.clean:
        raise typer.Exit(1)


def _show(source: Path, report: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mminstruct.inspection.findings import KINDS

    counted = [f"{count:,} {kind}s" for kind, count in report.media.items() if count]
    typer.echo(f"{source}: {report.items:,} conversations, {', '.join(counted) or 'no media'}")
    if report.clean:
        typer.echo("nothing found")
        return
    shown: dict[str, int] = {}
    for one in report.findings.kept:
        shown[one.code] = shown.get(one.code, 0) + 1
        if shown[one.code] <= _SHOWN:
            name = f" ({one.id})" if one.id is not None and one.id not in one.where else ""
            uses = f" [{one.uses:,} conversations]" if one.uses > 1 else ""
            typer.echo(f"{one.where}{name}: {one.code}: {one.what}{uses}")
        elif shown[one.code] == _SHOWN + 1:
            typer.echo(f"... {report.findings.counts[one.code] - _SHOWN:,} more of {one.code}; --json lists them")
    table = Table("code", "found", "what", "what to do")
    for code, count in sorted(report.findings.counts.items()):
        table.add_row(Text(code), f"{count:,}", KINDS[code].what, KINDS[code].repair)
    Console().print(table)


def _show_repaired(out: Path | None, done: Repaired) -> None:
    typer.echo(f"{out}: {done.kept:,} conversations, {done.left_out:,} left out")
    for code, count in sorted(done.mended.items()):
        typer.echo(f"  mended: {code}, {count:,} times")


def card(
    source: Source,
    out: Annotated[Path | None, typer.Option("--out", help="A new file. Default: print it.")] = None,
    from_: FormatOption = None,
    split: Split = None,
    calls: Calls = None,
    prices: Annotated[
        Path | None,
        typer.Option("--prices", help="A YAML file of prices, for what the replies cost; needs --model."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model's name in the file of prices.")] = None,
) -> None:
    """Write a data set's card: counts, licences, sources, how it was built, distributions, examples.

    Example: `mminstruct data card llava_v1_5.json --out README.md`
    """
    from mminstruct.building.limits import read_price
    from mminstruct.errors import RunError
    from mminstruct.files import write_text
    from mminstruct.inspection.cards import card_of

    if out is not None and out.exists():
        raise RunError(f"{out} already exists; give another name or remove it")
    price = None if prices is None else read_price(prices, model or "")
    text = card_of(source, from_, {} if split is None else {"split": split}, calls=calls, price=price)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
    typer.echo(str(out))


def view(
    source: Source,
    from_: FormatOption = None,
    media_root: MediaRoot = None,
    split: Split = None,
    calls: Calls = None,
    each: Annotated[int, typer.Option("--each", min=1, max=200, help="Conversations on a page.")] = 10,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, help="The port; 0 picks a free one.")] = 7861,
    allow_public: Annotated[
        bool, typer.Option("--allow-public", help="Let other computers see the data set, with --host.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write a page of its own of some conversations instead.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="--export: how many, spread evenly.")] = 20,
) -> None:
    """Look through a data set in the browser: media with their evidence, pairs side by side, what was asked.

    Example: `mminstruct data view runs/llava`
    """
    import tempfile

    from mminstruct.building.logged import LoggedCalls
    from mminstruct.errors import RunError
    from mminstruct.files import write_text
    from mminstruct.inspection import page
    from mminstruct.inspection.records import open_records
    from mminstruct.inspection.viewer import Server, Viewer

    if export is not None and export.exists():
        raise RunError(f"{export} already exists; give another name or remove it")
    own = source / "calls.sqlite"
    log = LoggedCalls(calls or own) if calls is not None or own.is_file() else None
    with tempfile.TemporaryDirectory(prefix="mminstruct-") as cache:
        options: dict[str, Any] = {} if split is None else {"split": split}
        records = open_records(source, Path(cache), from_, options, media_root)
        if export is not None:
            count = min(samples, len(records))
            numbers = [number * len(records) // count for number in range(count)]
            write_text(export, page.export(records, source.name, numbers, log))
            typer.echo(f"{export}: {count:,} of {len(records):,} conversations")
            return
        with Server(Viewer(records, source.name, log, each), host, port, allow_public) as server:
            typer.echo(f"{server.url} shows {len(records):,} conversations; Ctrl-C ends it")
            server.serve_forever()
