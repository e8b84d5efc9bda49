"""The chats of the page's visitors: one per open tab, with the answer that runs in it.

The server keeps the turns; what the browser sends back of the conversation is never read. The number of chats and the
pixels in each are bounded, the chat that was not used for longest goes first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from mminstruct.demo.display import Problem
from mminstruct.errors import MediaError
from mminstruct.serving.chat import ChatSession, Framing, Turn
from mminstruct.serving.generator import Generator

MAX_VISITORS = 32
MAX_IMAGES = 32
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
    """

    chat: ChatSession
    current: Run | None = None
    problems: WeakKeyDictionary[Turn, Problem] = field(default_factory=WeakKeyDictionary)

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
        """Stop what runs and forget it."""
        self.stop()
        self.current = None

    def require_room(self, images: int, pixels: int) -> None:
        """Raises `MediaError` when the chat cannot hold so much more."""
        held = [image for turn in self.chat.turns for image in turn.media]
        if len(held) + images > MAX_IMAGES:
            raise MediaError(
                f"this chat holds {len(held)} images and {images} more are above its limit of {MAX_IMAGES}; "
                f"clear the chat or send fewer"
            )
        total = sum(image.width * image.height for image in held) + pixels
        if total > MAX_PIXELS:
            raise MediaError(
                f"the images of this chat would have {total / 1e6:.0f} million pixels, above its limit of "
                f"{MAX_PIXELS / 1e6:.0f} million; clear the chat or send smaller images"
            )


class Visitors:
    """All visitors by the id that Gradio gives to a tab."""

    def __init__(self, generator: Generator, framing: Framing) -> None:
        self._generator = generator
        self._framing = framing
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tab: str) -> Visitor:
        """The tab's chat; a new one when the tab is new."""
        with self._lock:
            if tab not in self._visitors:
                self._visitors[tab] = Visitor(ChatSession(self._generator, self._framing))
                if len(self._visitors) > MAX_VISITORS:
                    _, oldest = self._visitors.popitem(last=False)
                    oldest.leave()
            self._visitors.move_to_end(tab)
            return self._visitors[tab]

    def gone(self, tab: str) -> None:
        """The tab was closed or reloaded, or its connection broke: stop its answer.

        Its chat stays until room is needed: after a broken connection the tab comes back under the same id.
        """
        with self._lock:
            visitor = self._visitors.get(tab)
        if visitor is not None:
            visitor.stop()
