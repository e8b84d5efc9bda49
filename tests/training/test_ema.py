"""The average of the weights: that of a hand-written loop, whole in a checkpoint, and what validation sees."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from mminstruct.training.checkpointing import of_step
from mminstruct.training.run import train
from tests.training.conftest import largest_difference, make_recipe, weights
from tests.training.test_exactness import metrics
from tests.training.test_validation import plain_loss

DECAY = 0.7


@pytest.mark.parametrize("adapters", [False, True])
def test_the_average_is_that_of_a_plain_loop(workspace, tmp_path, adapters, monkeypatch):
    """Saved at every step, so the loop over what was saved is the definition; the raw weights do not notice."""
    monkeypatch.setattr("mminstruct.training.trainer.KEPT", 100)
    stage = {"steps": 6, "train": ["connector", "language_model"]}
    if adapters:
        stage = {
            "steps": 6,
            "train": ["connector"],
            "adapters": [{"kind": "lora", "part": "language_model", "rank": 2, "alpha": 4, "dropout": 0.1}],
        }
    data = {"path": str(workspace / "data/data.json")}
    averaged = {**stage, "ema": DECAY, "validation": {"data": data, "every": 2}}
    train(make_recipe(workspace, [stage], save_every=1), tmp_path / "plain")
    recipe = make_recipe(workspace, [averaged], save_every=1)
    train(recipe, tmp_path / "run")
    folder = tmp_path / "run/stages/1-s0"
    saved = {step: load_file(of_step(folder, step) / "model.safetensors") for step in range(1, 7)}
    plain = load_file(of_step(tmp_path / "plain/stages/1-s0", 6) / "model.safetensors")
    assert largest_difference(saved[6], plain) == 0.0
    kept = load_file(of_step(folder, 6) / "ema.safetensors")
    # The first step has rate zero (warm-up), so the weights that it leaves are those of the start.
    average = {name: saved[1][name].clone() for name in kept}
    for step in range(2, 7):
        for name, value in average.items():
            value.copy_(DECAY * value + (1 - DECAY) * saved[step][name])
    assert largest_difference(kept, average) < 1e-6
    trained = weights(tmp_path / "run/model")
    assert largest_difference(trained, weights(tmp_path / "plain/model")) > 1e-4
    if not adapters:
        assert all(torch.equal(trained[name], kept[name]) for name in kept)
        expected, _ = plain_loss(tmp_path / "run/model", workspace / "data/data.json")
        assert metrics(tmp_path / "run")[-1]["validation_loss"] == pytest.approx(expected, rel=1e-5)

    shutil.copytree(tmp_path / "run", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    shutil.rmtree(tmp_path / "cut/adapter", ignore_errors=True)
    for step in (4, 5, 6):
        shutil.rmtree(of_step(tmp_path / "cut/stages/1-s0", step))
    train(recipe, tmp_path / "cut", resume=True)
    assert largest_difference(weights(tmp_path / "cut/model"), trained) == 0.0
    assert largest_difference(load_file(of_step(tmp_path / "cut/stages/1-s0", 6) / "ema.safetensors"), kept) == 0.0
