"""How long and how slow a request's body may be.

Bytes are counted as they come, whatever `Content-Length` said. Only the time spent waiting for the client counts, and a
longer body has longer, so that a slow line passes and one that drips to hold a place does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mminstruct.serving.refusal import refuse, under

# A server that closes while the client still sends makes the client miss the answer, so some of it is thrown away.
DRAIN_SECONDS = 3.0


class BodyLimit:
    """ASGI middleware: 413 for a body that is too long, 408 for one that comes too slowly.

    Args:
        most: bytes of a body.
        most_at: other limits, by path.
        seconds: to wait for a body, beside a second for each `bytes_per_second` that came.
    """

    def __init__(
        self, app: ASGIApp, most: int, most_at: Mapping[str, int], seconds: float, bytes_per_second: int
    ) -> None:
        self.app = app
        self.most = most
        self.most_at = most_at
        self.seconds = seconds
        self.bytes_per_second = bytes_per_second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = next((most for path, most in self.most_at.items() if under(scope["path"], [path])), self.most)
        too_long = f"The request is longer than {limit:,} bytes; send less at once."
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            await _drain(receive)
            await refuse(scope, receive, send, 413, "request_too_large", too_long, {"Connection": "close"})
            return

        received, waited = 0, 0.0
        whole = refused = begun = False

        async def turn_away(status: int, code: str, message: str) -> Message:
            # The application learns only that its client has left; what it still says is not sent.
            nonlocal refused
            refused = True
            if not begun:
                await refuse(scope, receive, send, status, code, message, {"Connection": "close"})
            return {"type": "http.disconnect"}

        async def counted() -> Message:
            nonlocal received, waited, whole
            if refused:
                return {"type": "http.disconnect"}
            if whole:  # what comes now is that the client leaves, whenever that may be
                return await receive()
            started = time.monotonic()
            try:
                async with asyncio.timeout(self.seconds + received / self.bytes_per_second - waited):
                    message = await receive()
            except TimeoutError:
                return await turn_away(408, "request_too_slow", "The request came too slowly; send it again.")
            waited += time.monotonic() - started
            if message["type"] != "http.request":
                return message
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > limit:
                await _drain(receive, whole)
                return await turn_away(413, "request_too_large", too_long)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            if not refused:
                begun = True
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except ClientDisconnect:
            if not refused:
                raise


async def _drain(receive: Receive, whole: bool = False) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while not whole:
                whole = not (await receive()).get("more_body", False)
