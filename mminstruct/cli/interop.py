"""`mminstruct zoo import | export | verify`: checkpoints of other projects, and whether one of ours is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def import_model(
    source: Annotated[Path, typer.Argument(help="A local folder (LLaVA, InstructBLIP, Idefics), or checkpoint.pt.")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to write.")],
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="hf-llava, hf-llava-next, hf-instructblip, llava, hf-idefics, open-flamingo; default: as found.",
        ),
    ] = None,
    vision_tower: Annotated[
        Path | None, typer.Option(help="llava, open-flamingo: a local folder of the vision tower.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="llava's LoRA or projector alone, open-flamingo: a local folder of its language model."),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(help="The template it was trained with: vicuna_v1 for LLaVA-1.5, idefics, open_flamingo."),
    ] = None,
) -> None:
    """Turn a LLaVA, Idefics or OpenFlamingo checkpoint into one that trains, evaluates and chats here.

    Example: mminstruct zoo import llava-1.5-7b-hf --chat-template vicuna_v1 --out runs/llava
    """
    from mminstruct.files import require_new

    require_new(out)
    from mminstruct.models import interop

    name = interop.import_checkpoint(source, out, format_name, vision_tower, base, chat_template)
    typer.echo(f"format: {name}\nsaved: {out}")


def export_model(
    model: Annotated[Path, typer.Argument(help="A checkpoint folder of this project.")],
    format_name: Annotated[
        str, typer.Option("--format", help="hf-llava, hf-llava-next, hf-instructblip, llava or hf-idefics.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
) -> None:
    """Write a checkpoint as transformers' LLaVA or Idefics, or as the original LLaVA's folder.

    Example: mminstruct zoo export runs/finetune --format hf-llava --out runs/finetune-hf
    """
    from mminstruct.files import require_new

    require_new(out)
    from mminstruct.models import interop

    interop.export_checkpoint(model, out, format_name)
    typer.echo(f"format: {format_name}\nsaved: {out}")


def verify_model(
    model: Annotated[Path, typer.Argument(help="A checkpoint folder of this project.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read every tensor of a checkpoint: none missing or left over, shapes right, every number finite.

    Example: mminstruct zoo verify runs/finetune
    """
    from mminstruct.errors import CheckpointError
    from mminstruct.models import interop

    report = interop.verify(model)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    if report.problems:
        more = f" (and {len(report.problems) - 1} more; --json lists them)" if len(report.problems) > 1 else ""
        raise CheckpointError(f"{model}: {report.problems[0]}{more}")
    if not as_json:
        typer.echo(f"{report.tensors} tensors, {report.parameters:,} parameters, {', '.join(report.dtypes)}: all well")
