"""Export, import and flags: a conversation goes out as a data set and comes back the same."""

from __future__ import annotations

import gc
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mminstruct.cli.app import app
from mminstruct.conversation import Conversation
from mminstruct.demo.flags import Flags
from mminstruct.demo.transfer import export, load, record_of
from mminstruct.demo.uploads import Uploads
from mminstruct.errors import ConfigError, DataError, MediaError
from mminstruct.formats import native
from mminstruct.media import FrameSampling, Video, encode_clip
from mminstruct.serving.chat import NO_FRAMING, Framing, Turn

SAMPLING = FrameSampling(limit=3)
FRAMING = Framing(system="Be brief.", instruction="Look closely.")


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    folder = tmp_path / "uploads"
    folder.mkdir()
    return Uploads(folder)


@pytest.fixture
def turns(uploads: Uploads) -> list[Turn]:
    """A picture and a video in one question, a picture under a wrong name in the next, then one that failed."""
    first, second, clip = (uploads.folder / name for name in ("a.png", "b.png", "c.MP4"))
    Image.new("RGB", (30, 20), "red").save(first)
    Image.new("RGB", (10, 20), "blue").save(second, format="JPEG")
    clip.write_bytes(encode_clip([Image.new("RGB", (32, 32), (0, 20 * step, 0)) for step in range(6)], 2))
    made = []
    for question, answer, files in (
        ("What are they?", " Two <things>.\nReally. ", [first, clip]),
        ("And this?", "Blue.", [second]),
        ("Stopped", "", []),
        ("Failed", "so f", []),
    ):
        media, shown = uploads.open(files, SAMPLING)
        shown.model = "nano"
        made.append(Turn(question, media, answer=answer, attachment=shown))
    made[-1].error = RuntimeError("x")
    return made


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as stream:
        stream.extractall(folder)
    return folder


def test_an_exported_conversation_comes_back_the_same(turns: list[Turn], uploads: Uploads, tmp_path: Path) -> None:
    archive = export(turns, FRAMING, uploads.new_folder("export").path)
    loaded = load(archive, uploads, SAMPLING, FRAMING)
    assert loaded.system == "Be brief."
    assert [(turn.text, turn.answer) for turn in loaded.turns] == [
        ("What are they?", "Two <things>.\nReally."),
        ("And this?", "Blue."),
    ]
    assert [turn.attachment.model for turn in loaded.turns] == ["nano", "nano"]
    video = loaded.turns[0].media[1]
    assert isinstance(video, Video) and video.timestamps == turns[0].media[1].timestamps
    again = export(loaded.turns, FRAMING, uploads.new_folder("export").path)
    one, two = (unpacked(file, tmp_path / name) for file, name in ((archive, "one"), (again, "two")))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert [str(file) for file in files] == [
        "images/000.png", "images/002.jpeg", "manifest.json", "shard-00000.jsonl", "videos/001.mp4",
    ]  # fmt: skip
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)


def test_an_exported_folder_passes_the_check_of_data_sets(turns: list[Turn], uploads: Uploads, tmp_path: Path) -> None:
    folder = unpacked(export(turns, FRAMING, uploads.new_folder("export").path), tmp_path / "out")
    (conversation,) = native.read(folder)
    assert [message.role for message in conversation.messages] == ["system", *["user", "assistant"] * 2]
    assert conversation.messages[1].text == "Look closely.\n\nWhat are they?"
    done = CliRunner().invoke(app, ["data", "check", str(folder)])
    assert done.exit_code == 0, done.output


def test_nothing_answered_is_no_conversation(turns: list[Turn], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is answered"):
        export(turns[2:], NO_FRAMING, tmp_path)


def change(archive: Path, out: Path, edit: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(archive) as stream:
        files = {name: stream.read(name) for name in stream.namelist()}
    edit(files)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, data in files.items():
            stream.writestr(name, data)
    return out


def reshard(files: dict[str, bytes], edit: Callable[[dict[str, object]], None], count: int = 1) -> None:
    """The record edited, and the manifest made to fit."""
    from mminstruct.files import bytes_sha256

    record = json.loads(files["shard-00000.jsonl"])
    edit(record)
    lines = "".join(json.dumps(record | {"id": f"x/{number}"}) + "\n" for number in range(count)).encode()
    manifest = json.loads(files["manifest.json"])
    manifest["conversations"] = count
    manifest["shards"] = [{"file": "shard-00000.jsonl", "conversations": count, "sha256": bytes_sha256(lines)}]
    files["shard-00000.jsonl"], files["manifest.json"] = lines, json.dumps(manifest).encode()


def media_path(path: str) -> Callable[[dict[str, object]], None]:
    def edit(record: dict[str, object]) -> None:
        record["media"][0]["path"] = path  # type: ignore[index]

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda files: files.clear(), "no whole zip|no manifest|does not exist"),
        (lambda files: files.pop("manifest.json"), "manifest.json"),
        (lambda files: files.update({"shard-00000.jsonl": b"{}"}), "shard-00000.jsonl"),
        (lambda files: files.update({"../escape.txt": b"x"}), "leads out of it"),
        (lambda files: files.update({"images/000.png": b"no picture"}), "000.png"),
        (lambda files: files.pop("images/000.png"), "not in the zip file"),
        (lambda files: reshard(files, media_path("/etc/passwd")), "not in the zip file"),
        (lambda files: reshard(files, media_path("../../a.png")), "not in the zip file"),
        (lambda files: reshard(files, media_path("manifest.json")), "no picture and no video"),
        (lambda files: reshard(files, lambda record: None, count=2), "holds 2 conversations"),
        (lambda files: reshard(files, lambda record: record["messages"].pop()), "no row of questions"),
        (lambda files: files.update({f"{number}.txt": b"" for number in range(300)}), "more than 200"),
        (lambda files: files.update({"bomb": b"\0" * 60 * 2**20}), "unpacks to more"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_in_one_line_without_paths(
    turns: list[Turn], uploads: Uploads, edit: Callable[[dict[str, bytes]], None], told: str
) -> None:
    archive = export(turns, NO_FRAMING, uploads.new_folder("export").path)
    changed = change(archive, uploads.folder / "changed.zip", edit)
    with pytest.raises((DataError, MediaError), match=told) as caught:
        load(changed, uploads, SAMPLING, NO_FRAMING)
    assert str(uploads.folder) not in str(caught.value) and "\n" not in str(caught.value)
    del caught
    gc.collect()
    assert not [path for path in uploads.folder.iterdir() if path.name.startswith("opened-")]


def test_a_zip_outside_of_the_uploads_is_not_opened(turns: list[Turn], uploads: Uploads, tmp_path: Path) -> None:
    archive = export(turns, NO_FRAMING, tmp_path)
    with pytest.raises(MediaError, match="no upload of this page"):
        load(archive, uploads, SAMPLING, NO_FRAMING)


# ---- flags -----------------------------------------------------------------------------------------------------------


def test_flags_are_conversations_with_their_media_and_a_reason(turns: list[Turn], tmp_path: Path) -> None:
    flags = Flags(tmp_path / "flags")
    flags.add(turns[:1], FRAMING, "bad", " It is one.\nNot two. ")
    flags.add(turns, FRAMING, "good", "")
    lines = (tmp_path / "flags" / "flags.jsonl").read_text().splitlines()
    first, second = (Conversation.model_validate_json(line) for line in lines)
    assert first.extra is not None and second.extra is not None
    assert first.extra["flag"] | {"time": ""} == {"verdict": "bad", "reason": "It is one.\nNot two.", "time": ""}
    assert first.extra["flag"]["time"].endswith("+00:00")
    assert second.extra["flag"]["verdict"] == "good" and len(second.messages) == 5
    assert [media.path for media in first.media] == [media.path for media in second.media][:2]
    assert all((tmp_path / "flags" / media.path).is_file() for media in second.media)
    assert len(list((tmp_path / "flags" / "media").iterdir())) == 3
    with pytest.raises(ConfigError, match="2001 characters"):
        flags.add(turns, FRAMING, "bad", "x" * 2001)


def test_a_record_knows_its_files(turns: list[Turn]) -> None:
    record = record_of(turns, NO_FRAMING)
    assert [file.name for file in record.files] == ["a.png", "c.MP4", "b.png"]
    assert record.conversation.id == record_of(turns, NO_FRAMING).conversation.id
    assert record.conversation.id != record_of(turns[:1], NO_FRAMING).conversation.id
