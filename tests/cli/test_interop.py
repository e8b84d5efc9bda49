"""`mminstruct zoo import | export | verify` as a person calls them."""

from __future__ import annotations

import json

import torch

import mminstruct
from mminstruct.models import checkpoint
from tests.command import call
from tests.models import interop as make


def test_there_and_back(tmp_path):
    theirs = make.hf_model()
    make.save_hf(theirs, tmp_path / "theirs")
    ours = tmp_path / "ours"
    code, out, error = call("zoo", "import", tmp_path / "theirs", "--out", ours, "--chat-template", "vicuna_v1")
    assert (code, out) == (0, f"format: hf-llava\nsaved: {ours}\n"), error
    for name in ("hf-llava", "llava"):
        code, out, error = call("zoo", "export", ours, "--format", name, "--out", tmp_path / name)
        assert (code, out) == (0, f"format: {name}\nsaved: {tmp_path / name}\n"), error
        code, out, error = call("zoo", "import", tmp_path / name, "--out", tmp_path / f"{name} again")
        assert (code, out.splitlines()[0]) == (0, f"format: {name}"), error
        code, out, error = call("zoo", "verify", tmp_path / f"{name} again")
        assert code == 0 and out.endswith("float32: all well\n"), error
    make.assert_same(*mminstruct.load(tmp_path / "llava again"), theirs)


def test_an_error_is_one_line_and_leaves_nothing(tmp_path):
    make.save_hf(make.hf_model(), tmp_path / "theirs")
    code, out, error = call("zoo", "import", tmp_path / "theirs", "--out", tmp_path / "ours")
    assert (code, out) == (2, "")
    assert error.strip().splitlines()[-1].startswith("error: ") and "--chat-template" in error
    code, _, error = call("zoo", "export", tmp_path / "theirs", "--format", "llava", "--out", tmp_path / "ours")
    assert code == 2 and "no mminstruct checkpoint" in error
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_verify(tmp_path):
    folder = tmp_path / "model"
    checkpoint.save(folder, *mminstruct.create("nano", tiny=True))
    code, out, _ = call("zoo", "verify", folder, "--json")
    assert code == 0 and json.loads(out)["ok"] and json.loads(out)["problems"] == []
    make.change(folder, lambda tensors: tensors | {"extra": torch.zeros(1), "other": torch.zeros(1)})
    code, out, error = call("zoo", "verify", folder, "--json")
    assert code == 2 and len(json.loads(out)["problems"]) == 2 and not json.loads(out)["ok"]
    assert "the tensor 'extra' is none of the model's (and 1 more" in error
