"""LoRA as one operation against peft's own, and one cast for all readers against autocast's."""

from __future__ import annotations

import contextlib
import functools

import peft
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mminstruct
from mminstruct.models.adapters import LoraConfig, attach
from mminstruct.models.packing import packed
from mminstruct.models.parts import freeze
from mminstruct.training import as_trained, objectives
from mminstruct.training.activation_checkpointing import activation_checkpointing
from mminstruct.training.linear_layers import _Casts, _WithLowRank, lean_linear_layers
from mminstruct.training.run import train
from mminstruct.training.throughput import ModelFlops
from tests.models.test_packing import samples
from tests.training.conftest import largest_difference, make_recipe, weights


def build(row: str = "nano", part: str = "language_model", seed: int = 0, **options):
    """A model with an adapter whose matrices are both random."""
    torch.manual_seed(seed)
    model, processor = mminstruct.create(row, tiny=True)
    freeze(model, ["connector"])
    adapter = attach(model, LoraConfig(kind="lora", part=part, rank=4, alpha=6, **options))
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.train(), processor.pack(samples(processor)), adapter


def step(model, batch, half: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    with packed(model):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = objectives.get("sft")(model, batch).loss_sum
        loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def fused(model) -> int:
    return sum(isinstance(vars(module).get("forward"), _WithLowRank) for module in model.modules())


@pytest.mark.parametrize(
    ("part", "recomputed"), [("language_model", []), ("connector", []), ("language_model", ["language_model"])]
)
def test_loss_and_gradients_are_pefts(part, recomputed):
    """Also where layers are computed again in the backward pass."""
    model, batch, adapter = build("nano-mlp", part)
    loss, expected = step(model, batch)
    with lean_linear_layers(model, keep=True), activation_checkpointing(model, recomputed):
        assert fused(model) == sum(one.endswith("lora_A.weight") for one in adapter.state()) > 0
        again, found = step(model, batch)
    assert again == pytest.approx(loss, rel=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5, msg=name)
    assert not fused(model) and step(model, batch)[0] == loss


def test_a_bias_is_added_and_a_row_may_have_any_shape():
    torch.manual_seed(0)
    holder = nn.ModuleDict({"part": nn.Sequential(nn.Linear(6, 5))})
    wrapped = peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["0"]), holder)
    nn.init.normal_(wrapped["part"][0].lora_B["default"].weight)
    for shape in [(6,), (3, 6), (2, 3, 6)]:
        states = torch.randn(shape)
        expected = wrapped["part"](states)
        with lean_linear_layers(wrapped):
            torch.testing.assert_close(wrapped["part"](states), expected)


@pytest.mark.parametrize("options", [{"dora": True}, {"dropout": 0.5}])
def test_what_is_more_than_two_matrices_stays_pefts(options):
    model, _, _ = build(**options)
    with lean_linear_layers(model):
        assert fused(model) == 0


def test_an_adapter_that_is_off_adds_nothing():
    model, batch, adapter = build()
    with lean_linear_layers(model), torch.no_grad(), packed(model):
        with adapter.off():
            off = objectives.get("sft")(model, batch).loss_sum
        on = objectives.get("sft")(model, batch).loss_sum
    adapter.unload()
    with torch.no_grad(), packed(model):
        bare = objectives.get("sft")(model, batch).loss_sum
    assert off == bare and on != bare


def test_in_bfloat16_it_is_as_near_to_float32_as_peft_is():
    """Root mean square over all gradients of eight models, each to its own length."""
    far = {"peft": 0.0, "ours": 0.0}
    for seed in range(8):
        model, batch, _ = build(seed=seed)
        _, exact = step(model, batch)
        _, pefts = step(model, batch, half=True)
        with lean_linear_layers(model):
            _, ours = step(model, batch, half=True)
        for whose, found in (("peft", pefts), ("ours", ours)):
            far[whose] += sum(float((found[name] - exact[name]).norm() / exact[name].norm()) ** 2 for name in exact)
    assert 0 < far["ours"] < 1.15**2 * far["peft"]


def test_operations_are_counted_as_pefts():
    model, batch, _ = build()
    counts = []
    for lean in (False, True):
        model.zero_grad()
        model_flops, torchs = ModelFlops(), FlopCounterMode(display=False)
        with packed(model), torchs, lean_linear_layers(model) if lean else contextlib.nullcontext():
            with model_flops:
                loss = objectives.get("sft")(model, batch).loss_sum
            loss.backward()
        counts.append((model_flops.total, torchs.get_total_flops()))
    assert counts[0] == counts[1] and counts[0][0] > 0


def test_one_cast_serves_all_who_read_a_tensor():
    casts = _Casts(keep=False)
    once = casts.states
    states = torch.randn(3, 4, requires_grad=True)
    assert once(states) is states  # no autocast
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            without = once(states)
        made = once(states)
        assert made.dtype == torch.bfloat16 and made is not without and made.requires_grad
        assert once(states) is made and once(made) is made
        other = once(torch.zeros(2))
        assert other is not made and once(states) is not made
        ids = torch.arange(3)
        assert once(ids) is ids
        changing = torch.zeros(2)
        before = once(changing)
        changing += 1
        assert torch.equal(once(changing), torch.ones(2, dtype=torch.bfloat16)) and not before.any()


def test_a_weights_cast_is_kept_until_the_next_step_and_only_where_it_has_a_graph():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.AdamW([weight], lr=0.5, fused=True)
    model = nn.Linear(2, 2)
    with lean_linear_layers(model, keep=True), torch.autocast("cpu", torch.bfloat16):
        casts = model.forward.args[1]
        with torch.no_grad():
            assert casts.weight(weight) is casts.weight(weight, graph=False) is weight
        without = casts.weight(weight, graph=False)
        assert casts.weight(weight, graph=False) is without and not without.requires_grad
        made = casts.weight(weight)
        assert made.requires_grad and made.dtype == torch.bfloat16 and casts.weight(weight) is made
        for _ in range(2):  # as often as there are micro-batches
            casts.weight(weight).sum().backward()
        assert torch.equal(weight.grad, torch.full((2, 2), 2.0))
        optimizer.step()
        now = weight.detach().bfloat16()
        assert torch.equal(casts.weight(weight), now) and not torch.equal(made, now)
        with torch.no_grad():
            weight.zero_()
        assert not casts.weight(weight).any()
    assert "forward" not in vars(model)


def _keeping(own: bool, model, keep: bool):
    assert keep  # the stage's micro-batches are several
    return lean_linear_layers(model, own)


def test_a_run_whose_casts_are_kept_is_the_run_whose_are_not(workspace, tmp_path, monkeypatch):
    """Bit by bit, with LoRA and a connector that learns whole and their averages validated between; and all whole."""
    found = []
    for keep in (True, False):
        monkeypatch.setattr(as_trained, "lean_linear_layers", functools.partial(_keeping, keep))
        lora = {"train": ["connector"], "adapters": [{"kind": "lora", "part": "language_model", "rank": 2}]}
        lora |= {"ema": 0.5, "validation": {"data": {"path": str(workspace / "data/data.json")}, "every": 2}}
        stages = [{**stage, "accumulate": 3, "steps": 4} for stage in (lora, {})]
        out = tmp_path / str(keep)
        train(make_recipe(workspace, stages, precision="bf16"), out)
        found.append([weights(out / place) for place in ("stages/1-s0/model", "model")])
    for kept, anew in zip(*found, strict=True):
        assert largest_difference(kept, anew) == 0.0


def test_layers_that_are_computed_again_find_the_same_casts():
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    freeze(model, ["connector", "language_model"])
    batch = processor.pack(samples(processor))
    found = []
    for recomputed in ([], ["language_model"]):
        with lean_linear_layers(model, keep=True), activation_checkpointing(model, recomputed):
            found.append([step(model.train(), batch, half=True) for _ in range(2)])  # two micro-batches
    for (loss, gradients), (other, others) in zip(*found, strict=True):
        assert loss == other
        assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_without_adapters_the_loss_in_bfloat16_is_autocasts_bit_by_bit():
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano", tiny=True)
    freeze(model, ["connector", "language_model"])
    batch = processor.pack(samples(processor))
    loss, expected = step(model.train(), batch, half=True)
    with lean_linear_layers(model):
        again, found = step(model, batch, half=True)
    assert again == loss
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 2e-2 * gradient.norm() + 1e-6, name
