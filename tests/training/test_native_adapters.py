"""A recipe with adapters on a native model: what changes, what is written, and a run that resumes bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

import mminstruct
from mminstruct.errors import RunError
from mminstruct.models import checkpoint
from mminstruct.models.adapters.folder import merge_folder
from mminstruct.models.adapters.targets import linear_modules
from mminstruct.models.parts import parts
from mminstruct.training.run import train
from tests.models.native import lively
from tests.training.conftest import largest_difference, make_recipe, weights, write_dataset
from tests.training.test_exactness import metrics

LORA = {"kind": "lora", "part": "language_model", "rank": 4, "alpha": 8, "learning_rate": 1e-2}
TOWER = {**LORA, "part": "vision_encoder", "rank": 2, "dropout": 0.1}
MASK = {"kind": "mask", "part": "vision_encoder", "share": 0.5, "importance_batches": 2, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A native model of each family by its row's name, and `data/` with texts and pictures."""
    folder = tmp_path_factory.mktemp("bases")
    for row in ("qwen2.5-vl-3b", "internvl3-1b"):  # transformers writes tensors of both under older names
        checkpoint.save(folder / row, *lively(row))
    write_dataset(folder / "data", 12, text_only=3)
    return folder


def recipe(bases, row: str, *stages: dict, **settings):
    data = {"path": str(bases / "data/data.json")}
    return make_recipe(bases, list(stages), model=str(bases / row), data=data, **settings)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lora_on_two_parts_changes_their_linear_layers_and_nothing_else(bases, tmp_path, precision):
    stage = {"train": ["connector"], "adapters": [LORA, TOWER], "steps": 4}
    result = train(recipe(bases, "qwen2.5-vl-3b", stage, precision=precision), tmp_path / "run")
    before, after = weights(bases / "qwen2.5-vl-3b"), weights(tmp_path / "run/model")
    model, _ = mminstruct.load(bases / "qwen2.5-vl-3b")
    layers = {part: linear_modules(model, part) for part in ("language_model", "vision_encoder")}
    learnt = {f"{name}.weight" for found in layers.values() for name in found}
    learnt |= {name for name, _ in parts(model)["connector"].named_parameters()}
    assert {name for name in before if not torch.equal(before[name], after[name])} == learnt
    theirs, report = AutoModelForImageTextToText.from_pretrained(tmp_path / "run/model", output_loading_info=True)
    assert not any(report.values()) and largest_difference(dict(theirs.state_dict()), after) == 0
    merge_folder(tmp_path / "run/adapter", bases / "qwen2.5-vl-3b", tmp_path / "again")
    assert largest_difference(weights(tmp_path / "again"), after) == 0.0

    rows = json.loads((tmp_path / "run/trainable.json").read_text())["s0"]
    assert [row["kind"] for row in rows] == ["lora", "whole", "lora"]
    for row, rank in ((rows[0], 2), (rows[2], 4)):
        found = layers[row["part"]].values()
        assert row["trainable"] == sum(rank * (layer.in_features + layer.out_features) for layer in found)
        assert row["trainable"] == result.trainable["s0"][row["part"]]
    assert rows[2]["modules"]["model.language_model.layers.*.self_attn.q_proj"] == 2


STAGES = {
    "whole": {"train": ["connector", "language_model"]},
    "lora": {"train": ["connector"], "adapters": [LORA, TOWER]},
    "lora and masks": {"train": [], "adapters": [{**LORA, "dora": True, "dropout": 0.2}, MASK]},
    "4 bits": {"train": [], "adapters": [{**LORA, "bits": 4}]},
}


@pytest.mark.parametrize(
    ("row", "kind"),
    [*(("qwen2.5-vl-3b", kind) for kind in STAGES), ("internvl3-1b", "whole"), ("internvl3-1b", "lora")],
)
def test_resume_is_bit_equal(bases, tmp_path, row, kind):
    """Two stages of a kind; the run is killed behind the first checkpoint of the second."""
    stages = [{**STAGES[kind], "steps": 2}, {**STAGES[kind], "steps": 4}]
    planned = recipe(bases, row, *stages, save_every=2)
    train(planned, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/model")
    shutil.rmtree(tmp_path / "cut/stages/2-s1/checkpoint-4")
    train(planned, tmp_path / "cut", resume=True)
    assert largest_difference(weights(tmp_path / "whole/model"), weights(tmp_path / "cut/model")) == 0.0
    assert largest_difference(weights(bases / row), weights(tmp_path / "cut/model")) > 1e-3
    keys = ("stage", "step", "loss", "supervised_tokens", "grad_norm", "learning_rate")
    strip = lambda lines: [[line.get(key) for key in keys] for line in lines]  # noqa: E731
    assert strip(metrics(tmp_path / "whole")) == strip(metrics(tmp_path / "cut"))


def test_a_checkpoint_with_other_names_is_refused(bases, tmp_path):
    """transformers' trainer would warn and go on from the weights that the run began with."""
    planned = recipe(bases, "internvl3-1b", {**STAGES["lora"], "steps": 4}, save_every=2)
    train(planned, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/stages/1-s0/checkpoint-4")
    path = tmp_path / "run/stages/1-s0/checkpoint-2/model.safetensors"
    tensors = {f"old.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(RunError, match="the checkpoint to resume from is not this model's"):
        train(planned, tmp_path / "run", resume=True)
