"""Calling `mminstruct score` in the tests' own process, and writing the files that it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from mminstruct.cli.score import score as command
from mminstruct.errors import MminstructError

APP = typer.Typer()  # `score` alone: the whole command line takes longer to build than any score here to compute
APP.command()(command)


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def score(metric: str, gold: Path, predictions: Path, *further: str) -> Any:
    """What `mminstruct score METRIC --gold G --predictions P --json` prints; raises what the command raises."""
    return json.loads(score_text(metric, gold, predictions, "--json", *further))


def score_text(metric: str, gold: Path, predictions: Path, *further: str) -> str:
    arguments = [metric, "--gold", str(gold), "--predictions", str(predictions), *further]
    result = CliRunner().invoke(APP, arguments)
    if isinstance(result.exception, MminstructError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout
