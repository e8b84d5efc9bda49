"""Sources: the conversations that the format reads, in any order, after one pass; never stale, never half written."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Preference, image, message
from mminstruct.data.source import Joined, Listed, open_source
from mminstruct.errors import DataError, RunError
from mminstruct.media import open_image
from tests.training.conftest import write_dataset


@pytest.fixture
def llava(tmp_path):
    write_dataset(tmp_path / "data", 9, text_only=2)
    return tmp_path / "data/data.json"


def content(source) -> list[Conversation]:
    return [source[index] for index in range(len(source))]


def pair(conversation: Conversation) -> Conversation:
    """Its last answer as the better one of two."""
    *turns, last = conversation.messages
    preference = Preference(chosen=[last], rejected=[message("assistant", "Worse.")])
    return conversation.model_copy(update={"messages": turns, "preference": preference})


WITH_PICTURES = {"mavis", "mimicit", "minigpt4"}  # which take these with them, and hold some shapes only


@pytest.mark.parametrize(
    "name", sorted(name for name, found in formats.FORMATS.items() if found.write and name not in WITH_PICTURES)
)
def test_a_source_gives_what_the_format_reads(llava, tmp_path, name):
    conversations = list(formats.read(llava))
    if "preferences" in name:
        conversations = [pair(one) for one in conversations]
    chosen = formats.named(name)
    path = tmp_path / ("native" if chosen.is_folder else "copy.jsonl")
    formats.write(conversations, path, name)
    before = sorted(path.rglob("*")) if chosen.is_folder else sorted(path.parent.iterdir())
    source = open_source(path, tmp_path / "runs/cache", media_root=llava.parent)
    assert content(source) == list(formats.read(path))
    assert [source[index] for index in (8, 0, 3)] == [conversations[index] for index in (8, 0, 3)]
    after = sorted(path.rglob("*")) if chosen.is_folder else sorted(path.parent.iterdir())
    assert [one for one in after if one.name != "runs"] == before  # nothing is written beside the data
    assert {media.path for media in source.media()} == {m.path for one in conversations for m in one.media}
    with pytest.raises(IndexError):
        source[len(source)]


@pytest.mark.parametrize(("name", "place"), [("mavis", "set.parquet"), ("minigpt4", "set")])
def test_a_source_of_a_format_that_takes_its_pictures_with_it(tmp_path, name, place):
    Image.new("RGB", (6, 4), (200, 0, 0)).save(tmp_path / "1.png")
    media = [Media(path="1.png" if place.endswith("parquet") else "../1.png")]
    turns = [message("user", image()), message("assistant", "Red.")]
    given = [Conversation(id=f"{n}/caption", messages=turns, media=media, task="mavis+caption") for n in range(3)]
    formats.write(given, tmp_path / place, name)
    source = open_source(tmp_path / place, tmp_path / "cache")
    found = content(source)
    assert [(one.id, one.messages, one.task) for one in found] == [(one.id, one.messages, one.task) for one in given]
    for one in found:
        assert open_image(source.media_root / one.media[0].path).getpixel((0, 0)) == (200, 0, 0)


def test_the_first_pass_is_made_once_for_each_content_and_option(llava, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = open_source(llava, cache)
    with monkeypatch.context() as patched:
        patched.setattr(formats, "read", None)
        again = open_source(llava, cache)
        moved = llava.parent.rename(tmp_path / "moved") / "data.json"
        assert open_source(moved, cache).digest == again.digest == first.digest
    assert open_source(moved, cache, "llava", {"image_position": "first"}).digest != first.digest
    items = json.loads(moved.read_text())
    items[0]["conversations"][1]["value"] = "changed"
    moved.write_text(json.dumps(items))
    changed = open_source(moved, cache)
    assert changed.digest != first.digest and changed[0].messages[1].text == "changed"
    assert len(list(cache.iterdir())) == 3


def test_what_fails_or_is_cut_leaves_nothing_that_is_taken_for_whole(llava, tmp_path):
    llava.write_text(llava.read_text()[:-30])
    with pytest.raises(DataError, match="is not JSON"):
        open_source(llava, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    write_dataset(llava.parent, 9)
    source = open_source(llava, tmp_path / "cache")
    records = source.folder / "conversations.jsonl"
    records.write_bytes(records.read_bytes()[:-5])
    with pytest.raises(DataError, match="is not as long as it was written; remove the folder"):
        open_source(llava, tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="data_cache name another folder"):
        open_source(llava, tmp_path / "file/cache")


def test_processes_read_for_themselves(llava, tmp_path):
    source = open_source(llava, tmp_path / "cache")
    assert source[4].id == "4"  # the file is open when the others are started
    assert content(pickle.loads(pickle.dumps(source))) == content(source)  # noqa: S301 - our own
    with ProcessPoolExecutor(2) as pool:
        assert [one.id for one in pool.map(source.__getitem__, [*range(9)] * 20)] == [str(i) for i in range(9)] * 20


def test_joined_sources_keep_their_media_apart(llava, tmp_path):
    write_dataset(tmp_path / "other", 5)
    one, other = open_source(llava, tmp_path / "cache"), open_source(tmp_path / "other/data.json", tmp_path / "cache")
    joined = Joined([one, other])
    assert len(joined) == 14 and joined.starts == [0, 9]
    assert [joined[index].id for index in (8, 9, 13)] == ["8", "0", "4"]
    assert joined[4].media[0].path == str(llava.parent / "4.png")
    assert joined[13].media[0].path == str(tmp_path / "other/4.png")
    assert {one.path for one in joined.media()} == {one.path for index in range(14) for one in joined[index].media}
    first = joined.first.tolist()
    assert first[:2] == [-1, -1] and len(set(first[2:])) == 12
    assert Joined([one]).first.tolist() == Listed(content(one), llava.parent).first.tolist()
    assert Joined([one])[4] == one[4]
