"""Preference pairs: of one conversation a better and a worse continuation, in the two forms that trainers read.

    {"id": "1", "images": ["a.png"], "prompt": [{"role": "user", "content": [{"type": "image"},
        {"type": "text", "text": "What is this?"}]}],
     "chosen": [{"role": "assistant", "content": [...]}], "rejected": [...]}                    TRL: `preferences`

    {"id": "1", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\\nWhat is this?"}],
     "output_1": {"from": "gpt", "value": "A cat."}, "output_2": {...}, "preference": 1} LLaVA-RLHF: `llava-preferences`

Read are both, and `{"image", "prompt", "chosen", "rejected"}` of plain texts (LLaVA-NeXT's DPO); the keys of an item
say which it is. In TRL's form bare places stand in the prompt alone, since its trainer gives `images` to the prompt;
pictures of a continuation stand there with their paths. `images` is always there, as each example is asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from mminstruct.conversation import Conversation, Message, Preference, TextPart
from mminstruct.errors import ConfigError, DataError
from mminstruct.formats import llava
from mminstruct.formats.items import Duplicates, Each, each_item, unique, write_lines, write_list
from mminstruct.formats.messages import Pictures, path_of, said
from mminstruct.formats.rest import KEY, Keys, pack, places, unpack

Style = Literal["trl", "llava"]

BRANCHES = ("chosen", "rejected")
OUTPUTS = ("output_1", "output_2")
_TRL = Keys(
    turns="prompt",
    item=frozenset({"id", "image", "images", "prompt", *BRANCHES, KEY}),
    turn=frozenset({"role", "content"}),
)
_LLAVA = Keys(
    turns="conversations",
    item=frozenset({"id", "image", "video", "conversations", *OUTPUTS, "preference", KEY}),
    turn=frozenset({"from", "value"}),
)


def is_one(item: Any) -> bool:
    """Whether an item is a pair of one of the forms."""
    return isinstance(item, dict) and (item.keys() >= {"prompt", *BRANCHES} or item.keys() >= {*OUTPUTS, "preference"})


def read(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of a file of pairs, each with its `preference`.

    Args:
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: an item that is not as described, with its place and id.
    """
    return unique((make() for _, make in each(path)), path, duplicate_ids)


def each(path: Path) -> Iterator[Each]:
    """The items of a file, each by itself (`mminstruct.formats.items.each_item`)."""
    return each_item(path, "prompt", from_item)


def write(conversations: Iterable[Conversation], path: Path, *, style: Style = "trl") -> int:
    """A file of pairs: JSON lines for `.jsonl`, a JSON list for `.json`. Returns the number of conversations.

    Raises:
        ConfigError: another file ending.
        DataError: a conversation that is no pair, or that the form cannot hold.
    """
    writers = {".jsonl": write_lines, ".json": write_list}
    if path.suffix not in writers:
        raise ConfigError(f"{path}: a file of pairs ends in .jsonl (JSON lines) or .json (a list); rename it")
    to_item = _to_trl if style == "trl" else _to_llava
    return writers[path.suffix](path, ((repr(c.id), to_item(c)) for c in unique(conversations, path)))


def from_item(item: dict[str, Any], name: str, where: str) -> Conversation:
    """The conversation of one item. Raises `DataError` where it is not one."""
    where = f"{where} (id {name!r})"
    if not is_one(item):
        raise DataError(
            f"{where} is no pair; it needs 'prompt', 'chosen', 'rejected', or 'output_1', 'output_2', 'preference'"
        )
    if "output_1" in item:
        return _from_llava(item, name, where)
    if all(isinstance(item[key], str) for key in ("prompt", *BRANCHES)):
        return _from_texts(item, name, where)
    if item.get("video") or item.get("videos"):
        raise DataError(f"{where} has a video, which TRL's form has no place for; write it as llava-preferences has it")
    return _from_trl(item, name, where)


# --- TRL --------------------------------------------------------------------------------------------------------------


def _from_trl(item: dict[str, Any], name: str, where: str) -> Conversation:
    turns = []
    for key in ("prompt", *BRANCHES):
        if not isinstance(item[key], list) or not item[key]:
            raise DataError(f"{where} has no turns under {key!r}; it is a list of messages with at least one")
        turns.append(item[key])
    given = item.get("images") or ([] if item.get("image") is None else [item["image"]])
    if not isinstance(given, list):
        raise DataError(f"{where} has 'images' that is a {type(given).__name__}; it is a list of paths")
    pictures = Pictures([path_of(value, where) for value in given])
    prompt = said(_with_places(turns[0], len(given)), pictures, f"{where}, prompt")
    pictures.require_all_placed(where)
    chosen = said(turns[1], pictures, f"{where}, chosen")
    rejected = said(turns[2], pictures, f"{where}, rejected")
    pictures.require_all_placed(f"{where}, with its continuations,")
    flat = item | {"prompt": [turn for some in turns for turn in some]}
    found = unpack(flat, name, [*prompt, *chosen, *rejected], pictures.paths, _TRL, where)
    return _parted(found, len(chosen), len(rejected))


def _with_places(turns: list[Any], count: int) -> list[Any]:
    """As TRL's trainer does: where all turns are plain texts, the pictures stand in front of the first of the user."""
    if count == 0 or not all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns):
        return turns
    first = next((number for number, turn in enumerate(turns) if turn.get("role") == "user"), 0)
    content = [*({"type": "image"} for _ in range(count)), {"type": "text", "text": turns[first]["content"]}]
    return [turn | {"content": content} if number == first else turn for number, turn in enumerate(turns)]


def _to_trl(conversation: Conversation) -> dict[str, Any]:
    where, flat, preference = _flat(conversation)
    order = places(flat, where, "preferences")
    more, more_of_turns = pack(flat, order, _TRL)
    paths = [path_of(medium.path, where) for medium in conversation.media]
    count = len(conversation.messages)
    turns = [
        {"role": message.role, "content": _content(message, None if number < count else paths)} | further
        for number, (message, further) in enumerate(zip(flat.messages, more_of_turns, strict=True))
    ]
    end = count + len(preference.chosen)
    shown = [paths[index] for index in places(conversation.model_copy(update={"preference": None}), where, "")]
    item = {"id": conversation.id, "images": shown}
    return item | {"prompt": turns[:count], "chosen": turns[count:end], "rejected": turns[end:]} | more


def _content(message: Message, paths: list[str] | None) -> list[dict[str, Any]]:
    """The parts of a message; pictures with their paths where these are given, else bare places."""
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image"} | ({} if paths is None else {"image": paths[part.index]})
        for part in message.content
    ]


# --- LLaVA ------------------------------------------------------------------------------------------------------------


def _from_llava(item: dict[str, Any], name: str, where: str) -> Conversation:
    turns = item.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{where} has no turns; 'conversations' must be a list with at least one")
    if isinstance(turns[-1], dict) and turns[-1].get("from") == "gpt" and not turns[-1].get("value"):
        turns = turns[:-1]  # an answer that is still to be given
    if item["preference"] not in (1, 2) or isinstance(item["preference"], bool):
        raise DataError(f"{where} prefers {item['preference']!r}; 'preference' is 1 or 2, drop an item without one")
    order = OUTPUTS if item["preference"] == 1 else OUTPUTS[::-1]
    outputs = [_output(item[key], f"{where}, {key}") for key in order]
    return _of_turns(item, name, [*turns, *outputs], where)


def _output(value: Any, where: str) -> dict[str, Any]:
    """An answer as a turn; who gave it is its model's name in some files, so it is not looked at."""
    if isinstance(value, str):
        value = {"value": value}
    if not isinstance(value, dict) or not isinstance(value.get("value"), str):
        raise DataError(f"{where} is no answer; it is a text, or an object with 'from' and a text under 'value'")
    return value | {"from": "gpt"}


def _from_texts(item: dict[str, Any], name: str, where: str) -> Conversation:
    """Plain texts; the pictures and videos stand in front of the prompt where it has no marks."""
    prompt, *answers = (item[key] for key in ("prompt", *BRANCHES))
    given = item.get("images") or item.get("image")
    images, videos = llava.paths_of(given, where), llava.paths_of(item.get("video"), where, "video")
    if llava.MARK not in prompt and not (videos and llava.VIDEO_MARK in prompt):
        prompt = f"{llava.MARK}\n" * len(images) + f"{llava.VIDEO_MARK}\n" * len(videos) + prompt
    turns = [{"from": "human", "value": prompt}, *({"from": "gpt", "value": answer} for answer in answers)]
    rest = {key: value for key, value in item.items() if key not in ("prompt", *BRANCHES, "images")}
    return _of_turns(rest | {"image": given}, name, turns, where)


def _of_turns(item: dict[str, Any], name: str, turns: list[Any], where: str) -> Conversation:
    messages, paths = llava.shown(item, turns, where)
    return _parted(unpack(item | {"conversations": turns}, name, messages, paths, _LLAVA, where), 1, 1)


def _to_llava(conversation: Conversation) -> dict[str, Any]:
    where, flat, preference = _flat(conversation)
    answers = [*preference.chosen, *preference.rejected]
    if len(preference.chosen) != 1 or len(preference.rejected) != 1 or any(one.role != "assistant" for one in answers):
        raise DataError(
            f"{where} has a continuation that is not one answer, which LLaVA's form cannot hold; write preferences"
        )
    if any(part.type != "text" for message in answers for part in message.content):
        raise DataError(f"{where} has pictures in an answer, which LLaVA's form cannot hold; write preferences")
    if conversation.messages[-1].role == "assistant":
        raise DataError(f"{where} has an answer in front of its continuations, not a question; drop it")
    item = llava.to_item(flat.model_copy(update={"extra": None}), _LLAVA)
    turns = item.pop("conversations")
    order = places(flat, where, "llava-preferences", videos=True)
    more, more_of_turns = pack(flat, order, _LLAVA)
    item.pop(KEY, None)
    turns = [turn | further for turn, further in zip(turns, more_of_turns, strict=True)]
    return item | {"conversations": turns[:-2], "output_1": turns[-2], "output_2": turns[-1], "preference": 1} | more


# --- both -------------------------------------------------------------------------------------------------------------


def _flat(conversation: Conversation) -> tuple[str, Conversation, Preference]:
    """The conversation with both continuations as turns of its own, behind each other."""
    where = f"conversation {conversation.id!r}"
    preference = conversation.preference
    if preference is None or not preference.chosen or not preference.rejected:
        raise DataError(f"{where} has no preference (chosen, rejected), so it is no pair; drop it, or write messages")
    if not conversation.messages:
        raise DataError(f"{where} has no turns before its continuations; drop it, or write the format native")
    turns = [*conversation.messages, *preference.chosen, *preference.rejected]
    return where, conversation.model_copy(update={"messages": turns, "preference": None}), preference


def _parted(flat: Conversation, chosen: int, rejected: int) -> Conversation:
    turns = flat.messages
    start, middle = len(turns) - chosen - rejected, len(turns) - rejected
    preference = Preference(chosen=turns[start:middle], rejected=turns[middle:])
    return flat.model_copy(update={"messages": turns[:start], "preference": preference})
