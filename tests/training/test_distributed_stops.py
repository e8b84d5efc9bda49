"""Two gloo processes under DeepSpeed: averages, guards, clips, and what ends a run before its time.

All runs follow one another in one pair of processes, behind the runs of one process that two go on with.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import mminstruct
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart, VideoPart
from mminstruct.formats import native
from mminstruct.models import checkpoint
from mminstruct.training.callbacks import MetricsLog
from mminstruct.training.checkpointing import checkpoints
from mminstruct.training.run import train
from tests.command import call
from tests.conftest import picture
from tests.media.test_open_video import write as write_clip
from tests.training.conftest import largest_difference, make_recipe, weights, write_dataset
from tests.training.launching import fork_ranks, write
from tests.training.test_exactness import metrics

VALIDATION = {"share": 0.292, "every": 4}
# Some of the four steps have a longer gradient than this, and some have not.
WATCHED = {"steps": 4, "validation": VALIDATION, "guard": {"grad_norm": 4.4}, "ema": 0.5}


@dataclass(frozen=True)
class Case:
    """A run of two processes: a recipe `NAME.yaml` into `NAME`.

    Attributes:
        stopped: the process that gets SIGTERM, and the step behind which it does.
        full: the process that meets a full disk. It ends there with its connections, so such a case is a list's last.
    """

    name: str
    resume: bool = False
    stopped: tuple[int, int] = (-1, 0)
    full: int | None = None


FIRST = [
    Case("zero2"),
    Case("zero3"),
    Case("zero2-offload"),
    Case("clips"),
    Case("more2", resume=True),
    Case("more3", resume=True),
    Case("stopped", stopped=(1, 1)),
    Case("stopped", resume=True, full=0),
]
SECOND = [
    Case("stopped", resume=True),
    Case("nan"),
    Case("again", resume=True, full=1),
]
ZERO = [case.name for case in FIRST if case.name.startswith("zero")]


def on_processes(folder: Path, processes: int, cases: list[Case], seconds: float = 240) -> list[list[dict]]:
    """Run cases; of each case what each process says: its exit code, and what it wrote to stderr."""
    started = fork_ranks(processes, _work, folder, cases)
    end = time.monotonic() + seconds
    for process in started:
        process.join(max(0.0, end - time.monotonic()))
    hanging = [process.is_alive() for process in started]
    for process in started:
        process.kill()
    reports = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]
    assert not any(hanging), reports
    assert all(len(report) == len(cases) for report in reports), reports
    return [list(of_case) for of_case in zip(*reports, strict=True)]


def _work(rank: int, folder: Path, cases: list[Case]) -> None:
    os.chdir(folder)
    report: list[dict] = []
    for case in cases:
        began = time.monotonic()
        with contextlib.ExitStack() as hindered:
            if case.stopped[0] == rank:
                hindered.enter_context(stopped_behind_step(case.stopped[1]))
            if case.full == rank:
                hindered.enter_context(full_disk())
            code, _, error = call("train", f"{case.name}.yaml", "--out", case.name, *["--resume"] * case.resume)
        AcceleratorState._reset_state()
        report.append({"code": code, "error": error, "seconds": time.monotonic() - began})
        Path(f"rank{rank}.json").write_text(json.dumps(report))


@contextlib.contextmanager
def stopped_behind_step(step: int):
    """This process gets SIGTERM as the log of a step is written."""
    written = MetricsLog.on_log

    def on_log(self, args, state, control, **kwargs):
        written(self, args, state, control, **kwargs)
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(MetricsLog, "on_log", on_log):
        yield


@contextlib.contextmanager
def full_disk():
    """No file may be as large as weights, and so none as what ZeRO writes for a process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_films(folder: Path) -> dict[str, str]:
    """Conversations about a clip, a picture and nothing in turn, so that two processes hold different kinds."""
    folder.mkdir()
    write_clip(folder / "clip.mp4", 20)
    picture(0).save(folder / "0.png")
    kinds: list[tuple[list, list]] = [
        ([VideoPart(index=0)], [Media(path="clip.mp4", kind="video")]),
        ([ImagePart(index=0)], [Media(path="0.png")]),
        ([], []),
    ]
    records = []
    for number in range(6):
        parts, media = kinds[number % 3]
        question = Message(role="user", content=[*parts, TextPart(text="what is it")])
        answer = Message(role="assistant", content=[TextPart(text="a red circle")])
        records.append(Conversation(id=str(number), messages=[question, answer], media=media))
    native.write(records, folder / "set")
    return {"path": str(folder / "set"), "media_root": str(folder)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stops")
    torch.manual_seed(0)
    for row, name in (("nano", "model"), ("nano-gated-cross-attention", "gated")):
        checkpoint.save(folder / name, *mminstruct.create(row, tiny=True))
    write_dataset(folder / "data", 16, text_only=5)
    return folder


@pytest.fixture(scope="module")
def one(folder) -> Path:
    """The run that all others are compared with: one process, no DeepSpeed."""
    train(make_recipe(folder, [{"batch_size": 2, "accumulate": 2, **WATCHED}], save_every=3), folder / "one")
    return folder / "one"


def codes(reports: list[list[dict]]) -> list[list[int]]:
    return [[process["code"] for process in report] for report in reports]


@pytest.fixture(scope="module")
def found(folder) -> dict[str, list[list[dict]]]:
    """What the processes said, by the case's name."""
    for name in ZERO:
        write(
            make_recipe(folder, [{"batch_size": 2, **WATCHED}], save_every=3, deepspeed=name), folder / f"{name}.yaml"
        )
    for name in ("stopped", "again"):
        shutil.copy(folder / "zero2.yaml", folder / f"{name}.yaml")
    films = write_films(folder / "films")
    gated = {"model": str(folder / "gated"), "data": films, "deepspeed": "zero3"}
    kinds = {"batch_size": 1, "steps": 3, "validation": {"data": films, "every": 3}}
    write(make_recipe(folder, [kinds], **gated), folder / "clips.yaml")
    far = {"batch_size": 2, "learning_rate": 1e30, "warmup": 0.0, "steps": 5}
    write(make_recipe(folder, [far], deepspeed="zero2", log_every=10), folder / "nan.yaml")

    alone = []
    for name, deepspeed in (("more2", "zero2"), ("more3", "zero3")):
        recipe = make_recipe(folder, [{"batch_size": 2, "accumulate": 2, **WATCHED}], save_every=3, deepspeed=deepspeed)
        write(recipe, folder / f"{name}.yaml")
        alone.append(Case(name, stopped=(0, 2)))
    assert codes(on_processes(folder, 1, alone)) == [[128 + signal.SIGTERM]] * 2
    for name in ("more2", "more3"):
        shutil.copy(folder / f"zero{name[-1]}.yaml", folder / f"{name}.yaml")

    reports: dict[str, list[list[dict]]] = {}
    for cases in (FIRST, SECOND):
        for case, report in zip(cases, on_processes(folder, 2, cases), strict=True):
            reports.setdefault(case.name, []).append(report)
        if cases is FIRST:
            shutil.copytree(folder / "stopped", folder / "again")
    return reports


def skipped(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "skipped_steps.jsonl").read_text().splitlines()]


def require_as_one(one: Path, two: Path) -> None:
    """Weights, averages, losses, and the steps that were left out."""
    assert 1 <= len(skipped(one)) <= 3 and skipped(one) == skipped(two)
    assert largest_difference(weights(one / "model"), weights(two / "model")) < 1e-5
    newest = [checkpoints(out / "stages/1-s0")[-1] / "ema.safetensors" for out in (one, two)]
    assert largest_difference(*map(load_file, newest)) < 1e-5
    for a, b in zip(metrics(one), metrics(two), strict=True):
        for value in ("loss", "validation_loss", "grad_norm", "skipped_steps"):
            assert a.get(value, 0.0) == pytest.approx(b.get(value, 0.0), rel=1e-4)


@pytest.mark.parametrize("name", ZERO)
def test_average_and_guard_under_zero_are_those_of_one_process(folder, one, found, name):
    assert codes(found[name]) == [[0, 0]], found[name]
    require_as_one(one, folder / name)


@pytest.mark.parametrize("name", ["more2", "more3"])
def test_zero_goes_on_with_more_processes(folder, one, found, name):
    """Begun by one process, from its universal checkpoint on by two."""
    assert codes(found[name]) == [[0, 0]], found[name]
    require_as_one(one, folder / name)


def test_clips_beside_pictures_and_text_run_under_zero3(folder, found):
    assert codes(found["clips"]) == [[0, 0]], found["clips"]
    assert len([line for line in metrics(folder / "clips") if "validation_loss" in line]) == 1


def test_a_signal_leaves_a_run_that_goes_on(folder, one, found):
    """Weights bit for bit, through a full disk in between."""
    signalled, _, ended = found["stopped"]
    assert codes([signalled, ended]) == [[128 + signal.SIGTERM] * 2, [0, 0]], found["stopped"]
    assert largest_difference(weights(folder / "zero2/model"), weights(folder / "stopped/model")) == 0.0
    require_as_one(one, folder / "stopped")


@pytest.mark.parametrize("process", [0, 1])
def test_a_full_disk_of_one_process_ends_both_and_leaves_the_old_checkpoint(folder, found, process):
    report = found["stopped"][1] if process == 0 else found["again"][0]
    assert codes([report]) == [[2, 2]], report
    assert "could not be saved (" in report[process]["error"] and "--resume" in report[process]["error"]
    kept = checkpoints(folder / "again/stages/1-s0")
    assert [path.name for path in kept] == ["checkpoint-2"]
    assert not list(folder.glob("again/stages/*/*.tmp")) and not (folder / "again/model").exists()


def test_a_loss_that_is_not_finite_stops_all_processes(folder, found):
    assert codes(found["nan"]) == [[2, 2]], found["nan"]
    for process in found["nan"][0]:
        (told,) = [line for line in process["error"].splitlines() if line.startswith("error")]
        assert "step 2 is not finite" in told and "bad_batch.json" in told
    bad = json.loads((folder / "nan/bad_batch.json").read_text())
    assert [batch["process"] for batch in bad["micro_batches"]] == [0, 1]
    assert all(len(batch["conversations"]) == 2 for batch in bad["micro_batches"])
