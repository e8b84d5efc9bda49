"""MiniGPT-4's second stage (cc_sbu_align): a folder of pictures, and one long caption of each.

    DIR/filter_cap.json    {"annotations": [{"image_id": "2", "caption": "The image shows ..."}, ...]}
    DIR/image/2.jpg        the picture of that id

A caption is a conversation of the picture alone and the caption as its answer, called after its `image_id`. MiniGPT-4
draws the question while it trains. Where a record has one it stands in a further key, `question`; `id` is the record's
where that can be no file's name; keys that are not known are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mminstruct.conversation import Conversation, ImagePart, Message, Part, TextPart
from mminstruct.errors import DataError
from mminstruct.files import new_folder, read_json
from mminstruct.formats.embedded import encoded, is_file_name
from mminstruct.formats.items import Duplicates, Each, dumps, unique
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

ANNOTATIONS, IMAGES = "filter_cap.json", "image"
_KEYS = Keys(
    turns="minigpt4.turns",  # a turn has no keys of its own here
    item=frozenset({"image_id", "caption", "question", "id", "minigpt4.turns", KEY}),
    turn=frozenset(),
)


def is_one(path: Path) -> bool:
    """Whether a path is a folder of MiniGPT-4's, or the file of its captions."""
    return path.name == ANNOTATIONS if path.is_file() else (path / ANNOTATIONS).is_file()


def files(path: Path) -> list[Path]:
    """The file of captions."""
    return [path / ANNOTATIONS if path.is_dir() else path]


def read(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The captions of a folder, or of a file beside its folder `image`.

    Args:
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: the file is missing or is not as described, with the place.
    """
    return unique((make() for _, make in each(path)), path, duplicate_ids)


def each(path: Path) -> Iterator[Each]:
    """The captions, each to be made by itself."""
    (file,) = files(path)
    value = read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
        raise DataError(f"{file} is no file of MiniGPT-4's captions; it is an object with a list of 'annotations'")
    for number, item in enumerate(value["annotations"]):
        where = f"{file}, annotation {number}"
        yield where, functools.partial(_conversation, item, where)


def _conversation(item: Any, where: str) -> Conversation:
    if not isinstance(item, dict):
        raise DataError(f"{where} is a {type(item).__name__}; it is an object with 'image_id' and 'caption'")
    name, caption = item.get("image_id"), item.get("caption")
    if not isinstance(name, str | int) or isinstance(name, bool) or not is_file_name(str(name)):
        raise DataError(f"{where} has the image_id {str(name)[:80]!r}; it is the name of a file in {IMAGES}/")
    if not isinstance(caption, str):
        raise DataError(f"{where} (image_id {name!r}) needs a text under 'caption'")
    question, own = item.get("question"), item.get("id", str(name))
    if not isinstance(question, str | None) or not isinstance(own, str):
        raise DataError(f"{where} (image_id {name!r}) has a 'question' or 'id' that is no text; remove it")
    asked: list[Part] = [ImagePart(index=0), *([] if question is None else [TextPart(text=question)])]
    turns = [Message(role="user", content=asked), Message(role="assistant", content=[TextPart(text=caption)])]
    return unpack(item | {_KEYS.turns: []}, own, turns, [f"{IMAGES}/{name}.jpg"], _KEYS, f"{where} (image_id {name!r})")


def write(conversations: Iterable[Conversation], path: Path) -> int:
    """A folder of captions and pictures, which go in as the bytes they are. Returns the number of conversations.

    Media paths are relative to the new folder, as those of every format.

    Raises:
        DataError: a record that is no caption of one picture.
        MediaError: a picture that is missing or is none.
    """
    count = 0
    taken: set[str] = set()
    with new_folder(path) as folder:
        (folder / IMAGES).mkdir()
        with (folder / ANNOTATIONS).open("w", encoding="utf-8") as stream:
            stream.write('{"annotations": [')
            for conversation in unique(conversations, path):
                name = conversation.id if is_file_name(conversation.id) else str(count)
                while name in taken:
                    name += "_"
                taken.add(name)
                item, picture = _item(conversation, name, path.resolve())
                (folder / IMAGES / f"{name}.jpg").write_bytes(picture)
                stream.write(f"{',' * (count > 0)}\n{dumps(item, repr(conversation.id))}")
                count += 1
            stream.write("\n]}\n")
    return count


def _item(conversation: Conversation, name: str, root: Path) -> tuple[dict[str, Any], bytes]:
    where = f"conversation {conversation.id!r}"
    places(conversation, where, "minigpt4")  # refuses videos
    parts = [part for message in conversation.messages for part in message.content]
    asked = [TextPart] * (len(parts) == 3)
    if (
        [message.role for message in conversation.messages] != ["user", "assistant"]
        or [type(part) for part in parts] != [ImagePart, *asked, TextPart]
        or len(conversation.messages[1].content) != 1
        or len(conversation.media) != 1
    ):
        raise DataError(
            f"{where} has other turns than a picture, perhaps a question below it, and a caption, and MiniGPT-4's "
            f"format has no place for them; write another format (llava, native)"
        )
    picture = encoded(conversation.media[0].path, root, where)
    media = [conversation.media[0].model_copy(update={"path": f"{IMAGES}/{name}.jpg"})]
    more, more_of_turns = pack(conversation.model_copy(update={"media": media}), [0], _KEYS)
    if any(more_of_turns):
        raise DataError(f"{where} has the key {_KEYS.turns!r} in its extra, which is this format's own; rename it")
    item: dict[str, Any] = {"image_id": name, "caption": conversation.messages[1].text}
    item |= {"question": conversation.messages[0].text} if asked else {}
    item |= {"id": conversation.id} if conversation.id != name else {}
    return item | more, picture
