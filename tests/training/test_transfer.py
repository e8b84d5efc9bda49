"""Nothing of a micro-batch is read back from the device: shown on torch's meta device, which has nothing to read.

On a GPU each such read makes the CPU wait until all that it has started is done; what the GPU itself says of it is in
test_gpu.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import TrainingArguments

import mminstruct
from mminstruct.errors import DataError
from mminstruct.models import checkpoint
from mminstruct.training.run import train
from mminstruct.training.trainer import VisionLanguageTrainer
from tests.training.conftest import make_recipe
from tests.training.test_preference import data  # noqa: F401 - a fixture

META = torch.device("meta")
LORA = {"kind": "lora", "part": "language_model", "rank": 2}


class LookedAtError(Exception):
    """The first micro-batch has been looked at."""


def first_micro_batch(monkeypatch, look) -> None:
    """`look(trainer, model, batch)` stands where the trainer's first micro-batch would be computed."""

    def training_step(trainer, model, batch, num_items_in_batch=None) -> Any:
        look(trainer, model, batch)
        raise LookedAtError

    monkeypatch.setattr(VisionLanguageTrainer, "training_step", training_step)


STAGES = {
    "apart": {"share_prefix": False},
    "shared": {"pack_tokens": 512},
    "padded": {"group_by_length": True},
    "conversations": {"objective": {"kind": "sft", "average": "conversation"}},
    "lora": {"train": ["connector"], "adapters": [LORA]},
    "dpo": {"train": [], "adapters": [LORA], "objective": {"kind": "dpo", "supervised_weight": 0.5}},
}


@pytest.mark.parametrize("name", STAGES)
def test_a_micro_batch_is_computed_without_reading_from_the_device(name, workspace, data, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(VisionLanguageTrainer, "_agree_on_step", lambda trainer: None)  # once a step, and it says so
    gradients = []

    def look(trainer, model, batch) -> None:
        model.to(META)
        monkeypatch.setattr(TrainingArguments, "device", META)
        inputs = trainer._prepare_inputs(batch)
        assert inputs["input_ids"].device == META and "pixel_values" in inputs
        loss = trainer.compute_loss(model, inputs, num_items_in_batch=torch.tensor(5, device=META))
        loss.backward()
        gradients.extend(one.grad.device for one in model.parameters() if one.requires_grad)

    first_micro_batch(monkeypatch, look)
    pairs = {"path": str(data / "pairs"), "media_root": str(data)}
    settings = {"data": pairs} if name == "dpo" else {}
    with pytest.raises(LookedAtError):
        train(make_recipe(workspace, [STAGES[name]], **settings), tmp_path / "run")
    assert gradients and set(gradients) == {META}


@pytest.mark.parametrize("row", ["nano-tiles", "nano-mlp", "nano-perceiver"])
def test_so_it_is_with_other_connectors(row, workspace, monkeypatch, tmp_path):
    monkeypatch.setattr(VisionLanguageTrainer, "_agree_on_step", lambda trainer: None)
    checkpoint.save(tmp_path / "model", *mminstruct.create(row, tiny=True))
    losses = []

    def look(trainer, model, batch) -> None:
        model.to(META)
        monkeypatch.setattr(TrainingArguments, "device", META)
        losses.append(trainer.compute_loss(model, trainer._prepare_inputs(batch)))

    first_micro_batch(monkeypatch, look)
    with pytest.raises(LookedAtError):
        train(make_recipe(workspace, [{}], model=str(tmp_path / "model")), tmp_path / "run")
    assert [loss.device for loss in losses] == [META]


def test_as_many_places_as_vectors_are_wanted_also_where_they_are_counted_before(workspace):
    model, _ = mminstruct.load(workspace / "model")
    size = model.layout.tile
    ids = torch.full((1, 5), model.config.image_token_id)
    for counted in (None, 5):
        with pytest.raises(DataError, match="the text has 5 image places, the pictures give 4 vectors"):
            model(input_ids=ids, pixel_values=torch.zeros(1, 3, size, size), num_image_places=counted)
