"""`mminstruct data convert` and `stats`, as a person calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mminstruct import formats
from mminstruct.media import open_image
from tests.command import call

TURNS = [{"from": "human", "value": "What is this? <image>"}, {"from": "gpt", "value": "A cat."}]


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    from PIL import Image

    (tmp_path / "coco/images").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "coco/images/1.png")
    path = tmp_path / "coco/set.json"
    path.write_text(json.dumps([{"id": "1", "image": "images/1.png", "conversations": TURNS}]))
    return path


def test_convert_there_and_back(llava: Path, tmp_path: Path) -> None:
    steps = [("native", "n"), ("openai", "deep/er/o.json"), ("messages", "m.jsonl"), ("llava", "coco/back.json")]
    source = llava
    for name, place in steps:
        out = tmp_path / place
        assert call("data", "convert", source, "--to", name, "--out", out) == (0, f"{out}: 1 conversations\n", "")
        (found,) = formats.read(out)
        root = formats.media_root(out)
        assert open_image(formats.media_source(found.media[0].path, root)).size == (4, 4)
        source = out
    assert json.loads(source.read_text()) == json.loads(llava.read_text())


def test_options_of_convert(llava: Path, tmp_path: Path) -> None:
    items = json.loads(llava.read_text())
    (tmp_path / "lists").mkdir()
    source = tmp_path / "lists/set.json"
    source.write_text(json.dumps(items * 2))
    out = tmp_path / "out.json"
    arguments = ["data", "convert", source, "--to", "llava", "--out", out]
    code, _, error = call(*arguments)
    assert code == 2 and "two conversations have the id '1'" in error and not out.exists()
    arguments += ["--duplicate-ids", "number", "--image-position", "first", "--from", "llava"]
    assert call(*arguments, "--media-root", tmp_path / "coco")[0] == 0
    found = json.loads(out.read_text())
    assert [(each["id"], each["image"]) for each in found] == [("1", "coco/images/1.png"), ("1#2", "coco/images/1.png")]
    assert found[0]["conversations"][0]["value"] == "<image>\nWhat is this?"
    out.unlink()
    assert call(*arguments, "--keep-paths")[0] == 0
    assert json.loads(out.read_text())[0]["image"] == "images/1.png"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--to", "lava", "--out", "OUT"], "no data format is called 'lava'. Did you mean 'llava' or 'llava-plus'?"),
        (["--to", "native", "--out", "OUT", "--from", "x"], "no data format is called 'x'."),
        (["--to", "llava", "--out", "SOURCE"], "already exists; give another name or remove it"),
        (["--to", "native", "--out", "FOLDER"], "already exists and is not empty"),
        (["--to", "messages", "--out", "OUT.txt"], "a messages file ends in .jsonl"),
        (
            ["--to", "llava", "--out", "OUT", "--image-position", "last"],
            "image_position is 'last'; give keep or first",
        ),
        (["--to", "llava", "--out", "OUT", "--duplicate-ids", "x"], "duplicate_ids is 'x'; give error or number"),
        (
            ["--to", "llava", "--out", "OUT", "--from", "messages", "--image-position", "keep"],
            "reading the format 'messages' has no option 'image_position'",
        ),
        (["--to", "native", "--out", "OUT", "--from", "messages"], "has no turns"),
    ],
)
def test_errors_of_convert_are_one_line(llava: Path, tmp_path: Path, arguments: list[str], cause: str) -> None:
    places = {"OUT": tmp_path / "out.json", "OUT.txt": tmp_path / "out.txt", "SOURCE": llava, "FOLDER": llava.parent}
    before = sorted(tmp_path.rglob("*"))
    code, out, error = call("data", "convert", llava, *(places.get(each, each) for each in arguments))
    assert (code, out) == (2, "")
    assert error.startswith("error: ") and error.count("\n") == 1 and cause in error
    assert sorted(tmp_path.rglob("*")) == before


def test_stats(llava: Path) -> None:
    code, out, _ = call("data", "stats", llava, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["conversations"], found["images"], found["unique_images"]) == (1, 1, 1)
    assert found["turns"] == {"assistant": 1, "user": 1}
    assert found["characters"]["median"] == len("What is this? A cat.")
    code, out, _ = call("data", "stats", llava)
    assert code == 0 and "unique images" in out and "characters p99" in out


def test_an_error_of_the_installed_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mminstruct", "data", "stats", str(tmp_path / "none.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path}/none.json does not exist; check the path\n"
