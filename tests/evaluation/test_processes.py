"""Two processes write what one writes: the same bytes of report and predictions, nothing asked twice."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

from mminstruct.models.checkpoint import save
from tests.command import call
from tests.training.launching import fork_ranks

from .conftest import Pair

FILES = ("report.json", "report.html", "easy_vqa/predictions.jsonl", "easy_vqa/predictions_blank.jsonl")


def _arguments(folder: Path, out: str) -> list[str]:
    asked = ["eval", "easy-vqa", "--model", str(folder / "model"), "--limit", "40", "--device", "cpu"]
    return [*asked, "--out", str(folder / out), "--answers", str(folder / f"{out}.sqlite")]


def _rank(rank: int, folder: Path) -> None:
    code, said, error = call(*_arguments(folder, "two"))
    (folder / f"said{rank}").write_text(said if code == 0 else error)
    sys.exit(code)


def test_two_processes_write_what_one_writes(pair: Pair, tmp_path: Path) -> None:
    save(tmp_path / "model", *pair)
    code, _, error = call(*_arguments(tmp_path, "one"))
    assert code == 0, error
    processes = fork_ranks(2, _rank, tmp_path)
    for process in processes:
        process.join(120)
        process.kill()
    said = [(tmp_path / f"said{rank}").read_text() for rank in range(2)]
    assert [process.exitcode for process in processes] == [0, 0], said
    assert "report:" in said[0] and not said[1], "the first process speaks for all"
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    timing = json.loads((tmp_path / "two/timing.json").read_text())["benchmarks"]["easy_vqa"]
    with sqlite3.connect(tmp_path / "two.sqlite") as connection:
        (kept,) = connection.execute("SELECT count(*) FROM replies").fetchone()
    assert kept == sum(one["generated"] for one in timing.values())
