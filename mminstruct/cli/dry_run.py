"""`mminstruct train --dry-run`: what `mminstruct.training.dry_run` finds, as tables or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mminstruct.training.config import Recipe
    from mminstruct.training.dry_run import StageEstimate


def print_estimates(recipe: Recipe, processes: int, as_json: bool) -> None:
    from mminstruct.training.dry_run import dry_run

    stages = dry_run(recipe, processes)
    if as_json:
        found = []
        for stage in stages:
            memory = {name: asdict(one) | {"total": one.total} for name, one in stage.memory.items()}
            found.append(asdict(stage) | {"memory": memory})
        typer.echo(json.dumps({"recipe": recipe.name, "processes": processes, "stages": found}))
        return
    for stage in stages:
        _print(stage, recipe, processes)


def _print(stage: StageEstimate, recipe: Recipe, processes: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    typer.echo(f"stage {stage.name}, {processes} process{'es' if processes > 1 else ''}, {recipe.precision}")
    parts = Table("part", "kind", "trainable", "of", "share")
    for row in stage.parts:
        parts.add_row(row.part, row.kind, f"{row.trainable:,}", f"{row.total:,}", f"{row.share:.2%}")
    console.print(parts)
    if stage.steps is not None:
        steps = stage.steps
        for name, value in (
            ("optimiser steps", f"{steps.optimizer_steps:,}"),
            ("micro-batches", f"{steps.micro_batches:,}"),
            ("conversations", f"{steps.conversations:,}, {steps.conversations_per_epoch:,} an epoch"),
            ("tokens a step", f"{steps.tokens.mean:,.1f}, at most {steps.tokens.most:,}"),
            ("supervised tokens a step", f"{steps.supervised.mean:,.1f}, at most {steps.supervised.most:,}"),
            ("rows filled", f"{steps.filled:.2%}"),
        ):
            typer.echo(f"{name}: {value}")
    if stage.time is not None:
        typer.echo(
            f"time: {stage.time.step:.3g} s a step, {stage.time.run / 3600:.3g} h in all, by two micro-batches on this "
            f"machine's {stage.time.device}; communication and waiting for data come on top"
        )
    if stage.memory:
        terms = ("weights", "gradients", "optimizer", "activations", "libraries", "holes", "total", "RAM")
        memory = Table("GB", *terms, box=box.SIMPLE_HEAD, padding=0, show_edge=False)
        for name, one in stage.memory.items():
            own = (one.weights, one.gradients, one.optimizer, one.activations, one.libraries, one.holes)
            memory.add_row(name, *(f"{value / 1e9:.2f}" for value in (*own, one.total, one.host)))
        console.print(memory)
        typer.echo(
            f"GB a process; activations of the largest micro-batch, {stage.micro_batch_tokens:,} tokens; RAM: "
            "what of the total is offloaded"
        )
    for note in stage.notes:
        typer.echo(f"note: {note}")
