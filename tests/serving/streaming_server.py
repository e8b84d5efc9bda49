"""A small server on loopback whose answers are written event by event by the test that has it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.building.loopback import Handler, Server, running


class Talk:
    """One answer that is being written. `write` raises `OSError` once the asker has gone."""

    def __init__(self, handler: _Handler, body: dict[str, Any]) -> None:
        self.body = body
        self._handler = handler
        self._begun = False

    def refuse(self, status: int, data: bytes) -> None:
        self._handler.give(data, status)

    def write(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._handler.send_response(200)
            self._handler.send_header("Content-Type", "text/event-stream")
            self._handler.send_header("Transfer-Encoding", "chunked")
            self._handler.end_headers()
        self._handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def event(self, value: object) -> None:
        self.write(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode())

    def piece(self, text: str | None, finish: str | None = None, **further: Any) -> None:
        choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish, **further}
        self.event({"object": "chat.completion.chunk", "choices": [choice]})

    def end(self, usage: dict[str, Any] | None = None) -> None:
        if usage is not None:
            self.event({"choices": [], "usage": usage})
        self.event("[DONE]")
        self._handler.wfile.write(b"0\r\n\r\n")

    def die(self) -> None:
        self._handler.close_connection = True

    def go_on_until_left(self, every: float = 0.01) -> None:
        """Write pieces until nobody reads them; then `server.left` is set."""
        try:
            while True:
                self.piece("more ")
                time.sleep(every)
        except OSError:
            self._handler.close_connection = True
            self._handler.server.left.set()


Script = Callable[[Talk], None]


class StreamingServer(Server):
    def __init__(self, script: Script) -> None:
        super().__init__(_Handler)
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.left = threading.Event()
        self.models: bytes = b'{"object": "list", "data": []}'

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An asker that has gone is no news."""


class _Handler(Handler):
    server: StreamingServer

    def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
        self.give(self.server.models)

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.body())
        self.server.bodies.append(body)
        self.server.keys.append(self.headers["Authorization"])
        self.server.script(Talk(self, body))


def serving(script: Script) -> AbstractContextManager[StreamingServer]:
    return running(StreamingServer(script))
