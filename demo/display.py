"""What the page shows of a chat: turns as chat messages, the line about what the model saw, errors a person can act on.

Pure functions from turns to the dictionaries of Gradio's chatbot; nothing here imports Gradio.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mminstruct.demo.uploads import Shown
from mminstruct.errors import MminstructError
from mminstruct.serving.chat import Turn
from mminstruct.serving.detokenizer import printable
from mminstruct.serving.request import Usage

# Fenced blocks, also one that is still being written, and code spans: Markdown shows these verbatim by itself.
_CODE = re.compile(r"(```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`)", re.DOTALL)

# What HTML reads as a character of another name, and that as `as_markdown` writes it.
_ENTITY = re.compile(r"&(?=#?\w+;)")
_HIDDEN_ENTITY = re.compile(r"&amp;(?=#?\w+;)")

_WAITING = "Waiting for the model"
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
        text = _ENTITY.sub("&amp;", pieces[index])
        pieces[index] = text.replace("<", "&lt;").replace("![", "!\\[")
    return "".join(pieces)


def messages(turns: Sequence[Turn], problems: Mapping[Turn, Problem], named: bool = False) -> list[dict[str, Any]]:
    """The chatbot's messages.

    Args:
        problems: why a turn failed.
        named: say below each answer which model gave it.
    """
    return [message for message, _ in _numbered(turns, problems, named)]


def turn_at(turns: Sequence[Turn], problems: Mapping[Turn, Problem], message: int) -> int | None:
    """The number of the turn that the chatbot's message of this number belongs to; None where there is none."""
    owners = [number for _, number in _numbered(turns, problems, False)]
    return owners[message] if 0 <= message < len(owners) else None


def _numbered(
    turns: Sequence[Turn], problems: Mapping[Turn, Problem], named: bool
) -> Iterator[tuple[dict[str, Any], int]]:
    """(message, number of its turn)."""
    for number, turn in enumerate(turns):
        content: list[dict[str, Any]] = []
        shown = turn.attachment if isinstance(turn.attachment, Shown) else None
        for medium in shown.media if shown is not None else ():
            if medium.kind == "video":
                content.append({"path": str(medium.file), "alt_text": medium.file.name})
            content.append({"path": str(medium.picture), "alt_text": medium.label})
        if turn.text.strip():
            content.append({"type": "text", "text": as_markdown(turn.text)})
        yield {"role": "user", "content": content}, number
        answer = as_markdown(turn.answer or "")
        if turn in problems:
            answer = f"{answer}\n\n{problems[turn].markdown()}".strip()
        elif not answer.strip() and turn.usage is not None:
            answer = EMPTY.get(turn.usage.finish_reason, "")
        if answer.strip():
            if named and shown is not None and shown.model is not None:
                answer = f"{answer}\n\n*\N{EM DASH} {as_markdown(shown.model)}*"
            yield {"role": "assistant", "content": [{"type": "text", "text": answer}]}, number


def status_line(usage: Usage | None, ahead: int = 0, begun: bool = False) -> str:
    """HTML of the line about what the model saw and made of the last question.

    Args:
        ahead: how many questions are answered before this one.
        begun: whether there are turns; without usage they come out of a file.
    """
    if usage is None:
        return _line(["Opened from a file" if begun else "The conversation is empty"])
    if usage.finish_reason == "waiting":
        return _line([f"Waiting for the model, <b>{_count(ahead, 'question')}</b> ahead" if ahead else _WAITING])
    if usage.prompt_tokens == 0 and usage.finish_reason == "running":
        return _line(["Reading the question"])
    facts = [f"read <b>{usage.prompt_tokens:,}</b> tokens, {_media(usage.media)} among them"]
    facts.append(f"wrote <b>{usage.new_tokens:,}</b> tokens")
    if usage.first_token_seconds is not None:
        facts.append(f"first after {usage.first_token_seconds:.2f} s")
    if usage.new_tokens and usage.seconds > 0:
        facts.append(f"{usage.tokens_per_second:,.1f} tokens/s")
    if usage.queue_seconds >= 1:
        facts.append(f"waited {usage.queue_seconds:.0f} s")
    facts.append(FINISHED[usage.finish_reason])
    return _line(facts)


def _line(facts: Sequence[str]) -> str:
    items = "".join(f"<span>{fact}</span>" for fact in facts)
    return f'<div class="mm-status" role="status" aria-live="off">{items}</div>'


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _media(number: int) -> str:
    return "no pictures" if number == 0 else "1 picture or video" if number == 1 else f"{number} pictures or videos"


def header(name: str, facts: Sequence[str]) -> str:
    """HTML of the page's head: a name and a few facts."""
    return f'<div class="mm-head"><h1>{html.escape(name)}</h1>{facts_line(facts)}</div>'


def facts_line(facts: Sequence[str]) -> str:
    """HTML of a few facts in a row."""
    return f'<div class="mm-facts">{"".join(f"<span>{html.escape(fact)}</span>" for fact in facts)}</div>'


def typed(markdown: str) -> str:
    """The text that `as_markdown` made this of: what a visitor edits on the page is Markdown."""
    pieces = _CODE.split(markdown)
    for index in range(0, len(pieces), 2):
        text = pieces[index].replace("&lt;", "<").replace("!\\[", "![")
        pieces[index] = _HIDDEN_ENTITY.sub("&", text)
    return "".join(pieces)
