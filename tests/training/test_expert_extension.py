"""New experts through a recipe: what learns, what stays bit for bit, and a run that resumes."""

from __future__ import annotations

import shutil

import pytest
import torch

import mminstruct
from mminstruct.errors import ConfigError
from mminstruct.models import checkpoint
from mminstruct.models.adapters.folder import merge_folder
from mminstruct.models.vlm import VisionLanguageConfig, VisionLanguageModel
from mminstruct.training.run import train
from tests.training.conftest import largest_difference, make_recipe, weights


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended") / "model"
    torch.manual_seed(0)
    checkpoint.save(folder, *mminstruct.create("nano-experts", tiny=True))
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_new_experts_train_and_nothing_else_of_the_language_model(workspace, extended, tmp_path, precision):
    stage = {"train": ["connector", "experts"], "learning_rate": {"connector": 1e-3, "experts": 1e-2}, "steps": 6}
    result = train(make_recipe(workspace, [stage], model=str(extended), precision=precision), tmp_path / "run")
    before, after = weights(extended), weights(tmp_path / "run/model")
    for name in before:
        changed = not torch.equal(before[name], after[name])
        assert changed == (name.split(".")[0] in ("connector", "experts")), name
    # The folder of what was trained makes the same model of the same base, and of the base before it had experts.
    bare, processor = mminstruct.load(extended)
    begun = VisionLanguageModel(VisionLanguageConfig(**{**bare.config.to_dict(), "expert_extension": None}))
    begun.load_state_dict({k: v for k, v in bare.state_dict().items() if not k.startswith("experts.")})
    checkpoint.save(tmp_path / "begun", begun, processor)
    for base in (extended, tmp_path / "begun"):
        merge_folder(tmp_path / "run/adapter", base, tmp_path / f"from-{base.name}")
        assert largest_difference(weights(tmp_path / f"from-{base.name}"), after) == 0.0
    counts = result.trainable["s0"]
    assert counts["language_model"] == counts["vision_encoder"] == 0
    assert counts["experts"] == sum(tensor.numel() for name, tensor in before.items() if name.startswith("experts."))


def test_resume_is_bit_equal_for_a_mixture(workspace, extended, tmp_path):
    recipe = make_recipe(
        workspace, [{"steps": 4, "train": ["language_model", "experts"]}], model=str(extended), save_every=2
    )
    train(recipe, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    shutil.rmtree(tmp_path / "cut/stages/1-s0/checkpoint-4")
    train(recipe, tmp_path / "cut", resume=True)
    assert largest_difference(weights(tmp_path / "whole/model"), weights(tmp_path / "cut/model")) == 0.0
    assert largest_difference(weights(extended), weights(tmp_path / "cut/model")) > 1e-3


def test_a_part_that_the_model_lacks_is_refused_before_anything_is_built(workspace, tmp_path):
    recipe = make_recipe(workspace, [{"train": ["connector"]}, {"train": ["experts"]}])
    with pytest.raises(ConfigError, match="no part called 'experts'"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
