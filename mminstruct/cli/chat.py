"""`mminstruct chat` and `mminstruct demo`: talk with a checkpoint in the terminal or on a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mminstruct.serving.generator import Generator

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a checkpoint.", show_default=False)]
System = Annotated[str | None, typer.Option(help="Text to use as the system message, for the chat template's own.")]
Instruction = Annotated[
    str | None, typer.Option(help="Text to put before the first question, for models that were trained to be told so.")
]
Device = Annotated[
    str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
]


def chat(
    model: ModelFolder,
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", help="An image for the first question; may be repeated.")
    ] = None,
    question: Annotated[str | None, typer.Option("--question", "-q", help="Answer this and exit.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Share of the likeliest tokens that is drawn from.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampled answers repeatable.")] = None,
    system: System = None,
    instruction: Instruction = None,
    device: Device = "auto",
    json_lines: Annotated[bool, typer.Option("--json", help="Print each answer as one JSON object.")] = False,
) -> None:
    """Chat in the terminal. Ctrl-C stops an answer, /help lists the commands; lines may also come from a pipe.

    Example: `mminstruct chat runs/quickstart/model --image shapes.png --question "What color is the circle?"`
    """
    from mminstruct.config import validate
    from mminstruct.serving.chat import ChatSession, Framing
    from mminstruct.serving.settings import GenerationSettings
    from mminstruct.serving.terminal import Terminal, typed_lines

    values = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    settings = validate(GenerationSettings, values, where="options")
    interactive = question is None and sys.stdin.isatty()
    with _generator(model, device) as generator:
        terminal = Terminal(ChatSession(generator, Framing(system, instruction)), settings, interactive, json_lines)
        if image:
            terminal.add_images(image)
        if question is not None:
            terminal.ask(question)
        elif interactive:
            terminal.note(f"{model} answers. /help lists the commands.")
            terminal.run(typed_lines())
        else:
            terminal.run(sys.stdin)


def demo(
    model: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL...", help="Folders of checkpoints.", show_default=False),
    ],
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 7860,
    host: Annotated[str, typer.Option(help="Address that the page is served on.")] = "127.0.0.1",
    allow_public: Annotated[
        bool, typer.Option("--allow-public", help="Permit a --host that other computers can reach. There is no login.")
    ] = False,
    max_file_size: Annotated[str, typer.Option(help="The largest upload.")] = "20mb",
    title: Annotated[
        str | None, typer.Option(help="Name of the model on the page.", show_default="the last two folders of its path")
    ] = None,
    system: System = None,
    instruction: Instruction = None,
    device: Device = "auto",
    flags: Annotated[
        Path | None, typer.Option(help="A folder that conversations are written to which visitors flag.")
    ] = None,
    votes: Annotated[
        Path | None, typer.Option(help="A file (.jsonl) that votes between two models are written to.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Chat on a page in the browser, served to this computer only. Two models can be compared side by side.

    Example: `mminstruct demo runs/quickstart/model --port 7861`
    """
    from mminstruct import catalog
    from mminstruct.errors import ConfigError

    if title is not None and len(model) > 1:
        raise ConfigError("--title names one model, and several are given; leave it out, folders name them")
    app = catalog.module(catalog.DEMO, "app")
    app.require_gradio()
    size = app.file_size(max_file_size)
    address = app.reserve(host, port, allow_public)
    from mminstruct.serving.chat import Framing
    from mminstruct.serving.models import Models

    with Models.load(model, _place(device)) as models:
        if title is not None:
            models = Models({title: models[models.first]})
        with app.running(models, address, Framing(system, instruction), size, flags, votes):
            verb = "is" if len(models) == 1 else "are"
            typer.echo(f"{', '.join(models)} {verb} at {address.url}  (Ctrl-C ends it)")
            if open_browser:
                typer.launch(address.url)
            app.wait_for_interrupt()


def _generator(model: Path, device: str) -> Generator:
    from mminstruct.models import checkpoint
    from mminstruct.serving.generator import Generator

    return Generator(*checkpoint.load(model, device=_place(device)))


def _place(device: str) -> str:
    """The device by its name, `auto` resolved. Raises `ConfigError` where it cannot be used."""
    import torch

    from mminstruct.errors import ConfigError

    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by backend
        first = str(error).splitlines()[0]
        raise ConfigError(f"--device {device} cannot be used ({first}); leave it out, or give cpu") from None
    return name
