"""`mminstruct serve`: checkpoints behind an API that OpenAI's clients understand."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mminstruct.cli.device import Device
from mminstruct.cli.models import open_models

if TYPE_CHECKING:
    from mminstruct.media.gate import Gate
    from mminstruct.serving.lock import Secrets
    from mminstruct.serving.settings import Limits

Models = Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Folders of checkpoints.", show_default=False)]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option("--api-key-file", help="A file with a key on each line; clients of the API then have to send one."),
]
AllowUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-url",
        metavar="HOST",
        help="Fetch pictures and videos by URL from this host; may be repeated. Without it only data: URIs are opened.",
    ),
]
MaxWaiting = Annotated[int, typer.Option("--max-waiting", help="Requests that may wait; one more is refused.")]
Batch = Annotated[
    int | None,
    typer.Option("--batch", help="Answers made side by side.", show_default="16 in 32 bits, 1 in half precision"),
]
KeptMemory = Annotated[
    str, typer.Option("--kept-memory", help="For keys and values of past prompts, which the next turn begins with.")
]


def serve(
    models: Models,
    host: Annotated[str, typer.Option(help="Address to serve on; one that others reach wants --api-key-file.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.")] = 8000,
    api_key_file: ApiKeyFile = None,
    device: Device = "auto",
    allow_url: AllowUrl = None,
    max_waiting: MaxWaiting = 64,
    batch: Batch = None,
    kept_memory: KeptMemory = "1gb",
    max_seconds: Annotated[float, typer.Option(help="The longest that one answer may take.")] = 600.0,
) -> None:
    """Serve an API that OpenAI's clients understand: /v1/chat/completions, /v1/models, /health, /metrics.

    Example: `mminstruct serve runs/quickstart/model --port 8000`
    """
    require_server()
    from mminstruct.serving.doors import Doors, doors
    from mminstruct.serving.lock import read_keys
    from mminstruct.serving.server import reserve, served, wait_for_interrupt

    limits = read_limits(max_waiting, batch, kept_memory)
    entrance = doors(Doors.of(host, keys=read_secrets(api_key_file, read_keys)))
    address = reserve(host, port)
    gate = open_gate(allow_url)

    with open_models(models, device, limits=limits) as loaded:
        from mminstruct.serving.api.app import create_app

        app = create_app(loaded, gate, max_seconds=max_seconds, middleware=entrance)
        with served(app, address):
            names = ", ".join(loaded)
            typer.echo(f"{names} {'answers' if len(loaded) == 1 else 'answer'} at {address.url}/v1  (Ctrl-C ends it)")
            wait_for_interrupt()


def require_server() -> None:
    """Raises `RunError` where the packages that a server needs are not installed."""
    import importlib.util

    from mminstruct.errors import RunError

    missing = [name for name in ("fastapi", "prometheus_client", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(
            f"serving needs {', '.join(missing)}, which is not installed; run: pip install 'mminstruct[serve]'"
        )


def read_limits(max_waiting: int, batch: int | None, kept_memory: str) -> Limits:
    """What each engine allows. Raises `ConfigError` for numbers out of range."""
    from mminstruct.cli.sizes import read_size
    from mminstruct.config import validate
    from mminstruct.serving.settings import Limits

    kept = read_size(kept_memory, "--kept-memory")
    return validate(Limits, {"waiting": max_waiting, "batch": batch, "kept_bytes": kept}, where="options")


def open_gate(allow_url: list[str] | None) -> Gate:
    """What opens the media of requests. Raises `ConfigError` for a host that is none."""
    from mminstruct.media.fetch import Fetcher
    from mminstruct.media.gate import Gate

    return Gate(fetch=Fetcher(allow_url) if allow_url else None)


def read_secrets(path: Path | None, read: Callable[[Path], Secrets]) -> Secrets | None:
    """What `read` makes of a file, if one is given; one that others can read gets a warning. Raises `ConfigError`."""
    if path is None:
        return None
    secrets = read(path)
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        typer.secho(f"warning: others on this computer can read {path}; run: chmod 600 {path}", fg="yellow", err=True)
    return secrets
