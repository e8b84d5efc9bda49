"""A stage ends when validation stops getting better, and its model is the best one, bit for bit, resumed or not."""

from __future__ import annotations

import shutil

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from mminstruct.errors import ConfigError
from mminstruct.training.checkpointing import checkpoints, steps_done
from mminstruct.training.run import train
from mminstruct.training.watch_config import StopConfig
from tests.training.conftest import largest_difference, make_recipe, weights, write_dataset
from tests.training.test_exactness import metrics


def numbers(lines):
    return [[line.get(name) for name in ("step", "loss", "validation_loss")] for line in lines]


def test_a_rising_loss_ends_the_stage_with_the_best_weights(workspace, tmp_path):
    """Random answers, learnt by heart at a high rate: those held out become unlikelier."""
    write_dataset(tmp_path / "other", 6, text_only=6, seed=5)
    validation = {"data": {"path": str(tmp_path / "other/data.json")}, "every": 2}
    stage = {"epochs": 10, "learning_rate": 1e-2, "warmup": 0.0}
    stopped = {**stage, "validation": validation, "stop": {"patience": 3}}
    recipe = make_recipe(workspace, [stopped], save_every=3)
    train(recipe, tmp_path / "run")
    lines = metrics(tmp_path / "run")
    losses = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    best = min(losses, key=losses.get)
    # By hand: the first step with three validations behind the best one that are no better.
    assert max(losses) == best + 6 == lines[-1]["step"] < 60
    kept = checkpoints(tmp_path / "run/stages/1-s0")
    assert best in [steps_done(one) for one in kept] and len(kept) <= 3
    (weighed,) = [one for one in kept if steps_done(one) == best]
    trained = weights(tmp_path / "run/model")
    saved = load_file(weighed / "model.safetensors")
    assert all(largest_difference({name: trained[name]}, {name: saved[name]}) == 0.0 for name in saved)
    # The same steps without a stop are the same model at the best one.
    plain = make_recipe(workspace, [stage], save_every=best)
    train(plain, tmp_path / "plain")
    assert numbers([line for line in lines if "loss" in line]) == numbers(metrics(tmp_path / "plain"))[: max(losses)]

    # Killed between the last checkpoint and the end, it stops at the same step.
    shutil.copytree(tmp_path / "run", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    train(recipe, tmp_path / "cut", resume=True)
    assert numbers(metrics(tmp_path / "cut")) == numbers(lines)
    assert largest_difference(weights(tmp_path / "cut/model"), trained) == 0.0


def test_what_cannot_be_compared_is_said(workspace, tmp_path):
    with pytest.raises(ValidationError, match="mode: max"):
        StopConfig(metric="validation_token_accuracy")
    with pytest.raises(ConfigError, match="give the stage validation"):
        make_recipe(workspace, [{"stop": {}}])
    validation = {"share": 0.3, "every": 1}
    stop = {"metric": "validation_accuracy", "mode": "max"}
    with pytest.raises(ConfigError, match="validation_token_accuracy"):
        train(make_recipe(workspace, [{"steps": 2, "validation": validation, "stop": stop}]), tmp_path / "run")
