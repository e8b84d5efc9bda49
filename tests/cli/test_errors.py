"""What a user gets wrong: one line that says what was found and what to do, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import zlib
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import mminstruct
from mminstruct.cli.app import main
from mminstruct.models import checkpoint
from tests.conftest import picture

ITEM = {
    "id": "one",
    "image": "a.png",
    "conversations": [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "blue"}],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("errors") / "model"
    torch.manual_seed(0)
    checkpoint.save(folder, *mminstruct.create("nano", tiny=True))
    return folder


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Run a command in an otherwise empty folder; returns its one line of error and checks what is left behind."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        before = sorted(path for path in tmp_path.rglob("*"))
        monkeypatch.setattr("sys.argv", ["mminstruct", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        assert sorted(path for path in tmp_path.rglob("*")) == before, "something was left behind"
        return lines[0]

    return run


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one row of it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1 + width // 8))),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def write_recipe(model: Path, **changes) -> None:
    recipe = {
        "name": "test",
        "summary": "a test",
        "model": str(model),
        "data": {"path": "data.json"},
        "stages": [{"name": "s", "train": ["connector"], "learning_rate": 1e-3, "steps": 2, "batch_size": 1}],
    }
    Path("r.yaml").write_text(yaml.safe_dump({**recipe, **changes}))


def write_data(*items: dict) -> None:
    Path("data.json").write_text(json.dumps(list(items)))


def jpeg() -> bytes:
    picture(0, (60, 60)).save("whole.jpg")
    return Path("whole.jpg").read_bytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (None, "'one': the image a.png does not exist"),
        (lambda: jpeg()[:-200], "'one': a.png .*(cut|truncated|broken|incomplete)"),
        (lambda: b"this is no picture at all", "'one': a.png .*is not"),
        (lambda: png(40_000, 40_000), "'one': a.png .*40,?000 ?x ?40,?000|pixels"),
        (lambda: b"", "'one': a.png is empty"),
    ],
    ids=["missing", "truncated", "text", "bomb", "empty"],
)
def test_bad_images(make, message, model, fails, tmp_path):
    write_data(ITEM)
    write_recipe(model)
    if make is not None:
        Path("a.png").write_bytes(make())
    line = fails("train", "r.yaml", "--out", "run")
    import re

    assert re.search(message, line), line


def test_bad_image_in_a_worker(model, fails):
    """The same one line when the picture is opened in another process."""
    write_data(ITEM)
    write_recipe(model, workers=1)
    Path("a.png").write_bytes(b"no picture")
    assert "conversation 'one': a.png" in fails("train", "r.yaml", "--out", "run")


@pytest.mark.parametrize(
    ("value", "message"),
    [("<image><image>\nwhat?", "2 <image> marks"), ("what?", "0 <image> marks")],
)
def test_marks_and_images_must_agree(value, message, model, fails):
    picture(0).save("a.png")
    write_data({**ITEM, "conversations": [{"from": "human", "value": value}, ITEM["conversations"][1]]})
    write_recipe(model)
    line = fails("train", "r.yaml", "--out", "run")
    assert "'one'" in line and message in line, line


def test_unknown_keys_and_names(model, fails):
    write_data(ITEM)
    write_recipe(model)
    assert "unknown key 'stages.0.epoch'. Did you mean 'epochs'" in fails("train", "r.yaml", "stages.0.epoch=2")
    line = fails("train", "r.yaml", "stages.0.train=[conector]")
    assert "no part is called 'conector'. Did you mean 'connector'" in line
    assert "Did you mean 'quickstart'" in fails("train", "quikstart")
    assert "Did you mean 'nano'" in fails("zoo", "show", "nanno")
    assert "Did you mean 'nano'" in fails("train", "r.yaml", "model=nanno", "--out", "run")
    assert "Did you mean 'easy-vqa'" in fails("build", "easyvqa", "--out", "x")
    assert "Did you mean 'easy-vqa'" in fails("eval", "easy_vqaa", "--model", str(model))
    assert "is not of the form key=value" in fails("train", "r.yaml", "epochs")


@pytest.mark.parametrize("content", ["[]", "", "{}"])
def test_empty_data(content, model, fails):
    Path("data.json").write_text(content)
    write_recipe(model)
    assert "data.json" in fails("train", "r.yaml", "--out", "run")


def test_nothing_to_learn(model, fails):
    picture(0).save("a.png")
    write_data({**ITEM, "conversations": ITEM["conversations"][:1]})
    write_recipe(model)
    assert "none of the 1 conversations has a supervised token" in fails("train", "r.yaml", "--out", "run")


def test_a_conversation_that_is_too_long(model, fails):
    picture(0).save("a.png")
    write_data(ITEM)
    write_recipe(model, max_length=10)
    assert "'one' has" in (line := fails("train", "r.yaml", "--out", "run")) and "max_length 10" in line


def test_a_folder_with_another_run(model, fails):
    picture(0).save("a.png")
    write_data(ITEM)
    write_recipe(model)
    Path("run").mkdir()
    Path("run/notes.txt").write_text("mine")
    assert "run already exists and is not empty" in fails("train", "r.yaml", "--out", "run")
    assert "holds no interrupted run" in fails("train", "r.yaml", "--out", "run", "--resume")
    assert "run already exists" in fails("zoo", "create", "nano", "--out", "run")
    assert "run already exists" in fails("build", "easy-vqa", "--out", "run", "limit=1")
    assert "run already exists" in fails("quickstart", "--out", "run")


def test_resuming_with_another_recipe(model, fails, monkeypatch):
    picture(0).save("a.png")
    write_data(ITEM)
    write_recipe(model)
    monkeypatch.setattr("sys.argv", ["mminstruct", "train", "r.yaml", "--out", "run"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    line = fails("train", "r.yaml", "seed=1", "--out", "run", "--resume")
    assert "another recipe" in line and "seed: 0 / seed: 1" in line


def test_a_checkpoint_with_a_tensor_missing(model, fails, tmp_path):
    shutil.copytree(model, "broken")
    tensors = load_file("broken/model.safetensors")
    tensors.pop("connector.projection.weight")
    save_file(tensors, "broken/model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 of" in fails("chat", "broken", "--question", "hi")
    assert "lacks 1 of" in fails("eval", "easy-vqa", "--model", "broken", "--out", "x")
    assert "lacks 1 of" in fails("train", "quickstart", "model=broken", "--out", "x")


def test_a_port_in_use(model, fails):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in fails("demo", str(model), "--port", str(port))


def test_bad_yaml(fails):
    Path("r.yaml").write_text("name: a\nname: b\n")
    assert "r.yaml:2: not valid YAML: the key 'name' stands twice" in fails("train", "r.yaml")
    Path("r.yaml").write_text("name: [a\n")
    assert "not valid YAML" in fails("train", "r.yaml")
    assert "does not exist" in fails("train", "other.yaml")
