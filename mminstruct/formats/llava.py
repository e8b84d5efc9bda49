"""LLaVA JSON: a list of items with `id`, `image` or `video` (a path or a list of paths) and `conversations`.

    {"id": "1", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\\nWhat is this?"}, ...]}
    {"id": "2", "video": "b.mp4", "conversations": [{"from": "human", "value": "<video>\\nWhat happens?"}, ...]}

Each `<image>` in a value is the place of the next image, and in an item with a `video` each `<video>` is that of the
next video; the text around them is kept to the letter. LLaVA-Video marks the video of an item without images as
`<image>`, which is read as well. Without a video `<video>` is text: it is a word of HTML, and chats about that are in
many sets. A record's task is `task_name`, as Vision-Flan has it.

Two neighbouring text parts of a record become one, and an empty one vanishes, since a value cannot tell them apart;
everything else comes back as it was (`mminstruct.formats.rest` holds what LLaVA has no key for).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from mminstruct.conversation import Conversation, ImagePart, Message, Part, Role, TextPart, VideoPart
from mminstruct.errors import DataError, PlacesError, RoleError, did_you_mean
from mminstruct.formats.items import Duplicates, Each, each_item, read_each, unique, write_list
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

MARK, VIDEO_MARK = "<image>", "<video>"
ImagePosition = Literal["keep", "first"]
Marks = Mapping[str, type[ImagePart] | type[VideoPart]]
"""What each mark is the place of."""

IMAGES: Marks = MappingProxyType({MARK: ImagePart})
_BOTH: Marks = MappingProxyType({MARK: ImagePart, VIDEO_MARK: VideoPart})
_VIDEOS: Marks = MappingProxyType({MARK: VideoPart})  # as LLaVA-Video has them
_KINDS: Mapping[type[ImagePart] | type[VideoPart], str] = MappingProxyType({ImagePart: "image", VideoPart: "video"})

_ROLES: dict[str, Role] = {"system": "system", "human": "user", "gpt": "assistant"}
_SPEAKERS = {role: speaker for speaker, role in _ROLES.items()}
_KEYS = Keys(
    turns="conversations",
    item=frozenset({"id", "image", "video", "conversations", "task_name", KEY}),
    turn=frozenset({"from", "value"}),
)


def read(
    path: Path, *, image_position: ImagePosition = "keep", duplicate_ids: Duplicates = "error"
) -> Iterator[Conversation]:
    """The conversations of a LLaVA JSON file (JSON lines work too).

    Args:
        image_position: `keep` leaves every mark where it stands. `first` does what LLaVA's training code does
            (`preprocess_multimodal`): in each turn that has marks they become one of each kind, before the text, and
            white space at the ends of the turn goes.
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
        DataError: a record that the format cannot hold: a tool's turn, a text that holds a mark.
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
    turns = item.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; 'conversations' must be a list with at least one")
    messages, paths = shown(item, turns, where, image_position)
    item = _task_read(item, where) if "task_name" in keys.item else item
    return unpack(item, name, messages, paths, keys, where)


def shown(
    item: dict[str, Any], turns: list[Any], where: str, image_position: ImagePosition = "keep"
) -> tuple[list[Message], list[str]]:
    """(messages of an item's turns, path of each place of its images and videos). Raises `DataError`."""
    images, videos = paths_of(item.get("image"), where), paths_of(item.get("video"), where, "video")
    marks = _marks(turns, images) if videos else IMAGES
    messages = _said(turns, where, image_position, marks)
    return messages, _placed(messages, images, videos, where, marks)


def _task_read(item: dict[str, Any], where: str) -> dict[str, Any]:
    """The item with its `task_name` where `unpack` looks for a record's task."""
    name, rest = item.get("task_name"), item.get(KEY) or {}
    if name is None or not isinstance(rest, dict):
        return item
    if not isinstance(name, str):
        raise DataError(f"{where} has a 'task_name' that is a {type(name).__name__}; it is a text, mend or remove it")
    if "task" in rest:
        raise DataError(f"{where} has a task under both 'task_name' and {KEY!r}; remove one")
    return item | {KEY: rest | {"task": name}}


def _task_written(more: dict[str, Any]) -> dict[str, Any]:
    """The keys of `pack` with the record's task as `task_name`."""
    rest = dict(more.get(KEY, {}))
    if "task" not in rest:
        return more
    named = {"task_name": rest.pop("task")} | {key: value for key, value in more.items() if key != KEY}
    return named | ({KEY: rest} if rest else {})


def _marks(turns: list[Any], images: list[str]) -> Marks:
    """Those of an item with videos."""
    values = [turn.get("value") for turn in turns if isinstance(turn, dict)]
    named = any(isinstance(value, str) and VIDEO_MARK in value for value in values)
    return _BOTH if images or named else _VIDEOS


def _said(turns: list[Any], where: str, image_position: ImagePosition, marks: Marks) -> list[Message]:
    """The messages of a list of turns, their images and videos numbered in reading order."""
    messages: list[Message] = []
    count = 0
    for number, turn in enumerate(turns):
        role, value = _turn(turn, f"{where}, turn {number}")
        for mark in marks if image_position == "first" else ():
            if mark in value:
                value = f"{mark}\n{value.replace(mark, '').strip()}".strip()
        content = unmarked(value, count, marks)
        count += sum(not isinstance(part, TextPart) for part in content)
        messages.append(Message(role=role, content=content))
    return messages


def _placed(
    messages: Iterable[Message], images: Sequence[str], videos: Sequence[str], where: str, marks: Marks
) -> list[str]:
    """The path of each place, in reading order. Raises `PlacesError` unless there is a place for each path."""
    parts = [part for message in messages for part in message.content if not isinstance(part, TextPart)]
    left = {ImagePart: iter(images), VideoPart: iter(videos)}
    for mark, kind in marks.items():
        name, paths = _KINDS[kind], images if kind is ImagePart else videos
        count = sum(isinstance(part, kind) for part in parts)
        if count != len(paths):
            raise PlacesError(
                f"{where} has {count} {mark} mark{'s' * (count != 1)} and {len(paths)} {name}"
                f"{'s' * (len(paths) != 1)}; each {name} needs its mark"
            )
    return [next(left[type(part)]) for part in parts]


def paths_of(value: Any, where: str, key: str = "image") -> list[str]:
    """The paths that stand under a key. Raises `DataError` where they are none."""
    paths = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        article = "an" if key == "image" else "a"
        raise DataError(
            f"{where} has {article} {key!r} that is neither a path nor a list of paths; leave it out for none"
        )
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
    order = places(conversation, where, "llava", videos=True)
    more, more_of_turns = pack(conversation, order, keys)
    marks = _BOTH if any(one.kind == "video" for one in conversation.media) else IMAGES
    turns = []
    for number, (message, further) in enumerate(zip(conversation.messages, more_of_turns, strict=True)):
        if message.role not in _SPEAKERS:
            raise DataError(
                f"{where}, turn {number} is of the role {message.role!r}, which the LLaVA format has no name for; "
                f"write another format (messages, native)"
            )
        value = marked(message, f"{where}, turn {number}", marks)
        turns.append({"from": _SPEAKERS[message.role], "value": value} | further)
    media = [conversation.media[index] for index in order]
    named: dict[str, str | list[str]] = {}
    for kind in _KINDS.values():
        paths = [one.path for one in media if one.kind == kind]
        named |= {} if not paths else {kind: paths[0] if len(paths) == 1 else paths}
    more = _task_written(more) if "task_name" in keys.item else more
    return {"id": conversation.id} | named | {"conversations": turns} | more


def marked(message: Message, where: str, marks: Marks = IMAGES) -> str:
    """A message's text with a mark at each place. Raises `DataError` where a text holds one."""
    names = {kind: mark for mark, kind in marks.items()}
    own = [None if isinstance(part, TextPart) else names[type(part)] for part in message.content]
    value = "".join(
        part.text if isinstance(part, TextPart) else str(mark) for part, mark in zip(message.content, own, strict=True)
    )
    found = re.findall("|".join(marks), value)
    if found != [mark for mark in own if mark is not None]:
        stray = next(mark for mark in marks if found.count(mark) != own.count(mark))
        name = _KINDS[marks[stray]]
        raise DataError(
            f"{where} has the text {stray!r} where no {name} stands, which in the format would be the place of "
            f"one; change the text or write another format (messages, native)"
        )
    return value


def unmarked(value: str, first: int, marks: Marks = IMAGES) -> list[Part]:
    """The parts of a text with marks, whose media are numbered from `first` on; the inverse of `marked`."""
    content: list[Part] = []
    for chunk in re.split(f"({'|'.join(marks)})", value):
        if chunk in marks:
            content.append(marks[chunk](index=first))
            first += 1
        elif chunk:
            content.append(TextPart(text=chunk))
    return content
