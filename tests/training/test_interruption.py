"""What ends a run before its time: kill -9, signals, a full disk, a loss that is not finite. Nothing is lost by it."""

from __future__ import annotations

import json
import multiprocessing
import os
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

from mminstruct.config import dump_yaml
from mminstruct.training.checkpointing import checkpoints
from tests.command import call
from tests.training.conftest import largest_difference, make_recipe, weights
from tests.training.launching import fork

TIMED = re.compile("seconds|per_second|wait|memory|mfu")  # in names of metrics: these are never the same twice

STAGES = [
    {"steps": 4, "train": ["connector"]},
    # Dropout draws random numbers in every step, and adapters are written into a folder of their own.
    {
        "steps": 45,
        "train": ["connector"],
        "adapters": [{"kind": "lora", "part": "language_model", "rank": 4, "alpha": 8, "dropout": 0.1}],
    },
]


@pytest.fixture(scope="module")
def forked():
    """Starts `mminstruct ARGUMENTS` in a child of a process that has everything imported; a new one would take long."""
    started: list[BaseProcess] = []

    def start(log: Path, *arguments: object, largest_file: int | None = None) -> BaseProcess:
        started.append(fork(command, log, arguments, largest_file))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def command(log: Path, arguments: tuple[object, ...], largest_file: int | None) -> None:
    os.setsid()  # signals to the group meet this run and its data loader's processes alone
    multiprocessing.set_start_method("fork", force=True)  # of the data loader: not through another fork server
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


@pytest.fixture(scope="module")
def recipe(workspace) -> Path:
    path = workspace / "interrupted.yaml"
    path.write_text(dump_yaml(make_recipe(workspace, STAGES, save_every=2, log_every=3)))
    return path


@pytest.fixture(scope="module")
def undisturbed(forked, recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    process = forked(folder / "log", "train", recipe, "--out", folder / "whole")
    process.join()
    assert process.exitcode == 0, (folder / "log").read_text()
    return folder / "whole"


def whole_checkpoints(out: Path) -> list[Path]:
    return [one for stage in sorted(out.glob("stages/*")) for one in checkpoints(stage)]


def require_equal(undisturbed: Path, out: Path) -> None:
    assert largest_difference(weights(undisturbed / "model"), weights(out / "model")) == 0.0
    assert metrics(undisturbed) == metrics(out)
    assert not [path for path in out.rglob("*.tmp") if "cache" not in path.parts]


def test_a_run_killed_at_ten_moments_ends_as_an_undisturbed_one(forked, undisturbed, recipe, tmp_path):
    """Weights bit for bit, metrics but for times. Some of the moments lie within the writing of a checkpoint; then the
    disk is full. How far a run comes before its moment is the machine's speed: one that comes to its end is compared
    and the next begins anew."""
    draw, out, log = random.Random(0), tmp_path / "killed", tmp_path / "log"
    killed = unfinished = 0
    for moment in range(30):
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
        if process.exitcode == 0:
            require_equal(undisturbed, out)
            shutil.rmtree(out)
            continue
        assert process.exitcode == -signal.SIGKILL, log.read_text()
        killed += 1
        unfinished += bool(list(out.glob("stages/*/*.tmp")))
        if killed == 10:
            break
    assert killed == 10 and unfinished >= 2, (killed, unfinished, log.read_text())

    # A full disk: no file may be as large as the weights.
    kept = whole_checkpoints(out)
    process = forked(log, "train", recipe, "--out", out, "--resume", largest_file=100_000)
    process.join()
    (told,) = log.read_text().splitlines()[-1:]
    assert process.exitcode == 2 and told.startswith("error: ") and "could not be saved" in told, told
    assert kept == whole_checkpoints(out) and not list(out.rglob("stages/*/*.tmp"))

    process = forked(log, "train", recipe, "--out", out, "--resume")
    process.join()
    assert process.exitcode == 0, log.read_text()
    require_equal(undisturbed, out)


def test_signals_leave_a_run_that_goes_on(forked, undisturbed, recipe, tmp_path):
    """Signals go to a data loader's processes, too, as schedulers and terminals send them."""
    out, log = tmp_path / "stopped", tmp_path / "log"

    def run(*, resume: bool = True, stop: signal.Signals | None = None) -> int:
        log.unlink(missing_ok=True)
        arguments = ["train", recipe, "workers=1", "--out", out, *(["--resume"] if resume else [])]
        before, process = lines(out), forked(log, *arguments)
        if stop is not None:
            wait_for(lambda: lines(out) >= max(before, 3) + 2, process)
            os.killpg(process.pid, stop)
        process.join(120)
        return process.exitcode

    assert run(resume=False, stop=signal.SIGTERM) == 128 + signal.SIGTERM
    (told,) = log.read_text().splitlines()[-1:]
    kept = checkpoints(out / "stages/2-s1")
    assert told.startswith("interrupted: stage 's1' is saved after step") and "--resume" in told
    assert not (out / "model").exists() and len(kept) == 2

    assert run(stop=signal.SIGINT) == 128 + signal.SIGINT
    assert run() == 0, log.read_text()
    require_equal(undisturbed, out)


def test_a_loss_that_is_not_finite_stops_the_run_before_the_step(workspace, tmp_path):
    """A learning rate that is far too high, and nine steps to the next line of the log."""
    stage = {"learning_rate": 1e30, "warmup": 0.0, "accumulate": 2, "steps": 5}
    path, out = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(dump_yaml(make_recipe(workspace, [stage], log_every=10)))
    code, _, error = call("train", path, "--out", out)
    (told,) = [line for line in error.splitlines() if line.startswith("error")]
    assert code == 2 and "step 2 is not finite" in told and str(out / "bad_batch.json") in told
    bad = json.loads((out / "bad_batch.json").read_text())
    (source,) = {row["source"] for row in json.loads((out / "sources.json").read_text())["s0"]}
    assert (bad["stage"], bad["step"]) == ("s0", 2)
    known = {str(number) for number in range(24)}
    for batch in bad["micro_batches"]:
        assert batch["process"] == 0 and batch["loss"] in ("nan", "inf")
        assert len(batch["conversations"]) == 4
        assert all(one["id"].split("/")[-1] in known and one["source"] == source for one in batch["conversations"])
    assert len(bad["micro_batches"]) == 2 and [line["step"] for line in metrics(out)] == [1]
