"""Every format gives back what it was given: the records equal, and the file the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.files import sha256

NAMES = {
    "native": "set",
    "llava": "set.json",
    "llava-plus": "set.json",
    "textbind": "set.json",
    "messages": "set.jsonl",
    "openai": "set.json",
}
HOLD_LESS = {"llamafactory", "mimicit", "minicpmv"}  # test_m2rag.py, test_mimic_it.py
MARKS = ("llava", "llava-plus", "textbind")  # formats of texts with marks

Make = Callable[..., list[Conversation]]


def content_hash(path: Path) -> list[str]:
    return [sha256(file) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def fitting(conversations: list[Conversation], name: str) -> list[Conversation]:
    """Those that a format can hold: in llava-plus an item has one picture, as often as one likes."""
    if name != "llava-plus":
        return conversations
    found = [one for one in conversations if len({media.path for media in one.media}) < 2]
    assert 2 * len(found) > len(conversations) and any(one.media for one in found)
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_write_read_write(name: str, seed: int, tmp_path: Path, random_conversations: Make) -> None:
    given = fitting(random_conversations(seed, odd=name not in MARKS), name)
    first, second = tmp_path / f"1{NAMES[name]}", tmp_path / f"2{NAMES[name]}"
    assert formats.write(given, first, name) == len(given)
    found = list(formats.read(first, name))
    assert found == given
    assert [c.model_dump() for c in found] == [c.model_dump() for c in given]
    formats.write(found, second, name)
    assert content_hash(first) == content_hash(second)
    detected = formats.detect(first)
    assert detected == ("messages" if name == "openai" else name)


def test_the_random_conversations_have_the_hard_cases(random_conversations: Make) -> None:
    found = [c for seed in range(4) for c in random_conversations(seed)]
    places = [[p.index for p in m.content if isinstance(p, ImagePart)] for c in found for m in c.messages]
    assert max(len(set(indexes)) for indexes in places) == 10
    assert any(indexes != sorted(indexes) for indexes in places)
    assert any(len(indexes) > len(set(indexes)) for indexes in places)
    assert any(isinstance(p, ImagePart) for c in found for m in c.messages if m.role == "assistant" for p in m.content)
    assert any(not m.content for c in found for m in c.messages)


def test_a_chain_through_all_formats_loses_nothing(tmp_path: Path, random_conversations: Make) -> None:
    given = random_conversations(9)
    conversations: list[Conversation] = given
    for number, name in enumerate(("llava", "openai", "native", "textbind", "messages", "llava")):
        path = tmp_path / f"{number}{NAMES[name]}"
        formats.write(conversations, path, name)
        conversations = list(formats.read(path))
    assert conversations == given


def test_messages_are_written_as_list_or_lines(tmp_path: Path, random_conversations: Make) -> None:
    given = random_conversations(0, count=3)
    formats.write(given, tmp_path / "a.json", "messages")
    formats.write(given, tmp_path / "a.jsonl", "messages")
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").split("\n")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [json.loads(line) for line in lines[:3]]
    assert list(formats.read(tmp_path / "a.json")) == list(formats.read(tmp_path / "a.jsonl")) == given


@pytest.mark.parametrize("name", NAMES)
def test_a_writer_that_fails_leaves_nothing(name: str, tmp_path: Path, random_conversations: Make) -> None:
    def broken() -> Iterator[Conversation]:
        yield from fitting(random_conversations(0, count=20), name)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        formats.write(broken(), tmp_path / NAMES[name], name)
    assert list(tmp_path.iterdir()) == []
