"""A small server of OpenAI's chat API on loopback that can fail in the ways that servers fail.

It answers a question by a hash of it, so equal questions have equal answers, and keeps the `Idempotency-Key` of every
question that it answered well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["400", "401", "404", "429", "500", "silence", "truncated", "garbage", "cut", "broken"]
FAULTS: tuple[Fault, ...] = ("429", "500", "silence", "truncated", "garbage")


class ChatServer(ThreadingHTTPServer):
    """
    Args:
        answer: the content of the reply to a request.
        fault: what goes wrong with a request, given how many came before.
    """

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, Any]], str], fault: Callable[[int], Fault | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.fault = fault
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.silence = 0.5
        self.most_at_once = 0
        self._now = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self.lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self.lock:
                self._now -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.counted():
            with self.server.lock:
                fault = self.server.fault(len(self.server.requests))
                self.server.requests.append(body)
                self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.server.faults[str(fault)] += 1
            self._reply(body, fault)

    def _reply(self, body: dict[str, Any], fault: Fault | None) -> None:
        content = "no answer at all" if fault == "broken" else self.server.answer(body)
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        finish = "length" if fault == "cut" else "stop"
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
        data = json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
        if fault is not None and fault.isdigit():
            self._send(int(fault), b'{"error": {"message": "busy"}}', {"Retry-After": "0"} if fault == "429" else {})
        elif fault == "silence":
            time.sleep(self.server.silence)
            self.close_connection = True
        elif fault == "garbage":
            self._send(200, b'{"hello": [1, 2')
        elif fault == "truncated":
            self._send(200, data[:-20], {"Content-Length": str(len(data))})
            self.close_connection = True
        else:
            self._send(200, data)
            with self.server.lock:
                self.server.answered[self.headers["Idempotency-Key"]] += 1

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        written = {"Content-Type": "application/json", "Content-Length": str(len(data))} | (headers or {})
        for name, value in written.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def serving(
    answer: Callable[[dict[str, Any]], str], fault: Callable[[int], Fault | None] = lambda number: None
) -> Iterator[ChatServer]:
    server = ChatServer(answer, fault)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def often(share: float, seed: int = 0) -> Callable[[int], Fault | None]:
    """A share of the requests fails, in all ways alike."""
    chance = random.Random(seed)
    return lambda number: chance.choice(FAULTS) if chance.random() < share else None


def digest(body: dict[str, Any]) -> str:
    """A few letters that depend on all that was said."""
    return hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()[:12]
