"""A run is resumed with the validation data that it began with."""

from __future__ import annotations

import json
import shutil

import pytest

from mminstruct.errors import RunError
from mminstruct.training.run import train
from tests.training.conftest import largest_difference, make_recipe, weights, write_dataset


def test_resuming_with_other_validation_data_is_refused(workspace, tmp_path):
    """What differs is named; with the old data back, and with training data as before, the run goes on."""
    write_dataset(tmp_path / "held-out", 7, text_only=2, seed=1)
    path, out = tmp_path / "held-out/data.json", tmp_path / "run"
    stage = {"steps": 4, "validation": {"data": {"path": str(path)}, "every": 2}}
    recipe = make_recipe(workspace, [stage], save_every=2)
    train(recipe, out)
    whole = weights(out / "model")
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "stages/1-s0/checkpoint-4")
    before = path.read_text()
    path.write_text(before.replace("circle", "square"))
    named = r"other data \(stage 's0 \(validation\)', .*held-out/data\.json: "
    with pytest.raises(RunError, match=named + r"\w{64} as content hash then, \w{64} now\); bring them back"):
        train(recipe, out, resume=True)
    path.write_text(json.dumps(json.loads(before)[:-1]))
    with pytest.raises(RunError, match=named + r"7 conversations then, 6 now"):
        train(recipe, out, resume=True)
    path.write_text(before)
    known = json.loads((out / "sources.json").read_text())
    (out / "sources.json").write_text(json.dumps({"s0": known["s0"]}))
    with pytest.raises(RunError, match=r"does not say what stage 's0 \(validation\)' was made of"):
        train(recipe, out, resume=True)
    (out / "sources.json").write_text(json.dumps(known))
    train(recipe, out, resume=True)
    assert largest_difference(weights(out / "model"), whole) == 0.0


def test_a_share_is_compared_with_the_data_that_it_is_of(workspace, tmp_path):
    """It has no line of its own."""
    recipe = make_recipe(workspace, [{"steps": 1, "validation": {"share": 0.3, "every": 1}}])
    train(recipe, tmp_path / "run")
    assert list(json.loads((tmp_path / "run/sources.json").read_text())) == ["s0"]
