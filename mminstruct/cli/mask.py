"""`mminstruct data mask`: which tokens of a data set a loss is taken on, to look at or as JSON."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any, get_args

import typer


def mask(
    source: Annotated[Path, typer.Argument(help="A data set: a folder that mminstruct built, a JSON or JSONL file.")],
    template: Annotated[str, typer.Option(help="plain, vicuna_v1, llama_2, chatml or tokenizer.")],
    tokenizer: Annotated[Path, typer.Option(help="A folder with a tokenizer, e.g. a checkpoint.")],
    system: Annotated[str | None, typer.Option(help="A system text in place of the template's own.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="The format. Default: seen by content.")] = None,
    image_position: Annotated[
        str | None, typer.Option("--image-position", help="llava: keep, or first as LLaVA's training code does.")
    ] = None,
    loss: Annotated[str, typer.Option(help="response, response+instruction or all.")] = "response",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first samples.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per sample: id, input_ids (-200: image), labels (-100).")
    ] = False,
) -> None:
    """Show which tokens are supervised: in colour, between « and », the rest dimmed.

    Example: `mminstruct data mask data.json --template vicuna_v1 --tokenizer runs/quickstart/model`
    """
    from transformers import AutoTokenizer

    from mminstruct import formats
    from mminstruct.chat_template import Loss, Supervision, TemplateConfig, get
    from mminstruct.errors import ConfigError, DataError, did_you_mean

    supervision = next((Supervision(known) for known in get_args(Loss) if known == loss), None)
    if supervision is None:
        raise ConfigError(f"no loss is called {loss!r}.{did_you_mean(loss, get_args(Loss))}")
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{tokenizer} holds no tokenizer that can be read: {error}") from None
    chosen = get(TemplateConfig(name=template, system=system), loaded)
    options: dict[str, Any] = {} if image_position is None else {"image_position": image_position}
    for conversation in itertools.islice(formats.read(source, from_, **options), limit):
        try:
            encoded = chosen.encode(conversation.messages, loaded, supervision=supervision)
        except DataError as error:
            raise DataError(f"conversation {conversation.id!r}: {error}") from None
        if as_json:
            line = {"id": conversation.id, "input_ids": encoded.input_ids, "labels": encoded.labels}
            typer.echo(json.dumps(line))
        else:
            _print(conversation.id, encoded, loaded)


def _print(name: str, encoded: Any, tokenizer: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    from mminstruct.chat_template import IGNORE, IMAGE

    text = Text(f"{name}  ", style="bold")
    text.append(f"{encoded.supervised} of {len(encoded.input_ids)} tokens supervised\n", style="not bold")
    previous = False
    for token, label in [*zip(encoded.input_ids, encoded.labels, strict=True), (None, IGNORE)]:
        supervised = label != IGNORE
        if supervised != previous:
            text.append("«" if supervised else "»", style="green")
        previous = supervised
        if token is None:
            break
        piece = "[image]" if token == IMAGE else _spell(token, tokenizer)
        text.append(piece, style="bold green" if supervised else "cyan" if token == IMAGE else "dim")
    Console().print(text, "", sep="\n", soft_wrap=True)


def _spell(token: int, tokenizer: Any) -> str:
    """A token as a person reads it: its spaces kept, its line feeds shown."""
    piece = str(tokenizer.convert_ids_to_tokens(token))
    return piece.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "⏎\n").replace("<0x0A>", "⏎\n")
