"""Forms that prompts ask replies to have, and what is wrong with those that have another, in words for the model.

json_reply   JSON, bare or within a fence               ──▶ a checked pydantic model, whose schema servers get
pairs        Question: ... === Answer: ... === blocks   ──▶ [(question, answer)]
tagged       <Q1>...</Q1><A1>...</A1><Q2>...            ──▶ [{"Q": ..., "A": ...}]
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mminstruct.errors import ReplyError

M = TypeVar("M", bound=BaseModel)

_NOT_STRICT = frozenset({"title", "description", "default", "minLength", "maxLength"})
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)
_PAIR = re.compile(r"Question:\s*(.+?)\s*===\s*Answer:\s*(.+?)\s*(?====|\Z)", re.DOTALL)


def json_reply(reply: str, model: type[M]) -> M:
    """The value in a reply that is JSON, bare or within a fence. Raises `ReplyError`."""
    fenced = _FENCED.search(reply)
    try:
        return model.model_validate(json.loads(fenced.group(1) if fenced else reply))
    except json.JSONDecodeError as error:
        raise ReplyError(f"the reply is not JSON ({error.msg} at character {error.pos})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        raise ReplyError(f"the reply does not fit: {f'{key}: ' if key else ''}{problem}") from None


def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema that a server is to keep a reply to, within what OpenAI's strict mode takes.

    Every key is required and no other allowed; lengths of texts are left to `json_reply`, and a tuple of one kind of
    values is a list of so many.
    """
    return _strict(_schema(model))  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=64)  # pydantic takes longer for it than a template for its reply
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key not in _NOT_STRICT}
    places = kept.get("prefixItems", [])
    if places and all(place == places[0] for place in places):
        del kept["prefixItems"]
        kept["items"] = places[0]
    for key, value in kept.items():
        if key in ("properties", "$defs"):  # names of the model's own, which may be those of keywords
            kept[key] = {name: _strict(one) for name, one in value.items()}
        elif key != "enum":
            kept[key] = _strict(value)
    if "properties" in kept:
        kept |= {"additionalProperties": False, "required": list(kept["properties"])}
    return kept


def pair(question: str, answer: str) -> str:
    """One block as `pairs` reads it."""
    return f"Question:\n{question}\n===\nAnswer:\n{answer}\n===\n"


def pairs(reply: str) -> list[tuple[str, str]]:
    """(question, answer) of each block (LLaVA's form).

    Raises:
        ReplyError: there is none, one is not whole, a question stands twice, or text stands behind a block.
    """
    found = [(match[1], match[2]) for match in _PAIR.finditer(reply)]
    if not found:
        raise ReplyError("there is no block of Question:, ===, Answer:")
    if len(found) != reply.count("Question:") or len(found) != reply.count("Answer:"):
        raise ReplyError("a question is without its answer, or two stand in one block")
    require_different([question for question, _ in found])
    # Models take an answer back behind its block. What stands before the first one is a greeting at most.
    if "".join(_PAIR.split(reply[reply.index("Question:") :])[::3]).strip("= \n\t\r"):
        raise ReplyError("text stands behind an answer's ===; write the blocks and nothing else")
    return found


def tagged(reply: str, names: Sequence[str]) -> list[dict[str, str]]:
    """The texts between numbered tags (MMInstruct's form), one mapping of `names` for each number from 1 on.

    Raises:
        ReplyError: a tag is missing, stands twice, is empty, or has a number out of the row.
    """
    found: dict[int, dict[str, str]] = {}
    for match in re.finditer(rf"<({'|'.join(map(re.escape, names))})(\d+)>(.*?)</\1\2>", reply, re.DOTALL):
        name, number, content = match[1], int(match[2]), match[3].strip()
        if not content:
            raise ReplyError(f"<{name}{number}> is empty")
        if name in found.setdefault(number, {}):
            raise ReplyError(f"<{name}{number}> stands twice")
        found[number][name] = content
    if not found:
        raise ReplyError(f"there is no <{names[0]}1>")
    for number in range(1, max(found) + 1):
        for name in names:
            if name not in found.get(number, {}):
                raise ReplyError(f"<{name}{number}> is missing, or has no end")
    return [found[number] for number in sorted(found)]


def require_different(questions: Sequence[str]) -> None:
    """Raises `ReplyError` where a question stands twice, capital letters aside."""
    asked = Counter(question.casefold() for question in questions)
    twice = next((question for question, count in asked.items() if count > 1), None)
    if twice is not None:
        raise ReplyError(f"the question {twice!r} stands twice")
