"""LLaVA-Plus JSON: LLaVA's items whose answers say what they think, which tools they call, and what they tell the user.

    {"unique_id": "1", "file_name": "a.png", "image": "a.png", "conversations": [
        {"from": "human", "value": "<image>\\nWhere is the dog?"},
        {"from": "gpt", "thoughts": "...", "actions": [{"API_name": "...", "API_params": {...}}], "value": "..."}, ...]}

A model is trained on one text for each answer (LLaVA-Plus, `llava/mm_utils.py`), and this text is what a record holds,
so that every template, mask and trainer takes it as it is:

    "thoughts🤔" ...\\n"actions🚀" [JSON]\\n"value👉" ...\\n        ◀──serialise── ToolTurn ──parse──▶

A tool's output is a turn of the user's, as published, since chat templates that alternate have no third role. Answers
without thoughts and actions are plain texts. An item names one picture, which all its `<image>` marks show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.formats import llava
from mminstruct.formats.items import Duplicates, id_of, read_each, unique, write_list
from mminstruct.formats.rest import KEY, Keys, places

_FORM = re.compile(r'"thoughts🤔" (.*?)\n"actions🚀" (.*?)\n"value👉" (.*?)\n?', re.DOTALL)
_KEYS = Keys(
    turns="conversations",
    item=frozenset({"unique_id", "file_name", "image", "video", "conversations", KEY}),
    turn=frozenset({"from", "value", "thoughts", "actions"}),
)


@dataclass(frozen=True)
class ToolTurn:
    """An answer in its three parts.

    Attributes:
        actions: calls of tools, `{"API_name": ..., "API_params": {...}}` each; none where no tool is needed.
        value: what the user is told.
    """

    thoughts: str
    actions: list[dict[str, Any]]
    value: str


def serialise(turn: ToolTurn) -> str:
    """The text that a model is trained to write for an answer.

    Raises:
        DataError: the parts hold a marker, so that they could not be told apart again, or an action is no JSON.
    """
    try:
        actions = json.dumps(turn.actions, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"the actions of an answer are no JSON ({error}); mend them") from None
    text = f'"thoughts🤔" {turn.thoughts}\n"actions🚀" {actions}\n"value👉" {turn.value}\n'
    if parse(text) != turn:
        raise DataError(f"the answer {turn.value[:40]!r} holds a marker of thoughts, actions or value; take it out")
    return text


def parse(text: str) -> ToolTurn | None:
    """The parts of a text that a model wrote; None where it is not of the form. The last line break may be missing."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    try:
        actions = json.loads(found[2])
        json.dumps(actions, allow_nan=False)  # what reads NaN, or infinity out of 1e999, is no JSON
    except (ValueError, RecursionError):
        return None
    if not isinstance(actions, list) or not all(isinstance(action, dict) for action in actions):
        return None
    return ToolTurn(found[1], actions, found[3])


def outputs(given: Iterable[tuple[str, Any]], question: str) -> str:
    """The text of the user's turn that brings what tools gave: (name, output as JSON can hold it) of each."""
    lines = (f"{tool} output: {json.dumps(output, ensure_ascii=False)}" for tool, output in given)
    return "\n".join(lines) + f"\n\nAnswer my first question: {question}"


def read(path: Path, *, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of a LLaVA-Plus JSON file (JSON lines work too).

    Args:
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: an item that is not as described, with its place and id.
    """

    def one(item: dict[str, Any], name: str, where: str) -> Conversation:
        if item.get("unique_id") is not None:
            name = id_of({"id": item["unique_id"]}, 0, path, where)
        return from_item(item, name, where)

    return read_each(path, "conversations", one, duplicate_ids)


def write(conversations: Iterable[Conversation], path: Path) -> int:
    """A LLaVA-Plus JSON file. Returns the number of conversations.

    Raises:
        DataError: a record that the format cannot hold: several pictures, a video, a tool's turn, a text that holds
            `<image>`.
    """
    return write_list(path, ((repr(c.id), to_item(c)) for c in unique(conversations, path)))


def from_item(item: dict[str, Any], name: str, where: str) -> Conversation:
    """The conversation of one item. Raises `DataError` where it is not one."""
    here = f"{where} (id {name!r})"
    turns = item.get("conversations")
    if not isinstance(turns, list):
        raise DataError(f"{here} has no turns; 'conversations' must be a list with at least one")
    if item.get("video") is not None:
        raise DataError(f"{here} has a video, which the LLaVA-Plus format has no place for; write it as llava")
    merged = [_merged(turn, f"{here}, turn {number}") for number, turn in enumerate(turns)]
    marks = sum(str(turn.get("value")).count(llava.MARK) for turn in merged if isinstance(turn, dict))
    image, file_name = item.get("image"), item.get("file_name")
    if image is None:
        image = file_name
    elif file_name not in (None, image):
        item = _with_extra(item, file_name)  # the path that is trained with counts
    if isinstance(image, list):
        raise DataError(f"{here} names several pictures; its format has one for an item, write them as llava")
    if isinstance(image, str) and marks > 1:  # `collect_data.py` asks the question again, mark and all
        image = [image] * marks
    if item.get("unique_id") is None:
        item = {key: value for key, value in item.items() if key != "id"}  # it is the record's, not a key to keep
    return llava.from_item(item | {"conversations": merged, "image": image}, name, where, keys=_KEYS)


def _with_extra(item: dict[str, Any], file_name: Any) -> dict[str, Any]:
    """The item with a `file_name` that is not its picture's path, kept as a key that is not known."""
    rest = item.get(KEY) or {}
    extra = rest.get("extra", {}) if isinstance(rest, dict) else None
    if not isinstance(extra, dict):
        return item  # reading says what is wrong with it
    return item | {KEY: rest | {"extra": {"file_name": file_name} | extra}}


def _merged(turn: Any, where: str) -> Any:
    """A turn with its thoughts and actions within its value; `llava` says what is wrong with one that is no turn."""
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        return turn
    given = [key for key in ("thoughts", "actions") if turn.get(key) is not None]
    if not given:
        return turn
    if len(given) == 1 or turn.get("from") != "gpt":
        raise DataError(f"{where} has {given[0]!r}; an answer (gpt) has both 'thoughts' and 'actions', or none of them")
    thoughts, actions = turn["thoughts"], turn["actions"]
    if not isinstance(thoughts, str) or not isinstance(actions, list):
        raise DataError(f"{where} needs a text as 'thoughts' and a list as 'actions'")
    if not all(isinstance(action, dict) for action in actions):
        raise DataError(f"{where} has an action that is no object; an action has 'API_name' and 'API_params'")
    try:
        return turn | {"value": serialise(ToolTurn(thoughts, actions, turn["value"]))}
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def to_item(conversation: Conversation) -> dict[str, Any]:
    """The item of one conversation. Raises `DataError` where the format cannot hold it."""
    where = f"conversation {conversation.id!r}"
    places(conversation, where, "llava-plus")  # refuses videos
    item = llava.to_item(conversation, _KEYS)
    image = item.pop("image", None)
    if isinstance(image, list):
        if len(set(image)) > 1:
            raise DataError(
                f"{where} has {len(set(image))} pictures, and an item of the LLaVA-Plus format names one; "
                f"write another format (llava, textbind, messages, native)"
            )
        image = image[0]
    named = {} if image is None else {"file_name": image, "image": image}
    turns = [_split(turn) for turn in item.pop("conversations")]
    if "id" not in (conversation.extra or {}) or "extra" in item.get(KEY, {}):
        del item["id"]  # otherwise it is a key of the record's extra
    return {"unique_id": conversation.id} | named | {"conversations": turns} | item


def _split(turn: dict[str, Any]) -> dict[str, Any]:
    parts = parse(turn["value"]) if turn["from"] == "gpt" else None
    if parts is None or serialise(parts) != turn["value"]:
        return turn  # a plain answer
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    return {"from": "gpt", "thoughts": parts.thoughts, "actions": parts.actions, "value": parts.value} | rest
