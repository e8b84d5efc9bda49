"""Trackers get what `metrics.jsonl` gets."""

from __future__ import annotations

import importlib.util
import json

import pytest

from mminstruct.config import dump_yaml
from mminstruct.training.run import train
from tests.command import call
from tests.training.conftest import make_recipe


def test_tensorboard_shows_what_metrics_hold(workspace, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stages = [{"steps": 2}, {"steps": 3, "pack_tokens": 256}]
    train(make_recipe(workspace, stages, trackers=["tensorboard"]), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    for stage in ("s0", "s1"):
        events = EventAccumulator(str(tmp_path / "run/tensorboard" / stage)).Reload()
        own = [line for line in lines if line["stage"] == stage]
        for name in own[0].keys() - {"stage", "step", "epoch", "seconds"}:
            shown = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
            assert shown == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in own], name


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_built(workspace, tmp_path):
    missing = next((name for name in ("wandb", "trackio") if importlib.util.find_spec(name) is None), None)
    if missing is None:
        pytest.skip("all trackers are installed")
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(make_recipe(workspace, [{"steps": 1}], trackers=[missing])))
    code, _, error = call("train", path, "--out", tmp_path / "run")
    assert code == 2 and f"pip install {missing}" in error and not (tmp_path / "run").exists()
