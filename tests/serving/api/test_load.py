"""A real server under several clients at once, some of whom leave: nothing is lost, nothing mixed up, nothing stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mminstruct.models import checkpoint
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel

LOAD = Path(__file__).parents[3] / "benchmarks/serving_load.py"
CLIENTS = 8


def test_each_of_many_clients_gets_its_own_answer(
    model_and_processor: tuple[VisionLanguageModel, Processor], tmp_path: Path
) -> None:
    folder = tmp_path / "random/nano"
    checkpoint.save(folder, *model_and_processor)
    command = [sys.executable, LOAD, "--clients", str(CLIENTS), "--seconds", "3", "--threads", "1", "--json"]
    done = subprocess.run(
        [*map(str, command), "--model", str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["distinct"] == found["questions"]  # else a mixed-up answer would not be seen
    for one in found["rounds"]:
        assert (one["lost"], one["mixed"]) == ([], [])
        assert one["gauges"] == {"mminstruct_running": 0, "mminstruct_waiting": 0}
    answered = [sum(one["answered"].values()) for one in found["rounds"]]
    assert min(answered) > 0 and sum(answered) > CLIENTS
    assert sum(one["left"] for one in found["rounds"]) > 0
