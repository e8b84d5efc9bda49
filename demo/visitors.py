"""The chats of the page's visitors: one per open tab, with the answer that runs in it.

The server keeps the turns; what the browser sends back of the conversation is never read. The number of chats and the
pixels in each are bounded, the chat that was not used for longest goes first. The files of its questions go
with a chat.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from PIL.Image import Image

from mminstruct.demo.display import Problem
from mminstruct.demo.uploads import Folder, Shown
from mminstruct.errors import MediaError
from mminstruct.media import Video
from mminstruct.serving.chat import ChatSession, Framing, Turn
from mminstruct.serving.models import Models

MAX_VISITORS = 32
MAX_MEDIA = 32
GRACE_SECONDS = 60.0
MAX_PIXELS = 64_000_000


class Run:
    """One answer being made. `cancel` stops it."""

    def __init__(self) -> None:
        self.cancel = threading.Event()


@dataclass
class Visitor:
    """One tab's chat.

    A handler that streams holds the `Run` it began; when `current` is no longer that one, its answer was overtaken (by
    undo, clear or another question).

    Attributes:
        taken_back: the question that was undone last; its files are in the text box again.
        folders: of what the page shows or offers beside the questions.
    """

    chat: ChatSession
    current: Run | None = None
    problems: WeakKeyDictionary[Turn, Problem] = field(default_factory=WeakKeyDictionary)
    taken_back: Turn | None = None
    folders: dict[str, Folder] = field(default_factory=dict)

    def begin(self, run: Run) -> None:
        """The tab's answer is this one now; what ran before stops."""
        self.stop()
        self.current = run

    def stop(self) -> None:
        if self.current is not None:
            self.current.cancel.set()

    def end(self, run: Run) -> None:
        """The answer is over."""
        if self.current is run:
            self.current = None

    def leave(self) -> None:
        """Stop what runs; what it still makes is shown nowhere."""
        self.stop()
        self.current = None

    def forget(self) -> None:
        """The visitor is gone: stop what runs, and delete the files of the chat."""
        self.leave()
        for turn in (*self.chat.turns, self.taken_back):
            if turn is not None and isinstance(turn.attachment, Shown):
                turn.attachment.remove()
        for folder in self.folders.values():
            folder.remove()
        self.folders.clear()
        self.chat.reset()
        self.taken_back = None

    def require_room(self, media: Sequence[Image | Video]) -> None:
        """Raises `MediaError` when the chat cannot hold these as well."""
        held = [medium for turn in self.chat.turns for medium in turn.media]
        if len(held) + len(media) > MAX_MEDIA:
            raise MediaError(
                f"this chat holds {len(held)} pictures and videos, and {len(media)} more are above its limit of "
                f"{MAX_MEDIA}; clear the chat or send fewer"
            )
        total = sum(_pixels(medium) for medium in (*held, *media))
        if total > MAX_PIXELS:
            raise MediaError(
                f"the pictures and frames of this chat would have {total / 1e6:.0f} million pixels, above its limit of "
                f"{MAX_PIXELS / 1e6:.0f} million; clear the chat or send smaller ones"
            )


def _pixels(medium: Image | Video) -> int:
    width, height = medium.size
    return width * height * (len(medium.frames) if isinstance(medium, Video) else 1)


class Guest(Protocol):
    """What a room keeps of one tab of the browser."""

    def stop(self) -> None: ...

    def forget(self) -> None: ...


G = TypeVar("G", bound=Guest)


class Guests(Generic[G]):
    """All guests of one room, by the id that Gradio gives to a tab.

    Args:
        new: what a new tab begins with.
        grace: seconds after which one that left is forgotten, with the files of the chat. After a broken connection the
            tab comes back under the same id.
        forgotten: is told the id of each tab that is forgotten.
    """

    def __init__(
        self, new: Callable[[], G], grace: float = GRACE_SECONDS, forgotten: Callable[[str], None] = lambda _: None
    ) -> None:
        self._new = new
        self.grace = grace
        self._forgotten = forgotten
        self._visitors: OrderedDict[str, G] = OrderedDict()
        self._leaving: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def get(self, tab: str) -> G:
        """The tab's chat; a new one when the tab is new."""
        name, oldest = "", None
        with self._lock:
            if (timer := self._leaving.pop(tab, None)) is not None:
                timer.cancel()
            if tab not in self._visitors:
                self._visitors[tab] = self._new()
                if len(self._visitors) > MAX_VISITORS:
                    name, oldest = self._visitors.popitem(last=False)
                    self._cancel(name)
            self._visitors.move_to_end(tab)
            found = self._visitors[tab]
        if oldest is not None:
            oldest.forget()
            self._forgotten(name)
        return found

    def gone(self, tab: str) -> None:
        """The tab was closed or reloaded, or its connection broke: stop its answer, and soon forget the chat."""
        with self._lock:
            visitor = self._visitors.get(tab)
            if visitor is None:
                return
            self._cancel(tab)
            timer = threading.Timer(self.grace, self._forget, (tab,))
            timer.daemon = True
            self._leaving[tab] = timer
            timer.start()
        visitor.stop()

    def _cancel(self, tab: str) -> None:
        if (timer := self._leaving.pop(tab, None)) is not None:
            timer.cancel()

    def _forget(self, tab: str) -> None:
        with self._lock:
            if self._leaving.pop(tab, None) is None:
                return  # the visitor came back in the meantime
            visitor = self._visitors.pop(tab)
        visitor.forget()
        self._forgotten(tab)


class Visitors(Guests[Visitor]):
    """Guests with one chat each, which begins with the first of the models; which one answers may change."""

    def __init__(
        self,
        models: Models,
        framing: Framing,
        grace: float = GRACE_SECONDS,
        forgotten: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(lambda: Visitor(ChatSession(models[models.first], framing)), grace, forgotten)
