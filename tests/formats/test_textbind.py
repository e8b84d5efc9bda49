"""TextBind JSON: images in any turn, folder and name are one path, captions are kept, misfits are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Message, VideoPart, image, message, text
from mminstruct.errors import DataError
from mminstruct.formats import textbind


def turn(role: str, content: str, names: list[str] | None = None, captions: list[str] | None = None) -> dict[str, Any]:
    given = captions or [f"caption of {name}" for name in names or []]
    urls = ["" for _ in names or []]
    return {"role": role, "content": content, "image_list": names or [], "caption_list": given, "url_list": urls}


ITEM = {
    "conversation": [
        turn("user", "Look: <image> What is it?", ["490272.png"]),
        turn("assistant", "A <image>, or <image>.", ["7.png", "8.png"]),
        turn("user", "Thanks."),
    ],
    "image_dir": "data/mim_images",
}


def save(path: Path, items: Any) -> Path:
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    return path


def read(tmp_path: Path, *items: Any) -> list[Conversation]:
    return list(formats.read(save(tmp_path / "set.json", list(items))))


def refused(tmp_path: Path, *items: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(formats.read(save(tmp_path / "set.json", list(items)), "textbind"))
    return str(caught.value)


def test_an_item_as_textbind_publishes_them(tmp_path: Path) -> None:
    (found,) = read(tmp_path, ITEM)
    assert found.id == "set/0"
    assert found.messages == [
        message("user", "Look: ", image(0), " What is it?"),
        message("assistant", "A ", image(1), ", or ", image(2), "."),
        message("user", "Thanks."),
    ]
    assert [one.path for one in found.media] == [f"data/mim_images/{name}.png" for name in ("490272", "7", "8")]
    assert found.extra is not None and found.extra["conversation"] == [
        {"caption_list": ["caption of 490272.png"], "url_list": [""]},
        {"caption_list": ["caption of 7.png", "caption of 8.png"], "url_list": ["", ""]},
        {},
    ]
    formats.write([found], tmp_path / "out.json", "textbind")
    assert json.loads((tmp_path / "out.json").read_text()) == [{"id": "set/0", **ITEM}]


def test_ten_images_in_a_turn_and_names_of_any_script(tmp_path: Path) -> None:
    names = [f"{number}-снег 雪.png" for number in range(10)]
    item = {
        "conversation": [turn("user", "<image>" * 10, names), turn("assistant", "<image> 日本", ["ü.png"])],
        "image_dir": "bilder/été",
    }
    (found,) = read(tmp_path, item)
    assert found.media[9].path == "bilder/été/9-снег 雪.png" and len(found.messages[0].content) == 10
    formats.write([found], tmp_path / "1.json", "textbind")
    again = list(formats.read(tmp_path / "1.json"))
    formats.write(again, tmp_path / "2.json", "textbind")
    assert again == [found] and (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    for name in ("llava", "messages", "openai", "native"):
        out = tmp_path / ("set" if name == "native" else f"{name}.json")
        formats.write([found], out, name)
        assert list(formats.read(out)) == [found], name
    with pytest.raises(DataError, match="has 11 pictures, and an item of the LLaVA-Plus format names one"):
        formats.write([found], tmp_path / "plus.json", "llava-plus")


@pytest.mark.parametrize(
    ("paths", "folder", "names"),
    [
        (["a/1.png", "a/2.png"], "a", ["1.png", "2.png"]),
        (["a/b/1.png", "a/c/2.png"], "a", ["b/1.png", "c/2.png"]),
        (["ab/1.png", "ac/1.png"], "", ["ab/1.png", "ac/1.png"]),
        (["/abs/1.png", "/abs/2.png"], "/abs", ["1.png", "2.png"]),
        (["/1.png", "/2.png"], "", ["/1.png", "/2.png"]),
        (["a/1.png", "/a/1.png"], "", ["a/1.png", "/a/1.png"]),
        (["a//1.png"], "", ["a//1.png"]),
        (["data:image/png;base64,AA/B"], "", ["data:image/png;base64,AA/B"]),
        (["1.png"], "", ["1.png"]),
    ],
)
def test_the_folder_is_the_one_that_all_pictures_share(paths: list[str], folder: str, names: list[str]) -> None:
    places = [image(index) for index in range(len(paths))]
    given = Conversation(id="1", messages=[message("user", *places)], media=[Media(path=path) for path in paths])
    item = textbind.to_item(given)
    written = (item["image_dir"], item["conversation"][0]["image_list"])
    if paths == ["a//1.png"]:
        assert textbind.from_item(item, "1", "here") == given  # whatever the folder, the path is the same
    else:
        assert written == (folder, names)
    assert textbind.from_item(item, "1", "here") == given


def test_folders_of_the_file_and_absolute_names(tmp_path: Path) -> None:
    (with_slash,) = read(tmp_path, ITEM | {"image_dir": "data/"})
    (without,) = read(tmp_path, {key: value for key, value in ITEM.items() if key != "image_dir"})
    absolute = {"conversation": [turn("user", "<image>", ["/x/1.png"])], "image_dir": "data"}
    assert with_slash.media[0].path == "data/490272.png" and without.media[0].path == "490272.png"
    assert read(tmp_path, absolute)[0].media[0].path == "/x/1.png"


def test_turns_without_captions_of_other_data_sets_get_empty_lists_where_no_image_is() -> None:
    given = Conversation(
        id="1", messages=[message("user", image(), "?"), message("assistant", "!")], media=[Media(path="a")]
    )
    first, second = textbind.to_item(given)["conversation"]
    assert first == {"role": "user", "content": "<image>?", "image_list": ["a"]}
    assert second == {"role": "assistant", "content": "!", "image_list": [], "caption_list": [], "url_list": []}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"conversation": []}, "has no turns; 'conversation' must be a list"),
        ({"conversation": ["x"]}, "turn 0 is a str; a turn is an object with 'role' and 'content'"),
        ({"conversation": [turn("human", "x")]}, "turn 0 has the role 'human'."),
        ({"conversation": [turn("user", "<image>")]}, "has 1 <image> mark and 0 images in 'image_list'"),
        ({"conversation": [turn("user", "x", ["a"])]}, "has 0 <image> marks and 1 image in 'image_list'"),
        ({"conversation": [turn("user", "<image>", ["a"], ["b", "c"])]}, "needs a list of 1 as 'caption_list'"),
        ({"conversation": [{"role": "user", "content": None}]}, "has a content that is a NoneType"),
        ({"conversation": [{"role": "user", "content": "", "image_list": [1]}]}, "is no list of file names"),
        (ITEM | {"image_dir": 3}, "has an 'image_dir' that is a int"),
        ({"turns": []}, "has no turns"),
        (ITEM | {"mminstruct": {"media": 3}}, "mminstruct.media does not fit the item's images"),
    ],
)
def test_items_that_do_not_fit(item: dict[str, Any], problem: str, tmp_path: Path) -> None:
    message = refused(tmp_path, ITEM, item)
    assert message.startswith(f"{tmp_path}/set.json, item 1 (id 'set/1')") and problem in message


def test_records_that_the_format_cannot_hold() -> None:
    film = Conversation(
        id="v", messages=[Message(role="user", content=[VideoPart(index=0)])], media=[Media(kind="video", path="v.mp4")]
    )
    with pytest.raises(DataError, match="has a video, which the format textbind has no place for"):
        textbind.to_item(film)
    with pytest.raises(DataError, match="turn 0 is of the role 'tool', which the TextBind format has no name for"):
        textbind.to_item(Conversation(id="t", messages=[message("tool", "x")]))
    with pytest.raises(DataError, match="has the text '<image>' where no image stands"):
        textbind.to_item(Conversation(id="t", messages=[message("user", text("say <image>"))]))
