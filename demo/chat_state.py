"""The whole state of the tab "Chat" as its handlers give it back, and errors that have no answer to stand in."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import gradio as gr

from mminstruct.demo.display import messages, problem, status_line
from mminstruct.demo.rooms import PageContext
from mminstruct.demo.visitors import Visitor
from mminstruct.errors import MminstructError

log = logging.getLogger("mminstruct.demo")

TOAST_SECONDS = 12

Update = tuple[Any, Any, Any]  # messages, text box, status line


def page_state(
    visitor: Visitor,
    context: PageContext,
    answering: bool = False,
    value: dict[str, Any] | None = None,
    position: int = 0,
) -> Update:
    """The chat's messages, the text box (`value` replaces what is in it), the status line.

    Args:
        position: how many questions are answered before the last one.
    """
    turns = visitor.chat.turns
    buttons: dict[str, Any] = {"submit_btn": not answering, "stop_btn": answering}
    box = gr.update(**buttons) if value is None else gr.update(value=value, **buttons)
    line = status_line(turns[-1].usage if turns else None, position, begun=bool(turns))
    return shown_messages(visitor, context), box, line


def shown_messages(visitor: Visitor, context: PageContext) -> list[dict[str, Any]]:
    """The chat's messages; with the name of the model below each answer where there are several."""
    return messages(visitor.chat.turns, visitor.problems, named=len(context.models) > 1)


def refuse(error: MminstructError) -> None:
    """Tell an error in a corner of the page, and in the log."""
    told = problem(error, new_id())
    log.warning("%s: refused: %s", told.error_id, error)
    gr.Warning(told.html(), duration=TOAST_SECONDS)


def new_id() -> str:
    """Of an error, to find it in the log."""
    return uuid.uuid4().hex[:8]
