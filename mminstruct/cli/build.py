"""`mminstruct build`: images and their annotations into conversations."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mminstruct.errors import ConfigError

if TYPE_CHECKING:
    from mminstruct.building import BuildConfig, Builder, Progress
    from mminstruct.building.clients import LanguageModelClient
    from mminstruct.building.limits import Price
    from mminstruct.formats.native import Manifest

Backend = Literal["template", "openai", "batch", "transformers", "replay"]
_MODEL = "The model that is asked"
_LIMITS = "Limits"


def build(
    builder: Annotated[str, typer.Argument(metavar="BUILDER", help="A builder's name or file, or: list, join.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="The builder's options, e.g. split=test.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A new folder for the data set.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a build that did not end.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try the items again that an ended build had left out.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Build the first so many items, to look at them.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Build only share I of N, from 0 on; build join makes one of all.")
    ] = None,
    ray: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Build N shares on a Ray cluster, then join them.")
    ] = None,
    ray_address: Annotated[str | None, typer.Option(help="Of a running cluster, if not Ray's own choice.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Items that are made side by side.")] = 1,
    on_error: Annotated[
        Literal["raise", "skip"], typer.Option(help="Stop at an item that cannot be used, or leave it out.")
    ] = "raise",
    max_errors: Annotated[int, typer.Option(min=0, help="How many may be left out.")] = 100,
    backend: Annotated[
        Backend,
        typer.Option(help="What answers the builder's questions.", rich_help_panel=_MODEL),
    ] = "template",
    model: Annotated[
        str | None, typer.Option(help="Its name at the server, or its folder (transformers).", rich_help_panel=_MODEL)
    ] = None,
    base_url: Annotated[
        list[str] | None, typer.Option(help="The server's address, e.g. .../v1; several share.", rich_help_panel=_MODEL)
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="The environment's variable with the server's key.", rich_help_panel=_MODEL)
    ] = "OPENAI_API_KEY",
    poll: Annotated[
        float, typer.Option(min=0, help="batch: seconds between two looks at it.", rich_help_panel=_MODEL)
    ] = 60.0,
    device: Annotated[str, typer.Option(help="transformers: cpu, cuda, mps.", rich_help_panel=_MODEL)] = "cpu",
    timeout: Annotated[float, typer.Option(help="Seconds for one answer.", rich_help_panel=_MODEL)] = 120.0,
    calls: Annotated[
        Path | None, typer.Option(help="The log of replies, if not the build's own.", rich_help_panel=_MODEL)
    ] = None,
    temperature: Annotated[float | None, typer.Option(min=0, rich_help_panel=_MODEL)] = None,
    top_p: Annotated[float | None, typer.Option(rich_help_panel=_MODEL)] = None,
    max_reply_tokens: Annotated[int | None, typer.Option(min=1, rich_help_panel=_MODEL)] = None,
    reply_seed: Annotated[
        int | None, typer.Option(help="For servers that can draw a reply again.", rich_help_panel=_MODEL)
    ] = None,
    requests_per_minute: Annotated[float | None, typer.Option(rich_help_panel=_LIMITS)] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(rich_help_panel=_LIMITS)] = None,
    max_requests: Annotated[int | None, typer.Option(help="Budget of this run.", rich_help_panel=_LIMITS)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Budget of this run.", rich_help_panel=_LIMITS)] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Budget of this run in dollars; needs --prices.", rich_help_panel=_LIMITS)
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Budget of this run.", rich_help_panel=_LIMITS)] = None,
    prices: Annotated[Path | None, typer.Option(help="A YAML file of prices.", rich_help_panel=_LIMITS)] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would ask and cost, and build nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest, the list, ... as JSON.")] = False,
) -> None:
    """Build a data set, or list the builders.

    Example: `mminstruct build easy-vqa --out runs/easy-vqa turns=single limit=100`

    What there is to build, and with which options: `mminstruct build list`

    One data set of what --shard built: `mminstruct build join SHARE... --out DIR`
    """
    if builder == "list":
        if out is not None or options:
            raise ConfigError("build list takes neither --out nor options; leave them out, or name a builder")
        _list(as_json)
        return
    if builder == "join":
        _join(options or [], out, as_json)
        return
    if estimate and out is not None:
        raise ConfigError("--estimate builds nothing; leave --out out")
    if out is None and not estimate:
        raise ConfigError(f"no folder given for what {builder} builds; add --out DIR")

    from mminstruct.building import BuildConfig, load_builder, run
    from mminstruct.building.asking import AskingConfig
    from mminstruct.building.limits import BudgetConfig, RateConfig, read_price
    from mminstruct.building.request import Parameters
    from mminstruct.config import validate
    from mminstruct.files import require_new

    chosen = load_builder(builder, options or ())
    limits = {"requests": max_requests, "tokens": max_tokens, "cost": max_cost, "minutes": max_minutes}
    drawn = {"temperature": temperature, "top_p": top_p, "max_tokens": max_reply_tokens, "seed": reply_seed}
    config = BuildConfig(
        workers=workers,
        on_error=on_error,
        max_errors=max_errors,
        calls=calls,
        retry=retry_failed,
        asking=AskingConfig(parameters=validate(Parameters, drawn, where="the model's options")),
        budget=validate(BudgetConfig, limits, where="the budget"),
        rate=validate(
            RateConfig, {"requests": requests_per_minute, "tokens": tokens_per_minute}, where="requests and tokens"
        ),
    )
    price = None if prices is None else read_price(prices, model or "")
    if out is None:
        _estimate(chosen, price, config, backend == "batch", as_json)
        return
    client_of = functools.partial(
        _client, chosen, backend, model, base_url, key_variable, timeout, poll, device, config
    )
    if ray is not None:
        from mminstruct.building.on_ray import run_on_ray

        if shard is not None or resume or retry_failed:
            raise ConfigError("--ray makes the shares itself and goes on by itself; leave --shard and --resume out")
        manifest = run_on_ray(
            builder, options or [], out, config, ray, client=client_of, price=price, limit=limit, address=ray_address
        )
    else:
        with client_of() as client:
            if not retry_failed:
                require_new(out)  # before the work, and again when the folder appears
            with _progress(chosen, limit) as advance:
                manifest = run(
                    chosen,
                    out,
                    config,
                    client=client,
                    price=price,
                    resume=resume,
                    limit=limit,
                    share=None if shard is None else _share(shard),
                    advance=advance,
                )
    _report(out, manifest, as_json)


def _share(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ConfigError(f"--shard is {text!r}; give I/N with I from 0 to N - 1, such as 0/4")
    return int(number), int(count)


def _join(folders: list[str], out: Path | None, as_json: bool) -> None:
    from mminstruct.building.join import join

    if out is None or not folders:
        raise ConfigError("build join needs the folders of all shares, and --out DIR")
    _report(out, join([Path(folder) for folder in folders], out), as_json)


def _report(out: Path, manifest: Manifest, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False))
        return
    failed = (manifest.builder or {}).get("failed", 0)
    left_out = f", {_counted(failed, 'item')} left out (see dead-letters.jsonl)" if failed else ""
    counts = {"conversation": manifest.conversations, "image": manifest.images, "video": manifest.videos}
    held = ", ".join(_counted(count, what) for what, count in counts.items() if count)
    typer.echo(f"{out}: {held}{left_out}")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _estimate(builder: Builder, price: Price | None, config: BuildConfig, batch: bool, as_json: bool) -> None:
    import dataclasses

    from mminstruct.building.estimate import estimate

    found = estimate(builder, price, config.rate, batch=batch)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    typer.echo(
        f"{builder.name}: {found.items:,} items, about {found.requests:,} requests with {found.pictures:,} pictures, "
        f"{found.read:,} tokens to read and {found.written:,} to write "
        f"(by the first {found.sample}, pictures not counted)"
    )
    if found.cost is not None:
        each = found.cost / max(found.requests, 1)
        typer.echo(f"about ${found.cost:,.2f}, ${each:.6f} a request, by {found.priced}")
        typer.echo("without pictures, what is asked twice and what a server has cached")
    if found.minutes is not None:
        typer.echo(f"at least {_counted(max(1, round(found.minutes)), 'minute')} at this rate")


@contextlib.contextmanager
def _client(
    builder: Builder,
    backend: Backend,
    model: str | None,
    base_urls: list[str] | None,
    key_variable: str,
    timeout: float,
    poll: float,
    device: str,
    config: BuildConfig,
) -> Iterator[LanguageModelClient | None]:
    """What answers the builder's questions; None for one that asks none, and for templates."""
    if backend == "template":
        if model is not None or base_urls:
            raise ConfigError("templates take neither --model nor --base-url; add --backend openai to ask a server")
        yield None
        return
    if not builder.asks:
        raise ConfigError(f"{builder.name} asks no model; leave --backend out")
    if backend == "replay":
        from mminstruct.building.call_log import CallLog
        from mminstruct.building.clients import ReplayClient

        if config.calls is None:
            raise ConfigError("--backend replay needs the log to answer from; add --calls FILE")
        if not config.calls.is_file():
            raise ConfigError(f"{config.calls} does not exist; give the calls.sqlite of an earlier build")
        with CallLog(config.calls) as log:
            client: LanguageModelClient = ReplayClient(log, model)
    elif backend == "transformers":
        from mminstruct.building.clients import LocalClient

        if model is None or base_urls:
            raise ConfigError("--backend transformers needs --model FOLDER, and no --base-url")
        client = LocalClient(Path(model), device)
    elif backend == "batch":
        from mminstruct.building.clients import BatchClient, BatchConfig

        if model is None or len(base_urls or ()) > 1:
            raise ConfigError("--backend batch needs --model NAME, and one --base-url or none to write files only")
        server = base_urls[0] if base_urls else None
        client = BatchClient(model, server, key_variable=key_variable, config=BatchConfig(poll=poll))
    else:
        from mminstruct.building.clients import OpenAICompatibleClient

        if model is None or not base_urls:
            raise ConfigError("--backend openai needs --model NAME and --base-url ADDRESS")
        client = OpenAICompatibleClient(model, base_urls, key_variable=key_variable, timeout=timeout)
    with contextlib.closing(client):
        yield client


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
                "asks": each.asks,
                "options": {key: field.get_default() for key, field in each.Options.model_fields.items()},
            }
            for each in classes
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("builder", "what it builds", "licence", "asks a model", "options")
    for each in classes:
        asks = "yes" if each.asks else "no"
        table.add_row(each.name, each.summary, each.licence, asks, ", ".join(each.Options.model_fields))
    Console().print(table)


@contextlib.contextmanager
def _progress(builder: Builder, limit: int | None) -> Iterator[Callable[[Progress], None] | None]:
    """A bar with an estimate on stderr where a person looks at it; nothing in logs and pipes."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[spent]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        items = builder.count()
        total = items if limit is None else limit if items is None else min(items, limit)
        task = bar.add_task(builder.name, total=total, spent="")

        def advance(done: Progress) -> None:
            spent = f"{done.conversations:,} conversations"
            if done.failed:
                spent += f", {done.failed:,} failed"
            if done.requests or done.tokens:
                spent += f", {done.requests:,} requests now, {done.replies:,} replies in all, {done.tokens:,} tokens"
            if done.cost:
                spent += f", ${done.cost:.2f}"
            bar.update(task, completed=done.items, spent=spent)

        yield advance
