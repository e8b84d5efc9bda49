"""What the page shows of a chat: turns as chat messages, the line about what the model saw, errors a person can act on.

Pure functions from turns to the dictionaries of Gradio's chatbot; nothing here imports Gradio.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mminstruct.errors import MminstructError
from mminstruct.serving.chat import Turn
from mminstruct.serving.detokenizer import printable
from mminstruct.serving.request import Usage

# Fenced blocks, also one that is still being written, and code spans: Markdown shows these verbatim by itself.
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`)", re.DOTALL)

FINISHED = {
    "waiting": "waiting",
    "running": "answering",
    "end": "done",
    "stop": "done",
    "length": "stopped at the token limit",
    "time": "stopped at the time limit",
    "cancelled": "stopped",
    "error": "failed",
}

EMPTY = {
    "end": "*(an empty answer)*",
    "length": "*(an empty answer)*",
    "cancelled": "*(stopped before the first word)*",
}


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page needs of a question beside its text: the uploaded files, and pictures of what was read in them."""

    files: tuple[Path, ...] = ()
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Problem:
    """An error as the page tells it. `error_id` stands in the log beside the traceback."""

    title: str
    cause: str
    error_id: str

    def markdown(self) -> str:
        where = f"Error id `{self.error_id}`; the log of the server has it too."
        return f"**{self.title}.** {as_markdown(self.cause)}\n\n{where}"

    def html(self) -> str:
        return f"<b>{html.escape(self.title)}.</b> {html.escape(self.cause)} (error id {self.error_id})"


def problem(error: Exception, error_id: str) -> Problem:
    """Class, cause and next step of an error. Only our own errors are quoted: the text of others may hold anything."""
    if isinstance(error, MminstructError):
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).removesuffix(" Error")
        return Problem(f"{name} problem", f"{str(error)[:1].upper()}{str(error)[1:]}.", error_id)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        cause = "The device has too little free memory for this conversation. Clear the chat, or use fewer images."
        return Problem("Out of memory", cause, error_id)
    cause = "The model failed while it answered. Try again; if it stays, report it with the lines of the log."
    return Problem(f"Unexpected {type(error).__name__}", cause, error_id)


def as_markdown(text: str) -> str:
    """Text as Markdown that keeps its formatting but holds no HTML and loads no image.

    Outside of code, `<` is shown and never read as a tag, and `![` does not begin an image: what a model or a visitor
    writes can neither vanish nor make the browser fetch something. Control characters are left out.
    """
    pieces = _CODE.split(printable(text))
    for index in range(0, len(pieces), 2):
        pieces[index] = pieces[index].replace("<", "&lt;").replace("![", "!\\[")
    return "".join(pieces)


def messages(turns: Sequence[Turn], problems: Mapping[Turn, Problem]) -> list[dict[str, Any]]:
    """The chatbot's messages; `problems` tells why a turn failed."""
    shown: list[dict[str, Any]] = []
    for turn in turns:
        content: list[dict[str, Any]] = []
        if isinstance(turn.attachment, Shown):
            content += [
                {"path": str(path), "alt_text": f"image {number}"}
                for number, path in enumerate(turn.attachment.pictures, start=1)
            ]
        if turn.text.strip():
            content.append({"type": "text", "text": as_markdown(turn.text)})
        shown.append({"role": "user", "content": content})
        answer = as_markdown(turn.answer or "")
        if turn in problems:
            answer = f"{answer}\n\n{problems[turn].markdown()}".strip()
        elif not answer.strip() and turn.usage is not None:
            answer = EMPTY.get(turn.usage.finish_reason, "")
        if answer.strip():
            shown.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return shown


def status_line(usage: Usage | None) -> str:
    """HTML of the line about what the model saw and made of the last question."""
    if usage is None:
        return _line(["The conversation is empty"])
    if usage.prompt_tokens == 0 and usage.finish_reason in ("waiting", "running"):
        return _line(["Waiting for the model"])
    facts = [f"read <b>{usage.prompt_tokens:,}</b> tokens, {_count(usage.media, 'image')} among them"]
    facts.append(f"wrote <b>{usage.new_tokens:,}</b> tokens")
    if usage.new_tokens and usage.seconds > 0:
        facts.append(f"{usage.tokens_per_second:,.1f} tokens/s")
    facts.append(FINISHED[usage.finish_reason])
    return _line(facts)


def _line(facts: Sequence[str]) -> str:
    items = "".join(f"<span>{fact}</span>" for fact in facts)
    return f'<div class="mm-status" role="status" aria-live="off">{items}</div>'


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def header(name: str, facts: Sequence[str]) -> str:
    """HTML of the page's head: the model's name and a few facts about it."""
    items = "".join(f"<span>{html.escape(fact)}</span>" for fact in facts)
    return f'<div class="mm-head"><h1>{html.escape(name)}</h1><div class="mm-facts">{items}</div></div>'


def model_facts(parameters: int, device: str, dtype: str, context_length: int | None) -> list[str]:
    """The facts of the page's head."""
    facts = [f"{_short(parameters)} parameters", f"{device} · {dtype}"]
    if context_length is not None:
        facts.append(f"context of {context_length:,} tokens")
    return facts


def _short(number: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
