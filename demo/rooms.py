"""What a tab of the page is, and what the page lends to each: models, uploads, the way its events are wired.

A room is one file with a class; `Page` mounts it in a tab of its own:

    class SideBySide:
        title, name = "Side by side", "side-by-side"
        def __init__(self, context: PageContext) -> None: ...
        def build(self) -> None: ...        # Gradio components and events, inside of its tab
        def gone(self, tab: str) -> None: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from mminstruct.demo.uploads import Uploads
from mminstruct.serving.chat import Framing
from mminstruct.serving.models import Models

# Answers wait for the model in the generator's queue, where they can be cancelled, and not in Gradio's.
MAX_ANSWERS = 16
MAX_WAITING = 32

# How an event is wired that answers at once.
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# A press on stop counts also where the one before has not been answered yet.
STOP = QUICK | {"trigger_mode": "multiple"}


def streams(outputs: Sequence[Any]) -> dict[str, Any]:
    """How an event is wired that streams an answer to these components."""
    return {
        "outputs": list(outputs),
        "concurrency_limit": MAX_ANSWERS,
        "concurrency_id": "answers",
        "show_progress": "hidden",
        "api_visibility": "private",
    }


@dataclass(frozen=True)
class PageContext:
    """What the rooms of one page share.

    Attributes:
        models: who may be asked, by name.
        framing: what the models are told beside the questions.
        uploads: opens the files of visitors and keeps what the page shows of them.
        flags: the folder that flagged conversations are written to; None where flagging is off.
    """

    models: Models
    framing: Framing
    uploads: Uploads
    flags: Path | None = None


class Room(Protocol):
    """One tab. A tab of the browser is known by the id that Gradio gives it (`request.session_hash`).

    Attributes:
        title: what stands on the tab.
        name: its id on the page is `tab-NAME`.
    """

    title: str
    name: str

    def build(self) -> None:
        """Put the components into the tab that is being built, and wire their events."""

    def gone(self, tab: str) -> None:
        """A visitor closed or reloaded the page, or the connection broke: stop answering."""


def tab_of(request: gr.Request) -> str:
    """The visitor's id."""
    return request.session_hash or ""
