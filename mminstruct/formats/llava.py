"""LLaVA JSON: a list of items with `id`, `image` (a path or a list of paths) and `conversations`.

    {"id": "1", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\\nWhat is this?"}, ...]}

Each `<image>` in a value is the place of the next image; the text around it is kept to the letter. Two neighbouring
text parts of a record become one, and an empty one vanishes, since a value cannot tell them apart; everything else
comes back as it was (`mminstruct.formats.rest` holds what LLaVA has no key for).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from mminstruct.conversation import Conversation, ImagePart, Message, Part, Role, TextPart
from mminstruct.errors import DataError, PlacesError, RoleError, did_you_mean
from mminstruct.formats.items import Duplicates, Each, each_item, read_each, unique, write_list
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

MARK = "<image>"
ImagePosition = Literal["keep", "first"]

_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
_SPEAKERS = {role: speaker for speaker, role in _ROLES.items()}
_KEYS = Keys(
    turns="conversations",
    item=frozenset({"id", "image", "video", "conversations", KEY}),
    turn=frozenset({"from", "value"}),
)


def read(
    path: Path, *, image_position: ImagePosition = "keep", duplicate_ids: Duplicates = "error"
) -> Iterator[Conversation]:
    """The conversations of a LLaVA JSON file (JSON lines work too).

    Args:
        image_position: `keep` leaves every `<image>` where it stands. `first` does what LLaVA's training code does
            (`preprocess_multimodal`): in each turn that has marks they become one, before the text, and white space
            at the ends of the turn goes.
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: an item that is not as described, with its place and id.
    """

    def one(item: dict[str, Any], name: str, where: str) -> Conversation:
        return from_item(item, name, where, image_position)

    return read_each(path, "conversations", one, duplicate_ids)


def each(path: Path) -> Iterator[Each]:
    """The items of a file, each by itself (`mminstruct.formats.items.each_item`)."""
    return each_item(path, "conversations", from_item)


def write(conversations: Iterable[Conversation], path: Path) -> int:
    """A LLaVA JSON file. Returns the number of conversations.

    Raises:
        DataError: a record that the format cannot hold: a video, a tool's turn, a text that holds `<image>`.
    """
    return write_list(path, ((repr(c.id), to_item(c)) for c in unique(conversations, path)))


def from_item(
    item: dict[str, Any], name: str, where: str, image_position: ImagePosition = "keep", keys: Keys = _KEYS
) -> Conversation:
    """The conversation of one LLaVA item. Raises `DataError` where it is not one.

    Args:
        keys: of a format that is this one with keys of its own.
    """
    where = f"{where} (id {name!r})"
    if item.get("video") is not None:
        raise DataError(f"{where} has a video; videos in LLaVA files are not read yet, drop the item")
    turns = item.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; 'conversations' must be a list with at least one")
    paths = paths_of(item.get("image"), where)
    messages, marks = said(turns, where, image_position)
    require_all_placed(marks, paths, where)
    return unpack(item, name, messages, paths, keys, where)


def said(turns: list[Any], where: str, image_position: ImagePosition = "keep") -> tuple[list[Message], int]:
    """The messages of a list of turns, their images numbered in reading order, and how many marks there are."""
    messages: list[Message] = []
    marks = 0
    for number, turn in enumerate(turns):
        role, value = _turn(turn, f"{where}, turn {number}")
        if image_position == "first" and MARK in value:
            value = f"{MARK}\n{value.replace(MARK, '').strip()}".strip()
        messages.append(Message(role=role, content=unmarked(value, marks)))
        marks += value.count(MARK)
    return messages, marks


def require_all_placed(marks: int, paths: list[str], where: str) -> None:
    """Raises `PlacesError` unless there is a mark for each path."""
    if marks != len(paths):
        raise PlacesError(
            f"{where} has {marks} {MARK} mark{'s' * (marks != 1)} and {len(paths)} image{'s' * (len(paths) != 1)}; "
            f"each image needs its mark"
        )


def paths_of(value: Any, where: str) -> list[str]:
    """The paths that stand under `image`. Raises `DataError` where they are none."""
    paths = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        raise DataError(f"{where} has an 'image' that is neither a path nor a list of paths; leave it out for none")
    return paths


def _turn(turn: Any, where: str) -> tuple[Role, str]:
    if not isinstance(turn, dict):
        raise DataError(f"{where} is a {type(turn).__name__}; a turn is an object with 'from' and 'value'")
    speaker, value = turn.get("from"), turn.get("value")
    if not isinstance(speaker, str) or not isinstance(value, str):
        raise DataError(f"{where} needs a text under both 'from' and 'value'")
    if speaker not in _ROLES:
        raise RoleError(f"{where} is from {speaker!r}.{did_you_mean(speaker, _ROLES)}")
    return _ROLES[speaker], value


def to_item(conversation: Conversation, keys: Keys = _KEYS) -> dict[str, Any]:
    """The LLaVA item of one conversation. Raises `DataError` where the format cannot hold it."""
    where = f"conversation {conversation.id!r}"
    order = places(conversation, where, "llava")
    more, more_of_turns = pack(conversation, order, keys)
    turns = []
    for number, (message, further) in enumerate(zip(conversation.messages, more_of_turns, strict=True)):
        if message.role not in _SPEAKERS:
            raise DataError(
                f"{where}, turn {number} is of the role {message.role!r}, which the LLaVA format has no name for; "
                f"write another format (messages, native)"
            )
        value = marked(message, f"{where}, turn {number}")
        turns.append({"from": _SPEAKERS[message.role], "value": value} | further)
    paths = [conversation.media[index].path for index in order]
    image = {} if not paths else {"image": paths[0] if len(paths) == 1 else paths}
    return {"id": conversation.id} | image | {"conversations": turns} | more


def marked(message: Message, where: str) -> str:
    """A message's text with `<image>` at each place of an image. Raises `DataError` where a text holds the mark."""
    value = "".join(part.text if isinstance(part, TextPart) else MARK for part in message.content)
    if value.count(MARK) != sum(isinstance(part, ImagePart) for part in message.content):
        raise DataError(
            f"{where} has the text {MARK!r} where no image stands, which in the format would be the place of "
            f"one; change the text or write another format (messages, native)"
        )
    return value


def unmarked(value: str, first: int) -> list[Part]:
    """The parts of a text with marks, whose images are numbered from `first` on; the inverse of `marked`."""
    content: list[Part] = []
    for index, chunk in enumerate(value.split(MARK)):
        if index > 0:
            content.append(ImagePart(index=first + index - 1))
        if chunk:
            content.append(TextPart(text=chunk))
    return content
