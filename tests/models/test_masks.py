"""Masks: the threshold and its straight-through gradient, gradient dropout, choosing weights, bits on disk."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models.adapters import Mask, MaskConfig, attach
from mminstruct.models.adapters.mask import (
    WEIGHTS,
    binarize,
    drop_gradient,
    keep_probability,
    most_important,
    pack,
    read_packed,
    unpack,
)
from mminstruct.models.adapters.targets import maskable_weights
from tests.models.adapters import attach_random, build, config, inputs, logits


def test_threshold_and_straight_through_gradient_by_hand():
    """y = sum c * (w * mask): d y / d score = c * w for every score, whether its weight is kept or not."""
    scores = torch.tensor([0.004, 0.005, 0.006, -1.0, 2.0], requires_grad=True)
    weight = torch.tensor([3.0, -2.0, 5.0, 7.0, 0.5])
    factor = torch.tensor([1.0, 2.0, -3.0, 4.0, 10.0])
    mask = binarize(scores, 0.005)
    assert mask.tolist() == [0, 0, 1, 0, 1]  # at the threshold: out, as in the official code
    (factor * weight * mask).sum().backward()
    assert scores.grad.tolist() == [3.0, -4.0, -15.0, 28.0, 5.0]


def test_gradient_of_scores_in_a_whole_model():
    """The gradient of each score is the weight's times the weight, taken in a copy whose weights are masked by hand."""
    model, _ = build("llava-1.5-7b")
    adapter = attach_random(model, config("mask", "vision_encoder"))
    model(**inputs(model)).logits.logsumexp(-1).sum().backward()
    plain, _ = build("llava-1.5-7b")
    places = maskable_weights(plain, "vision_encoder")
    original = {name: getattr(module, attribute).detach().clone() for name, (module, attribute) in places.items()}
    with torch.no_grad():
        for name, (module, attribute) in places.items():
            getattr(module, attribute)[~adapter.masks()[name]] = 0.0
    plain(**inputs(plain)).logits.logsumexp(-1).sum().backward()
    for score, name in zip(adapter.parameters(), adapter.names, strict=True):
        module, attribute = places[name]
        expected = getattr(module, attribute).grad * original[name]
        assert torch.allclose(score.grad, expected, atol=1e-5 * float(expected.abs().max())), name
        kept = adapter.masks()[name].float().mean()
        assert 0.2 < kept < 0.8 and float(score.grad[~adapter.masks()[name]].abs().max()) > 0


@pytest.mark.parametrize(
    ("row", "part", "count"),
    [("nano", "vision_encoder", 13), ("open_clip", "vision_encoder", 9), ("nano", "language_model", 14)],
)
def test_masks_go_on_linear_layers_convolutions_and_attention(row, part, count):
    """open_clip: the patch embedding, and in each of two layers in_proj, out_proj and the two of the MLP."""
    model, _ = build(row)
    adapter = attach(model, config("mask", part))
    assert len(adapter.names) == count == len(adapter.parameters())
    assert {p.shape for p in adapter.parameters()} and all(p.ndim > 1 for p in adapter.parameters())
    assert {id(p) for p in model.part(part).parameters() if p.requires_grad} == set(map(id, adapter.parameters()))


def test_off_is_the_untuned_model():
    model, _ = build("nano")
    untuned = logits(model)
    adapter = attach_random(model, config("mask", "vision_encoder"))
    assert not torch.equal(logits(model), untuned)
    with adapter.off():
        assert torch.equal(logits(model), untuned)
    assert not torch.equal(logits(model), untuned)


def test_merged_weights_are_the_base_or_zero():
    model, _ = build("nano")
    places = {n: getattr(m, a).detach().clone() for n, (m, a) in maskable_weights(model, "vision_encoder").items()}
    adapter = attach_random(model, config("mask", "vision_encoder"))
    masks = adapter.masks()
    adapter.merge()
    for name, (module, attribute) in maskable_weights(model, "vision_encoder").items():
        assert torch.equal(getattr(module, attribute), torch.where(masks[name], places[name], 0.0))


# --- gradient dropout -------------------------------------------------------------------------------------------------


def probability_by_hand(task: float, general: float) -> float:
    sign = (task > 0) - (task < 0)
    return 0.5 * (1 + sign * (task + general) / (abs(task) + abs(general) + 1e-8))


@pytest.mark.parametrize(
    ("task", "general", "expected"),
    [(2.0, 1.0, 1.0), (-2.0, -1.0, 1.0), (2.0, -1.0, 2 / 3), (-1.0, 3.0, 0.25), (1.0, -1.0, 0.5), (1.0, 0.0, 1.0)],
)
def test_probability_to_keep(task, general, expected):
    """1 where the signs agree, else the task's share of both: |a| / (|a| + |b|)."""
    found = float(keep_probability(torch.tensor(task), torch.tensor(general)))
    assert found == pytest.approx(expected, abs=1e-6)
    assert found == pytest.approx(probability_by_hand(task, general), abs=1e-7)


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_gradient_dropout_by_hand(strength):
    generator = torch.Generator().manual_seed(3)
    task, general = torch.randn(500, generator=generator), torch.randn(500, generator=generator)
    found = drop_gradient(task, general, strength, torch.Generator().manual_seed(7))
    draws = torch.rand(500, generator=torch.Generator().manual_seed(7))
    dropped = 0
    for index in range(500):
        keep = probability_by_hand(float(task[index]), float(general[index])) > float(draws[index])
        dropped += not keep
        assert float(found[index]) == pytest.approx(float(task[index]) * (1 if keep else 1 - strength), abs=1e-7)
    assert 50 < dropped < 250


def test_frequency_of_keeping():
    """A quarter is kept of a gradient that is a third of the one against it."""
    task, general = torch.full((20000,), -1.0), torch.full((20000,), 3.0)
    kept = (drop_gradient(task, general, 1.0, torch.Generator().manual_seed(0)) != 0).float().mean()
    assert float(kept) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 20000))


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_the_largest_gradients_are_chosen():
    gradients = {
        "a": torch.full((10,), 0.1),
        "b": torch.full((4,), -5.0),  # by size, not by sign
        "c": torch.tensor([9.0] + [0.0] * 29),  # by mean, not by the largest number
        "d": torch.full((6,), 2.0),
    }
    assert most_important(gradients, 0.2) == ["b", "d"]  # 10 of 50
    assert most_important(gradients, 0.19) == ["b"]
    assert most_important(gradients, 0.01) == ["b"]  # one at least
    assert most_important(gradients, 0.4) == ["a", "b", "d"]  # c is next, does not fit and is passed over
    assert most_important(gradients, 1.0) == ["a", "b", "c", "d"]


# --- disk -------------------------------------------------------------------------------------------------------------


def test_bits_by_hand():
    mask = torch.tensor([[1, 0, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=torch.bool)
    assert pack(mask).tolist() == [0b10000001, 0b11000000]


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (9,), (3, 5), (4, 3, 2, 2)])
def test_bits_there_and_back(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.5
    bits = pack(mask)
    assert bits.dtype == torch.uint8 and bits.numel() == math.ceil(mask.numel() / 8)
    assert torch.equal(unpack(bits, mask.shape, "here"), mask)


def test_a_saved_mask_is_a_bit_a_number_and_loads_the_same(tmp_path):
    model, _ = build("llava-1.5-7b")
    adapter = attach_random(model, config("mask", "vision_encoder"))
    adapter.save(tmp_path)
    numbers = sum(mask.numel() for mask in adapter.masks().values())
    tensors = load_file(tmp_path / WEIGHTS)
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) == numbers // 8
    assert (tmp_path / WEIGHTS).stat().st_size < numbers // 8 + 150 * len(tensors)  # a header of names
    other, _ = build("llava-1.5-7b")
    loaded = Mask(other, config("mask", "vision_encoder"), list(read_packed(tmp_path)))
    loaded.load(tmp_path)
    assert torch.equal(logits(other), logits(model))
    assert all(torch.equal(mask, adapter.masks()[name]) for name, mask in loaded.masks().items())


def test_what_cannot_be_loaded(tmp_path):
    model, _ = build("nano")
    with pytest.raises(CheckpointError, match=r"masks\.safetensors cannot be read"):
        read_packed(tmp_path)
    with pytest.raises(CheckpointError, match=r"here holds 3 x torch\.uint8, no mask of shape \[3, 3\]"):
        unpack(torch.zeros(3, dtype=torch.uint8), torch.Size([3, 3]), "here")
    with pytest.raises(ConfigError, match=r"the vision_encoder has no weight 'model\.nothing\.weight'"):
        attach(model, config("mask", "vision_encoder"), ["model.nothing.weight"])
    with pytest.raises(ValidationError, match="start must lie above threshold"):
        MaskConfig(kind="mask", part="connector", start=0.005)
