"""`mminstruct eval` runs benchmarks on a checkpoint."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mminstruct.cli.compare import check as check_comparable
from mminstruct.cli.compare import compare_folders, compare_with
from mminstruct.cli.compare import show as show_comparison
from mminstruct.cli.device import Device
from mminstruct.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

_SERVER = "A server's model"
_JUDGE = "A judge of answers"
_CHECKED = 8  # questions that are answered alone too


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
    model: Annotated[
        str | None, typer.Option("--model", help="A checkpoint folder, of transformers too, or a server's model.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for the results. Default: beside the model, MODEL-eval-BENCHMARK."),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option("--batch-tokens", min=1, help="Tokens in one batch, answers included. Default: by the device."),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--answers", help="The file of known answers. Default: in the user's cache folder.")
    ] = None,
    reuse: Annotated[bool, typer.Option("--reuse/--no-reuse", help="Look up and keep answers in that file.")] = True,
    check: Annotated[
        int | None,
        typer.Option("--check", min=0, help="Of so many questions compare batch and alone. Default: 8; of a server 0."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Ask only the first so many questions.")] = None,
    blank: Annotated[bool, typer.Option("--blank/--no-blank", help="Also run the control with grey images.")] = True,
    page_items: Annotated[
        int, typer.Option("--page-items", min=1, help="Of so many questions of each benchmark the page shows pictures.")
    ] = 400,
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", help="The folder of an earlier evaluation on the same questions; two of them alone."),
    ] = None,
    device: Device = "auto",
    base_url: Annotated[
        list[str] | None,
        typer.Option(help="Ask a server with OpenAI's chat API, e.g. .../v1; several share.", rich_help_panel=_SERVER),
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="The environment's variable with the server's key.", rich_help_panel=_SERVER)
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[
        int, typer.Option(min=1, help="Questions that are on their way at once.", rich_help_panel=_SERVER)
    ] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds for one answer.", rich_help_panel=_SERVER)] = 120.0,
    on_error: Annotated[
        Literal["raise", "skip"],
        typer.Option(
            help="Stop at a question that the server does not answer, or count it as missing.", rich_help_panel=_SERVER
        ),
    ] = "raise",
    judge_url: Annotated[
        list[str] | None, typer.Option(help="The address of the judge's server; several share.", rich_help_panel=_JUDGE)
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Its name at the server; only judged benchmarks ask it.", rich_help_panel=_JUDGE)
    ] = None,
    judge_key_env: Annotated[
        str, typer.Option(help="The environment's variable with its key.", rich_help_panel=_JUDGE)
    ] = "OPENAI_API_KEY",
    judge_prices: Annotated[
        Path | None, typer.Option(help="A YAML file of prices, to show what it cost.", rich_help_panel=_JUDGE)
    ] = None,
    judge_calls: Annotated[
        Path | None,
        typer.Option(help="The log of its replies. Default: in the user's cache folder.", rich_help_panel=_JUDGE),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="List the benchmarks.")] = False,
) -> None:
    """Run benchmarks on a model: predictions, report.json and report.html.

    Example: `mminstruct eval easy-vqa --model runs/quickstart/model`

    With your own questions: `mminstruct eval vqa file=questions.jsonl --model runs/quickstart/model`

    A server's model: `mminstruct eval easy-vqa --base-url http://127.0.0.1:8000/v1 --model NAME`

    Two evaluations, question by question: `mminstruct eval --compare RUN_A --compare RUN_B`
    """
    if list_them:
        _list(as_json)
        return
    names = [item for item in arguments or () if "=" not in item]
    overrides = [item for item in arguments or () if "=" in item]
    if not names and compare:
        if overrides or model is not None:
            raise ConfigError("no benchmark given; name one or more, or give two folders with --compare and no model")
        compare_folders(compare, out, page_items, as_json)
        return
    if not names:
        raise ConfigError("no benchmark given; name one or more of: mminstruct eval --list")
    if model is None:
        raise ConfigError("no model given; add --model with a checkpoint folder")
    if compare and len(compare) > 1:
        raise ConfigError("a new evaluation is compared with one earlier one; give --compare once")
    if on_error != "raise" and not base_url:
        raise ConfigError(f"--on-error {on_error} is of questions to a server; add --base-url, or leave it out")

    from mminstruct.evaluation.benchmark import load_benchmark
    from mminstruct.files import require_new

    benchmarks = [load_benchmark(name, overrides) for name in names]
    keys = [benchmark.key for benchmark in benchmarks]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"a benchmark is named twice ({', '.join(keys)}); name each once")
    # A server's model has no folder, so what is found of it lies in the current one.
    beside = Path(re.sub(r"[^\w.-]+", "-", model)).absolute() if base_url else Path(model).resolve()
    out = out or beside.with_name(f"{beside.name}-eval-{'-'.join(b.name for b in benchmarks)}")
    require_new(out)
    for folder in compare or ():
        check_comparable(folder, benchmarks, limit)

    from mminstruct.cli.eval_model import endpoint_adapter, folder_adapter, open_judge
    from mminstruct.evaluation.answer_cache import AnswerCache, default_path
    from mminstruct.evaluation.facts import checkpoint_files, checkpoint_hashes
    from mminstruct.evaluation.judged import require_judge
    from mminstruct.evaluation.processes import joined
    from mminstruct.evaluation.report import write_report
    from mminstruct.evaluation.results import run_benchmark

    with ExitStack() as stack:
        judge = stack.enter_context(
            open_judge(
                judge_model,
                judge_url,
                key_variable=judge_key_env,
                prices=judge_prices,
                concurrency=concurrency,
                timeout=timeout,
                calls=(judge_calls or default_path().with_name("judgements.sqlite")) if reuse else None,
            )
        )
        for benchmark in benchmarks:
            require_judge(benchmark, judge)
        processes = stack.enter_context(joined())
        files: dict[str, str] = {}
        if base_url:
            adapter = stack.enter_context(
                endpoint_adapter(
                    model,
                    base_url,
                    key_variable=api_key_env,
                    concurrency=concurrency,
                    timeout=timeout,
                    on_error=on_error,
                    keep=reuse,
                )
            )
        else:
            files = checkpoint_files(Path(model))
            adapter = folder_adapter(Path(model), device, batch_tokens, files if reuse else None)
        kept = stack.enter_context(AnswerCache(answers or default_path())) if reuse else None
        results = []
        for benchmark in benchmarks:
            with report_progress(benchmark.name, shown=processes.first) as progress:
                result = run_benchmark(
                    adapter,
                    benchmark,
                    limit=limit,
                    blank=blank,
                    answers=kept,
                    check=check if check is not None else 0 if base_url else _CHECKED,
                    folder=out / benchmark.key,
                    progress=progress,
                    processes=processes,
                    grader=judge,
                )
                results.append(result)
    if not processes.first:
        return
    report = write_report(
        out,
        results,
        model_facts=adapter.facts(),
        checkpoint=checkpoint_hashes(files) if files else None,
        page_items=page_items,
    )
    comparisons = [compare_with(folder, out, keys, page_items) for folder in compare or ()]
    if as_json:
        given = report | {"comparison": comparisons[0]} if comparisons else report
        typer.echo(json.dumps(given, indent=2, ensure_ascii=False))
    else:
        for numbers in report["benchmarks"].values():
            show_table(results_table(numbers))
            if numbers["judge"] is not None:
                typer.echo(_judged(numbers["judge"], numbers["judge_failed"]))
        typer.echo(f"report: {out / 'report.html'}")
        for comparison in comparisons:
            show_comparison(comparison, out)


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
    from mminstruct.evaluation.words import control_text, error_text, interval_text, score_text

    best = numbers["best"]
    columns = ("n", "score", "std. error", "95 % interval", "grey", "majority")
    table = number_table("type", columns, numbers["name"])
    for kind, row in [("all", numbers), *numbers["by_type"].items()]:
        table.add_row(
            kind,
            f"{row['n']:,}",
            score_text(row["score"], best),
            error_text(row["score_stderr"], best),
            interval_text(row["interval"], best),
            control_text(row, "blank_image", best),
            control_text(row, "majority", best),
            end_section=kind == "all",
        )
    return table


def number_table(first: str, columns: Sequence[str], title: str) -> Table:
    """A table whose numbers are never broken; 80 characters hold it."""
    from rich import box
    from rich.table import Column, Table

    numbers = (Column(name, justify="right", no_wrap=True) for name in columns)
    head = Column(first, overflow="fold", min_width=8)
    return Table(
        head, *numbers, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )


def _judged(judge: dict[str, Any], failed: int) -> str:
    cost = "" if judge["cost"] is None else f", ${judge['cost']:.2f}"
    tokens = f"{judge['tokens_read']:,} tokens read and {judge['tokens_written']:,} written"
    left_out = f"; {failed:,} answers could not be judged and are in no figure" if failed else ""
    return f"judged by {judge['model']}: {judge['replies']:,} replies, {tokens}{cost}{left_out}"


def show_table(table: Table) -> None:
    """Print a table on stdout."""
    from rich.console import Console

    Console().print(table)


@contextmanager
def report_progress(name: str, shown: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with an estimate on stderr, one task for each phase, where it is `shown`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:

        def update(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(f"{name}: {phase}", total=total)
            bar.update(tasks[phase], completed=done)

        yield update
