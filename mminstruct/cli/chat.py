"""`mminstruct chat`: talk with a checkpoint, or with a model behind a server, in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mminstruct.cli.models import BaseUrl, KeyVariable, ServedModels, open_models

OptionalModel = Annotated[
    Path | None, typer.Argument(metavar="MODEL", help="Folder of a checkpoint; not with --base-url.")
]
System = Annotated[str | None, typer.Option(help="Text to use as the system message, for the chat template's own.")]
Instruction = Annotated[
    str | None, typer.Option(help="Text to put before the first question, for models that were trained to be told so.")
]
Device = Annotated[
    str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")
]


def chat(
    model: OptionalModel = None,
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
    base_url: BaseUrl = None,
    served_model: ServedModels = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    json_lines: Annotated[bool, typer.Option("--json", help="Print each answer as one JSON object.")] = False,
) -> None:
    """Chat in the terminal. Ctrl-C stops an answer, /help lists the commands; lines may also come from a pipe.

    Example: `mminstruct chat runs/quickstart/model --image shapes.png --question "What color is the circle?"`
    """
    from mminstruct.config import validate
    from mminstruct.errors import ConfigError
    from mminstruct.serving.chat import ChatSession, Framing
    from mminstruct.serving.settings import GenerationSettings
    from mminstruct.serving.terminal import Terminal, typed_lines

    values = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    settings = validate(GenerationSettings, values, where="options")
    interactive = question is None and sys.stdin.isatty()
    if model is not None and base_url is not None:
        raise ConfigError("one model answers here; give the folder of a checkpoint or --base-url, not both")
    folders = [] if model is None else [model]
    with open_models(folders, device, base_url, served_model or (), key_variable) as models:
        name = models.first
        session = ChatSession(models[name], Framing(system, instruction))
        terminal = Terminal(session, settings, interactive, json_lines)
        if image:
            terminal.add_images(image)
        if question is not None:
            terminal.ask(question)
        elif interactive:
            terminal.note(f"{model or name} answers. /help lists the commands.")
            terminal.run(typed_lines())
        else:
            terminal.run(sys.stdin)
