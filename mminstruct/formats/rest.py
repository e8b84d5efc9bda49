"""What a foreign format has no place for travels in one key, `mminstruct`, so that no field of a record is lost.

    Conversation ──pack──▶ paths in the order of their places, keys to add to the item
    paths, messages, item ──unpack──▶ Conversation

Foreign formats name one path for each place of an image or a video. A record may place one twice or out of order, and
knows hashes and sizes: that goes into the key as `media` and `places`. Keys of an item that no record has a field for
are kept in `Conversation.extra`, those of its turns in `extra` under the name of the list of turns, and both come back
as what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mminstruct.conversation import Conversation, Message, TextPart, VideoPart
from mminstruct.errors import DataError, did_you_mean
from mminstruct.formats.items import record

KEY = "mminstruct"
_FOREIGN = {"id", "messages", "media", "extra"}  # what formats and this module hold in keys of their own
# The keys that formats are told apart by. A record's own extra key of such a name must not make its file look like
# another format's.
_TELLING = {"conversations", "messages", "conversation", "unique_id"}
_FIELDS = set(Conversation.model_fields) - _FOREIGN


@dataclass(frozen=True)
class Keys:
    """The keys that a format itself uses: in an item, and in each of its turns, which stand under `turns`."""

    turns: str
    item: frozenset[str]
    turn: frozenset[str]


def places(conversation: Conversation, where: str, format_name: str, videos: bool = False) -> list[int]:
    """The media index of each place of an image, in reading order.

    Args:
        videos: whether the format has places of videos too; otherwise a video is a `DataError`.
    """
    found = []
    for message in conversation.messages:
        for part in message.content:
            if isinstance(part, TextPart):
                continue
            if isinstance(part, VideoPart) and not videos:
                raise DataError(f"{where} has a video, which the format {format_name} has no place for; use native")
            found.append(part.index)
    return found


def pack(conversation: Conversation, order: Sequence[int], keys: Keys) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(keys to add to the item, keys to add to each turn) that hold whatever the format does not.

    Raises:
        DataError: the conversation has no turns, which the foreign formats do not allow.
    """
    if not conversation.messages:
        raise DataError(f"conversation {conversation.id!r} has no turns; drop it, or write the format native")
    dump = conversation.model_dump(mode="json", exclude_none=True)
    rest = {name: value for name, value in dump.items() if name in _FIELDS}
    if list(order) == list(range(len(conversation.media))):
        facts = [{k: v for k, v in media.items() if k not in ("kind", "path")} for media in dump["media"]]
        if any(facts):
            rest["media"] = facts
    else:
        rest["media"], rest["places"] = dump["media"], list(order)
    extra = dump.get("extra")
    turns: list[dict[str, Any]] = [{} for _ in conversation.messages]
    if extra is not None and not _fits(extra, len(turns), keys):
        rest["extra"] = extra
    elif extra is not None:
        turns = extra.get(keys.turns, turns)
        extra = {name: value for name, value in extra.items() if name != keys.turns}
    item = dict(extra) if extra is not None and "extra" not in rest else {}
    return item | ({KEY: rest} if rest else {}), turns


def _fits(extra: dict[str, Any], count: int, keys: Keys) -> bool:
    """Whether `extra` can stand as keys of the item and of its turns and be read again as it was."""
    if not extra or ((keys.item | _TELLING) - {keys.turns}) & extra.keys():
        return False
    turns = extra.get(keys.turns)
    return keys.turns not in extra or (
        isinstance(turns, list)
        and len(turns) == count
        and all(isinstance(turn, dict) and not keys.turn & turn.keys() for turn in turns)
        and any(turns)
    )


def unpack(
    item: dict[str, Any], name: str, messages: list[Message], paths: list[str], keys: Keys, where: str
) -> Conversation:
    """The conversation of an item whose places of images and videos are numbered from 0 in reading order.

    Args:
        paths: of each place.

    Raises:
        DataError: the key `mminstruct` does not fit the rest of the item.
    """
    rest = item.get(KEY) or {}
    if not isinstance(rest, dict):
        raise DataError(f"{where}: the key {KEY!r} holds a {type(rest).__name__}; it is this project's own, remove it")
    known = _FIELDS | {"media", "places", "extra"}
    unknown = sorted(rest.keys() - known)
    if unknown:
        raise DataError(f"{where}: the key {KEY!r} holds the unknown {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
    extra = {key: value for key, value in item.items() if key not in keys.item}
    turns = [{k: v for k, v in turn.items() if k not in keys.turn} for turn in item[keys.turns]]
    if any(turns):
        extra[keys.turns] = turns
    given = rest.get("extra", {})
    if not isinstance(given, dict):
        raise DataError(f"{where}: {KEY}.extra is a {type(given).__name__}; it holds keys and values, remove it")
    extra = given | extra
    kinds = [part.type for message in messages for part in message.content if not isinstance(part, TextPart)]
    media = _media(rest, list(zip(kinds, paths, strict=True)), where)
    if "places" in rest:
        messages = _renumber(messages, rest["places"])
    fields = {field: value for field, value in rest.items() if field in _FIELDS}
    fields |= {"id": name, "messages": messages, "media": media}
    return record(fields | ({"extra": extra} if extra or "extra" in rest else {}), where)


def _media(rest: dict[str, Any], shown: list[tuple[str, str]], where: str) -> list[dict[str, Any]]:
    """The media of a record, given what stands at each place: (kind, path)."""
    media, order = rest.get("media"), rest.get("places")
    if media is None:
        return [{"kind": kind, "path": path} for kind, path in shown]
    problem = f"{where}: {KEY}.media does not fit the item's images; correct it, or remove it to lose what it says"
    if not isinstance(media, list) or not all(isinstance(one, dict) for one in media):
        raise DataError(problem)
    if order is None:
        if len(media) != len(shown):
            raise DataError(problem)
        return [{"kind": kind, "path": path, **one} for (kind, path), one in zip(shown, media, strict=True)]
    if not isinstance(order, list) or not all(type(place) is int and 0 <= place < len(media) for place in order):
        raise DataError(problem)
    if [(media[place].get("kind", "image"), media[place].get("path")) for place in order] != shown:
        raise DataError(problem)
    return media


def _renumber(messages: list[Message], order: list[int]) -> list[Message]:
    return [
        message.model_copy(
            update={
                "content": [
                    part if isinstance(part, TextPart) else part.model_copy(update={"index": order[part.index]})
                    for part in message.content
                ]
            }
        )
        for message in messages
    ]
