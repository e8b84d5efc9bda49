"""Which format a path is of, how JSON files are read item by item, and where media paths lead."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Message, Role, image, text
from mminstruct.errors import DataError, RunError
from mminstruct.formats.items import read_items
from mminstruct.formats.stats import statistics

ITEMS = [{"id": 1, "text": 'ü "]" [,] \\'}, {}, [1, [2]], "string", 12, None]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        formats.detect(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("indent", [None, 2])
def test_items_of_lists_and_lines(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n " + json.dumps(ITEMS, indent=indent) + " \n")
    assert [value for _, value in read_items(path)] == ITEMS
    assert [where for where, _ in read_items(path)][:2] == [f"{path}, item 0", f"{path}, item 1"]
    path.write_text("".join(json.dumps(value) + "\n\n" for value in ITEMS))
    assert list(read_items(path))[:2] == [(f"{path}:1", ITEMS[0]), (f"{path}:3", {})]


def test_items_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    items = [{"text": "ü" * size, "n": list(range(9))} for size in (5_000_000, 10, 1_048_570, 1_048_576, 3, 2_000_000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    assert [value for _, value in read_items(path)] == items


def test_a_long_list_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + ",".join(['{"text": "' + "x" * 1000 + '"}'] * 20_000) + "]")
    tracemalloc.start()
    assert sum(1 for _ in read_items(path)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000  # the file has 20 MB


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('[{"a": 1},\n{"b": }\n]', ":2 is not JSON (Expecting value)"),
        ('[{"a": 1}\n{"b": 2}]', ":2 is not JSON (expecting ',' or ']' after an item)"),
        ('[{"a": 1},\n\n{"b": 2}', ":3 is not JSON (expecting ',' or ']' after an item)"),
        ('[{"a": 1},\n]', ":2 is not JSON (Expecting value)"),
        ('[{"a": 1}]\n\n[]', ":3 is not JSON (there is more after the list)"),
        ("[", ":1 is not JSON (Expecting value)"),
        ('[{"a": "b', ":1 is not JSON (Unterminated string starting at)"),
        ("[" * 100_000, ":1 is not JSON (nested too deeply)"),
        ('{"a": 1}\n{"b":\n', ":2 is not JSON (Expecting value)"),
        ("<html>", ":1 is not JSON (Expecting value)"),
    ],
)
def test_broken_json_is_told_with_its_line(content: str, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        list(read_items(path))
    assert str(caught.value).startswith(f"{path}{cause}")


def test_paths_that_hold_no_data_set(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.json") == f"{tmp_path}/none.json does not exist; check the path"
    assert "has no manifest.json, no .parquet, no .tar and no state.json of datasets; give" in refused(tmp_path)
    path = tmp_path / "a.json"
    for content in ("", "[]", " \n\n"):
        path.write_text(content)
        assert refused(path) == f"{path} is empty; write or fetch the data set again"
    for content in ('[{"question": "?"}]', '{"question": "?"}\n', "[1]"):
        path.write_text(content)
        message = refused(path)
        assert "is of no known format" in message and message.endswith(
            f"known formats: {', '.join(sorted(formats.FORMATS))}"
        )
    path.write_bytes(b'[{"a": "\xff"}]')
    assert "is not UTF-8 text" in refused(path)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        list(read_items(tmp_path))


def test_an_empty_data_set_is_an_error_in_each_format(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[]")
    for name in ("llava", "messages", "openai"):
        with pytest.raises(DataError, match="has no conversations"):
            list(formats.read(path, name))


def test_files_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("mine")
    with pytest.raises(RunError, match="already exists; give another name or remove it"):
        formats.write([], path, "llava")
    assert path.read_text() == "mine"


def with_media(*paths: str) -> Conversation:
    places: list[Any] = [image(index) for index in range(len(paths))]
    return Conversation(
        id="c", messages=[Message(role="user", content=places)], media=[Media(path=path) for path in paths]
    )


def test_media_roots_and_sources(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.touch()
    assert formats.media_root(tmp_path) == tmp_path
    assert formats.media_root(file) == tmp_path
    assert formats.media_root(file, tmp_path / "coco") == tmp_path / "coco"
    assert formats.media_source("x/1.png", tmp_path) == tmp_path / "x/1.png"
    assert formats.media_source("/abs.png", tmp_path) == Path("/abs.png")
    assert formats.media_source("data:image/png;base64,AA", tmp_path) == "data:image/png;base64,AA"


def test_relocated_paths_lead_to_the_same_files(tmp_path: Path) -> None:
    given = with_media("images/1.png", "../b.png", "/abs.png", "data:image/png;base64,AA//")
    (same,) = formats.relocate([given], tmp_path / "a", tmp_path / "a" / ".")
    assert same == given
    (found,) = formats.relocate([given], tmp_path / "a", tmp_path / "b" / "c")
    assert [media.path for media in found.media] == [
        *("../../a/images/1.png", "../../b.png", "/abs.png", "data:image/png;base64,AA//"),
    ]
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep", target_is_directory=True)
    (linked,) = formats.relocate([with_media("1.png")], tmp_path, tmp_path / "link")
    assert (tmp_path / "real" / "deep" / linked.media[0].path).resolve() == tmp_path / "1.png"


def test_statistics() -> None:
    def said(name: str, *texts: str, media: list[Media] | None = None, task: str | None = None) -> Conversation:
        roles: list[Role] = ["user", "assistant"] * 9
        messages = [Message(role=role, content=[text(each)]) for role, each in zip(roles, texts, strict=False)]
        messages[0].content += [image(index) for index in range(len(media or []))]
        return Conversation(id=name, messages=messages, media=media or [], task=task)

    found = statistics(
        [
            said("a", "12345", "1", media=[Media(path="x.png"), Media(path="y.png", sha256="1")], task="t"),
            said("b", "1", media=[Media(path="x.png"), Media(path="z.png", sha256="1")], task="t"),
            said("c", "123", "", "", ""),
        ],
        Path("root"),
    )
    assert (found.conversations, found.turns) == (3, {"assistant": 3, "user": 4})
    assert (found.images, found.unique_images, found.without_images) == (4, 2, 1)
    assert found.tasks == {"t": 2}
    assert found.characters == {"least": 1, "median": 3, "p90": 6, "p99": 6, "most": 6}
    assert found.turns_per_conversation == {"least": 1, "median": 2, "p90": 4, "p99": 4, "most": 4}
