"""`mminstruct demo`: checkpoints on a page in the browser, and behind the API beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mminstruct.cli.chat import Instruction, System
from mminstruct.cli.device import Device
from mminstruct.cli.models import BaseUrl, KeyVariable, ServedModels, open_models
from mminstruct.cli.serve import (
    AllowUrl,
    ApiKeyFile,
    Batch,
    KeptMemory,
    MaxWaiting,
    open_gate,
    read_limits,
    read_secrets,
)
from mminstruct.errors import ConfigError


def demo(
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL...", help="Folders of checkpoints.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address that the page is served on; one that others reach wants --password-file.")
    ] = "127.0.0.1",
    password_file: Annotated[
        Path | None, typer.Option(help="A file with a password on each line; visitors have to know one.")
    ] = None,
    api_key_file: ApiKeyFile = None,
    max_file_size: Annotated[str, typer.Option(help="The largest upload.")] = "20mb",
    system: System = None,
    instruction: Instruction = None,
    device: Device = "auto",
    base_url: BaseUrl = None,
    served_model: ServedModels = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    allow_url: AllowUrl = None,
    max_waiting: MaxWaiting = 64,
    batch: Batch = None,
    kept_memory: KeptMemory = "1gb",
    flags: Annotated[
        Path | None, typer.Option(help="A folder that conversations are written to which visitors flag.")
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(help="A file (.jsonl) that votes between two models are written to.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Chat on a page in the browser, served to this computer only. Two models can be compared side by side.

    The same port has the API of `mminstruct serve`.

    Example: `mminstruct demo runs/quickstart/model --port 7861`
    """
    from mminstruct import catalog
    from mminstruct.cli.sizes import read_size

    app = catalog.module(catalog.DEMO, "app")
    app.require_gradio()
    from mminstruct.serving.doors import Doors
    from mminstruct.serving.lock import read_keys, read_passwords
    from mminstruct.serving.server import reserve, wait_for_interrupt

    size = read_size(max_file_size, "--max-file-size")
    limits = read_limits(max_waiting, batch, kept_memory)
    keys, passwords = read_secrets(api_key_file, read_keys), read_secrets(password_file, read_passwords)
    if keys is not None and passwords is None:
        raise ConfigError("--api-key-file would lock the page too, where no key can be typed; add --password-file")
    entrance = Doors.of(host, keys, passwords)
    address = reserve(host, port)
    gate = open_gate(allow_url)
    with open_models(models or [], device, base_url, served_model or (), key_variable, limits) as loaded:
        from mminstruct.serving.chat import Framing

        framing = Framing(system, instruction)
        with app.running(loaded, address, framing, size, flags, votes, gate, entrance):
            names = ", ".join(loaded)
            typer.echo(f"{names} {'is' if len(loaded) == 1 else 'are'} at {address.url}  (Ctrl-C ends it)")
            if open_browser:
                typer.launch(address.url)
            wait_for_interrupt()
