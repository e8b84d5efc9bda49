"""`mminstruct score`: the score of predictions that exist already, by the official files and rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mminstruct.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mminstruct.evaluation.item import Item
    from mminstruct.evaluation.scorers import Metric, Variant

LIST = "list"


def score(
    metric: Annotated[str, typer.Argument(help="The metric, or metric.variant; `list` lists them all.")],
    gold: Annotated[Path | None, typer.Option("--gold", help="The official gold file, or JSONL of Items.")] = None,
    predictions: Annotated[Path | None, typer.Option("--predictions", help="The official file of answers.")] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="Whose rule. Default: the first one listed.")] = None,
    compare: Annotated[bool, typer.Option("--compare-variants", help="The score by every variant.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Score predictions against gold answers.

    Both files may be the official ones of the metric, as published, or JSON lines of {"id", "answers"} and of
    {"id", "prediction"}, such as `predictions.jsonl` of a run.

    Example: `mminstruct score vqa --variant official-2021 --gold annotations.json --predictions answers.json`

    Example: `mminstruct score list`
    """
    from mminstruct.evaluation import scorers

    if metric == LIST:
        _list(as_json)
        return
    first, _, second = metric.partition(".")
    found = scorers.metric(first)
    if second and variant is not None:
        raise ConfigError(f"the variant is named twice, {second!r} and --variant {variant}; name it once")
    chosen = found.variant(variant or second or None)
    if gold is None or predictions is None:
        raise ConfigError(f"{found.name} needs --gold and --predictions: {found.files}")
    variants = found.variants if compare else (chosen,)
    # What most variants read is read once; files that are wrong are wrong for all of these.
    usual = None
    if any(each.predictions is None for each in variants):
        usual = scorers.read(found, gold, predictions)
    rows = []
    for each in variants:
        try:
            read = usual if usual and each.predictions is None else scorers.read(found, gold, predictions, each)
            rows.append(_result(found, each, *read))
        except (ConfigError, DataError) as error:
            # A variant may be of another task, need another part of the file, or a package that is not there.
            if not compare:
                raise
            typer.echo(f"{found.name}.{each.name} is left out: {error}", err=True)
    if not rows:
        raise DataError(f"no variant of {found.name} can score these files; they are read as {found.files}")
    if as_json:
        typer.echo(json.dumps(rows if compare else rows[0], ensure_ascii=False))
        return
    for row in rows:
        typer.echo(_line(row, found.best))


def _result(metric: Metric, variant: Variant, items: list[Item], texts: list[str | None]) -> dict[str, Any]:
    from mminstruct.evaluation.statistics import estimate

    found = variant.score(items, texts)
    figures = dict(found.figures)
    # The clustered error of a mean is no error of any other figure.
    counted = [pair for pair in zip(items, found.verdicts, strict=True) if not pair[1].excluded]
    stderr = None
    if counted and found.score is not None:
        spread = estimate([verdict.score for _, verdict in counted], [item.cluster or item.id for item, _ in counted])
        # The clustered error of a mean is no error of any other figure.
        stderr = spread.stderr if abs(spread.mean - found.score) < 1e-12 else None
    excluded = {"excluded": found.excluded} if found.excluded else {}
    return {
        "metric": metric.name,
        "variant": variant.name,
        "score": figures.pop("score"),
        "n": len(items),
        "unparsed": found.unparsed,
        **excluded,
        "missing": sum(text is None for text in texts),
        "stderr": stderr,
        "figures": figures,
    }


def _line(row: dict[str, Any], best: float) -> str:
    def shown(value: float | None) -> str:
        if value is None:
            return "undefined"
        return f"{100 * value:.2f} %" if best == 1.0 else f"{value:.4f}"

    error = "" if row["stderr"] is None else f" ± {100 * row['stderr']:.2f} (standard error)"
    head = f"{row['metric']}.{row['variant']}: {shown(row['score'])}{error}, n = {row['n']}"
    head += f", {row['unparsed']} unparsed" if row["unparsed"] else ""
    head += f", {row['excluded']} excluded" if "excluded" in row else ""
    head += f", {row['missing']} missing" if row["missing"] else ""
    return "\n".join([head, *(f"  {name}: {shown(value)}" for name, value in row["figures"].items())])


def _list(as_json: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mminstruct.evaluation import scorers

    metrics = [scorers.metric(name) for name in scorers.names()]
    if as_json:
        rows = [
            {
                "name": each.name,
                "summary": each.summary,
                "files": each.files,
                "best": each.best,
                "variants": [{"name": variant.name, "source": variant.source} for variant in each.variants],
            }
            for each in metrics
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table("metric", "variant", "what it is", "files")
    for each in metrics:
        for number, variant in enumerate(each.variants):
            first = number == 0
            table.add_row(
                each.name if first else "",
                variant.name,
                escape(f"{each.summary} {variant.source}" if first else variant.source),
                escape(each.files) if first else "",
                end_section=number == len(each.variants) - 1,
            )
    Console().print(table)
