"""`mminstruct train`: run a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mminstruct import catalog

if TYPE_CHECKING:
    from mminstruct.training.config import Recipe


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see --list) or the path of its YAML.")] = "",
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE...]", help="Settings, e.g. stages.0.epochs=2")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder; default runs/RECIPE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the resolved recipe and stop.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print parameters, steps, tokens, memory and time; train nothing.")
    ] = False,
    processes: Annotated[int, typer.Option("--processes", min=1, help="That --dry-run counts with.")] = 1,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model by a recipe.

    Example: mminstruct train quickstart stages.1.epochs=5 --out runs/longer
    """
    if list_ or not recipe:
        _list(as_json)
        return
    if dry_run:
        from mminstruct.cli.dry_run import print_estimates

        print_estimates(read_recipe(recipe, overrides or []), processes, as_json)
        return
    run_recipe(recipe, overrides or [], out, resume, show, as_json)


def read_recipe(name: str, overrides: list[str]) -> Recipe:
    """A recipe of the list or a file, with what the command line changes."""
    path = catalog.find(catalog.RECIPE, name)
    from mminstruct.config import apply_overrides, load_yaml, validate
    from mminstruct.training.config import Recipe

    return validate(Recipe, apply_overrides(load_yaml(path), overrides), where=str(path))


def run_recipe(
    name: str, overrides: list[str], out: Path | None, resume: bool = False, show: bool = False, as_json: bool = False
) -> None:
    """What `mminstruct train` and the scripts of `train/` do."""
    recipe = read_recipe(name, overrides)
    if show:
        from mminstruct.config import dump_yaml

        typer.echo(dump_yaml(recipe), nl=False)
        return
    from mminstruct.training.run import train as run

    result = run(recipe, out or Path("runs") / recipe.name, resume)
    if as_json:
        typer.echo(json.dumps({"model": str(result.model), "seconds": result.seconds, "trainable": result.trainable}))
        return
    for stage, parts in result.trainable.items():
        learnt = ", ".join(f"{part} {count:,}" for part, count in parts.items() if count)
        typer.echo(f"stage {stage}: {result.seconds[stage]:.0f} s, parameters that learnt: {learnt}")
    typer.echo(f"model: {result.model}")


def _list(as_json: bool) -> None:
    from mminstruct.config import load_yaml

    found = [(name, load_yaml(catalog.find(catalog.RECIPE, name))) for name in catalog.names(catalog.RECIPE)]
    if as_json:
        typer.echo(json.dumps([{"name": name, "summary": recipe.get("summary")} for name, recipe in found]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("recipe", "model", "summary")
    for name, recipe in found:
        table.add_row(name, str(recipe.get("model")), str(recipe.get("summary")))
    Console().print(table)
