"""Two processes write what one writes: the same bytes of report and predictions, nothing asked twice."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from mminstruct.models.checkpoint import save
from tests.command import call

from .conftest import Pair

FILES = ("report.json", "report.html", "easy_vqa/predictions.jsonl", "easy_vqa/predictions_blank.jsonl")


def test_two_processes_write_what_one_writes(pair: Pair, tmp_path: Path) -> None:
    model = tmp_path / "model"
    save(model, *pair)

    def arguments(out: str) -> list[str]:
        asked = ["eval", "easy-vqa", "--model", str(model), "--limit", "40", "--device", "cpu"]
        return [*asked, "--out", str(tmp_path / out), "--answers", str(tmp_path / f"{out}.sqlite")]

    code, _, err = call(*arguments("one"))
    assert code == 0, err
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "mminstruct", *arguments("two")], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("report:") == 1, "the first process speaks for all"
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    timing = json.loads((tmp_path / "two/timing.json").read_text())["benchmarks"]["easy_vqa"]
    with sqlite3.connect(tmp_path / "two.sqlite") as connection:
        (kept,) = connection.execute("SELECT count(*) FROM replies").fetchone()
    assert kept == sum(one["generated"] for one in timing.values())
