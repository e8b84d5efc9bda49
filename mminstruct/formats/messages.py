"""Messages as Hugging Face chat templates and the OpenAI API have them, as JSON lines or a JSON list.

    {"id": "1", "messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"},
                                                          {"type": "text", "text": "What is this?"}]}, ...]}

Read are: content as a text or as parts; images as `{"type": "image"}` with the path under `image`, `path` or `url`, or
bare with the paths in order in the item's `images`; and OpenAI's `{"type": "image_url", "image_url": {"url": ...}}`.
Videos likewise, with `video` for `image` throughout; the API has no videos, but servers such as vLLM take `video_url`.
Paths and `data:` URIs are kept as they are. What is written is one style throughout: `hf` (parts, inline `image`) or
`openai` (`image_url`, plain text where a message is nothing else). Every field of a record comes back as it was
(`mminstruct.formats.rest` holds what messages have no key for); of OpenAI's image parts, `detail` is a setting of the
request and is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mminstruct.conversation import Conversation, ImagePart, Message, Part, Role, TextPart, VideoPart
from mminstruct.errors import ConfigError, DataError, PlacesError, RoleError, did_you_mean
from mminstruct.formats.items import Duplicates, Each, each_item, read_each, unique, write_lines, write_list
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

Style = Literal["hf", "openai"]

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_KEYS = Keys(
    turns="messages",
    item=frozenset({"id", "messages", "images", "videos", KEY}),
    turn=frozenset({"role", "content"}),
)
_KINDS = {"image": ImagePart, "video": VideoPart}
_PATH_KEYS = ("path", "url")  # and the kind itself
_A = {"image": "an image", "video": "a video"}
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def read(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of a messages file.

    Args:
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: an item that is not as described, with its place and id.
    """
    return read_each(path, "messages", from_item, duplicate_ids)


def each(path: Path) -> Iterator[Each]:
    """The items of a file, each by itself (`mminstruct.formats.items.each_item`)."""
    return each_item(path, "messages", from_item)


def write(conversations: Iterable[Conversation], path: Path, *, style: Style = "hf") -> int:
    """A messages file: JSON lines for `.jsonl`, a JSON list for `.json`. Returns the number of conversations.

    Raises:
        ConfigError: another file ending.
        DataError: a record whose media lie in a network.
    """
    writers = {".jsonl": write_lines, ".json": write_list}
    if path.suffix not in writers:
        raise ConfigError(f"{path}: a messages file ends in .jsonl (JSON lines) or .json (a list); rename it")
    return writers[path.suffix](path, ((repr(c.id), to_item(c, style)) for c in unique(conversations, path)))


def from_item(item: dict[str, Any], name: str, where: str) -> Conversation:
    """The conversation of one item. Raises `DataError` where it is not one."""
    where = f"{where} (id {name!r})"
    turns = item.get("messages")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; 'messages' must be a list with at least one")
    pictures = Pictures(_listed(item, "image", where), _listed(item, "video", where))
    messages = said(turns, pictures, where)
    pictures.require_all_placed(where)
    return unpack(item, name, messages, pictures.paths, _KEYS, where)


def _listed(item: dict[str, Any], kind: str, where: str) -> list[str]:
    """The paths beside the messages, which bare places take."""
    given = item.get(f"{kind}s") or []
    if not isinstance(given, list):
        raise DataError(f"{where} has '{kind}s' that is a {type(given).__name__}; it is a list of paths")
    return [path_of(value, where, kind) for value in given]


@dataclass
class Pictures:
    """The pictures and videos of an item while its turns are read.

    Attributes:
        images: the paths in `images`, which bare places take in order.
        videos: likewise.
        bare: how many bare places there were of each kind.
        paths: of all places so far, in reading order.
    """

    images: list[str]
    videos: list[str] = field(default_factory=list)
    bare: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0))
    paths: list[str] = field(default_factory=list)

    def place(self, kind: str, inline: str | None) -> ImagePart | VideoPart:
        """The place of the next picture or video, whose path stands there or is the list's next."""
        if inline is None:
            # Beyond the list the count is wrong; it is told once all places are counted.
            listed = self._listed(kind)
            inline = listed[self.bare[kind]] if self.bare[kind] < len(listed) else ""
            self.bare[kind] += 1
        self.paths.append(inline)
        return _KINDS[kind](index=len(self.paths) - 1)

    def _listed(self, kind: str) -> list[str]:
        return self.images if kind == "image" else self.videos

    def require_all_placed(self, where: str) -> None:
        """Raises `PlacesError` unless there were as many bare places as listed paths."""
        for kind, bare in self.bare.items():
            count = len(self._listed(kind))
            if bare != count:
                raise PlacesError(
                    f'{where} has {bare} bare {{"type": "{kind}"}} place{"s" * (bare != 1)} and {count} '
                    f"path{'s' * (count != 1)} in '{kind}s'; each path needs its place (marks within a text are text)"
                )


def said(turns: Iterable[Any], pictures: Pictures, where: str) -> list[Message]:
    """The messages of a list of turns. Raises `DataError` where one is none."""
    messages: list[Message] = []
    for number, turn in enumerate(turns):
        here = f"{where}, turn {number}"
        role, parts = _turn(turn, here)
        content: list[Part] = []
        for part in parts:
            if part["type"] == "text":
                content.append(TextPart(text=part["text"]))
            else:
                content.append(pictures.place(part["type"].removesuffix("_url"), _inline(part, here)))
        messages.append(Message(role=role, content=content))
    return messages


def _turn(turn: Any, where: str) -> tuple[Role, list[dict[str, Any]]]:
    """The role and the parts of a turn, each part with a valid type."""
    if not isinstance(turn, dict):
        raise DataError(f"{where} is a {type(turn).__name__}; a turn is an object with 'role' and 'content'")
    role, content = turn.get("role"), turn.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise RoleError(f"{where} has the role {role!r}.{did_you_mean(str(role), _ROLES)}")
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
    allowed = {"text": {"text"}}
    for medium in _KINDS:
        allowed |= {medium: {medium, *_PATH_KEYS}, f"{medium}_url": {f"{medium}_url"}}
    if kind not in allowed:
        raise DataError(
            f"{where} has a part of the type {kind!r}; the types {', '.join(allowed)} are read, "
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
    kind: str = part["type"]
    if kind.endswith("_url"):
        value = part.get(kind)
        return path_of(value.get("url") if isinstance(value, dict) else value, where, kind.removesuffix("_url"))
    named = [key for key in (kind, *_PATH_KEYS) if key in part]
    if len(named) > 1:
        raise DataError(f"{where} has {_A[kind]} with both {named[0]!r} and {named[1]!r}; keep one")
    return path_of(part[named[0]], where, kind) if named else None


def path_of(value: Any, where: str, kind: str = "image") -> str:
    """A path as it may stand for a medium. Raises `DataError` where it is none, or an address of a network."""
    if not isinstance(value, str) or not value:
        form = "path or data: URI" if kind == "image" else "path"
        raise DataError(f"{where} has {_A[kind]} that is a {type(value).__name__}; give its {form} as a text")
    if _REMOTE.match(value):
        raise DataError(
            f"{where} has {_A[kind]} at {value.partition('://')[0]}://, and nothing is fetched from a network here; "
            f"download it and give its path"
        )
    return value


def to_item(conversation: Conversation, style: Style = "hf") -> dict[str, Any]:
    """The messages item of one conversation. Raises `DataError` where the format cannot hold it."""
    order = places(conversation, f"conversation {conversation.id!r}", "messages", videos=True)
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
        path = path_of(conversation.media[part.index].path, f"conversation {conversation.id!r}", part.type)
        if style == "openai":
            content.append({"type": f"{part.type}_url", f"{part.type}_url": {"url": path}})
        else:
            content.append({"type": part.type, part.type: path})
    return content
