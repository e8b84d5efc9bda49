"""Between the event loop and answers that are made in a thread: text without blocking, and clients that leave.

The thread that makes an answer wakes the event loop, so no number of answers uses up threads. Between two pieces of one
answer there is a pause: whatever comes meanwhile is one piece, and a fast model is not held up by its readers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mminstruct.errors import RunError
from mminstruct.serving.request import Answer

T = TypeVar("T")

PAUSE = 0.02  # seconds between two pieces
LOOK = 1.0  # seconds until an answer is looked at that nobody woke anybody for: its engine may have died


class LeftError(Exception):
    """The client closed its connection."""


class Text:
    """The text of an answer in pieces, without white space in front, which belongs to the template."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._begun = False

    async def next(self) -> str | None:
        """What came since the last call, at least one character; None at the end.

        Raises what generation raised, and `RunError` where the answer was not finished because the server ends.
        """
        if self._begun:
            await anyio.sleep(PAUSE)
        while True:
            text = self._come()
            if text:
                return text
            if self._answer.ended:
                if self._answer.usage.finish_reason == "cancelled":
                    raise RunError("the server ends and did not finish this answer; ask again later")
                return None
            await self._news()

    async def _news(self) -> None:
        """Return when there may be something new."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(news.set)

        self._answer.wake(wake)
        with anyio.move_on_after(LOOK):
            await news.wait()

    def _come(self) -> str:
        pieces = []
        while (piece := self._answer.wait(0)) is not None:
            pieces.append(piece)
        text = "".join(pieces)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        return text


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns. When the client leaves before, `work` is cancelled.

    Args:
        receive: of a request whose body was read.

    Raises:
        LeftError: the client left. What `work` raises is raised as it is.
    """
    done: list[T] = []
    failed: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            done.append(await work())
        except Exception as error:  # noqa: BLE001 - a task group would wrap it; it is raised below
            failed.append(error)
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]
    if not done:
        raise LeftError
    return done[0]


class EventStream(Response):
    """Server-sent events, each sent as soon as it is there. When the client leaves, `events` are closed at once."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self._events = events
        self.status_code = 200
        self.background = None
        # A proxy that collects the whole answer before it hands it on would undo the streaming.
        self.init_headers({**headers, "Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write() -> None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await while_connected(receive, write)
        except LeftError:
            pass
        finally:
            await self._events.aclose()
