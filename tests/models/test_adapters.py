"""LoRA, DoRA and 4 bits: on which layers they go, how much they add, and what is left when they are merged."""

from __future__ import annotations

import sys

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from pydantic import ValidationError
from torch import nn

from mminstruct.errors import ConfigError
from mminstruct.models.adapters import LoraConfig, attach
from mminstruct.models.memory import lora_parameters
from tests.models.adapters import attach_random, build, config, copy_of, inputs, logits

# Fused timm towers, a CLIP tower of transformers, one of open_clip with torch's attention, a Q-Former, and their LLMs.
PLACES = [
    ("prism-dinosiglip-7b", "vision_encoder"),
    ("llava-1.5-7b", "vision_encoder"),
    ("open_clip", "vision_encoder"),
    ("nano-instruct-q-former", "connector"),
    ("nano-text-guided-moe", "connector"),
    ("nano", "language_model"),
    ("siglip2-qwen3-0.6b", "language_model"),
]


def linear_layers(module: nn.Module, name: str = "") -> set[str]:
    """Names of linear layers, child by child; torch's attention counts as one."""
    if isinstance(module, nn.MultiheadAttention | nn.Linear):
        return {name}
    return {
        found
        for child, inner in module.named_children()
        for found in linear_layers(inner, f"{name}.{child}" if name else child)
    }


@pytest.mark.parametrize(("row", "part"), PLACES)
def test_lora_goes_on_every_linear_layer_of_its_part_and_on_nothing_else(row, part):
    model, _ = build(row)
    wanted = linear_layers(model.part(part)) - {"lm_head"}
    model.requires_grad_(True)
    adapter = attach(model, config("lora", part))
    found = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    found -= {name for name in found if name.endswith("base_layer.out_proj")}  # of torch's attention, with it
    assert found == {f"{part}.{name}" for name in wanted} and wanted
    learning = {name for name, p in model.part(part).named_parameters() if p.requires_grad}
    assert {id(p) for p in adapter.parameters()} == {
        id(p) for name, p in model.part(part).named_parameters() if name in learning
    }
    assert all(".lora_" in f".{name}" for name in learning)
    for other in set(model.parts) - {part}:
        assert all(p.requires_grad for p in model.part(other).parameters())


@pytest.mark.parametrize(("row", "part"), PLACES)
def test_each_lora_matrix_learns(row, part):
    """None stands beside a layer that is never called."""
    model, _ = build(row)
    # The text's feed-forward of a Q-Former's last layer is there and read by nothing.
    idle = model.connector.idle_parameters() if part == "connector" else set()
    assert attach_random(model, config("lora", part)).parameters()
    model(**inputs(model)).logits.logsumexp(-1).sum().backward()
    for name, parameter in model.part(part).named_parameters():
        if parameter.requires_grad and name.partition(".lora_")[0] + ".weight" not in idle:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_trainable_parameters_are_pefts_and_the_formulas(kind):
    model, _ = build("siglip2-qwen3-0.6b")
    layers = [model.language_model.get_submodule(n) for n in linear_layers(model.language_model) - {"lm_head"}]
    formula = sum(4 * (layer.in_features + layer.out_features) for layer in layers)
    assert formula == lora_parameters(model, 4)
    if kind == "dora":
        formula += sum(layer.out_features for layer in layers)
    theirs, _ = build("siglip2-qwen3-0.6b")
    settings = peft.LoraConfig(r=4, target_modules="all-linear", use_dora=kind == "dora", task_type="CAUSAL_LM")
    by_peft, _ = peft.get_peft_model(theirs.language_model, settings).get_nb_trainable_parameters()
    ours = sum(p.numel() for p in attach(model, config(kind, "language_model")).parameters())
    assert ours == formula == by_peft


@pytest.mark.parametrize(
    ("row", "part", "kind"),
    [
        (row, part, kind)
        for row, part in PLACES
        for kind in ("lora", "dora", "rslora", "mask", "4 bits")
        if (kind != "4 bits" or part == "language_model") and (kind != "dora" or row != "open_clip")
    ],
)
def test_merged_logits_are_the_adapted_ones(row, part, kind):
    model, _ = build(row)
    before, untuned = copy_of(model), logits(model)
    adapter = attach_random(model, config(kind, part))
    adapted = logits(model)
    adapter.merge()
    assert (logits(model) - adapted).abs().max() < 1e-5 * adapted.abs().max() < (adapted - untuned).abs().max()
    after = model.state_dict()
    assert list(after) == list(before)  # order, too: an optimiser's saved state goes by it
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in build(row)[0].named_parameters()]
    modules = {f"{part}.{name}" for name in adapter.names}
    for name, tensor in after.items():
        carries = any(name == module or name.startswith(f"{module}.") for module in modules)
        matrix = tensor.ndim > 1 and name.rpartition(".")[2].endswith("weight")
        assert torch.equal(tensor, before[name]) != (carries and matrix), name
    assert not any(p.requires_grad for p in model.part(part).parameters())


@pytest.mark.parametrize("kind", ["lora", "dora", "mask"])
@pytest.mark.parametrize("row", ["llava-1.5-7b", "open_clip"])
def test_unloaded_is_the_base_bit_for_bit(row, kind):
    part = "language_model" if kind == "dora" else "vision_encoder"
    model, _ = build(row)
    before = copy_of(model)
    attach_random(model, config(kind, part)).unload()
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", ["lora", "dora", "mask"])
@pytest.mark.parametrize("row", ["llava-1.5-7b", "open_clip"])
def test_switched_off_is_the_base_and_on_again_learns(row, kind):
    model, _ = build(row)
    untuned = logits(model)
    adapter = attach_random(model, config(kind, "language_model" if kind == "dora" else "vision_encoder"))
    adapted = logits(model)
    # peft adds LoRA to the weights of torch's attention and takes it off again in each pass, which rounds.
    bound = 1e-5 * float((adapted - untuned).abs().max()) if (row, kind) == ("open_clip", "lora") else 0.0
    with adapter.off():
        assert (logits(model) - untuned).abs().max() <= bound
    assert (logits(model) - adapted).abs().max() <= bound and not torch.equal(adapted, untuned)
    assert all(parameter.requires_grad for parameter in adapter.parameters())


@pytest.mark.parametrize("kind", ["lora", "dora", "mask"])
def test_training_starts_from_the_base(kind):
    model, _ = build("nano")
    untuned = logits(model)
    attach(model, config(kind, "language_model"))
    assert torch.allclose(logits(model), untuned, atol=1e-6)


def test_lora_scale_and_product_by_hand():
    model, _ = build("nano")
    name = next(iter(linear_layers(model.connector)))
    layer = model.connector.get_submodule(name)
    weight = layer.weight.clone()
    for kind, scale in (("lora", 12 / 4), ("rslora", 12 / 2)):
        adapter = attach_random(model, config(kind, "connector"))
        down, up = (adapter.state()[f"{name}.lora_{which}.weight"].clone() for which in "AB")
        adapter.merge()
        assert torch.allclose(model.connector.get_submodule(name).weight, weight + scale * up @ down, atol=1e-6)
        weight = model.connector.get_submodule(name).weight.clone()


def test_what_lora_cannot_go_on():
    model, _ = build("nano")
    with pytest.raises(ConfigError, match="the vision_encoder has no linear layer"):
        attach(model, config("lora", "vision_encoder"))
    model, _ = build("open_clip")
    with pytest.raises(ConfigError, match="MultiheadAttention, which peft has no DoRA for; use dora: false"):
        attach(model, config("dora", "vision_encoder"))


# --- 4 bits -----------------------------------------------------------------------------------------------------------


def test_only_the_language_models_layers_are_quantised():
    import bitsandbytes

    model, _ = build("nano-instruct-q-former")
    before, head = copy_of(model), model.get_output_embeddings()
    attach(model, config("4 bits", "language_model"))
    small = {name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    layers = linear_layers(build("nano")[0].language_model) - {"lm_head"}
    assert small == {f"language_model.{name}.base_layer" for name in layers}
    assert model.get_output_embeddings() is head
    for name in small:  # two numbers a byte
        weight = model.get_submodule(name).weight
        assert weight.dtype == torch.uint8
        plain = before[name.removesuffix(".base_layer") + ".weight"]
        assert weight.numel() == plain.numel() // 2
    after = model.state_dict()
    for name, tensor in before.items():
        if name in after:
            assert torch.equal(after[name], tensor), name
    assert {name for name in before if name not in after} == {f"language_model.{n}.weight" for n in layers}
    for part in ("vision_encoder", "connector"):
        with pytest.raises(ValidationError, match=f"the {part} is never quantised"):
            LoraConfig(kind="lora", part=part, bits=4)


def test_merged_4_bits_are_the_quantised_numbers_and_the_adapter():
    from bitsandbytes import functional

    model, _ = build("nano")
    name = sorted(linear_layers(model.language_model) - {"lm_head"})[0]
    weight = model.language_model.get_submodule(name).weight.detach().clone()
    small, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    rounded = functional.dequantize_4bit(small, state)
    adapter = attach_random(model, config("4 bits", "language_model"))
    down, up = (adapter.state()[f"{name}.lora_{which}.weight"].clone() for which in "AB")
    adapter.merge()
    merged = model.language_model.get_submodule(name).weight
    assert torch.allclose(merged, rounded + 3 * up @ down, atol=1e-6)
    assert (rounded - weight).abs().max() > 1e-3  # so that it makes a difference


def test_without_bitsandbytes_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    model, _ = build("nano")
    with pytest.raises(ConfigError, match=r"needs bitsandbytes; install it with: pip install 'mminstruct\[quantize\]'"):
        attach(model, config("4 bits", "language_model"))
