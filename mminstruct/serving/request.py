"""One answer as it is made: what is asked, the text that streams out, what it took.

    Request ─queue─▶ inference thread ─pieces of text─▶ Answer (an iterator)

The inference thread holds the request; only the consumer holds the answer, so dropping it cancels.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mminstruct.conversation import Conversation
from mminstruct.errors import RunError
from mminstruct.serving.settings import GenerationSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from mminstruct.media import Video
    from mminstruct.serving.engine import Engine

# How often a waiting consumer looks at its cancel event. Tokens wake it at once; this bounds only the cancel.
POLL_SECONDS = 0.05

FinishReason = Literal["waiting", "running", "end", "stop", "length", "time", "cancelled", "error"]


@dataclass(frozen=True)
class Token:
    """One token of an answer, where log probabilities were asked for.

    Attributes:
        text: the token by itself; `data` are its bytes, which need not be whole characters.
        top: the likeliest tokens at its place, itself perhaps not among them, most likely first.
    """

    id: int
    text: str
    data: bytes
    logprob: float
    top: tuple[Token, ...] = ()


@dataclass
class Usage:
    """What the model saw and made. Filled in while the answer runs, final once the iterator has ended.

    Attributes:
        cached_tokens: of the prompt, those whose keys and values were there from an earlier turn.
        media: pictures and videos in the prompt.
        seconds: in the model, prompt included, without the time in the queue.
        first_token_seconds: of these, until the first token; None before.
        queue_seconds: from the request to its turn.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    media: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    queue_seconds: float = 0.0
    finish_reason: FinishReason = "waiting"

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(eq=False)
class Request:
    """What the consumer and the inference thread share about one answer."""

    conversation: Conversation
    media: Sequence[Image | Video]
    settings: GenerationSettings
    cancel: threading.Event | None = None
    usage: Usage = field(default_factory=Usage)
    tokens: list[Token] = field(default_factory=list)
    asked: float = field(default_factory=time.perf_counter)
    out: queue.SimpleQueue[str | Exception | None] = field(default_factory=queue.SimpleQueue)
    wake: Callable[[], None] | None = None
    closed: threading.Event = field(default_factory=threading.Event)

    def put(self, item: str | Exception | None) -> None:
        """Hand over a piece of text, the failure, or None for the end."""
        self.out.put(item)
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()

    @property
    def cancelled(self) -> bool:
        return self.closed.is_set() or (self.cancel is not None and self.cancel.is_set())


class Answer(Iterator[str]):
    """The text of one answer, piece by piece. `close()` (or dropping the object) cancels what is left of it."""

    def __init__(self, request: Request, engine: Engine) -> None:
        self._request = request
        self._engine = engine
        self._ended = False
        self._finalizer = weakref.finalize(self, request.closed.set)

    @property
    def usage(self) -> Usage:
        return self._request.usage

    @property
    def tokens(self) -> list[Token]:
        """The tokens so far, where `logprobs` were asked for; their text may be ahead of the pieces handed out."""
        return self._request.tokens

    @property
    def position(self) -> int:
        """How many requests are answered before this one; 0 when it is its turn."""
        return self._engine.ahead(self._request)

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> str:
        """The next piece. Raises the original error when generation failed."""
        while not self._ended:
            piece = self.wait(POLL_SECONDS)
            if piece is not None:
                return piece
        raise StopIteration

    def wait(self, seconds: float) -> str | None:
        """The next piece, or None when none came in time or the answer is over (`ended`)."""
        if self._ended:
            return None
        try:
            item = self._request.out.get(timeout=seconds)
        except queue.Empty:
            if self._request.cancelled:
                self.usage.finish_reason = "cancelled"
                self.close()
            elif not self._engine.alive and self._request.out.empty():
                self.close()
                raise RunError("the inference thread has ended; start the model again") from None
            return None
        if isinstance(item, str):
            return item
        self.close()
        if isinstance(item, Exception):
            raise item
        return None

    def wake(self, call: Callable[[], None]) -> None:
        """Have `call` made as soon as `wait(0)` has something, at once where it has: once, from whatever thread, and
        perhaps a second time. For those who have something else to do in the meantime."""
        self._request.wake = call
        if not self._request.out.empty():
            self._request.wake = None
            call()

    @property
    def ended(self) -> bool:
        return self._ended

    def close(self) -> None:
        """Cancel the answer. Text that was made but not read is dropped."""
        self._ended = True
        self._finalizer()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
