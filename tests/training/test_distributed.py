"""Two processes do what one does: under DDP and ZeRO, by each launcher, and resumed on another number."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mminstruct
from mminstruct.errors import ConfigError, RunError
from mminstruct.models import checkpoint
from mminstruct.training.config import Recipe
from mminstruct.training.resume import as_started
from mminstruct.training.run import train
from tests.command import call
from tests.training.conftest import largest_difference, make_recipe, weights, write_dataset
from tests.training.launching import BIN, FINETUNE, REPOSITORY, STAND_IN, launch, train_on, write
from tests.training.test_exactness import metrics

LORA = {"kind": "lora", "rank": 4, "alpha": 8, "learning_rate": 1e-2}
ALIGN = {"train": ["connector"], "steps": 3}
BOTH = ["vision_encoder", "language_model"]
# Four of the sixteen conversations are held out, so that an epoch is whole steps, however they are split.
VALIDATION = {"share": 0.292, "every": 2}
# Nothing is left out by this guard, and all of it is asked on two processes.
WATCHED = {"validation": VALIDATION, "guard": {"loss_spike": 50.0, "grad_norm": 1e6}, "ema": 0.5}
# The model with the highest loss, which is not the last one.
WORST = {"validation": VALIDATION, "stop": {"metric": "validation_loss", "mode": "max", "patience": 9}}
# Stages of a run, its model, and its DeepSpeed config. ZeRO-3's have steps in which one process has text alone beside
# pictures alone on the other: within 8 steps it is the first one, within 14 the second one as well.
RUNS = {
    "ddp": (
        "nano",
        None,
        [{"steps": 5, **WATCHED}, {**ALIGN, "steps": 5, "adapters": [{**LORA, "part": "language_model"}]}],
    ),
    "lora": ("qwen", None, [{**ALIGN, "steps": 5, "adapters": [{**LORA, "part": part} for part in BOTH]}]),
    "zero1": ("nano", "zero1", [{"steps": 5, **WORST}]),
    "zero2": ("nano", "zero2", [{"steps": 5}]),
    "zero3": ("nano", "zero3", [ALIGN, {"steps": 20, "activation_checkpointing": BOTH}]),
    "zero3-native": ("qwen", "zero3", [{"steps": 8, "activation_checkpointing": ["language_model"]}]),
    "zero2-offload": ("nano", "zero2-offload", [{"steps": 5}]),
    "zero3-offload": ("nano", "zero3-offload", [{"steps": 5, **WORST}]),
}
ZERO = [name for name in RUNS if name.startswith("zero")]


def recipe_of(folder: Path, name: str, **stage: object) -> Recipe:
    """One of `RUNS` for one process, or with `batch_size=2` for two."""
    model, deepspeed, stages = RUNS[name]
    return make_recipe(
        folder,
        [{"batch_size": 4, **one, **stage} for one in stages],
        model=str(folder / model),
        deepspeed=deepspeed if stage else None,
        save_every=3 * stages[-1]["steps"] // 5,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tiny models and data in which every step has batches of text beside batches with pictures."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.manual_seed(0)
    for row, name in (("nano", "nano"), ("qwen2.5-vl-3b", "qwen")):
        checkpoint.save(folder / name, *mminstruct.create(row, tiny=True))
    write_dataset(folder / "data", 16, text_only=5)
    return folder


def compare_with_one(folder: Path, name: str, two: Path) -> None:
    one = folder / f"{name}-one"
    if not one.is_dir():
        train(recipe_of(folder, name), one)
    assert largest_difference(weights(folder / RUNS[name][0]), weights(one / "model")) > 1e-3
    assert largest_difference(weights(one / "model"), weights(two / "model")) < 1e-5
    for a, b in zip(metrics(one), metrics(two), strict=True):
        for value in ("loss", "validation_loss"):
            assert a.get(value, 0.0) == pytest.approx(b.get(value, 0.0), rel=1e-4)
        assert a.get("supervised_tokens") == b.get("supervised_tokens")
    kept = sorted((one / "adapter").rglob("*.safetensors"))
    adapters = RUNS[name][2][-1].get("adapters", [])
    assert len(kept) == (len(adapters) + 1 if adapters else 0)
    for path in kept:
        other = two / path.relative_to(one)
        assert largest_difference(load_file(path), load_file(other)) < 1e-5


def cut(run: Path, to: Path) -> None:
    """What a run that was killed in its last stage leaves: the older of its two checkpoints, longer metrics."""
    shutil.copytree(run, to)
    shutil.rmtree(to / "model")
    shutil.rmtree(to / "adapter", ignore_errors=True)
    last = max((to / "stages").iterdir(), key=lambda stage: int(stage.name.split("-")[0]))
    _, newest = sorted(last.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(newest)


@pytest.fixture(scope="module")
def ddp(folder):
    """DDP by the SLURM script on one machine, with what SLURM would have said and done."""
    shims = folder / "bin"
    shims.mkdir()
    (shims / "scontrol").write_text('#!/bin/sh\n[ "$3" = here ] && echo localhost && echo another\n')
    (shims / "srun").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    for shim in shims.iterdir():
        shim.chmod(0o755)
    write(recipe_of(folder, "ddp", batch_size=2), folder / "ddp.yaml")
    launch(
        ["bash", str(REPOSITORY / "train/launch/slurm.sh"), "../ddp.yaml", "--out", "run"],
        folder / "slurm",
        2,
        PATH=f"{shims}:{BIN}:/usr/bin:/bin",
        SCRIPT=str(STAND_IN),
        SLURM_JOB_NODELIST="here",
        SLURM_JOB_ID="12345",
        SLURM_JOB_NUM_NODES="1",
        SLURM_GPUS_ON_NODE="2",
    )  # fmt: skip
    return folder / "slurm/run"


@pytest.fixture(scope="module")
def zero(folder):
    """Each stage of ZeRO and each offload, one after the other in the same two processes."""
    for name in ZERO:
        write(recipe_of(folder, name, batch_size=2), folder / f"{name}.yaml")
    train_on(2, folder, *ZERO)
    return folder


def test_the_slurm_script_trains_by_ddp_as_one_process_does(folder, ddp):
    """Whole parts, then LoRA; the adapter folder alike."""
    compare_with_one(folder, "ddp", ddp)


@pytest.mark.parametrize("name", ZERO)
def test_two_processes_under_zero_equal_one(folder, zero, name):
    """Whole parts, one stage behind another, text beside pictures in a step: as many calls of the tower on each."""
    compare_with_one(folder, name, zero / name)


def test_the_deepspeed_launcher_trains_a_native_model_by_zero2(folder):
    write(recipe_of(folder, "lora", batch_size=2), folder / "lora.yaml")
    port = f"--master_port={29600 + hash(str(folder)) % 300}"
    command = [str(BIN / "deepspeed"), "--num_gpus=2", port, str(STAND_IN), "../lora.yaml", "--out", "run"]
    launch(command, folder / "deepspeed", 2)
    assert "deepspeed: zero2" in (folder / "deepspeed/run/config.resolved.yaml").read_text()
    compare_with_one(folder, "lora", folder / "deepspeed/run")


@pytest.mark.parametrize("script", ["finetune", "pretrain", "preference"])
def test_the_scripts_start_in_a_process_of_their_own(script):
    done = subprocess.run(
        [sys.executable, str(FINETUNE.with_name(f"{script}.py")), "no-such-recipe"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("error: no recipe is called 'no-such-recipe'"), done.stderr


def test_ddp_goes_on_with_one_process(folder, ddp, tmp_path):
    cut(ddp, tmp_path / "run")
    train(recipe_of(folder, "ddp", batch_size=2, accumulate=2), tmp_path / "run", resume=True)
    compare_with_one(folder, "ddp", tmp_path / "run")


def test_zero_goes_on_with_one_process(folder, zero, tmp_path):
    """Its shares made a universal checkpoint, under ZeRO-2 and ZeRO-3."""
    names = ["zero2", "zero3"]
    for name in names:
        cut(zero / name, tmp_path / name)
        write(recipe_of(folder, name, batch_size=2, accumulate=2), tmp_path / f"{name}.yaml")
    train_on(1, tmp_path, *names, resume=True)
    for name in names:
        compare_with_one(folder, name, tmp_path / name)


# --- without a launch -------------------------------------------------------------------------------------------------


def started(tmp_path: Path, recipe: Recipe, processes: int) -> tuple[Path, Path]:
    write(recipe, tmp_path / "config.resolved.yaml")
    (tmp_path / "env.json").write_text(json.dumps({"processes": processes}))
    return tmp_path / "config.resolved.yaml", tmp_path / "env.json"


@pytest.mark.parametrize(
    ("processes", "accumulate", "message"),
    [
        (1, 3, "was started on 2 processes: a step of stage 's0' is 6 micro-batches, on 1 with accumulate=3 it would "
               "be 3; give stages.0.accumulate=6"),
        (4, 2, "would be 8; 4 processes cannot share them equally; take a number that divides 6"),
    ],
)  # fmt: skip
def test_a_step_stays_what_it_was(folder, tmp_path, processes, accumulate, message):
    paths = started(tmp_path, make_recipe(folder, [{"accumulate": 3}]), 2)
    with pytest.raises(RunError) as error:
        as_started(make_recipe(folder, [{"accumulate": accumulate}]), *paths, processes)
    assert message in str(error.value)


def test_nothing_but_the_split_may_differ(folder, tmp_path):
    first = make_recipe(folder, [{"accumulate": 3}])
    paths = started(tmp_path, first, 2)
    assert as_started(make_recipe(folder, [{"accumulate": 1}]), *paths, 6) == first
    assert as_started(make_recipe(folder, [{"accumulate": 1}], seed=1), *paths, 6) == first.model_copy(
        update={"seed": 1}
    )
    other = make_recipe(folder, [{"accumulate": 2}])
    assert as_started(other, *paths, 2) == other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_batch_size": 7}, 'train_batch_size=7 where the recipe gives 4; write "auto" there'),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps=2 where the recipe gives 1"),
        ({"gradient_clipping": None}, "does not say 'gradient_clipping'; add \"gradient_clipping\": \"auto\""),
        ({"optimizer": {"type": "Adam"}}, "'optimizer' would replace the recipe's"),
        ({"zero_optimization": {"stage": 3}}, "under ZeRO-3 no process could save the model"),
    ],
)  # fmt: skip
def test_a_deepspeed_config_that_contradicts_the_recipe_is_one_line(folder, tmp_path, change, message):
    config = json.loads((REPOSITORY / "train/deepspeed/zero2.json").read_text()) | change
    (tmp_path / "own.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    write(
        make_recipe(folder, [{}], deepspeed=str(tmp_path / "own.json"), model=str(folder / "nano")), tmp_path / "r.yaml"
    )
    code, _, error = call("train", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert code == 2 and message in error and "Traceback" not in error, error
    assert not (tmp_path / "run").exists()


def test_preference_py_wants_preferences(folder, tmp_path, monkeypatch, capsys):
    write(make_recipe(folder, [{}]), tmp_path / "r.yaml")
    script = str(REPOSITORY / "train/preference.py")
    monkeypatch.setattr("sys.argv", [script, str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(script, run_name="__main__")
    assert stopped.value.code == 2
    assert "learns from no preferences (s0: sft); give a stage objective: dpo" in capsys.readouterr().err


def test_pretrain_py_trains(folder, tmp_path, monkeypatch):
    """As `train/finetune.py`, here by plain Python."""
    write(make_recipe(folder, [{**ALIGN, "steps": 1}], model=str(folder / "nano")), tmp_path / "r.yaml")
    script = str(REPOSITORY / "train/pretrain.py")
    monkeypatch.setattr("sys.argv", [script, str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")])
    runpy.run_path(script, run_name="__main__")
    assert (tmp_path / "run/model").is_dir()


def test_a_frozen_model_beside_zero3_is_refused(folder, tmp_path):
    teacher = {"objective": {"kind": "distill", "teacher": str(folder / "nano")}}
    recipe = make_recipe(folder, [teacher], model=str(folder / "nano"), deepspeed="zero3")
    with pytest.raises(ConfigError, match="not even a frozen one; use deepspeed=zero2"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
