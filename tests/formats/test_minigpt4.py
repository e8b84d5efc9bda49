"""MiniGPT-4's captions: published ones are read, pictures go with what is written, what does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, VideoPart, image, message, text
from mminstruct.errors import DataError, MediaError
from mminstruct.media import open_image
from tests.command import call

Make = Callable[..., list[Conversation]]
ALIGN: list[Any] = [
    {"image_id": "2", "caption": "The image shows a man fishing on a lawn."},
    {"image_id": "3", "caption": "This image shows 猫 on a wall."},
]


def published(folder: Path, items: Any = None, numbers: tuple[int, ...] = (2, 3)) -> Path:
    """cc_sbu_align as it is downloaded."""
    (folder / "image").mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (8, 6), (30 * number, 0, 0)).save(folder / f"image/{number}.jpg")
    value = {"annotations": ALIGN if items is None else items}
    (folder / "filter_cap.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return folder


def test_captions_as_minigpt4_publishes_them(tmp_path: Path) -> None:
    folder = published(tmp_path / "cc_sbu_align")
    assert formats.detect(folder) == formats.detect(folder / "filter_cap.json") == "minigpt4"
    found = list(formats.read(folder))
    assert list(formats.read(folder / "filter_cap.json")) == found
    assert found[0] == Conversation(
        id="2",
        messages=[message("user", image()), message("assistant", "The image shows a man fishing on a lawn.")],
        media=[Media(path="image/2.jpg")],
    )
    assert all(open_image(folder / one.media[0].path).size == (8, 6) for one in found)


def test_what_was_published_is_written_again(tmp_path: Path) -> None:
    folder, out = published(tmp_path / "a"), tmp_path / "deep/b"
    assert call("data", "convert", folder, "--to", "native", "--out", tmp_path / "native")[0] == 0
    assert call("data", "convert", tmp_path / "native", "--to", "minigpt4", "--out", out)[0] == 0
    assert json.loads((out / "filter_cap.json").read_text(encoding="utf-8")) == {"annotations": ALIGN}
    for number in (2, 3):
        assert (out / f"image/{number}.jpg").read_bytes() == (folder / f"image/{number}.jpg").read_bytes()


def test_questions_ids_and_further_keys_come_back(tmp_path: Path) -> None:
    published(tmp_path / "pictures")
    shown = {"media": [Media(path="../pictures/image/2.jpg", width=8)]}
    answer = message("assistant", "A cat.")
    given = [
        Conversation(id="coco/7", messages=[message("user", image(), "\nDescribe it."), answer], **shown, task="c"),
        Conversation(id="0", messages=[message("user", image()), answer], **shown, extra={"url": "u", "id": 3}),
        Conversation(id="0_", messages=[message("user", image()), answer], **shown, answers=["猫"]),
        Conversation(id="..", messages=[message("user", image()), answer], **shown, extra={"source": "x"}),
    ]
    formats.write(given, tmp_path / "out", "minigpt4")
    items = json.loads((tmp_path / "out/filter_cap.json").read_text())["annotations"]
    assert [(one["image_id"], one.get("id")) for one in items] == [
        ("0", "coco/7"),
        ("0_", "0"),
        ("0__", "0_"),
        ("3", ".."),
    ]
    assert items[3]["source"] == "x" and items[0]["question"] == "\nDescribe it."
    found = list(formats.read(tmp_path / "out"))
    assert [one.media[0].path for one in found] == [f"image/{name}.jpg" for name in ("0", "0_", "0__", "3")]
    moved = [one.model_copy(update={"media": [one.media[0].model_copy(update={"path": "p"})]}) for one in found]
    assert moved == [one.model_copy(update={"media": [Media(path="p", width=8)]}) for one in given]


def test_every_field_of_a_record_comes_back(tmp_path: Path, random_conversations: Make) -> None:
    published(tmp_path / "p")
    turns = [message("user", image(), " Was ist das?"), message("assistant", "猫")]
    given = []
    for number, one in enumerate(random_conversations(5, count=60)):
        media = [Media(path="../p/image/2.jpg", height=number or None)]
        fields = {"id": f"{number}", "messages": turns, "media": media, "preference": None}
        given.append(one.model_copy(update=fields))
    formats.write(given, tmp_path / "out", "minigpt4")
    found = list(formats.read(tmp_path / "out"))
    for before, after in zip(given, found, strict=True):
        media = [before.media[0].model_copy(update={"path": f"image/{before.id}.jpg"})]
        assert after == before.model_copy(update={"media": media})


@pytest.mark.parametrize(
    ("item", "cause"),
    [
        ("a caption", "annotation 1 is a str; it is an object with 'image_id' and 'caption'"),
        ({"caption": "a"}, "annotation 1 has the image_id 'None'; it is the name of a file in image/"),
        ({"image_id": "../../secret", "caption": "a"}, "annotation 1 has the image_id '../../secret'"),
        ({"image_id": ".", "caption": "a"}, "annotation 1 has the image_id '.'"),
        ({"image_id": "\ud83d", "caption": "a"}, "annotation 1 has the image_id"),
        ({"image_id": True, "caption": "a"}, "annotation 1 has the image_id 'True'"),
        ({"image_id": 3}, "annotation 1 (image_id 3) needs a text under 'caption'"),
        ({"image_id": 3, "caption": "a", "question": 4}, "has a 'question' or 'id' that is no text; remove it"),
        ({"image_id": 3, "caption": "a", "mminstruct": {"tsk": 1}}, "holds the unknown 'tsk'"),
    ],
)
def test_broken_annotations_are_named_and_stop_no_other(item: Any, cause: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "a")
    broken = json.dumps({"annotations": [ALIGN[0], item, ALIGN[1]]})
    (folder / "filter_cap.json").write_text(broken)
    with pytest.raises(DataError) as caught:
        list(formats.read(folder))
    assert str(caught.value).startswith(f"{folder}/filter_cap.json, annotation 1") and cause in str(caught.value)
    each = formats.FORMATS["minigpt4"].each
    assert each is not None
    ids = []
    for _, make in each(folder):
        try:
            ids.append(make().id)
        except DataError:
            ids.append("broken")
    assert ids == ["2", "broken", "3"]


@pytest.mark.parametrize("value", ["[]", '{"annotations": {}}', "{}", '{"annotations": ['])
def test_files_that_are_none_are_refused(value: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "a")
    (folder / "filter_cap.json").write_text(value)
    with pytest.raises(DataError, match=r"filter_cap\.json"):
        list(formats.read(folder))


def test_a_picture_captioned_twice_and_one_that_is_missing(tmp_path: Path) -> None:
    folder = published(tmp_path / "a", [*ALIGN, ALIGN[0]], numbers=(2,))
    with pytest.raises(DataError, match="two conversations have the id '2'"):
        list(formats.read(folder))
    assert [one.id for one in formats.read(folder, duplicate_ids="number")] == ["2", "3", "2#2"]
    code, out, _ = call("data", "check", folder, "--json")
    codes = {one["code"]: one["where"] for one in json.loads(out)["findings"]}
    assert code == 1 and codes["media-missing"].startswith(f"{folder}/filter_cap.json, annotation 1"), codes
    assert "duplicate-id" in codes


def test_records_that_are_no_caption_are_refused(tmp_path: Path) -> None:
    published(tmp_path / "p")
    media = [Media(path="../p/image/2.jpg"), Media(path="../p/image/3.jpg")]
    answer = message("assistant", "A cat.")
    clip = [Media(path="a.mp4", kind="video")]
    for turns, shown, cause in (
        ([message("user", image(0), image(1)), answer], media, "has other turns than a picture"),
        ([message("user", "Look: ", image()), answer], media[:1], "has other turns than a picture"),
        ([message("user", image(), "a"), answer, message("user", "b"), answer], media[:1], "has other turns than"),
        ([message("user", "Draw."), message("assistant", image())], media[:1], "has other turns than a picture"),
        ([message("user", image()), message("assistant")], media[:1], "has other turns than a picture"),
        ([message("user", text("a")), answer], [], "has other turns than a picture"),
        ([message("user", VideoPart(index=0)), answer], clip, "has a video"),
    ):
        given = Conversation(id="x", messages=turns, media=shown)
        with pytest.raises(DataError, match=f"conversation 'x' {cause}"):
            formats.write([given], tmp_path / "out", "minigpt4")
    gone = Conversation(id="x", messages=[message("user", image()), answer], media=[Media(path="../p/image/4.jpg")])
    with pytest.raises(MediaError, match=r"conversation 'x': the image .*4\.jpg does not exist"):
        formats.write([gone], tmp_path / "out", "minigpt4")
    assert [one.name for one in tmp_path.iterdir()] == ["p"]
