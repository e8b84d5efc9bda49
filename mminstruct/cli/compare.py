"""What `mminstruct eval --compare` does: two evaluations on the same questions, as files and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mminstruct.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.table import Table

    from mminstruct.evaluation.benchmark import Benchmark


def compare_folders(folders: Sequence[Path], out: Path | None, page_items: int, as_json: bool) -> None:
    """Compare two evaluations that exist, on the benchmarks that both hold."""
    from mminstruct.evaluation.comparing import read_run, write_comparison
    from mminstruct.files import require_new

    if len(folders) != 2:
        raise ConfigError("without benchmarks two evaluations are compared: eval --compare RUN_A --compare RUN_B")
    a, b = (read_run(folder) for folder in folders)
    keys = [key for key in a.keys if key in b.keys]
    if not keys:
        raise DataError(
            f"{a.folder} ({', '.join(a.keys)}) and {b.folder} ({', '.join(b.keys)}) have no benchmark in common; "
            "evaluate both models on the same"
        )
    out = out or b.folder.resolve().with_name(f"{b.name}-against-{a.name}")
    require_new(out)
    comparison = write_comparison(out, a, b, keys, page_items)
    if as_json:
        typer.echo(json.dumps(comparison, indent=2, ensure_ascii=False))
    else:
        show(comparison, out)


def check(folder: Path, benchmarks: Sequence[Benchmark], limit: int | None) -> None:
    """Refuses a comparison before the model is loaded. Raises `DataError` as `require_same`."""
    from mminstruct.evaluation.comparing import expected, read_run, require_same

    run = read_run(folder)
    for benchmark in benchmarks:
        require_same(run.answers(benchmark.key), expected(benchmark, limit))


def compare_with(folder: Path, out: Path, keys: Sequence[str], page_items: int) -> dict[str, Any]:
    """Compare the evaluation that was just written with an earlier one."""
    from mminstruct.evaluation.comparing import read_run, write_comparison

    return write_comparison(out, read_run(folder), read_run(out), keys, page_items)


def show(comparison: dict[str, Any], out: Path) -> None:
    """The tables, and where the page is."""
    from mminstruct.cli.eval import show_table

    for found in comparison["benchmarks"].values():
        show_table(_table(found, comparison["a"]["name"], comparison["b"]["name"]))
    if comparison["left_out"]:
        typer.echo(f"only one of the two was asked: {', '.join(comparison['left_out'])}")
    typer.echo(f"comparison: {out / 'comparison.html'}")


def _table(found: dict[str, Any], a: str, b: str) -> Table:
    from mminstruct.cli.eval import number_table
    from mminstruct.evaluation.words import SPACE, chance_text, difference_text, interval_text, score_text

    best = found["best"]
    table = number_table(
        "type",
        ("n", "A", "B", "B - A", "95 % interval", "p", "w/l/t"),
        f"{found['name']}: {b} (B) against {a} (A)" + (", in %" if best == 1 else ""),
    )
    for kind, row in [("all", found), *found["by_type"].items()]:
        table.add_row(
            kind,
            f"{row['n']:,}",
            score_text(row["a"], best).removesuffix(f"{SPACE}%"),
            score_text(row["b"], best).removesuffix(f"{SPACE}%"),
            difference_text(row["difference"], best),
            interval_text(row["interval"], best, sign=True),
            chance_text(row["p"]),
            "/".join(str(row[name]) for name in ("wins", "losses", "ties")),
            end_section=kind == "all",
        )
    return table
