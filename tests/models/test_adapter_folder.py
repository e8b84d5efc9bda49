"""An adapter on disk: peft opens it, only its own base is taken, and a merge that changes the answers is refused."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import mminstruct
from mminstruct.errors import CheckpointError, RunError
from mminstruct.models import checkpoint
from mminstruct.models.adapters import folder, mask
from mminstruct.models.adapters.lora import WEIGHTS, Lora
from tests.command import call
from tests.models.adapters import attach_random, build, config, logits


def trained(tmp_path, kind: str, part: str = "language_model", row: str = "llava-1.5-7b"):
    """The base in `tmp_path/base`, an adapter of it in `tmp_path/adapter` beside a new connector, and the model."""
    model, processor = build(row)
    checkpoint.save(tmp_path / "base", model, processor)
    settings = config(kind, part)
    description = folder.describe(model, "the base's name", ["connector"], [settings])
    adapter = attach_random(model, settings)
    with torch.no_grad():
        for parameter in model.connector.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder.save(tmp_path / "adapter", model, [adapter], description)
    return model


KINDS = [
    ("lora", "language_model"),
    ("dora", "vision_encoder"),
    ("rslora", "language_model"),
    ("4 bits", "language_model"),
    ("mask", "vision_encoder"),
]


@pytest.mark.parametrize(("kind", "part"), KINDS)
def test_base_and_adapter_give_the_trained_model(tmp_path, kind, part):
    model = trained(tmp_path, kind, part)
    base, _ = mminstruct.load(tmp_path / "base")
    folder.load(tmp_path / "adapter", base, "base")
    assert torch.equal(logits(base), logits(model))
    code, out, error = call("zoo", "merge", tmp_path / "adapter", "--base", tmp_path / "base", "--out", tmp_path / "m")
    assert code == 0 and out.startswith("logits differ by "), error
    merged, _ = mminstruct.load(tmp_path / "m")
    assert (logits(merged) - logits(model)).abs().max() < 1e-5 * logits(model).abs().max()
    code, out, error = call("zoo", "verify", tmp_path / "m")
    assert code == 0, error


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora"])
def test_plain_peft_opens_it_on_the_bare_language_model(tmp_path, kind):
    model = trained(tmp_path, kind)
    bare = mminstruct.load(tmp_path / "base")[0].language_model
    embeddings = torch.randn(2, 7, bare.config.hidden_size)
    theirs = peft.PeftModel.from_pretrained(bare, tmp_path / "adapter/language_model").eval()
    with torch.no_grad():
        expected = model.language_model(inputs_embeds=embeddings).logits
        assert torch.equal(theirs(inputs_embeds=embeddings).logits, expected)
        untuned = mminstruct.load(tmp_path / "base")[0].language_model
        assert not torch.allclose(untuned(inputs_embeds=embeddings).logits, expected, atol=1e-2)
        if kind != "dora":  # transformers 5.23 opens DoRA without its magnitudes
            untuned.load_adapter(str(tmp_path / "adapter/language_model"))
            assert torch.equal(untuned.eval()(inputs_embeds=embeddings).logits, expected)


def test_the_folder_holds_what_was_trained_and_nothing_else(tmp_path):
    model = trained(tmp_path, "lora")
    found = sorted(p.relative_to(tmp_path / "adapter").as_posix() for p in (tmp_path / "adapter").rglob("*.*"))
    assert found == [
        "adapter.json",
        "connector/weights.safetensors",
        "language_model/adapter_config.json",
        "language_model/adapter_model.safetensors",
    ]
    stored = load_file(tmp_path / "adapter/connector/weights.safetensors")
    assert {n: t.tolist() for n, t in stored.items()} == {
        n: t.tolist() for n, t in model.connector.state_dict().items()
    }
    said = json.loads((tmp_path / "adapter/adapter.json").read_text())
    assert said["whole"] == ["connector"] and said["base"]["model"] == "the base's name"
    assert set(said["base"]["hashes"]) == {"vision_encoder", "language_model"}


def change(folder_, name: str) -> None:
    """Move one number of a tensor of the checkpoint by the least that a float can move."""
    file = folder_ / "model.safetensors"
    tensors = load_file(file)
    flat = tensors[name].view(-1)
    flat[0] = torch.nextafter(flat[0], torch.tensor(9.0))
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("part", ["vision_encoder", "language_model"])
def test_another_base_is_refused(tmp_path, part):
    trained(tmp_path, "lora")
    name = next(n for n in load_file(tmp_path / "base/model.safetensors") if n.startswith(part))
    change(tmp_path / "base", name)
    arguments = ("zoo", "merge", tmp_path / "adapter", "--base", tmp_path / "base", "--out", tmp_path / "m")
    code, _, error = call(*arguments)
    assert code == 2 and not (tmp_path / "m").exists()
    assert f"base is not the base of {tmp_path}/adapter: its {part} holds other numbers" in error


def test_a_part_that_is_stored_whole_may_differ_in_the_base(tmp_path):
    model = trained(tmp_path, "lora")
    name = next(n for n in load_file(tmp_path / "base/model.safetensors") if n.startswith("connector"))
    change(tmp_path / "base", name)
    folder.merge_folder(tmp_path / "adapter", tmp_path / "base", tmp_path / "m")
    assert torch.allclose(logits(mminstruct.load(tmp_path / "m")[0]), logits(model), atol=1e-5)


def test_the_hash_is_of_numbers_names_and_shapes(tmp_path):
    model, processor = build("nano")
    prints = {folder.fingerprint(model.part(part)) for part in ("vision_encoder", "connector", "language_model")}
    assert len(prints) == 3
    bf16 = build("nano")[0].to(torch.bfloat16)
    checkpoint.save(tmp_path / "bf16", bf16, processor)
    for dtype in (torch.bfloat16, torch.float32):  # however it is loaded
        again, _ = mminstruct.load(tmp_path / "bf16", dtype=dtype)
        assert folder.fingerprint(again.connector) == folder.fingerprint(bf16.connector)
    assert folder.fingerprint(bf16.connector) not in prints
    one = torch.nn.Linear(2, 3, bias=False)
    other = torch.nn.Linear(3, 2, bias=False)
    other.weight.data = one.weight.data.reshape(2, 3)
    assert folder.fingerprint(one) != folder.fingerprint(other)


def test_a_merge_that_changes_the_logits_is_refused(tmp_path, monkeypatch):
    """One percent of one layer is enough."""
    trained(tmp_path, "lora")
    honest = Lora.merge

    def wrong(self):
        honest(self)
        with torch.no_grad():
            self._part.get_submodule(self.names[0]).weight.mul_(1.01)

    monkeypatch.setattr(Lora, "merge", wrong)
    with pytest.raises(CheckpointError, match="the merged model's logits differ from the adapted one's by"):
        folder.merge_folder(tmp_path / "adapter", tmp_path / "base", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_what_is_missing_or_broken_is_said(tmp_path):
    trained(tmp_path, "lora")
    base = tmp_path / "base"

    def refused(match: str, spoil) -> None:
        shutil.copytree(tmp_path / "adapter", tmp_path / "spoilt")
        spoil(tmp_path / "spoilt")
        with pytest.raises(CheckpointError, match=match):
            folder.merge_folder(tmp_path / "spoilt", base, tmp_path / "m")
        shutil.rmtree(tmp_path / "spoilt")
        assert not (tmp_path / "m").exists()

    weights = f"language_model/{WEIGHTS}"
    refused("holds no adapter.json", lambda f: (f / "adapter.json").unlink())
    refused("cannot be read", lambda f: (f / weights).unlink())
    refused("cannot be read", lambda f: (f / weights).write_bytes((f / weights).read_bytes()[:50]))
    refused("cannot be read or does not fit", lambda f: (f / "connector/weights.safetensors").unlink())

    def without_one(f):
        tensors = load_file(f / weights)
        tensors.popitem()
        save_file(tensors, f / weights)

    def other_rank(f):
        save_file(
            {n: (t[:2] if ".lora_A" in n else t[:, :2]).contiguous() for n, t in load_file(f / weights).items()},
            f / weights,
        )

    refused("is missing, left over or of another shape", without_one)
    refused("is missing, left over or of another shape", other_rank)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/file").touch()
    with pytest.raises(RunError, match="already exists"):
        folder.merge_folder(tmp_path / "adapter", base, tmp_path / "m")


def test_masks_take_a_bit_a_number(tmp_path):
    trained(tmp_path, "mask", "vision_encoder")
    numbers = sum(t.numel() for t in load_file(tmp_path / f"adapter/vision_encoder/{mask.WEIGHTS}").values())
    model, _ = mminstruct.load(tmp_path / "base")
    carrying = sum(p.numel() for p in folder.load(tmp_path / "adapter", model, "base")[0].parameters())
    assert numbers * 8 == carrying
