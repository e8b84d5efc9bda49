"""What data sets have in common whose pictures stand within their files (`tables`, `webdataset`, `mavis`, `mimic_it`).

    item with its pictures' paths, in order ──layout told by its keys──▶ Conversation
    bytes of a picture ──SHA-256──▶ FOLDER/images/ab/abcd....jpg, once however often it comes

Training reads pictures in any order and by many processes, which neither a compressed table nor a stream can give. So
they are unpacked once, and everything behind works with files.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from mminstruct.conversation import Conversation, ImagePart, Message, Part, TextPart
from mminstruct.errors import DataError, MediaError
from mminstruct.formats import llava, messages
from mminstruct.formats.rest import KEY, Keys, unpack
from mminstruct.media import ImageLimits, decode_base64, image_size, image_suffix

LIMIT = ImageLimits().max_bytes  # of a picture or a text within a file
TURNS = ("conversations", "messages", "texts")  # the key that is there tells the layout
_TEXTS = Keys(
    turns="texts",
    item=frozenset({"id", "texts", "image", "images", KEY}),
    turn=frozenset({"user", "assistant"}),
)
_CAPTION = Keys(turns="turns", item=frozenset({"id", "image", "images", "turns", KEY}), turn=frozenset())


class Pictures:
    """Writes pictures to a folder under the name of their content.

    Args:
        folder: None: they get the same names, and nothing is written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def keep(self, data: bytes, where: str) -> str:
        """The path of a picture below the folder. What it holds is looked at when it is opened.

        Raises:
            DataError: it is larger than `open_image` takes.
        """
        if len(data) > LIMIT:
            raise DataError(f"{where} has a picture of {len(data):,} bytes, more than the limit of {LIMIT:,}; drop it")
        digest = hashlib.sha256(data).hexdigest()
        name = f"images/{digest[:2]}/{digest}{image_suffix(data)}"
        if self.folder is not None and not (self.folder / name).exists():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)
        return name


def is_file_name(name: str) -> bool:
    """Whether a text from a file can be a file's name, and is no path that leads elsewhere."""
    if not name or name[0] == "." or any(sign in "/\\\0" or "\ud800" <= sign <= "\udfff" for sign in name):
        return False  # half a surrogate pair has no bytes
    return len(name.encode()) <= 200


def encoded(path: str, root: Path, where: str) -> bytes:
    """The bytes of a medium's picture, to be written into a data set's files.

    Args:
        path: as a record has it: a file's, or a `data:` URI.
        root: the folder that relative paths start from; it need not be there.

    Raises:
        MediaError: it is missing or too large, or no picture.
    """
    try:
        if path.startswith("data:"):
            image_size(path)  # within the limits, and an image
            return decode_base64(path.partition(",")[2])
        source = Path(os.path.normpath(root / path))  # where the root is not there, `..` cannot lead out of it
        image_size(source)
        return source.read_bytes()
    except MediaError as error:
        raise MediaError(f"{where}: {error}") from None


def from_item(item: dict[str, Any], paths: list[str], name: str, where: str) -> Conversation:
    """The conversation of an item of one of the layouts, whose pictures have these paths.

    Raises:
        DataError: it has no turns, or they do not fit the pictures.
    """
    item = {key: value for key, value in item.items() if key not in ("image", "images")}
    if "conversations" in item:
        return llava.from_item(item | ({"image": paths} if paths else {}), name, where)
    if "messages" in item:
        return messages.from_item(item | {"images": paths}, name, where)
    if "texts" in item:
        return _from_texts(item, paths, name, f"{where} (id {name!r})")
    raise DataError(f"{where} has no turns; they stand under one of {', '.join(TURNS)}")


def without_videos(conversation: Conversation, where: str) -> Conversation:
    """The conversation. Raises `DataError` where it has a video, whose path would start from the unpacked pictures."""
    if any(medium.kind == "video" for medium in conversation.media):
        raise DataError(f"{where} has a video, and pictures stand within the data set's files; keep such items apart")
    return conversation


def caption(item: dict[str, Any], text: str, paths: list[str], name: str, where: str) -> Conversation:
    """A turn of the pictures alone and their caption as its answer; the keys of `item` are kept as `extra`."""
    if not paths:
        raise DataError(f"{where} has a caption and no picture; drop it")
    pictures: list[Part] = [ImagePart(index=index) for index in range(len(paths))]
    turns = [
        Message(role="user", content=pictures),
        Message(role="assistant", content=[TextPart(text=text)]),
    ]
    return unpack(item | {"turns": []}, name, turns, paths, _CAPTION, where)


def _from_texts(item: dict[str, Any], paths: list[str], name: str, where: str) -> Conversation:
    """The Cauldron's layout (HuggingFaceM4/the_cauldron): `texts` of {user, assistant, source}, pictures in front."""
    turns = item["texts"]
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; 'texts' must be a list with at least one")
    said: list[Message] = []
    for number, turn in enumerate(turns):
        asked, answered = (turn.get(key) if isinstance(turn, dict) else None for key in ("user", "assistant"))
        if not isinstance(asked, str) or not isinstance(answered, str):
            raise DataError(f"{where}, turn {number} needs a text under both 'user' and 'assistant'")
        pictures: list[Part] = [ImagePart(index=index) for index in range(len(paths))] if number == 0 else []
        said.append(Message(role="user", content=[*pictures, TextPart(text=asked)]))
        said.append(Message(role="assistant", content=[TextPart(text=answered)]))
    return unpack(item, name, said, paths, _TEXTS, where)
