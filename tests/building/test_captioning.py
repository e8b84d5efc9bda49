"""The captioning builder: true captions of worlds, kinds with their lengths, text that was read, one's own folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.data_builders import captioning
from mminstruct.data_builders.worlds.scenes import COLORS
from mminstruct.errors import ConfigError, DataError, ReplyError
from mminstruct.media import encode_clip
from tests.building.chat_server import serving
from tests.command import call


def test_captions_of_scenes_name_the_colours_that_the_picture_has(tmp_path: Path) -> None:
    run(load_builder("captioning", ["items=25", "words=[8, 30]"]), tmp_path / "set")
    instructions = set()
    for one in formats.read(tmp_path / "set"):
        kind, caption = one.id.rsplit("/", 1)[1], one.messages[1].text
        instructions.add(one.messages[0].text)
        with Image.open(tmp_path / "set" / one.media[0].path) as picture:
            shown = {color for _, color in picture.convert("RGB").getcolors() or []}
        there = {name for name, color in COLORS.items() if color in shown}
        named = set(re.findall(rf"\b({'|'.join(COLORS)})\b", caption.replace("light blue", "")))
        assert named == there if kind == "detailed" else named <= there
        count = len(caption.split())
        assert {"brief": 3 <= count <= 25, "detailed": count >= 20, "words": 8 <= count <= 30}[kind]
    assert len(instructions) == 13  # all of the three kinds
    assert (tmp_path / "set/manifest.json").read_text().count("no lines of text are known")


def test_captions_of_clips_are_within_their_words_and_the_clip_is_there(tmp_path: Path) -> None:
    run(load_builder("captioning", ["items=6", "world=clips", "kinds=[brief, detailed]", "frames=2"]), tmp_path / "set")
    found = list(formats.read(tmp_path / "set"))
    assert len(found) == 12 and all(one.media[0].kind == "video" for one in found)
    assert len({one.messages[1].text for one in found}) == 12
    asked = [one.messages[0].text for one in found]
    assert any("video" in one for one in asked) and not any("picture" in one or "{" in one for one in asked)
    assert all(len(one.media[0].timestamps or []) == 2 for one in found)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    Image.new("RGB", (60, 40), (250, 250, 250)).save(folder / "sign.png")
    grey = [Image.new("RGB", (32, 48), (level, level, level)) for level in range(20, 40)]
    (folder / "dark.mp4").write_bytes(encode_clip(grey, 10))
    (tmp_path / "lines.jsonl").write_text('{"file": "sign.png", "lines": ["STOP here", "now"]}\n')
    return folder


def test_files_of_ones_own_are_measured_where_no_model_answers(own: Path, tmp_path: Path) -> None:
    run(
        load_builder("captioning", [f"folder={own}", f"lines={tmp_path / 'lines.jsonl'}", "frames=2"]), tmp_path / "set"
    )
    said = {one.id: one.messages[1].text for one in formats.read(tmp_path / "set")}
    assert said["captioning/dark.mp4/brief"] == "A high video of 32 x 48 pixels, rather dark."
    assert said["captioning/sign.png/brief"] == "A wide picture of 60 x 40 pixels, rather bright."
    assert '"STOP here" and "now"' in said["captioning/sign.png/text"]
    assert "captioning/dark.mp4/text" not in said


def test_a_model_is_shown_the_picture_and_the_lines_and_sent_back_what_breaks_the_kind(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    complaints = []

    def writes(body: dict[str, Any]) -> str:
        *_, last = body["messages"]
        if isinstance(last["content"], str):
            complaints.append(last["content"])
            return 'A white sign that says "Stop  here".'
        assert [part["type"] for part in last["content"]] == ["image_url", "text"]
        assert last["content"][1]["text"] == "Lines of text:\nSTOP here\nnow"
        return "A white sign with some text on it."

    (own / "dark.mp4").unlink()
    with serving(writes) as server:
        code, _, error = call(
            *("build", "captioning", f"folder={own}", f"lines={tmp_path / 'lines.jsonl'}", "kinds=[text]"),
            *("--out", tmp_path / "set", "--backend", "openai", "--model", "m", "--base-url", server.url),
        )
    assert (code, error) == (0, "")
    assert len(complaints) == 1 and "none of the lines of text stands in the caption" in complaints[0]
    (one,) = formats.read(tmp_path / "set")
    assert one.messages[1].text == 'A white sign that says "Stop here".'
    assert one.extra == {"lines": ["STOP here", "now"]}


def test_captions_of_another_length_are_refused() -> None:
    seen = captioning.Seen("words", "picture", (), (3, 4), "", ())
    assert captioning.CaptionPrompt().parse("A  red\ndisc.", seen) == "A red disc."
    for reply, problem in (("Red disc.", "has 2 words; write 3 to 4"), ("A red disc on white.", "has 5 words")):
        with pytest.raises(ReplyError, match=problem):
            captioning.CaptionPrompt().parse(reply, seen)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"file": "sign.png", "line": "STOP"}', r"lines\.jsonl:2: lines: Field required"),
        ('{"file": "sign.png", "lines": []}', r"lines\.jsonl:2: sign\.png stands twice"),
        ('{"file": ', r"lines\.jsonl:2 is not JSON"),
    ],
)
def test_broken_lines_of_text(line: str, problem: str, own: Path, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=problem):
        run(load_builder("captioning", [f"folder={own}", f"lines={path}"]), tmp_path / "set")


def test_broken_files_and_options(own: Path, tmp_path: Path) -> None:
    (own / "broken.mp4").write_bytes(b"")
    (own / "broken.png").write_bytes(b"x" * 100)
    settings = BuildConfig(on_error="skip")
    run(load_builder("captioning", [f"folder={own}", "kinds=[brief]", "frames=1"]), tmp_path / "set", settings)
    letters = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
    assert [(one["item"], one["reason"]) for one in letters] == [("broken.mp4", "media"), ("broken.png", "media")]
    for options, problem in ((["words=[5, 2]"], "words: 5 to 2"), ([f"lines={own}"], "give folder, too")):
        with pytest.raises(ConfigError, match=problem):
            load_builder("captioning", options)
