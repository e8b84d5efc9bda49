"""`mminstruct eval` runs benchmarks on a checkpoint."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mminstruct.cli.device import Device, pick
from mminstruct.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table


def run_in_place(file: str) -> None:
    """What a file of `eval/` does when it is run: `python eval/vqa.py ...` is `mminstruct eval eval/vqa.py ...`."""
    from mminstruct.cli.app import main

    sys.argv = ["mminstruct", "eval", file, *sys.argv[1:]]
    main()


def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="BENCHMARK... [KEY=VALUE...]", help="Benchmarks by name or file, and their options."),
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", help="The checkpoint folder.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for the results. Default: beside the model, MODEL-eval-BENCHMARK."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Prompts generated together.")] = 64,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Ask only the first so many questions.")] = None,
    blank: Annotated[bool, typer.Option("--blank/--no-blank", help="Also run the control with grey images.")] = True,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="List the benchmarks.")] = False,
) -> None:
    """Run benchmarks on a model: predictions, report.json and report.html.

    Example: `mminstruct eval easy-vqa --model runs/quickstart/model`

    With your own questions: `mminstruct eval vqa file=questions.jsonl --model runs/quickstart/model`
    """
    if list_them:
        _list(as_json)
        return
    names = [item for item in arguments or () if "=" not in item]
    overrides = [item for item in arguments or () if "=" in item]
    if not names:
        raise ConfigError("no benchmark given; name one or more of: mminstruct eval --list")
    if model is None:
        raise ConfigError("no model given; add --model with a checkpoint folder")

    from mminstruct.evaluation.benchmark import load_benchmark
    from mminstruct.files import require_new

    benchmarks = [load_benchmark(name, overrides) for name in names]
    keys = [benchmark.key for benchmark in benchmarks]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"a benchmark is named twice ({', '.join(keys)}); name each once")
    out = out or model.resolve().with_name(f"{model.resolve().name}-eval-{'-'.join(b.name for b in benchmarks)}")
    require_new(out)

    from mminstruct.evaluation.facts import model_facts
    from mminstruct.evaluation.report import write_report
    from mminstruct.evaluation.results import run_benchmark
    from mminstruct.models.checkpoint import load

    start = time.perf_counter()
    network, processor = load(model, device=pick(device))
    seconds = {"load": time.perf_counter() - start}
    results = []
    for benchmark in benchmarks:
        began = time.perf_counter()
        with report_progress(benchmark.name) as progress:
            results.append(
                run_benchmark(
                    network,
                    processor,
                    benchmark,
                    batch_size=batch_size,
                    limit=limit,
                    blank=blank,
                    folder=out / benchmark.key,
                    progress=progress,
                )
            )
        seconds[benchmark.key] = time.perf_counter() - began
    report = write_report(out, results, seconds=seconds, model_facts=model_facts(network, processor, model))
    if as_json:
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        for numbers in report["benchmarks"].values():
            show_table(results_table(numbers))
        typer.echo(f"report: {out / 'report.html'}")


def _list(as_json: bool) -> None:
    from rich.table import Table

    from mminstruct import catalog
    from mminstruct.evaluation.benchmark import benchmark_class

    classes = [benchmark_class(name) for name in catalog.names(catalog.BENCHMARK)]
    if as_json:
        rows = [{"name": each.name, "summary": each.summary, "scorer": each.primary_scorer} for each in classes]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("benchmark", "scorer", "what it asks")
    for each in classes:
        table.add_row(each.name, each.primary_scorer, each.summary)
    show_table(table)


def results_table(numbers: dict[str, Any]) -> Table:
    """A benchmark's numbers, one row for all questions and one for each type."""
    from rich.table import Column, Table

    from mminstruct.evaluation.report import percent, points

    columns = ("questions", "accuracy", "std. error", "grey images", "majority")
    table = Table("type", *(Column(name, justify="right") for name in columns), title=numbers["name"])
    for kind, row in [("all", numbers), *numbers["by_type"].items()]:
        table.add_row(
            kind,
            f"{row['n']:,}",
            percent(row["accuracy"]),
            points(row["stderr"]),
            percent(row["blank_image_accuracy"]),
            percent(row["majority_accuracy"]),
            end_section=kind == "all",
        )
    return table


def show_table(table: Table) -> None:
    """Print a table on stdout."""
    from rich.console import Console

    Console().print(table)


@contextmanager
def report_progress(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with an estimate on stderr, one task for each phase."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def update(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(f"{name}: {phase}", total=total)
            bar.update(tasks[phase], completed=done)

        yield update
