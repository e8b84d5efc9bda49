"""New experts and the connector as an adapter folder: only what is new, on the right base or not at all."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import mminstruct
from mminstruct.errors import CheckpointError, ConfigError, MminstructError, RunError
from mminstruct.models import checkpoint
from mminstruct.models.adapters import folder
from mminstruct.models.config import ExpertExtensionConfig
from mminstruct.models.parts import freeze
from tests.command import call
from tests.models.experts import EXTENSION, batch_of, build, row

NEW = ["connector", "experts"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`base/`, a model with a mixture; it extended and tuned, with the batch it was tuned on; `adapter/`."""
    home = tmp_path_factory.mktemp("experts")
    model, processor = build("qwen3_moe", None)
    checkpoint.save(home / "base", model, processor)
    model.extend(ExpertExtensionConfig(**EXTENSION))
    assert not model.experts.training, "as the model that it joins"
    freeze(model, NEW)
    batch = batch_of(processor)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(**batch).loss.backward()
        optimizer.step()
    folder.save(home / "adapter", model.eval(), [], folder.describe(model, "a tiny one", NEW, []))
    return home, model, batch


def extended(adapter, base):
    model, _ = mminstruct.load(base)
    assert folder.load(adapter, model, str(base)) == []
    return model


def logits(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model(**{name: value for name, value in batch.items() if name != "labels"}).logits


def test_it_holds_the_new_parts_alone(made):
    home, model, _ = made
    files = [home / f"adapter/{part}/weights.safetensors" for part in NEW]
    assert sorted(path for path in (home / "adapter").rglob("*.*")) == sorted([home / "adapter/adapter.json", *files])
    for part, path in zip(NEW, files, strict=True):
        tensors = load_file(path)
        assert tensors.keys() == model.part(part).state_dict().keys()
        numbers = sum(tensor.numel() for tensor in tensors.values())
        assert numbers == sum(parameter.numel() for parameter in model.part(part).parameters())
        assert 0 <= path.stat().st_size - 4 * numbers < 4096  # numbers and a header
    said = json.loads((home / "adapter/adapter.json").read_text())
    assert said["base"]["model"] == "a tiny one" and set(said["base"]["hashes"]) == {"vision_encoder", "language_model"}


def test_base_and_folder_give_the_tuned_model(made, tmp_path):
    home, model, batch = made
    again = extended(home / "adapter", home / "base")
    assert not any(module.training for module in again.modules())
    assert torch.equal(logits(again, batch), logits(model, batch))
    assert not torch.equal(logits(mminstruct.load(home / "base")[0], batch), logits(model, batch))
    arguments = ("--base", home / "base", "--out", tmp_path / "merged")
    code, out, error = call("zoo", "merge", home / "adapter", *arguments)
    assert code == 0 and "logits differ by 0.0e+00" in out, error
    merged, _ = mminstruct.load(tmp_path / "merged")
    assert merged.config.expert_extension == model.config.expert_extension
    assert torch.equal(logits(merged, batch), logits(model, batch))


def test_the_extended_model_before_training_is_a_base_too(made, tmp_path):
    home, model, batch = made
    for name, experts in (("begun", 2), ("other", 1)):
        begun, processor = mminstruct.load(home / "base")
        begun.extend(ExpertExtensionConfig(**{**EXTENSION, "experts": experts}))
        checkpoint.save(tmp_path / name, begun, processor)
    assert torch.equal(logits(extended(home / "adapter", tmp_path / "begun"), batch), logits(model, batch))
    with pytest.raises(CheckpointError, match="has other new experts than the adapter's"):
        extended(home / "adapter", tmp_path / "other")


def test_a_base_is_known_by_its_weights(made, tmp_path):
    """Whatever its folder is called; one number of one frozen tensor makes it another."""
    home, model, batch = made
    shutil.copytree(home / "base", tmp_path / "moved")
    assert torch.equal(logits(extended(home / "adapter", tmp_path / "moved"), batch), logits(model, batch))
    for part in ("vision_encoder", "language_model"):
        changed, processor = mminstruct.load(home / "base")
        parameter = list(changed.part(part).parameters())[-1]
        with torch.no_grad():
            parameter.flatten()[0] += 1e-3
        checkpoint.save(tmp_path / part, changed, processor)
        with pytest.raises(CheckpointError, match=f"its {part} holds other numbers than the one of 'a tiny one'"):
            extended(home / "adapter", tmp_path / part)


def test_lora_beside_experts_that_stay_wants_a_base_that_has_them(made, tmp_path):
    """Experts that are not the folder's own belong to the base and are hashed as all of it is."""
    home, model, _ = made
    folder.save(tmp_path / "connector", model, [], folder.describe(model, "extended", ["connector"], []))
    with pytest.raises(CheckpointError, match="its experts is missing, unlike the one of 'extended'"):
        extended(tmp_path / "connector", home / "base")


def edit(change):
    def apply(adapter):
        path = adapter / "experts/weights.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return apply


def rewrite(**facts):
    def apply(adapter):
        found = json.loads((adapter / "adapter.json").read_text())
        (adapter / "adapter.json").write_text(json.dumps({**found, **facts}))

    return apply


NAME = "layers.0.router.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit(lambda tensors: tensors.pop(NAME)), f"does not fit: .*{NAME}"),
        (edit(lambda tensors: tensors.update(extra=torch.zeros(1))), "does not fit: .*extra"),
        (edit(lambda tensors: tensors.update({NAME: torch.zeros(2, 3)})), r"does not fit: .*\[2, 3\]"),
        (lambda adapter: (adapter / "adapter.json").unlink(), "holds no adapter.json"),
        (lambda adapter: (adapter / "experts/weights.safetensors").unlink(), "cannot be read"),
        (lambda adapter: (adapter / "experts/weights.safetensors").write_bytes(b"{"), "cannot be read"),
        (rewrite(more=1), "unknown key 'more'"),
        (rewrite(connector={"kind": "mlp"}), "the connector of .* is of another kind"),
        (rewrite(expert_extension=None), "no part called 'experts'"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(made, tmp_path, damage, message):
    home, _, _ = made
    shutil.copytree(home / "adapter", tmp_path / "adapter")
    damage(tmp_path / "adapter")
    with pytest.raises(MminstructError, match=message) as error:
        extended(tmp_path / "adapter", home / "base")
    assert "\n" not in str(error.value)


def test_nothing_is_written_over_or_without_new_experts(made, tmp_path):
    home, model, _ = made
    with pytest.raises(RunError, match="already exists"):
        folder.save(home / "adapter", model, [], folder.describe(model, "again", NEW, []))
    plain, _ = mminstruct.create(row("mixtral", None))
    with pytest.raises(ConfigError, match="no part called 'experts'"):
        folder.describe(plain, "it", NEW, [])
    assert not list(tmp_path.iterdir())
