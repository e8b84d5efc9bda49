"""The native data set: shards in order, checked against the manifest, whole or not there."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Message, VideoPart, text
from mminstruct.errors import DataError, RunError
from mminstruct.files import sha256
from mminstruct.formats import native

Make = Callable[..., list[Conversation]]


def small(count: int, size: int = 1) -> Iterator[Conversation]:
    for number in range(count):
        yield Conversation(id=f"c/{number}", messages=[Message(role="user", content=[text("x" * size)])])


def read(path: Path) -> list[Conversation]:
    return list(formats.read(path))


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shards_and_manifest(tmp_path: Path, random_conversations: Make) -> None:
    given = random_conversations(0, count=25)
    path = tmp_path / "set"
    manifest = native.write(given, path, per_shard=10, builder={"name": "b"})
    assert sorted(file.name for file in path.iterdir()) == [
        "manifest.json",
        *(f"shard-0000{i}.jsonl" for i in range(3)),
    ]
    assert [shard.conversations for shard in manifest.shards] == [10, 10, 5]
    assert [shard.sha256 for shard in manifest.shards] == [sha256(path / shard.file) for shard in manifest.shards]
    assert (manifest.conversations, manifest.videos) == (25, 0)
    assert manifest.images == sum(len(c.media) for c in given)
    assert native.read_manifest(path) == manifest
    assert read(path) == given
    assert json.loads((path / "manifest.json").read_text())["builder"] == {"name": "b"}


def test_videos_are_kept_and_counted(tmp_path: Path) -> None:
    given = Conversation(
        id="v",
        messages=[Message(role="user", content=[VideoPart(index=0)])],
        media=[Media(kind="video", path="v.mp4", timestamps=[0.0, 1.5])],
    )
    assert native.write([given], tmp_path / "set").videos == 1
    assert read(tmp_path / "set") == [given]


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        native.write(small(count, size=50_000), tmp_path / str(count), per_shard=50)
        for _ in formats.read(tmp_path / str(count)):
            pass
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(10)
    assert peak(400) < peak(40) + 1_000_000  # 400 conversations have 20 MB of text


def test_reading_starts_before_later_shards_are_looked_at(tmp_path: Path) -> None:
    native.write(small(4), tmp_path / "set", per_shard=2)
    (tmp_path / "set/shard-00001.jsonl").unlink()
    conversations = formats.read(tmp_path / "set")
    assert [next(conversations).id, next(conversations).id] == ["c/0", "c/1"]
    with pytest.raises(DataError, match=r"shard-00001\.jsonl is missing; the manifest names it"):
        next(conversations)


def test_a_changed_shard_is_refused_before_its_first_record(tmp_path: Path) -> None:
    native.write(small(2), tmp_path / "set")
    shard = tmp_path / "set/shard-00000.jsonl"
    shard.write_text(shard.read_text().replace('"x"', '"y"'))
    assert "shard-00000.jsonl was changed after it was written" in refused(tmp_path / "set")


def edit_manifest(path: Path, **changes: object) -> None:
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_counts_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "set"
    native.write(small(2), path)
    edit_manifest(path, conversations=3)
    assert "counts 3 conversations, its shards another number" in refused(path)
    shard = path / "shard-00000.jsonl"
    shard.write_text(shard.read_text().splitlines(keepends=True)[0])
    entry = {"file": shard.name, "conversations": 2, "sha256": sha256(shard)}
    edit_manifest(path, conversations=2, shards=[entry])
    assert "shard-00000.jsonl has 1 conversations, the manifest says 2" in refused(path)


def test_records_that_are_not_records(tmp_path: Path) -> None:
    path = tmp_path / "set"
    for line, cause in (('{"id": "1"}', "messages: Field required"), ("[1]", "valid dictionary"), ("{", "is not JSON")):
        shard = path / "shard-00000.jsonl"
        native.write(small(1), path)
        shard.write_text(line + "\n")
        edit_manifest(path, shards=[{"file": shard.name, "conversations": 1, "sha256": sha256(shard)}])
        message = refused(path)
        assert message.startswith(f"{shard}:1") and cause in message
        for file in path.iterdir():
            file.unlink()


def test_manifests_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set"
    native.write(small(1), path)
    edit_manifest(path, format_version=2)
    assert "is of format version 2 and this is version 1; upgrade mminstruct" in refused(path)
    edit_manifest(path, format_version=1, shards=[{"file": "../x.jsonl", "conversations": 1, "sha256": "0" * 64}])
    assert "is not a manifest (shards.0.file" in refused(path)
    (path / "manifest.json").write_text("[]")
    assert "is not a manifest" in refused(path)
    (path / "manifest.json").unlink()
    assert "has no manifest.json" in refused(path)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "set"
    native.write(small(1), path)
    with pytest.raises(RunError, match="already exists and is not empty"):
        native.write(small(2), path)
    assert len(read(path)) == 1
    with pytest.raises(DataError, match="there are no conversations to write"):
        native.write([], tmp_path / "none")
    with pytest.raises(DataError, match="two conversations have the id 'c/0'"):
        native.write([*small(3), *small(1)], tmp_path / "twice", per_shard=2)
    assert [file.name for file in tmp_path.iterdir()] == ["set"]
