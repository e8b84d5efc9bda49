"""Adapters on every family of native models: they go on their part alone, learn, merge, and come off."""

from __future__ import annotations

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoModelForImageTextToText

from mminstruct.errors import ConfigError
from mminstruct.models import checkpoint
from mminstruct.models.adapters import attach, folder
from mminstruct.models.parts import freeze, parts
from tests.command import call
from tests.models.adapters import attach_random, config, copy_of
from tests.models.native import FAMILIES, batch_of, lively

# Where encoder and connector stand, read off transformers' module trees.
HOMES = {
    "qwen2.5-vl-3b": ("model.visual.", ("model.visual.merger.",)),
    "qwen3-vl-2b": ("model.visual.", ("model.visual.merger.", "model.visual.deepstack_merger_list.")),
    "smolvlm-256m": ("model.vision_model.", ("model.connector.",)),
    "llava-onevision-qwen2-0.5b": ("model.vision_tower.", ("model.multi_modal_projector.",)),
    "internvl3-1b": ("model.vision_tower.", ("model.multi_modal_projector.",)),
    "gemma-3-4b-it": ("model.vision_tower.", ("model.multi_modal_projector.",)),
}
DECODERS = ("model.language_model.", "model.text_model.")


def part_of(row: str, name: str) -> str:
    encoder, connectors = HOMES[row]
    if name.startswith(connectors):
        return "connector"
    if name.startswith(encoder):
        return "vision_encoder"
    return "language_model" if name.startswith(DECODERS) else "head"


# Gemma's connector is a norm and a bare matrix, which LoRA has no layer for.
PLACES = [
    (row, part)
    for row in FAMILIES
    for part in ("language_model", "vision_encoder", "connector")
    if (row, part) != ("gemma-3-4b-it", "connector")
]


@torch.no_grad()
def logits(model, processor) -> torch.Tensor:
    return model(**batch_of(processor)).logits


@pytest.mark.parametrize(("row", "part"), PLACES)
def test_lora_trains_its_part_alone_and_each_matrix_learns(row, part):
    model, processor = lively(row)
    untuned = logits(model, processor)
    wanted = {n for n, m in model.named_modules() if isinstance(m, nn.Linear) and part_of(row, n) == part}
    freeze(model, [])
    adapter = attach(model, config("lora", part))
    assert {n for n, m in model.named_modules() if isinstance(m, LoraLayer)} == wanted == set(adapter.names)
    assert torch.equal(logits(model, processor), untuned), "training starts from the base"
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name and part_of(row, name) == part for name in learning)
    assert {id(p) for p in adapter.parameters()} == set(map(id, learning.values()))
    adapter.unload()
    attach_random(model, config("lora", part))
    model(**batch_of(processor)).logits.logsumexp(-1).sum().backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert learning and not [name for name, p in learning.items() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora", "mask"])
@pytest.mark.parametrize(("row", "part"), PLACES)
def test_merged_logits_are_the_adapted_ones(row, part, kind):
    model, processor = lively(row)
    before, untuned = copy_of(model), logits(model, processor)
    order = [name for name, _ in model.named_parameters()]
    adapter = attach_random(model, config(kind, part))
    adapted = logits(model, processor)
    assert (adapted - untuned).abs().max() > 0.01 * untuned.abs().max()
    adapter.merge()
    assert (logits(model, processor) - adapted).abs().max() < 1e-5 * adapted.abs().max()
    after = model.state_dict()
    assert list(after) == list(before) and [name for name, _ in model.named_parameters()] == order
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name if kind == "mask" else f"{name}.weight" for name in adapter.names}


@pytest.mark.parametrize("kind", ["lora", "dora", "mask"])
@pytest.mark.parametrize(("row", "part"), PLACES)
def test_unloaded_is_the_base_bit_for_bit(row, part, kind):
    model, _ = lively(row)
    before, modules = copy_of(model), {name: type(module) for name, module in model.named_modules()}
    attach_random(model, config(kind, part)).unload()
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert {name: type(module) for name, module in model.named_modules()} == modules


@pytest.mark.parametrize("row", FAMILIES)
def test_adapters_of_two_parts_and_a_whole_one_leave_each_other_alone(row):
    """One is taken off again, and the other still computes and learns; a part that learns whole goes on learning."""
    model, processor = lively(row)
    freeze(model, ["connector"])
    first = attach_random(model, config("lora", "language_model"))
    with_first = logits(model, processor)
    second = attach_random(model, config("lora", "vision_encoder"))
    assert all(p.requires_grad for p in parts(model)["connector"].parameters())
    assert not set(map(id, first.parameters())) & set(map(id, second.parameters()))
    assert {part_of(row, name) for name in first.state()} == {"language_model"}
    assert {part_of(row, name) for name in second.state()} == {"vision_encoder"}
    second.unload()
    assert torch.equal(logits(model, processor), with_first)
    assert len(first.parameters()) == 2 * len(first.names) and all(p.requires_grad for p in first.parameters())


@pytest.mark.parametrize("row", FAMILIES)
def test_base_and_folder_give_the_trained_model(row, tmp_path):
    """By `zoo merge`; the merged folder is transformers' own again; another base is refused."""
    model, processor = lively(row)
    checkpoint.save(tmp_path / "base", model, processor)
    freeze(model, ["connector"])
    settings = [config("lora", "language_model"), config("mask", "vision_encoder")]
    description = folder.describe(model, "the base's name", ["connector"], settings)
    assert set(description.base.hashes) == {"vision_encoder", "language_model"}
    adapters = [attach_random(model, one) for one in settings]
    with torch.no_grad():
        for parameter in parts(model)["connector"].parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder.save(tmp_path / "adapter", model, adapters, description)
    adapted = logits(model, processor)
    code, out, error = call("zoo", "merge", tmp_path / "adapter", "--base", tmp_path / "base", "--out", tmp_path / "m")
    assert code == 0 and out.startswith("logits differ by "), error
    theirs, report = AutoModelForImageTextToText.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(report.values())
    assert (logits(theirs.eval(), processor) - adapted).abs().max() < 1e-5 * adapted.abs().max()
    code, _, error = call("zoo", "merge", tmp_path / "adapter", "--base", tmp_path / "m", "--out", tmp_path / "twice")
    assert code == 2 and 'its vision_encoder holds other numbers than the one of "the base\'s name"' in error


@pytest.mark.parametrize("row", ["qwen2.5-vl-3b", "smolvlm-256m"])  # its head tied to its embeddings, and not
def test_a_native_language_model_that_learnt_whole_is_in_the_folder(row, tmp_path):
    model, processor = lively(row)
    checkpoint.save(tmp_path / "base", model, processor)
    settings = config("lora", "vision_encoder")
    description = folder.describe(model, "base", ["language_model"], [settings])
    adapter = attach_random(model, settings)
    with torch.no_grad():
        for parameter in parts(model)["language_model"].parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder.save(tmp_path / "adapter", model, [adapter], description)
    again, _ = checkpoint.load(tmp_path / "base")
    folder.load(tmp_path / "adapter", again, "base")
    assert torch.equal(logits(again, processor), logits(model, processor))
    head, embeddings = again.get_output_embeddings().weight, again.get_input_embeddings().weight
    assert (head is embeddings) == again.config.tie_word_embeddings


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("part", ["language_model", "vision_encoder"])
def test_plain_peft_opens_it_on_the_whole_native_model(kind, part, tmp_path):
    model, processor = lively("qwen2.5-vl-3b")
    checkpoint.save(tmp_path / "base", model, processor)
    description = folder.describe(model, "base", [], [config(kind, part)])
    folder.save(tmp_path / "adapter", model, [attach_random(model, config(kind, part))], description)
    bare = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(bare, tmp_path / "adapter" / part).eval()
    assert torch.equal(logits(theirs, processor), logits(model, processor))


def test_4_bits_on_a_native_language_model(tmp_path):
    import bitsandbytes

    model, processor = lively("qwen3-vl-2b")
    before = copy_of(model)
    adapter = attach_random(model, config("4 bits", "language_model"))
    small = {name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    assert small == {f"{name}.base_layer" for name in adapter.names}
    adapted = logits(model, processor)
    adapter.merge()
    assert (logits(model, processor) - adapted).abs().max() < 1e-5 * adapted.abs().max()
    after = model.state_dict()
    assert list(after) == list(before)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {f"{name}.weight" for name in adapter.names}


def test_where_there_is_nothing_to_go_on():
    model, _ = lively("gemma-3-4b-it")
    with pytest.raises(ConfigError, match="the connector has no linear layer"):
        attach(model, config("lora", "connector"))
    with pytest.raises(ConfigError, match="no part called 'experts', only vision_encoder, connector, language_model"):
        attach(model, config("lora", "experts"))


def test_a_part_is_a_view_of_the_model():
    """Its tensors are the model's under the model's names; its mode is its own; what is put into it is in the model."""
    model, _ = lively("llava-onevision-qwen2-0.5b")
    found = parts(model)
    named = dict(model.named_parameters())
    for part in found.values():
        assert all(named[name] is parameter for name, parameter in part.named_parameters())
    assert "model.image_newline" in dict(found["connector"].named_parameters())
    model.train()
    found["vision_encoder"].eval()
    assert model.training and model.model.language_model.training and not model.model.vision_tower.training
    layer = nn.Identity()
    found["connector"].set_submodule("model.multi_modal_projector", layer)
    assert model.model.multi_modal_projector is layer
