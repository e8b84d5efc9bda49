"""The delta: only what is new, on the right base or not at all."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import mminstruct
from mminstruct.errors import CheckpointError, ConfigError, DataError, RunError
from mminstruct.models import checkpoint
from mminstruct.models.config import ExpertExtensionConfig
from mminstruct.models.delta import base_hash, load_delta, save_delta
from mminstruct.models.parts import freeze
from tests.models.experts import EXTENSION, batch_of, build, row


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`base/`, a model with a mixture; it extended and tuned, with the batch it was tuned on; `delta/`."""
    folder = tmp_path_factory.mktemp("delta")
    model, processor = build("qwen3_moe", None)
    checkpoint.save(folder / "base", model, processor)
    model.extend(ExpertExtensionConfig(**EXTENSION))
    freeze(model, ["connector", "experts"])
    batch = batch_of(processor)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(**batch).loss.backward()
        optimizer.step()
    save_delta(folder / "delta", model.eval(), base="a tiny one")
    return folder, model, batch


def logits(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model(**{name: value for name, value in batch.items() if name != "labels"}).logits


def test_it_holds_the_new_parts_alone(made):
    folder, model, _ = made
    assert sorted(path.name for path in (folder / "delta").iterdir()) == ["delta.json", "delta.safetensors"]
    tensors = load_file(folder / "delta/delta.safetensors")
    assert tensors.keys() == {name for name in model.state_dict() if name.startswith(("connector.", "experts."))}
    new = sum(parameter.numel() for part in ("connector", "experts") for parameter in model.part(part).parameters())
    assert sum(tensor.numel() for tensor in tensors.values()) == new
    assert 0 <= (folder / "delta/delta.safetensors").stat().st_size - 4 * new < 4096  # numbers and a header
    assert json.loads((folder / "delta/delta.json").read_text())["base"] == "a tiny one"


def test_base_and_delta_give_the_tuned_model(made):
    folder, model, batch = made
    again, processor = load_delta(folder / "delta", folder / "base")
    assert not again.training
    assert torch.equal(logits(again, batch), logits(model, batch))
    assert not torch.equal(logits(mminstruct.load(folder / "base")[0], batch), logits(model, batch))
    assert again.config.expert_extension == model.config.expert_extension
    assert processor.config == checkpoint.load(folder / "base")[1].config
    half, _ = load_delta(folder / "delta", folder / "base", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_the_extended_model_before_training_is_a_base_too(made, tmp_path):
    folder, model, batch = made
    begun, processor = mminstruct.load(folder / "base")
    begun.extend(ExpertExtensionConfig(**EXTENSION))
    checkpoint.save(tmp_path / "begun", begun, processor)
    assert torch.equal(logits(load_delta(folder / "delta", tmp_path / "begun")[0], batch), logits(model, batch))
    other, processor = mminstruct.load(folder / "base")
    other.extend(ExpertExtensionConfig(**{**EXTENSION, "experts": 1}))
    checkpoint.save(tmp_path / "other", other, processor)
    with pytest.raises(CheckpointError, match="has other new experts already"):
        load_delta(folder / "delta", tmp_path / "other")


def test_a_base_is_known_by_its_weights(made, tmp_path):
    """Whatever its folder is called; one number of one frozen tensor makes it another."""
    folder, model, batch = made
    shutil.copytree(folder / "base", tmp_path / "moved")
    assert torch.equal(logits(load_delta(folder / "delta", tmp_path / "moved")[0], batch), logits(model, batch))
    for part in ("vision_encoder", "language_model"):
        changed, processor = mminstruct.load(folder / "base")
        parameter = list(changed.part(part).parameters())[-1]
        with torch.no_grad():
            parameter.flatten()[0] += 1e-3
        checkpoint.save(tmp_path / part, changed, processor)
        with pytest.raises(CheckpointError, match=r"has other weights than the model that .* extends \('a tiny one'\)"):
            load_delta(folder / "delta", tmp_path / part)


def test_the_hash_is_of_what_stays_and_not_of_how_it_is_stored(made):
    folder, model, _ = made
    base, _ = mminstruct.load(folder / "base")
    assert base_hash(base) == base_hash(model)
    half = base.to(torch.bfloat16)
    rounded = base_hash(half)
    assert rounded != base_hash(model)
    assert base_hash(half.to(torch.float32)) == rounded


def edit(change):
    def apply(folder):
        tensors = load_file(folder / "delta.safetensors")
        change(tensors)
        save_file(tensors, folder / "delta.safetensors")

    return apply


def rewrite(**facts):
    def apply(folder):
        found = json.loads((folder / "delta.json").read_text())
        (folder / "delta.json").write_text(json.dumps({**found, **facts}))

    return apply


NAME = "experts.layers.0.router.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit(lambda tensors: tensors.pop(NAME)), f"the tensor '{NAME}' is missing or left over"),
        (edit(lambda tensors: tensors.update(extra=torch.zeros(1))), "the tensor 'extra' is missing or left over"),
        (edit(lambda tensors: tensors.update({NAME: torch.zeros(2, 3)})), r"has shape \[2, 3\], .* wants \[2, 32\]"),
        (lambda folder: (folder / "delta.json").unlink(), "holds no delta.json"),
        (lambda folder: (folder / "delta.safetensors").unlink(), "holds no delta.safetensors"),
        (lambda folder: (folder / "delta.safetensors").write_bytes(b"{"), "not a whole safetensors file"),
        (rewrite(more=1), "does not hold what a delta says of itself"),
        (rewrite(connector={"kind": "mlp"}), "the connector is another kind than that of"),
    ],
)
def test_a_damaged_delta_is_refused(made, tmp_path, damage, message):
    folder, _, _ = made
    shutil.copytree(folder / "delta", tmp_path / "delta")
    damage(tmp_path / "delta")
    with pytest.raises((CheckpointError, DataError), match=message):
        load_delta(tmp_path / "delta", folder / "base")


def test_nothing_is_written_over_or_without_new_experts(made, tmp_path):
    folder, model, _ = made
    with pytest.raises(RunError, match="already exists"):
        save_delta(folder / "delta", model, base="again")
    plain, _ = mminstruct.create(row("mixtral", None))
    with pytest.raises(ConfigError, match="has no new experts"):
        save_delta(tmp_path / "none", plain, base="it")
    assert not list(tmp_path.iterdir())
