"""Messages as Hugging Face chat templates and the OpenAI API have them, as JSON lines or a JSON list.

    {"id": "1", "messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"},
                                                          {"type": "text", "text": "What is this?"}]}, ...]}

Read are: content as a text or as parts; images as `{"type": "image"}` with the path under `image`, `path` or `url`, or
bare with the paths in order in the item's `images`; and OpenAI's `{"type": "image_url", "image_url": {"url": ...}}`.
Paths and `data:` URIs are kept as they are. What is written is one style throughout: `hf` (parts, inline `image`) or
`openai` (`image_url`, plain text where a message is nothing else). Every field of a record comes back as it was
(`mminstruct.formats.rest` holds what messages have no key for); of OpenAI's image parts, `detail` is a setting of the
request and is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from mminstruct.conversation import Conversation, ImagePart, Message, Part, Role, TextPart
from mminstruct.errors import ConfigError, DataError, did_you_mean
from mminstruct.formats.items import Duplicates, read_each, unique, write_lines, write_list
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

Style = Literal["hf", "openai"]

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_KEYS = Keys(
    turns="messages",
    item=frozenset({"id", "messages", "images", "videos", KEY}),
    turn=frozenset({"role", "content"}),
)
_PATH_KEYS = ("image", "path", "url")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def read(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of a messages file.

    Args:
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: an item that is not as described, with its place and id.
    """
    return read_each(path, "messages", from_item, duplicate_ids)


def write(conversations: Iterable[Conversation], path: Path, *, style: Style = "hf") -> int:
    """A messages file: JSON lines for `.jsonl`, a JSON list for `.json`. Returns the number of conversations.

    Raises:
        ConfigError: another file ending.
        DataError: a record with a video.
    """
    writers = {".jsonl": write_lines, ".json": write_list}
    if path.suffix not in writers:
        raise ConfigError(f"{path}: a messages file ends in .jsonl (JSON lines) or .json (a list); rename it")
    return writers[path.suffix](path, ((repr(c.id), to_item(c, style)) for c in unique(conversations, path)))


def from_item(item: dict[str, Any], name: str, where: str) -> Conversation:
    """The conversation of one item. Raises `DataError` where it is not one."""
    where = f"{where} (id {name!r})"
    if item.get("videos"):
        raise DataError(f"{where} has videos; videos in messages files are not read yet, drop the item")
    turns = item.get("messages")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; 'messages' must be a list with at least one")
    given = item.get("images") or []
    if not isinstance(given, list):
        raise DataError(f"{where} has 'images' that is a {type(given).__name__}; it is a list of paths")
    images = [_path(value, where) for value in given]
    bare = 0
    paths: list[str] = []
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        here = f"{where}, turn {number}"
        role, parts = _turn(turn, here)
        content: list[Part] = []
        for part in parts:
            if part["type"] == "text":
                content.append(TextPart(text=part["text"]))
                continue
            content.append(ImagePart(index=len(paths)))
            inline = _inline(part, here)
            if inline is None:
                # Beyond the list the count is wrong; it is told once all places are counted.
                inline = images[bare] if bare < len(images) else ""
                bare += 1
            paths.append(inline)
        messages.append(Message(role=role, content=content))
    if bare != len(images):
        raise DataError(
            f'{where} has {bare} bare {{"type": "image"}} place{"s" * (bare != 1)} and {len(images)} '
            f"path{'s' * (len(images) != 1)} in 'images'; each path needs its place (marks within a text are text)"
        )
    return unpack(item, name, messages, paths, _KEYS, where)


def _turn(turn: Any, where: str) -> tuple[Role, list[dict[str, Any]]]:
    """The role and the parts of a turn, each part with a valid type."""
    if not isinstance(turn, dict):
        raise DataError(f"{where} is a {type(turn).__name__}; a turn is an object with 'role' and 'content'")
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{where} has the role {role!r}.{did_you_mean(str(role), _ROLES)}")
    if isinstance(content, str):
        return _ROLES[role], [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise DataError(f"{where} has a content that is a {type(content).__name__}; it is a text or a list of parts")
    return _ROLES[role], [_part(part, where) for part in content]


def _part(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} has a part that is a {type(value).__name__}; a part is an object with 'type'")
    # Tables (Arrow, Parquet) give every part the keys of all parts, empty where they do not belong.
    part = {key: entry for key, entry in value.items() if entry is not None}
    kind = part.get("type")
    allowed = {"text": {"text"}, "image": set(_PATH_KEYS), "image_url": {"image_url"}}
    if kind not in allowed:
        raise DataError(
            f"{where} has a part of the type {kind!r}; the types text, image and image_url are read, "
            f"drop the item or convert the part"
        )
    unknown = sorted(part.keys() - allowed[kind] - {"type"})
    if unknown:
        raise DataError(f"{where} has a part of the type {kind!r} with the unknown key {unknown[0]!r}; remove the key")
    if kind == "text" and not isinstance(part.get("text"), str):
        raise DataError(f"{where} has a part of the type 'text' without a text; put it under 'text'")
    return part


def _inline(part: dict[str, Any], where: str) -> str | None:
    """The path that an image part names itself, or None for a bare place."""
    if part["type"] == "image_url":
        value = part.get("image_url")
        return _path(value.get("url") if isinstance(value, dict) else value, where)
    named = [key for key in _PATH_KEYS if key in part]
    if len(named) > 1:
        raise DataError(f"{where} has an image with both {named[0]!r} and {named[1]!r}; keep one")
    return _path(part[named[0]], where) if named else None


def _path(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{where} has an image that is a {type(value).__name__}; give its path or data: URI as a text")
    if _REMOTE.match(value):
        raise DataError(
            f"{where} has an image at {value.partition('://')[0]}://, and nothing is fetched from a network here; "
            f"download it and give its path"
        )
    return value


def to_item(conversation: Conversation, style: Style = "hf") -> dict[str, Any]:
    """The messages item of one conversation. Raises `DataError` where the format cannot hold it."""
    order = places(conversation, f"conversation {conversation.id!r}", "messages")
    more, more_of_turns = pack(conversation, order, _KEYS)
    turns = [
        {"role": message.role, "content": _content(message, conversation, style)} | further
        for message, further in zip(conversation.messages, more_of_turns, strict=True)
    ]
    return {"id": conversation.id, "messages": turns} | more


def _content(message: Message, conversation: Conversation, style: Style) -> str | list[dict[str, Any]]:
    first = message.content[0] if len(message.content) == 1 else None
    if style == "openai" and isinstance(first, TextPart):
        return first.text
    content: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
            continue
        path = _path(conversation.media[part.index].path, f"conversation {conversation.id!r}")
        if style == "openai":
            content.append({"type": "image_url", "image_url": {"url": path}})
        else:
            content.append({"type": "image", "image": path})
    return content
