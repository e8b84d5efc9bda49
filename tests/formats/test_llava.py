"""LLaVA JSON: marks become places, LLaVA's own image position can be had, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart, VideoPart, image, text
from mminstruct.errors import ConfigError, DataError, MminstructError
from mminstruct.formats import llava

TURNS = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]


def write(path: Path, items: Any) -> Path:
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    return path


def read(tmp_path: Path, *items: Any, **options: Any) -> list[Conversation]:
    return list(formats.read(write(tmp_path / "set.json", list(items)), "llava", **options))


def refused(tmp_path: Path, *items: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, *items, **options)
    return str(caught.value)


def item(**changes: Any) -> dict[str, Any]:
    return {"id": "7", "image": "a.png", "conversations": TURNS} | changes


def one(*values: str, images: list[str] | str | None = None) -> dict[str, Any]:
    """An item with these values, by human and gpt in turn."""
    turns = [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)]
    return {"id": "7", "conversations": turns} | ({} if images is None else {"image": images})


def test_an_item_as_llava_publishes_them(tmp_path: Path) -> None:
    assert read(tmp_path, item()) == [
        Conversation(
            id="7",
            messages=[
                Message(role="user", content=[image(0), text("\nWhat is this?")]),
                Message(role="assistant", content=[text("A cat.")]),
            ],
            media=[Media(path="a.png")],
        )
    ]


def test_marks_anywhere_split_the_text_in_place(tmp_path: Path) -> None:
    (found,) = read(tmp_path, one("first <image>, then<image><image> \n", "see <image>", images=[*"abcd"]))
    assert found.messages[0].content == [
        *(text("first "), image(0), text(", then"), image(1), image(2), text(" \n")),
    ]
    assert found.messages[1].content == [text("see "), image(3)]
    assert [media.path for media in found.media] == ["a", "b", "c", "d"]


def test_items_without_images(tmp_path: Path) -> None:
    nothing: list[list[str] | None] = [None, []]
    for images in nothing:
        (found,) = read(tmp_path, one("Hello", "", images=images))
        assert found.media == []
        assert [message.content for message in found.messages] == [[text("Hello")], []]
    assert read(tmp_path, item(image=None, conversations=[{"from": "system", "value": "Be kind."}]))[0].media == []


def test_written_items_look_like_llavas(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    formats.write(read(tmp_path, item(source="coco")), path, "llava")
    assert json.loads(path.read_text()) == [item(source="coco")]
    formats.write(read(tmp_path, one("<image><image>", "b", images=["x", "y"])), tmp_path / "two.json", "llava")
    assert json.loads((tmp_path / "two.json").read_text()) == [one("<image><image>", "b", images=["x", "y"])]


def test_unknown_keys_are_kept_and_written_back(tmp_path: Path) -> None:
    given = item(data_source="ok_vqa", model=None, conversations=[TURNS[0] | {"weight": 0}, TURNS[1]])
    (found,) = read(tmp_path, given)
    assert found.extra == {"data_source": "ok_vqa", "model": None, "conversations": [{"weight": 0}, {}]}
    assert llava.to_item(found) == given


def test_an_item_as_vision_flan_publishes_them(tmp_path: Path) -> None:
    given = {
        "id": "multiinstruct_ok_vqa_['train', 'val']_162419",
        "image": "./task_imgs/multiinstruct_ok_vqa_['train', 'val']_162419_1.jpg",
        "task_name": "ok_vqa",
        "conversations": [
            {"from": "human", "value": "What is the bus for?\n<image>"},
            {"from": "gpt", "value": "transportation"},
        ],
    }
    (found,) = read(tmp_path, given)
    assert found.task == "ok_vqa" and found.extra is None
    assert found.messages[0].content == [text("What is the bus for?\n"), image(0)]
    assert llava.to_item(found) == given
    (without,) = read(tmp_path, given | {"task_name": None})
    assert without.task is None


def test_a_task_and_a_key_of_its_name_are_told_apart(tmp_path: Path) -> None:
    given = [
        conversation(text("a"), task="x+y", extra={"task_name": "z"}),
        conversation(text("a"), extra={"task_name": "z"}).model_copy(update={"id": "d"}),
        conversation(text("a"), task="x+y", answers=["b"]).model_copy(update={"id": "e"}),
    ]
    formats.write(given, tmp_path / "a.json", "llava")
    assert list(formats.read(tmp_path / "a.json")) == given
    written = json.loads((tmp_path / "a.json").read_text())
    assert [each.get("task_name") for each in written] == ["x+y", None, "x+y"]


def test_ids(tmp_path: Path) -> None:
    without = {key: value for key, value in item().items() if key != "id"}
    assert [c.id for c in read(tmp_path, item(id="a"), without, item(id=12))] == ["a", "set/1", "12"]
    message = refused(tmp_path, item(), item(id=7))
    assert message == (
        f"{tmp_path}/set.json: two conversations have the id '7'; give each its own, or number them "
        "(--duplicate-ids number, or duplicate_ids='number' in Python)"
    )
    numbered = read(tmp_path, item(), item(id="7#2"), item(), item(), duplicate_ids="number")
    assert [c.id for c in numbered] == ["7", "7#2", "7#3", "7#4"]
    assert "id that is a list" in refused(tmp_path, item(id=[1]))
    assert "id that is a bool" in refused(tmp_path, item(id=True))


@pytest.mark.parametrize(
    ("value", "expected"),  # worked out by hand from `preprocess_multimodal` of LLaVA
    [
        ("What is this?\n<image>", "<image>\nWhat is this?"),
        ("<image>\nWhat is this?", "<image>\nWhat is this?"),
        ("  What <image> is  this? ", "<image>\nWhat  is  this?"),
        ("<image>", "<image>"),
        ("<image>\n<image>\nTwo", "<image>\nTwo"),
        ("  no mark, kept  ", "  no mark, kept  "),
    ],
)
def test_image_position_first_is_llavas_own(value: str, expected: str, tmp_path: Path) -> None:
    images = "a.png" if "<image>" in value else None
    (found,) = read(tmp_path, one(value, "yes", images=images), image_position="first")
    assert llava.to_item(found)["conversations"][0]["value"] == expected
    assert found.messages[1].text == "yes"


def test_image_position_first_merges_marks_so_that_counts_may_differ(tmp_path: Path) -> None:
    two = one("<image><image>", "b", images=["x", "y"])
    assert len(read(tmp_path, two)) == 1
    assert "has 1 <image> mark and 2 images" in refused(tmp_path, two, image_position="first")


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (one("<image> and <image>", "b", images="a"), "has 2 <image> marks and 1 image; each image needs its mark"),
        (one("<image>", "b", images=["a", "b", "c"]), "has 1 <image> mark and 3 images; each image needs its mark"),
        (one("no mark", "b", images="a"), "has 0 <image> marks and 1 image; each image needs its mark"),
        (one("<image>", "b"), "has 1 <image> mark and 0 images; each image needs its mark"),
        (item(video="v.mp4"), "has 0 <video> marks and 1 video; each video needs its mark"),
        (one("<video>", "b") | {"video": [*"ab"]}, "has 1 <video> mark and 2 videos; each video needs its mark"),
        (one("<image><video>", "b") | {"video": "a"}, "has 1 <image> mark and 0 images; each image needs its mark"),
        (one("<image><image>", "b") | {"video": "a"}, "has 2 <image> marks and 1 video; each video needs its mark"),
        (one("a", "b") | {"video": {"path": "v.mp4"}}, "has a 'video' that is neither a path nor a list of paths"),
        (item(task_name=["a"]), "has a 'task_name' that is a list; it is a text, mend or remove it"),
        (item(task_name="a", mminstruct={"task": "b"}), "a task under both 'task_name' and 'mminstruct'; remove one"),
        (item(conversations=[]), "has no turns; 'conversations' must be a list with at least one"),
        (item(conversations=None), "has no turns; 'conversations' must be a list with at least one"),
        (item(image=""), "has an 'image' that is neither a path nor a list of paths; leave it out for none"),
        (item(image=[1]), "has an 'image' that is neither a path nor a list of paths; leave it out for none"),
        (item(conversations=["hi"]), "turn 0 is a str; a turn is an object with 'from' and 'value'"),
        (item(conversations=[{"from": "human"}]), "turn 0 needs a text under both 'from' and 'value'"),
        (one("a") | {"conversations": [{"from": "gtp", "value": "b"}]}, "turn 0 is from 'gtp'. Did you mean 'gpt'?"),
        (item(mminstruct=[1]), "the key 'mminstruct' holds a list; it is this project's own, remove it"),
        (item(mminstruct={"tsk": 1}), "the key 'mminstruct' holds the unknown 'tsk'. Did you mean 'task'?"),
        (item(mminstruct={"media": []}), "mminstruct.media does not fit the item's images; correct it"),
        (item(mminstruct={"media": [{"path": "b.png"}], "places": [0]}), "mminstruct.media does not fit the item's"),
        (
            item(mminstruct={"media": [{"path": "a.png"}], "places": [False]}),
            "mminstruct.media does not fit the item's",
        ),
        (item(mminstruct={"media": [{"path": "a.png"}], "places": [1]}), "mminstruct.media does not fit the item's"),
        (item(mminstruct={"media": [1]}), "mminstruct.media does not fit the item's images"),
        (item(mminstruct={"extra": [1]}), "mminstruct.extra is a list"),
        (item(mminstruct={"scores": {"a": "b"}}), "scores.a: Input should be a valid number"),
    ],
)
def test_items_that_are_refused(given: dict[str, Any], cause: str, tmp_path: Path) -> None:
    message = refused(tmp_path, item(id="0"), given)
    assert message.startswith(f"{tmp_path}/set.json, item 1 (id '7')"), message
    assert cause in message


def test_an_item_that_is_no_object(tmp_path: Path) -> None:
    assert refused(tmp_path, [1]) == (
        f"{tmp_path}/set.json, item 0 is a list; an item is an object with 'conversations'"
    )


def conversation(*content: Any, role: Any = "user", **fields: Any) -> Conversation:
    return Conversation(id="c", messages=[Message(role=role, content=list(content))], **fields)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (conversation(text("a <image> b")), "turn 0 has the text '<image>' where no image stands"),
        (conversation(text("<ima"), text("ge>")), "turn 0 has the text '<image>' where no image stands"),
        (conversation(text("x"), role="tool"), "is of the role 'tool', which the LLaVA format has no name for"),
        (Conversation(id="c", messages=[]), "has no turns"),
        (
            conversation(text("a <video> b"), VideoPart(index=0), media=[Media(kind="video", path="v.mp4")]),
            "turn 0 has the text '<video>' where no video stands",
        ),
        (conversation(text("half \ud83d")), "half a surrogate pair"),
        (conversation(text("a"), scores={"s": float("nan")}), "a number that is NaN or infinite"),
    ],
)
def test_records_that_cannot_be_written(given: Conversation, cause: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'c'") as caught:
        formats.write(
            [conversation(text("good")).model_copy(update={"id": "good"}), given], tmp_path / "a.json", "llava"
        )
    assert cause in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def clip(path: str, **facts: Any) -> Media:
    return Media(kind="video", path=path, **facts)


def test_videos_as_video_llava_and_llava_video_publish_them(tmp_path: Path) -> None:
    marked, as_image = one("<video>\nWhat happens?", "Rain."), one("<image>\nWhat happens?", "Rain.")
    first, second = read(tmp_path, marked | {"video": "a.mp4", "id": "1"}, as_image | {"video": "a.mp4", "id": "2"})
    assert first.media == second.media == [clip("a.mp4")]
    assert first.messages == second.messages
    assert first.messages[0].content == [VideoPart(index=0), text("\nWhat happens?")]
    assert llava.to_item(first) == marked | {"video": "a.mp4", "id": "1"}
    assert llava.to_item(second) == marked | {"video": "a.mp4", "id": "2"}


def test_each_mark_takes_the_next_of_its_own_kind(tmp_path: Path) -> None:
    given = one("<video>, <image> and <video>", "like <image>", images=["a.png", "b.png"]) | {"video": ["c", "d"]}
    (found,) = read(tmp_path, given)
    assert [(each.kind, each.path) for each in found.media] == [
        *(("video", "c"), ("image", "a.png"), ("video", "d"), ("image", "b.png")),
    ]
    assert [part.index for turn in found.messages for part in turn.content if part.type != "text"] == [0, 1, 2, 3]
    assert llava.to_item(found) == given
    (first,) = read(tmp_path, given, image_position="keep")
    assert first == found
    (first,) = read(tmp_path, one(" a <video>", "b") | {"video": "c"}, image_position="first")
    assert llava.to_item(first)["conversations"][0]["value"] == "<video>\na"


def test_without_a_video_its_mark_is_a_word_of_html(tmp_path: Path) -> None:
    given = one("How do I use <video> in a page?\n<image>", "Write <video src=...>.", images="a.png")
    (found,) = read(tmp_path, given)
    assert [each.kind for each in found.media] == ["image"] and "<video>" in found.messages[0].text
    assert llava.to_item(found) == given


def test_a_video_with_facts_twice_and_out_of_order_comes_back(tmp_path: Path) -> None:
    media = [clip("a.mp4", sha256="0" * 64, width=4, height=2), Media(path="b.png"), clip("c.mp4")]
    turns = [VideoPart(index=2), text(" then "), image(1), VideoPart(index=0), text("?"), VideoPart(index=2)]
    given = [
        Conversation(id="1", messages=[Message(role="user", content=turns)], media=media),
        conversation(VideoPart(index=0), media=media[:1]),
    ]
    formats.write(given, tmp_path / "a.json", "llava")
    assert list(formats.read(tmp_path / "a.json")) == given
    formats.write(formats.read(tmp_path / "a.json"), tmp_path / "b.json", "llava")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_text_beside_a_mark_may_look_like_half_a_mark(tmp_path: Path) -> None:
    given = conversation(text("<image"), image(0), text("<"), image(1), text("image>"), media=[Media(path="p")] * 2)
    formats.write([given], tmp_path / "a.json", "llava")
    assert list(formats.read(tmp_path / "a.json")) == [given]
    assert isinstance(given.messages[0].content[1], ImagePart) and isinstance(given.messages[0].content[0], TextPart)


def test_unknown_options_and_formats_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set.json", [item()])
    with pytest.raises(ConfigError, match="reading the format 'messages' has no option 'image_position'"):
        formats.read(path, "messages", image_position="first")
    for call in (lambda: formats.read(path, "lava"), lambda: formats.write([], tmp_path / "x", "lava")):
        with pytest.raises(
            MminstructError, match=r"no data format is called 'lava'\. Did you mean 'llava' or 'llava-plus'\?"
        ):
            call()
