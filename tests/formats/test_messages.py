"""Messages: the Hugging Face and OpenAI ways to place images are all read, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Message, VideoPart, image, text
from mminstruct.errors import ConfigError, DataError
from mminstruct.formats import messages

TEXT = {"type": "text", "text": "What is this?"}
ANSWER = {"role": "assistant", "content": "A cat."}
EXPECTED = Conversation(
    id="7",
    messages=[
        Message(role="user", content=[image(0), text("What is this?")]),
        Message(role="assistant", content=[text("A cat.")]),
    ],
    media=[Media(path="a.png")],
)


def item(*parts: Any, **changes: Any) -> dict[str, Any]:
    return {"id": "7", "messages": [{"role": "user", "content": list(parts)}, ANSWER]} | changes


def read(tmp_path: Path, *items: Any) -> list[Conversation]:
    path = tmp_path / "set.jsonl"
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in items), encoding="utf-8")
    return list(formats.read(path, "messages"))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.png"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "url": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "image", "image": "a.png", "text": None, "image_url": None},  # as a table gives it back
    ],
)
def test_the_ways_to_name_an_image(part: dict[str, Any], tmp_path: Path) -> None:
    assert read(tmp_path, item(part, TEXT)) == [EXPECTED]


def test_bare_places_take_the_images_in_order(tmp_path: Path) -> None:
    assert read(tmp_path, item({"type": "image"}, TEXT, images=["a.png"])) == [EXPECTED]
    bare = {"type": "image"}
    turns = [{"role": "user", "content": [bare, TEXT, bare]}, {"role": "assistant", "content": [bare]}]
    (found,) = read(tmp_path, {"messages": turns, "images": ["1", "2", "3"]})
    assert (found.id, [media.path for media in found.media]) == ("set/0", ["1", "2", "3"])
    assert found.messages[0].content == [image(0), text("What is this?"), image(1)]
    assert found.messages[1].content == [image(2)]
    mixed = item({"type": "image", "path": "inline"}, bare, TEXT, images=["listed"])
    assert [media.path for media in read(tmp_path, mixed)[0].media] == ["inline", "listed"]


def test_text_is_kept_to_the_letter(tmp_path: Path) -> None:
    content = " <image>\n {"
    assert read(tmp_path, {"messages": [{"role": "system", "content": content}]})[0].messages[0].text == content


def test_data_uris_are_kept(tmp_path: Path) -> None:
    uri = "data:image/png;base64,AAAA"
    (found,) = read(tmp_path, item({"type": "image_url", "image_url": {"url": uri}}, TEXT))
    assert found.media[0].path == uri
    assert messages.to_item(found, "openai")["messages"][0]["content"][0] == {
        "type": "image_url",
        "image_url": {"url": uri},
    }


def test_the_two_styles() -> None:
    hf, openai = messages.to_item(EXPECTED), messages.to_item(EXPECTED, "openai")
    assert hf == {
        "id": "7",
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, TEXT]},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        ],
    }
    assert openai == item({"type": "image_url", "image_url": {"url": "a.png"}}, TEXT)


def test_what_messages_have_no_key_for_is_under_mminstruct() -> None:
    given = EXPECTED.model_copy(update={"task": "t", "answers": ["cat"], "media": [Media(path="a.png", width=64)]})
    assert messages.to_item(given)["mminstruct"] == {"answers": ["cat"], "task": "t", "media": [{"width": 64}]}


def test_further_keys_are_kept_and_written_back(tmp_path: Path) -> None:
    given = item(TEXT, source="x") | {"messages": [{"role": "tool", "content": [TEXT], "name": "ocr"}]}
    (found,) = read(tmp_path, given)
    assert found.extra == {"source": "x", "messages": [{"name": "ocr"}]}
    assert messages.to_item(found) == given


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (item({"type": "image"}, TEXT), '1 bare {"type": "image"} place and 0 paths in \'images\''),
        (item(TEXT, images=["a", "b"]), '0 bare {"type": "image"} places and 2 paths in \'images\''),
        (item({"type": "image", "image": "a", "url": "b"}), "has an image with both 'image' and 'url'; keep one"),
        (item({"type": "image", "image": {"bytes": ""}}), "an image that is a dict; give its path or data: URI"),
        (item({"type": "image_url"}), "an image that is a NoneType; give its path or data: URI"),
        (item({"type": "image", "url": "https://e.org/a.png?token=1"}), "an image at https://, and nothing is fetched"),
        (item(TEXT, images=["HTTP://e.org/a.png"]), "an image at HTTP://, and nothing is fetched"),
        (item({"type": "image", "path": "file:///a.png"}), "an image at file://, and nothing is fetched"),
        (item({"type": "audio", "audio": "v"}), "a part of the type 'audio'; the types text, image, image_url, video"),
        (item({"text": "x"}), "a part of the type None; the types text, image, image_url, video, video_url are read"),
        (item({"type": "video"}), '1 bare {"type": "video"} place and 0 paths in \'videos\''),
        (item({"type": "video", "url": "https://e.org/a.mp4?token=1"}), "a video at https://, and nothing is fetched"),
        (item({"type": "video", "image": "a"}), "a part of the type 'video' with the unknown key 'image'"),
        (item({"type": "text"}), "a part of the type 'text' without a text"),
        (item({"type": "text", "text": "a", "cache": 1}), "a part of the type 'text' with the unknown key 'cache'"),
        (item("words"), "a part that is a str; a part is an object with 'type'"),
        (item(messages=[]), "has no turns; 'messages' must be a list with at least one"),
        (item(messages=["x"]), "turn 0 is a str; a turn is an object with 'role' and 'content'"),
        (item(messages=[{"role": "user"}]), "a content that is a NoneType; it is a text or a list of parts"),
        (item(messages=[{"role": "asistant", "content": ""}]), "the role 'asistant'. Did you mean 'assistant'?"),
        (item(messages=[{"content": ""}]), "the role None."),
        (item(TEXT, videos=["v"]), '0 bare {"type": "video"} places and 1 path in \'videos\''),
        (item(TEXT, videos="v"), "has 'videos' that is a str; it is a list of paths"),
        (item(TEXT, images="a.png"), "has 'images' that is a str; it is a list of paths"),
    ],
)
def test_items_that_are_refused(given: dict[str, Any], cause: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, item(TEXT, id="0"), given)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/set.jsonl:2 (id '7')") and "\n" not in message
    assert cause in message
    assert "token" not in message  # an address may hold a secret


def test_videos_in_every_form(tmp_path: Path) -> None:
    clip, picture = Media(kind="video", path="a.mp4"), Media(path="b.png")
    asked = Message(role="user", content=[VideoPart(index=0), text("Is it this? "), image(1)])
    answer = Message(role="assistant", content=[text("A cat.")])
    wanted = Conversation(id="7", messages=[asked, answer], media=[clip, picture])
    words, shown = {"type": "text", "text": "Is it this? "}, {"type": "image", "image": "b.png"}
    forms = [
        item({"type": "video", "video": "a.mp4"}, words, shown),
        item({"type": "video", "path": "a.mp4"}, words, shown),
        item({"type": "video"}, words, {"type": "image"}, images=["b.png"], videos=["a.mp4"]),
        item({"type": "video_url", "video_url": {"url": "a.mp4"}}, words, shown),
    ]
    for form in forms:
        assert read(tmp_path, form) == [wanted]
    for name in ("messages", "openai"):
        formats.write([wanted], tmp_path / f"{name}.jsonl", name)
        assert list(formats.read(tmp_path / f"{name}.jsonl")) == [wanted]
    written = json.loads((tmp_path / "messages.jsonl").read_text())
    assert written["messages"][0] == forms[0]["messages"][0]
    said = json.loads((tmp_path / "openai.jsonl").read_text())["messages"][0]["content"]
    assert [part["type"] for part in said] == ["video_url", "text", "image_url"]


def test_records_and_names_that_cannot_be_written(tmp_path: Path) -> None:
    video = Conversation(
        id="v",
        messages=[Message(role="user", content=[VideoPart(index=0)])],
        media=[Media(kind="video", path="https://e.org/a.mp4")],
    )
    with pytest.raises(DataError, match="conversation 'v' has a video at https://"):
        formats.write([video], tmp_path / "a.jsonl", "messages")
    remote = EXPECTED.model_copy(update={"media": [Media(path="https://e.org/a.png")]})
    with pytest.raises(DataError, match="conversation '7' has an image at https://"):
        formats.write([remote], tmp_path / "a.jsonl", "messages")
    with pytest.raises(ConfigError, match=r"a messages file ends in \.jsonl \(JSON lines\) or \.json"):
        formats.write([EXPECTED], tmp_path / "a.txt", "messages")
    assert list(tmp_path.iterdir()) == []
