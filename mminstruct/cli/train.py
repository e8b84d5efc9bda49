"""`mminstruct train`: run a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mminstruct import catalog

if TYPE_CHECKING:
    from mminstruct.training.config import Recipe, ValidationConfig
    from mminstruct.training.validation import Score

ASKED_TOGETHER = 64  # prompts, as in `mminstruct eval`


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

    result = run(recipe, out or Path("runs") / recipe.name, resume, scores(recipe))
    if as_json:
        typer.echo(json.dumps({"model": str(result.model), "seconds": result.seconds, "trainable": result.trainable}))
        return
    for stage, parts in result.trainable.items():
        learnt = ", ".join(f"{part} {count:,}" for part, count in parts.items() if count)
        typer.echo(f"stage {stage}: {result.seconds[stage]:.0f} s, parameters that learnt: {learnt}")
    typer.echo(f"model: {result.model}")


def scores(recipe: Recipe) -> dict[str, Score]:
    """What asks the models of the stages that are to answer while they train; training itself knows no benchmark.

    Raises:
        ConfigError: no such benchmark, or options that it does not have.
        DataError: a benchmark's questions are missing.
    """
    return {
        stage.name: _score(stage.validation)
        for stage in recipe.stages
        if stage.validation is not None and stage.validation.asks
    }


def _score(validation: ValidationConfig) -> Score:
    from mminstruct.config import validate
    from mminstruct.evaluation.adapters.zoo import ZooAdapter
    from mminstruct.evaluation.answering import answer_shares
    from mminstruct.evaluation.benchmark import benchmark_class
    from mminstruct.evaluation.results import run_benchmark

    benchmarks = []
    for name, config in validation.benchmarks.items():
        found = benchmark_class(name)
        benchmark = found(validate(found.Options, config.options, where=f"options of {found.name}"))
        benchmark.questions(config.limit)  # what is missing is said before anything trains
        benchmarks.append((benchmark, config.limit))

    def score(model: Any, processor: Any, held_out: Any) -> dict[str, float]:
        measured = {}
        for benchmark, limit in benchmarks:
            result = run_benchmark(ZooAdapter(model, processor), benchmark, limit=limit, blank=False)
            measured[f"{benchmark.key}.accuracy"] = result.accuracy
        if validation.answers is not None:
            asked = validation.answers.model_dump()
            measured |= answer_shares(model, processor, held_out, **asked, batch_size=ASKED_TOGETHER)
        return measured

    return score


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
