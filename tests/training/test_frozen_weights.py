"""Frozen weights in bfloat16 under autocast: the same loss and gradients bit for bit, and their own values back."""

from __future__ import annotations

import contextlib

import pytest
import torch

import mminstruct
from mminstruct.models.packing import packed
from mminstruct.models.parts import freeze
from mminstruct.training import objectives
from mminstruct.training.frozen_weights import frozen_in_bfloat16
from mminstruct.training.run import train
from mminstruct.training.trainer import VisionLanguageTrainer
from tests.models.test_packing import samples
from tests.training.conftest import make_recipe


def step(model, batch) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    with packed(model), torch.autocast("cpu", torch.bfloat16):
        loss = objectives.get("sft")(model, batch).loss_sum
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def build(row: str, learns: list[str]):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    freeze(model, learns)
    return model.train(), processor.pack(samples(processor), share_prefix=True)


@pytest.mark.parametrize("row", ["nano", "nano-fused", "llava-1.5-7b"])
def test_loss_and_gradients_are_the_same_bit_for_bit(row):
    model, batch = build(row, ["connector"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, expected = step(model, batch)
    with frozen_in_bfloat16(model):
        rounded = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16}
        again, found = step(model, batch)
    assert any(name.startswith("vision_encoder") for name in rounded)
    assert any(name.startswith("language_model") for name in rounded)
    assert not any(name.startswith("connector") or "norm" in name or "embed_tokens" in name for name in rounded)
    assert again == loss
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) and value.dtype == after[name].dtype for name, value in before.items())


def test_every_stage_computes_in_bfloat16(workspace, tmp_path, monkeypatch):
    """Those behind a stage with adapters, too."""
    seen = []
    compute_loss = VisionLanguageTrainer.compute_loss

    def watched(self, model, inputs, **kwargs):
        note = lambda *_: seen.append((self.stage.name, torch.is_autocast_enabled("cpu")))  # noqa: E731
        with contextlib.closing(_Hook(self.model.language_model, note)):
            return compute_loss(self, model, inputs, **kwargs)

    monkeypatch.setattr(VisionLanguageTrainer, "compute_loss", watched)
    lora = {"adapters": [{"kind": "lora", "part": "language_model", "rank": 2}], "train": ["connector"]}
    stages = [{"steps": 1, **extra} for extra in ({}, {}, lora, lora, {})]
    train(make_recipe(workspace, stages, precision="bf16"), tmp_path / "run")
    assert seen == [(f"s{number}", True) for number in range(5)]


class _Hook:
    def __init__(self, module, hook):
        self.close = module.register_forward_pre_hook(hook).remove


def test_values_that_bfloat16_holds_are_not_kept_twice():
    model, _ = build("nano", ["connector"])
    model.to(torch.bfloat16).to(torch.float32)
    weight = model.language_model.model.layers[0].mlp.up_proj.weight
    before = weight.clone()
    with frozen_in_bfloat16(model):
        assert weight.dtype == torch.bfloat16
    assert torch.equal(weight, before)


def test_what_is_shared_with_an_embedding_stays():
    model, _ = build("nano", ["connector"])
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    head.weight = embeddings.weight
    with frozen_in_bfloat16(model):
        assert head.weight.dtype == torch.float32
        assert head.weight is embeddings.weight
