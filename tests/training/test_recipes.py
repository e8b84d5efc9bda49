"""Every recipe for a CPU runs: all its stages, two steps each, on a few pictures."""

from __future__ import annotations

import json
from typing import Any

import pytest

import mminstruct
from mminstruct import catalog
from mminstruct.config import load_yaml, validate
from mminstruct.training.config import Recipe
from mminstruct.training.run import train

NANO = [name for name in catalog.names(catalog.RECIPE) if name.startswith("nano-")]
NAMED = [name.removeprefix("nano-") for name in NANO]


def shortened(part: Any) -> Any:
    """A recipe with two steps a stage and few pictures; batches of four."""
    if isinstance(part, list):
        return [shortened(one) for one in part]
    if not isinstance(part, dict):
        return part
    short = {key: shortened(value) for key, value in part.items()}
    if "builder" in short:
        short["options"] = {**short["options"], "limit": 6}
    if "train" in short:
        short |= {"steps": 2, "batch_size": 4}
    return short


@pytest.mark.parametrize("name", NANO)
def test_a_nano_recipe_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = shortened(load_yaml(catalog.find(catalog.RECIPE, name)))
    recipe = validate(Recipe, {**raw, "log_every": 1}, where=name)
    result = train(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [(s.name, n) for s in recipe.stages for n in (1, 2)]
    mminstruct.load(result.model)


@pytest.mark.parametrize("name", NAMED)
def test_a_nano_recipe_has_the_stages_of_its_original(name):
    """In order: the kinds of objective, the parts, the adapters. What the hub gives the original, a stage makes."""
    original, nano = (
        validate(Recipe, load_yaml(catalog.find(catalog.RECIPE, one)), where=one) for one in (name, f"nano-{name}")
    )
    known = {stage.name: stage for stage in nano.stages}
    assert [stage.name for stage in nano.stages if stage.name not in {"pretrain", "instruct", "start"}] == [
        stage.name for stage in original.stages
    ]
    for stage in original.stages:
        small = known[stage.name]
        assert (small.objective.kind, small.train) == (stage.objective.kind, stage.train)
        assert [(a.kind, a.part) for a in small.adapters] == [(a.kind, a.part) for a in stage.adapters]
