"""Checkpoints: complete or an error that names what is wrong; nothing half-written; no pickle."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import mminstruct
from mminstruct.errors import CheckpointError, RunError
from mminstruct.models import checkpoint
from mminstruct.models.vlm import VisionLanguageModel


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "model", *mminstruct.create("nano", tiny=True))
    return tmp_path / "model"


def change(folder, edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


NAME = "connector.projection.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(NAME), f"lacks 1 of .* tensors \\({NAME}\\)"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds the tensor 'extra', which the model"),
        (lambda t: t.update({NAME: torch.zeros(1, 2)}), f"'{NAME}' has shape \\[1, 2\\], .* wants"),
    ],
)
def test_tensors_that_do_not_fit(saved, edit, message):
    change(saved, edit)
    with pytest.raises(CheckpointError, match=message):
        mminstruct.load(saved)


@pytest.mark.parametrize("name", ["config.json", "mminstruct.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"holds no {name}"):
        mminstruct.load(saved)


def test_a_cut_file_is_an_error(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        mminstruct.load(saved)


def test_something_that_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="is not a folder"):
        mminstruct.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no mminstruct checkpoint"):
        mminstruct.load(tmp_path)


def test_an_existing_folder_is_not_overwritten(saved):
    before = sorted((path.name, path.stat().st_size) for path in saved.iterdir())
    with pytest.raises(RunError, match="already exists"):
        checkpoint.save(saved, *mminstruct.create("nano", tiny=True))
    assert before == sorted((path.name, path.stat().st_size) for path in saved.iterdir())


def test_a_failing_save_leaves_nothing(tmp_path, monkeypatch):
    model, processor = mminstruct.create("nano", tiny=True)

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(processor.tokenizer, "save_pretrained", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path / "model", model, processor)
    assert list(tmp_path.iterdir()) == []


def test_only_safetensors_and_text_are_written(saved):
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors"}
    assert json.loads((saved / "mminstruct.json").read_text())["chat_template"]["name"] == "chatml"


def test_sharded_checkpoints_load(tmp_path):
    model, processor = mminstruct.create("nano", tiny=True)
    with checkpoint.new_folder(tmp_path / "m") as folder:
        model.save_pretrained(folder, max_shard_size="50KB")
        processor.save(folder)
    assert len(list((tmp_path / "m").glob("*.safetensors"))) > 1
    again, _ = mminstruct.load(tmp_path / "m")
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_transformers_own_loader_opens_it_too(saved):
    """`from_pretrained` is what users of transformers, PEFT and DeepSpeed call; it must find every tensor."""
    ours, _ = mminstruct.load(saved)
    theirs, report = VisionLanguageModel.from_pretrained(saved, output_loading_info=True)
    assert not any(report.values())
    weights = ours.state_dict()
    assert weights.keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in theirs.state_dict().items())
