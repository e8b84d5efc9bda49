"""What ends a run before its time: kill -9, signals, a full disk, a loss that is not finite. Nothing is lost by it."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from mminstruct.config import dump_yaml
from tests.command import call
from tests.training.conftest import largest_difference, make_recipe, weights

TIMED = re.compile("seconds|per_second|wait|memory|mfu")  # in names of metrics: these are never the same twice

STAGES = [
    {"steps": 4, "train": ["connector"]},
    # Dropout draws random numbers in every step, and adapters are written into a folder of their own.
    {
        "steps": 30,
        "train": ["connector"],
        "adapters": [{"kind": "lora", "part": "language_model", "rank": 4, "alpha": 8, "dropout": 0.1}],
    },
]


@pytest.fixture(scope="module")
def forked():
    """Starts `mminstruct ARGUMENTS` in a child of a process that has everything imported; a new one would take long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mminstruct.training.run", "tests.training.test_interruption"])
    started: list[BaseProcess] = []

    def start(log: Path, *arguments: object, largest_file: int | None = None) -> BaseProcess:
        started.append(context.Process(target=command, args=(log, arguments, largest_file)))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()


def command(log: Path, arguments: tuple[object, ...], largest_file: int | None) -> None:
    torch.set_num_threads(1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    code, _, error = call(*arguments)
    with log.open("a") as stream:
        stream.write(error)
    sys.exit(code)


def metrics(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not TIMED.search(name)} for line in lines]


def lines(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(what: Callable[[], object], process: BaseProcess) -> None:
    while not what() and process.is_alive():
        time.sleep(0.001)


@pytest.fixture
def recipe(workspace, tmp_path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(make_recipe(workspace, STAGES, save_every=2, log_every=3)))
    return path


@pytest.fixture
def undisturbed(forked, recipe, tmp_path) -> Path:
    process = forked(tmp_path / "log", "train", recipe, "--out", tmp_path / "whole")
    process.join()
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    return tmp_path / "whole"


def require_equal(undisturbed: Path, out: Path) -> None:
    assert largest_difference(weights(undisturbed / "model"), weights(out / "model")) == 0.0
    assert metrics(undisturbed) == metrics(out)
    assert not [path for path in out.rglob("*.tmp") if "cache" not in path.parts]


def test_a_run_killed_at_ten_moments_ends_as_an_undisturbed_one(forked, undisturbed, recipe, tmp_path):
    """Weights bit for bit, metrics but for times. Three of the moments lie within the writing of a checkpoint."""
    draw, out, log = random.Random(0), tmp_path / "killed", tmp_path / "log"
    killed = unfinished = 0
    for moment in range(10):
        resumable = (out / "config.resolved.yaml").exists()
        if not resumable:
            shutil.rmtree(out, ignore_errors=True)
        process = forked(log, "train", recipe, "--out", out, *(["--resume"] if resumable else []))
        before = lines(out)
        if moment % 3 == 2:
            wait_for(lambda: list(out.glob("stages/*/*.tmp/*/*")), process)
        else:
            wait_for(lambda before=before: lines(out) != before, process)
            time.sleep(draw.uniform(0, 0.2))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        unfinished += bool(list(out.glob("stages/*/*.tmp")))
    assert killed == 10 and unfinished >= 2, (killed, unfinished, log.read_text())
    process = forked(log, "train", recipe, "--out", out, "--resume")
    process.join()
    assert process.exitcode == 0, log.read_text()
    require_equal(undisturbed, out)
