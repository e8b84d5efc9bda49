"""TextBind JSON: interleaved dialogues, each turn with a list of the images whose `<image>` marks stand in its content.

    [{"conversation": [{"role": "user", "content": "What is this? <image>", "image_list": ["1.png"],
                        "caption_list": ["a dog in snow"], "url_list": [""]},
                       {"role": "assistant", "content": "...", "image_list": [], ...}],
      "image_dir": "images"}]

Images stand in any turn, the assistant's too, and as many as one likes; the assistant's captions are what a model
learns to write for an image generator. Captions and addresses are a record's `extra["conversation"]`, one mapping a
turn. The lists of a turn without images are written empty and not read. Paths are `image_dir` and a name: writing names
the deepest folder that all pictures share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mminstruct.conversation import Conversation, ImagePart, Message, Role
from mminstruct.errors import DataError, did_you_mean
from mminstruct.formats.items import Duplicates, read_each, unique, write_list
from mminstruct.formats.llava import MARK, marked, unmarked
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_KEYS = Keys(
    turns="conversation",
    item=frozenset({"id", "conversation", "image_dir", KEY}),
    turn=frozenset({"role", "content", "image_list"}),
)
_LISTS = ("caption_list", "url_list")  # of as many entries as a turn has images


def read(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of a TextBind file (JSON lines work too).

    Args:
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: an item that is not as described, with its place and id.
    """
    return read_each(path, "conversation", from_item, duplicate_ids)


def write(conversations: Iterable[Conversation], path: Path) -> int:
    """A TextBind JSON file. Returns the number of conversations.

    Raises:
        DataError: a record that the format cannot hold: a video, a tool's turn, a text that holds `<image>`.
    """
    return write_list(path, ((repr(c.id), to_item(c)) for c in unique(conversations, path)))


def from_item(item: dict[str, Any], name: str, where: str) -> Conversation:
    """The conversation of one item. Raises `DataError` where it is not one."""
    where = f"{where} (id {name!r})"
    turns = item.get("conversation")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; 'conversation' must be a list with at least one")
    folder = item.get("image_dir") or ""
    if not isinstance(folder, str):
        raise DataError(f"{where} has an 'image_dir' that is a {type(folder).__name__}; it is the folder of the images")
    paths: list[str] = []
    messages: list[Message] = []
    kept: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        here = f"{where}, turn {number}"
        role, content, names = _turn(turn, here)
        messages.append(Message(role=role, content=unmarked(content, len(paths))))
        paths += [_joined(folder, name) for name in names]
        kept.append({key: value for key, value in turn.items() if key not in _LISTS or value or names})
    return unpack(item | {"conversation": kept}, name, messages, paths, _KEYS, where)


def _turn(turn: Any, where: str) -> tuple[Role, str, list[str]]:
    if not isinstance(turn, dict):
        raise DataError(f"{where} is a {type(turn).__name__}; a turn is an object with 'role' and 'content'")
    role, content, names = turn.get("role"), turn.get("content"), turn.get("image_list") or []
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{where} has the role {role!r}.{did_you_mean(str(role), _ROLES)}")
    if not isinstance(content, str):
        raise DataError(f"{where} has a content that is a {type(content).__name__}; it is a text")
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{where} has an 'image_list' that is no list of file names")
    if content.count(MARK) != len(names):
        raise DataError(
            f"{where} has {content.count(MARK)} {MARK} mark{'s' * (content.count(MARK) != 1)} and {len(names)} "
            f"image{'s' * (len(names) != 1)} in 'image_list'; each image needs its mark"
        )
    for key in _LISTS:
        given = turn.get(key)
        if given and (not isinstance(given, list) or len(given) != len(names)):
            raise DataError(f"{where} needs a list of {len(names)} as {key!r}, one for each image")
    return _ROLES[role], content, names


def _joined(folder: str, name: str) -> str:
    if not folder or name.startswith(("/", "data:")):
        return name
    return f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"


def to_item(conversation: Conversation) -> dict[str, Any]:
    """The item of one conversation. Raises `DataError` where the format cannot hold it."""
    where = f"conversation {conversation.id!r}"
    order = places(conversation, where, "textbind")
    more, more_of_turns = pack(conversation, order, _KEYS)
    folder = _shared([conversation.media[index].path for index in order])
    turns = []
    for number, (message, further) in enumerate(zip(conversation.messages, more_of_turns, strict=True)):
        here = f"{where}, turn {number}"
        if message.role not in _ROLES:
            raise DataError(
                f"{here} is of the role {message.role!r}, which the TextBind format has no name for; "
                f"write another format (messages, native)"
            )
        content = marked(message, here)
        media = [conversation.media[part.index] for part in message.content if isinstance(part, ImagePart)]
        names = [one.path[len(folder) + 1 :] if folder else one.path for one in media]
        empty: dict[str, Any] = {} if names else {key: [] for key in _LISTS}
        turns.append({"role": message.role, "content": content, "image_list": names} | empty | further)
    return {"id": conversation.id, "conversation": turns, "image_dir": folder} | more


def _shared(paths: Sequence[str]) -> str:
    """The deepest folder that all paths lie in, "" where there is none; a `data:` URI lies in none."""
    if not paths or any(path.startswith("data:") for path in paths):
        return ""
    folders = [path.split("/")[:-1] for path in paths]
    shared: list[str] = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    folder = "/".join(shared)
    # Joined again each path must be what it was: what is left of `a//b` or of `a/data:b` would not be.
    return folder if all(_joined(folder, path[len(folder) + 1 :]) == path for path in paths) else ""
