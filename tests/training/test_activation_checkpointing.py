"""Activation checkpointing: the same loss and gradients of less that is kept, for every source of an encoder."""

from __future__ import annotations

import contextlib

import pytest
import torch

import mminstruct
from mminstruct.config import validate
from mminstruct.errors import ConfigError
from mminstruct.models.packing import hindrance, packed, position_function
from mminstruct.models.parts import freeze
from mminstruct.models.vlm import PARTS
from mminstruct.training import objectives
from mminstruct.training.activation_checkpointing import activation_checkpointing
from mminstruct.training.config import StageConfig
from tests.models.native import FAMILIES, lively
from tests.models.test_packing import samples

# timm (alone and two of its towers fused), open_clip, transformers, layers with gates before them, new experts.
ROWS = [
    "nano",
    "nano-fused",
    "openclip-h-qwen2.5-1.5b",
    "llava-1.5-7b",
    "nano-gated-cross-attention",
    "nano-experts",
]


def batch_of(model, processor):
    """Conversations in a row where the model takes one, behind shared prefixes; else padded."""
    made = samples(processor, ((40, 40), (90, 30)))
    if hindrance(model) is not None:
        return processor.collate(made, padding_side="right")
    position_ids = position_function(model)
    if position_ids is not None:
        made = [one | {"position_ids": position_ids(one)} for one in made]
    return processor.pack(made, share_prefix=True)


def step(model, batch) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss, gradients, and how many numbers are kept for the backward pass, layers that are computed again left out."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    torch.manual_seed(0)
    model.zero_grad()
    rows = packed(model) if hindrance(model) is None else contextlib.nullcontext()
    with rows, torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = objectives.get("sft")(model, batch).loss_sum
        loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, kept


def assert_same_of_less(model, batch, parts) -> None:
    model.train()
    expected, gradients, kept = step(model, batch)
    for part in parts:
        with activation_checkpointing(model, [part]):
            loss, found, less = step(model, batch)
        assert less < kept, part
        assert loss == pytest.approx(expected, rel=1e-6)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-6, msg=name)
    assert step(model, batch)[2] == kept


@pytest.mark.parametrize("row", ROWS)
def test_same_loss_and_gradients_of_less(row):
    torch.manual_seed(0)
    model, processor = mminstruct.create(row, tiny=True)
    freeze(model, PARTS)
    assert_same_of_less(model, batch_of(model, processor), ["vision_encoder", "language_model"])


@pytest.mark.parametrize("row", FAMILIES)
def test_native_models(row):
    model, processor = lively(row)
    freeze(model, PARTS)
    assert_same_of_less(model, batch_of(model, processor), ["vision_encoder", "language_model"])


def test_a_frozen_language_model_keeps_less_too():
    """It is in evaluation mode, and the connector's gradients pass through it."""
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    freeze(model, ["connector"])
    assert_same_of_less(model, batch_of(model, processor), ["language_model"])
    assert not model.language_model.training


def test_what_cannot_is_refused(tmp_path):
    stage = {"name": "s", "train": ["connector"], "learning_rate": 1e-3}
    with pytest.raises(ConfigError, match="vision_encoder, which is frozen and comes first"):
        validate(StageConfig, {**stage, "activation_checkpointing": ["vision_encoder"]}, where="test")
    with pytest.raises(ConfigError, match="'vision_encoder' or 'language_model'"):
        validate(StageConfig, {**stage, "activation_checkpointing": ["connector"]}, where="test")
