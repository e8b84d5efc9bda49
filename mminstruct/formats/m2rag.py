"""The two files that M2RAG publishes its instruction data in: MiniCPM-V's and LLaMA-Factory's, marks within the text.

    minicpmv       {"id": "1", "image": {"<image_00>": "a.png", "<image_01>": "b.png"},
                    "conversations": [{"role": "user", "content": "<image_00>\\n<image_01>\\nWhich?"}, ...]}
    llamafactory   {"id": "1", "messages": [{"role": "user", "content": "<image>\\n<image>\\nWhich?"}, ...],
                    "images": ["a.png", "b.png"]}

MiniCPM-V has a name for each of several images, and for a single one the path itself and the mark `<image>`; in
LLaMA-Factory each `<image>` is the place of the next path, and in an item with `videos` each `<video>` likewise. Two
neighbouring text parts of a record become one, and an empty one vanishes; everything else comes back as it was
(`mminstruct.formats.rest`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mminstruct.conversation import Conversation, ImagePart, Message, Part, Role, TextPart, VideoPart
from mminstruct.errors import DataError, did_you_mean
from mminstruct.formats.items import Duplicates, read_each, unique, write_lines, write_list
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

MARK, VIDEO_MARK = "<image>", "<video>"
_LISTED = {MARK: ("image", "images"), VIDEO_MARK: ("video", "videos")}  # LLaMA-Factory's: kind and key of each mark
_NUMBERED = re.compile(r"<image_\d+>")
_ANY_MARK = re.compile(r"<image(?:_\d+)?>")
_MINICPMV_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant"}
_LLAMAFACTORY_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_MINICPMV = Keys(
    turns="conversations", item=frozenset({"id", "image", "conversations", KEY}), turn=frozenset({"role", "content"})
)
_LLAMAFACTORY = Keys(
    turns="messages", item=frozenset({"id", "messages", "images", "videos", KEY}), turn=frozenset({"role", "content"})
)


def is_minicpmv(item: dict[str, Any]) -> bool:
    """Whether an item with `conversations` is MiniCPM-V's; LLaVA's turns have `from` and `value`."""
    turns = item.get("conversations")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and turns[0].keys() >= {"role"}


def has_parts(item: dict[str, Any]) -> bool:
    """Whether an item with `messages` has contents that are lists of parts, as LLaMA-Factory's never are."""
    turns = item.get("messages")
    return isinstance(turns, list) and any(
        isinstance(one, dict) and isinstance(one.get("content"), list) for one in turns
    )


def is_llamafactory(item: dict[str, Any]) -> bool:
    """Whether an item with `messages` is LLaMA-Factory's: it has media and no parts that could be their places."""
    return bool(item.get("images") or item.get("videos")) and not has_parts(item)


def read_minicpmv(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of a MiniCPM-V file. Raises `DataError` with the place of an item that is not as described."""
    return read_each(path, "conversations", _from_minicpmv, duplicate_ids)


def read_llamafactory(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of a LLaMA-Factory file of messages. Raises `DataError` with the place of a broken item."""
    return read_each(path, "messages", _from_llamafactory, duplicate_ids)


def write_minicpmv(conversations: Iterable[Conversation], path: Path) -> int:
    """A MiniCPM-V file: JSON lines for `.jsonl`, otherwise a list. Returns the number of conversations.

    Raises:
        DataError: a record that the format cannot hold: a video, a system's or a tool's turn, a mark as text.
    """
    return _write(path, ((repr(c.id), _to_minicpmv(c)) for c in unique(conversations, path)))


def write_llamafactory(conversations: Iterable[Conversation], path: Path) -> int:
    """A LLaMA-Factory file of messages: JSON lines for `.jsonl`, otherwise a list. Returns the number of conversations.

    Raises:
        DataError: a record that the format cannot hold: a tool's turn, a mark as text.
    """
    return _write(path, ((repr(c.id), _to_llamafactory(c)) for c in unique(conversations, path)))


def _write(path: Path, items: Iterable[tuple[str, Any]]) -> int:
    return write_lines(path, items) if path.suffix == ".jsonl" else write_list(path, items)


def _from_minicpmv(item: dict[str, Any], name: str, where: str) -> Conversation:
    where = f"{where} (id {name!r})"
    image = item.get("image")
    named = {MARK: image} if isinstance(image, str) else {} if image is None else image
    if not isinstance(named, dict) or not all(isinstance(path, str) and path for path in named.values()):
        raise DataError(f"{where} has an 'image' that is neither a path nor an object of marks and paths")
    wrong = next((mark for mark in named if not isinstance(image, str) and not _NUMBERED.fullmatch(mark)), None)
    if wrong is not None:
        raise DataError(f"{where} calls an image {wrong!r}; the names are <image_00>, <image_01>, ...")
    messages, marks = _messages(item, "conversations", _MINICPMV_ROLES, _ANY_MARK, where)
    unknown = next((mark for mark in marks if mark not in named), None)
    if unknown is not None:
        raise DataError(f"{where} places {unknown}, which 'image' does not name; each mark needs its path")
    unused = next((mark for mark in named if mark not in marks), None)
    if unused is not None:
        raise DataError(f"{where} has the image {unused}, which stands nowhere in the text; each image needs its mark")
    return unpack(item, name, messages, [named[mark] for mark in marks], _MINICPMV, where)


def _from_llamafactory(item: dict[str, Any], name: str, where: str) -> Conversation:
    where = f"{where} (id {name!r})"
    listed: dict[str, list[str]] = {}
    for mark, (kind, key) in _LISTED.items():
        paths = item.get(key) or []
        if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
            raise DataError(f"{where} has {key!r} that are no list of paths; leave the key out for none")
        if kind == "image" or paths:  # without a video its mark is a word of HTML
            listed[mark] = paths
    messages, marks = _messages(item, "messages", _LLAMAFACTORY_ROLES, re.compile("|".join(listed)), where)
    for mark, paths in listed.items():
        if marks.count(mark) != len(paths):
            kind, count = _LISTED[mark][0], marks.count(mark)
            raise DataError(
                f"{where} has {count} {mark} mark{'s' * (count != 1)} and {len(paths)} "
                f"{kind}{'s' * (len(paths) != 1)}; each {kind} needs its mark"
            )
    left = {mark: iter(paths) for mark, paths in listed.items()}
    return unpack(item, name, messages, [next(left[mark]) for mark in marks], _LLAMAFACTORY, where)


def _messages(
    item: dict[str, Any], key: str, roles: dict[str, Role], mark: re.Pattern[str], where: str
) -> tuple[list[Message], list[str]]:
    """The messages, places of media numbered in reading order, and the mark of each place."""
    turns = item.get(key)
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; {key!r} must be a list with at least one")
    messages: list[Message] = []
    marks: list[str] = []
    for number, turn in enumerate(turns):
        here = f"{where}, turn {number}"
        if not isinstance(turn, dict):
            raise DataError(f"{here} is a {type(turn).__name__}; a turn is an object with 'role' and 'content'")
        role, value = turn.get("role"), turn.get("content")
        if not isinstance(role, str) or not isinstance(value, str):
            raise DataError(f"{here} needs a text under both 'role' and 'content'")
        if role not in roles:
            raise DataError(f"{here} has the role {role!r}.{did_you_mean(role, roles)}")
        content: list[Part] = []
        end = 0
        for found in mark.finditer(value):
            content += [TextPart(text=value[end : found.start()])] if found.start() > end else []
            place = VideoPart if found[0] == VIDEO_MARK else ImagePart
            content.append(place(index=len(marks)))
            marks.append(found[0])
            end = found.end()
        content += [TextPart(text=value[end:])] if value[end:] else []
        messages.append(Message(role=roles[role], content=content))
    return messages, marks


def _to_minicpmv(conversation: Conversation) -> dict[str, Any]:
    order = places(conversation, f"conversation {conversation.id!r}", "minicpmv")
    paths = [conversation.media[index].path for index in order]
    marks = [MARK] if len(order) == 1 else [f"<image_{number:02}>" for number in range(len(order))]
    more, more_of_turns = pack(conversation, order, _MINICPMV)
    turns = _turns(conversation, more_of_turns, marks, _MINICPMV_ROLES, _ANY_MARK, "minicpmv")
    image = paths[0] if len(paths) == 1 else dict(zip(marks, paths, strict=True))
    return {"id": conversation.id, "image": image, "conversations": turns} | more


def _to_llamafactory(conversation: Conversation) -> dict[str, Any]:
    order = places(conversation, f"conversation {conversation.id!r}", "llamafactory", videos=True)
    media = [conversation.media[index] for index in order]
    more, more_of_turns = pack(conversation, order, _LLAMAFACTORY)
    marks = [MARK if one.kind == "image" else VIDEO_MARK for one in media]
    known = re.compile(f"{MARK}|{VIDEO_MARK}" if VIDEO_MARK in marks else MARK)
    turns = _turns(conversation, more_of_turns, marks, _LLAMAFACTORY_ROLES, known, "llamafactory")
    images, videos = ([one.path for one in media if one.kind == kind] for kind, _ in _LISTED.values())
    named = {"images": images} | ({"videos": videos} if videos else {})
    return {"id": conversation.id, "messages": turns} | named | more


def _turns(
    conversation: Conversation,
    further: list[dict[str, Any]],
    marks: list[str],
    roles: dict[str, Role],
    mark: re.Pattern[str],
    format_name: str,
) -> list[dict[str, Any]]:
    names = {role: name for name, role in roles.items()}
    left = iter(marks)
    turns = []
    for number, (message, more) in enumerate(zip(conversation.messages, further, strict=True)):
        where = f"conversation {conversation.id!r}, turn {number}"
        if message.role not in names:
            raise DataError(
                f"{where} is of the role {message.role!r}, which the format {format_name} has no name for; "
                f"write another format (messages, native)"
            )
        own = [None if isinstance(part, TextPart) else next(left) for part in message.content]
        content = "".join(
            part.text if isinstance(part, TextPart) else str(name)
            for part, name in zip(message.content, own, strict=True)
        )
        if mark.findall(content) != [name for name in own if name is not None]:
            raise DataError(
                f"{where} has a text that reads as the place of an image ({mark.pattern!r}) where none stands; "
                f"change the text or write another format (messages, native)"
            )
        turns.append({"role": names[message.role], "content": content} | more)
    return turns
