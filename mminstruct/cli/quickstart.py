"""`mminstruct quickstart`: one recipe from data to report: build, train, evaluate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE...]", help="Recipe settings.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe that names a builder and benchmarks.")] = "quickstart",
    out: Annotated[Path, typer.Option(help="The run's folder, new.")] = Path("runs/quickstart"),
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first so many questions.")] = None,
) -> None:
    """Real images and questions, a model trained from scratch, scored on unseen images: minutes on two CPU cores.

    Example: `mminstruct quickstart`, then `mminstruct demo runs/quickstart/model`
    """
    started = time.monotonic()
    from mminstruct import catalog
    from mminstruct.cli.eval import report_progress, results_table, show_table
    from mminstruct.cli.train import scores
    from mminstruct.config import apply_overrides, load_yaml, validate
    from mminstruct.errors import ConfigError
    from mminstruct.files import require_new
    from mminstruct.training.config import Recipe

    path = catalog.find(catalog.RECIPE, recipe)
    plan = validate(Recipe, apply_overrides(load_yaml(path), overrides or []), where=str(path))
    if not plan.evaluate:
        raise ConfigError(f"{path}: the recipe names no benchmarks (evaluate); use mminstruct train and eval")
    require_new(out)

    from mminstruct.evaluation.adapters.zoo import ZooAdapter
    from mminstruct.evaluation.benchmark import load_benchmark
    from mminstruct.evaluation.facts import checkpoint_files, checkpoint_hashes, model_facts
    from mminstruct.evaluation.report import write_report
    from mminstruct.evaluation.results import run_benchmark
    from mminstruct.models.checkpoint import load
    from mminstruct.training.run import train

    benchmarks = [load_benchmark(name) for name in plan.evaluate]
    trained = train(plan, out, scores=scores(plan))
    seconds = {"data": trained.seconds.pop("data"), "train": round(sum(trained.seconds.values()), 2)}
    for stage, spent in trained.seconds.items():
        typer.echo(f"stage {stage}: {spent:.0f} s, {sum(trained.trainable[stage].values()):,} parameters")
    began = time.monotonic()
    model, processor = load(trained.model)
    results = []
    for benchmark in benchmarks:
        with report_progress(benchmark.name) as progress:
            folder = out / benchmark.key
            results.append(
                run_benchmark(
                    ZooAdapter(model, processor),
                    benchmark,
                    limit=limit,
                    folder=folder,
                    progress=progress,
                )
            )
    seconds["evaluate"] = round(time.monotonic() - began, 2)
    seconds["total"] = round(time.monotonic() - started, 2)
    report = write_report(
        out,
        results,
        metrics_files=[out / "metrics.jsonl"],
        seconds=seconds,
        model_facts=model_facts(model, processor, trained.model),
        checkpoint=checkpoint_hashes(checkpoint_files(trained.model)),
    )
    for numbers in report["benchmarks"].values():
        show_table(results_table(numbers))
    typer.echo(f"report: {out / 'report.html'}")
    typer.echo(f"talk to it: mminstruct demo {trained.model}")
