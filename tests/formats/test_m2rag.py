"""MiniCPM-V's and LLaMA-Factory's files: marks in the text, read and written without loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart, VideoPart, image, message, text
from mminstruct.errors import DataError

NAMES = ("minicpmv", "llamafactory")
Make = Callable[..., list[Conversation]]

# As M2RAG publishes them: no image, one, several; LLaMA-Factory's have no id.
MINICPMV: list[dict[str, Any]] = [
    {
        "id": "mmqa_train_0",
        "image": {"<image_00>": "images/ü 0.png", "<image_01>": "/data/1.png"},
        "conversations": [
            {"role": "user", "content": "Look.\n<image_00>\n<image_01>\n\nQuestion: who?"},
            {"role": "assistant", "content": "Nobody."},
        ],
    },
    {
        "id": "image_cap_train_3",
        "image": "a.png",
        "conversations": [
            {"role": "user", "content": "<image>\n\nCaption:"},
            {"role": "assistant", "content": "日本 at night."},
        ],
    },
    {
        "id": "mmqa_train_1",
        "image": {},
        "conversations": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}],
    },
]
LLAMAFACTORY: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": "<image>\n<image>\n\nQuestion: who?"},
            {"role": "assistant", "content": "The one in <image>."},
        ],
        "images": ["images/ü 0.png", "/data/1.png", "images/ü 0.png"],
    },
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}], "images": []},
]
GIVEN = {"minicpmv": MINICPMV, "llamafactory": LLAMAFACTORY}


def without_tools(conversations: list[Conversation], name: str) -> list[Conversation]:
    """MiniCPM-V has no name for a system's turn."""
    taken = ("user", "assistant") if name == "minicpmv" else ("system", "user", "assistant")
    return [one for one in conversations if all(message.role in taken for message in one.messages)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_write_read_write(name: str, seed: int, tmp_path: Path, random_conversations: Make) -> None:
    given = without_tools(random_conversations(seed), name)
    assert len(given) > 30
    for suffix in (".json", ".jsonl"):
        first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
        assert formats.write(given, first, name) == len(given)
        found = list(formats.read(first, name))
        assert [one.model_dump() for one in found] == [one.model_dump() for one in given]
        formats.write(found, second, name)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_published_files_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    path.write_text(json.dumps(GIVEN[name], indent=4))
    assert formats.detect(path) == name
    found = list(formats.read(path))
    formats.write(found, tmp_path / "1.json", name)
    formats.write(formats.read(tmp_path / "1.json"), tmp_path / "2.json", name)
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    written = json.loads((tmp_path / "1.json").read_text())
    ids = [item.pop("id") for item in written]
    assert ids == [item.get("id", f"given/{number}") for number, item in enumerate(GIVEN[name])]
    assert written == [{key: value for key, value in item.items() if key != "id"} for item in GIVEN[name]]
    first = found[0].messages[0].content
    assert [part.index for part in first if isinstance(part, ImagePart)] == [0, 1]
    assert [one.path for one in found[0].media][:2] == ["images/ü 0.png", "/data/1.png"]


def test_twelve_images_in_a_turn_and_one_in_an_answer(tmp_path: Path) -> None:
    asked = message("user", *[part for index in range(12) for part in (image(index), text(f" {index} "))])
    given = Conversation(
        id="1",
        messages=[asked, message("assistant", "See ", image(3), ".")],
        media=[Media(path=f"{index} ß.png") for index in range(12)],
    )
    for name in NAMES:
        path = tmp_path / f"{name}.json"
        formats.write([given], path, name)
        assert formats.detect(path) == name
        assert list(formats.read(path)) == [given]
    item = json.loads((tmp_path / "minicpmv.json").read_text())[0]
    assert list(item["image"])[8:] == ["<image_08>", "<image_09>", "<image_10>", "<image_11>", "<image_12>"]
    assert item["image"]["<image_12>"] == "3 ß.png"


def test_a_mark_that_is_named_once_and_placed_twice(tmp_path: Path) -> None:
    item = {
        "image": {"<image_01>": "b.png", "<image_00>": "a.png"},
        "conversations": [
            {"role": "user", "content": "<image_00><image_01><image_00>?"},
            {"role": "assistant", "content": "-"},
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps([item]))
    (found,) = formats.read(path)
    assert [one.path for one in found.media] == ["a.png", "b.png", "a.png"]


@pytest.mark.parametrize(
    ("name", "change", "cause"),
    [
        ("minicpmv", {"image": "a.png"}, "places <image_00>, which 'image' does not name"),
        (
            "minicpmv",
            {"image": {"<image_00>": "a", "<image_01>": "b", "<image_02>": "c"}},
            "<image_02>, which stands now",
        ),
        ("minicpmv", {"image": {"first": "a"}}, "calls an image 'first'"),
        ("minicpmv", {"image": ["a"]}, "neither a path nor an object"),
        ("minicpmv", {"conversations": []}, "has no turns"),
        ("minicpmv", {"conversations": [{"role": "system", "content": "a"}]}, "has the role 'system'"),
        ("minicpmv", {"conversations": [{"role": "user"}]}, "needs a text under both 'role' and 'content'"),
        ("minicpmv", {"conversations": ["a"]}, "is a str; a turn is an object"),
        ("llamafactory", {"images": ["a.png"]}, "has 3 <image> marks and 1 image;"),
        ("llamafactory", {"images": "a.png"}, "'images' that are no list of paths"),
        ("llamafactory", {"videos": ["a.mp4"]}, "has 0 <video> marks and 1 video;"),
        ("llamafactory", {"videos": "a.mp4"}, "'videos' that are no list of paths"),
        ("llamafactory", {"messages": [{"role": "observation", "content": ""}]}, "has the role 'observation'"),
    ],
)
def test_broken_items_are_told_with_their_place(name: str, change: dict[str, Any], cause: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([GIVEN[name][0] | change]))
    with pytest.raises(DataError, match=rf"a\.json, item 0.*{cause}"):
        list(formats.read(path, name))


@pytest.mark.parametrize(
    ("name", "said", "cause"),
    [
        ("minicpmv", message("user", "say <image_07>"), "a text that reads as the place of an image"),
        ("minicpmv", message("user", "<ima", "ge>"), "a text that reads as the place of an image"),
        ("llamafactory", message("user", "say <image>"), "a text that reads as the place of an image"),
        ("llamafactory", message("tool", "3"), "is of the role 'tool'"),
        ("minicpmv", message("system", "Be kind."), "is of the role 'system'"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(name: str, said: Message, cause: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=cause):
        formats.write([Conversation(id="1", messages=[said])], tmp_path / "a.json", name)
    assert list(tmp_path.iterdir()) == []


def test_llamafactorys_videos_come_back_as_they_were(tmp_path: Path) -> None:
    given = [
        {
            "messages": [{"role": "user", "content": "<video>Is it <image>?"}, {"role": "assistant", "content": "No."}],
            "images": ["a.png"],
            "videos": ["b.mp4"],
        },
        {"messages": [{"role": "user", "content": "<image>Use <video>?"}], "images": ["a.png"]},
        {"messages": [{"role": "user", "content": "<video><video>"}], "videos": ["b.mp4", "c.mp4"]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(given))
    assert formats.detect(tmp_path / "a.json") == "llamafactory"
    found = list(formats.read(tmp_path / "a.json"))
    assert [[one.kind for one in each.media] for each in found] == [["video", "image"], ["image"], ["video", "video"]]
    formats.write(found, tmp_path / "b.json", "llamafactory")
    written = json.loads((tmp_path / "b.json").read_text())
    assert [{key: value for key, value in one.items() if key != "id"} for one in written] == [
        *(given[0], given[1], given[2] | {"images": []})
    ]
    assert [one.media for one in formats.read(tmp_path / "b.json")] == [one.media for one in found]
    with pytest.raises(DataError, match="a text that reads as the place of an image"):
        say = message("user", VideoPart(index=0), "say <video>")
        clip = Conversation(id="1", messages=[say], media=[Media(path="b.mp4", kind="video")])
        formats.write([clip], tmp_path / "c.json", "llamafactory")


def test_a_text_that_is_no_mark_of_the_format_stays_text(tmp_path: Path) -> None:
    given = Conversation(id="1", messages=[message("user", "say <image_07>"), message("assistant", "<image_>")])
    formats.write([given], tmp_path / "a.json", "llamafactory")
    (found,) = formats.read(tmp_path / "a.json", "llamafactory")
    assert found == given and isinstance(found.messages[0].content[0], TextPart)
