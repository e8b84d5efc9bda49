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
from contextlib import AbstractContextManager
from typing import Any, Literal

from tests.building.loopback import Handler, Server, running

Fault = Literal["400", "401", "404", "429", "500", "silence", "truncated", "garbage", "cut", "broken"]
Refusal = Literal["refused", "filtered"]
FAULTS: tuple[Fault, ...] = ("429", "500", "silence", "truncated", "garbage")


class ChatServer(Server):
    """
    Args:
        answer: the content of the reply to a request.
        fault: what goes wrong with a request, given how many came before.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], str], fault: Callable[[int], Fault | None]) -> None:
        super().__init__(_Handler)
        self.answer = answer
        self.fault = fault
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.refusal: Callable[[dict[str, Any]], Refusal | None] = lambda body: None
        self.usage: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5}
        self.silence = 0.5
        self.failure = b'{"error": {"message": "busy"}}'  # the body of answers with a status of failure
        self.most_at_once = 0
        self._now = 0

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


class _Handler(Handler):
    server: ChatServer

    def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
        body = json.loads(self.body())
        with self.server.counted():
            with self.server.lock:
                fault = self.server.fault(len(self.server.requests))
                self.server.requests.append(body)
                self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.server.faults[str(fault)] += 1
            self._reply(body, fault)

    def _reply(self, body: dict[str, Any], fault: Fault | None) -> None:
        said: dict[str, Any] = {"role": "assistant", "content": self.server.answer(body)}
        if fault == "broken":
            said["content"] = "no answer at all"
        refusal = self.server.refusal(body)
        if refusal is not None:
            said |= {"content": None} | ({"refusal": "I will not look at this."} if refusal == "refused" else {})
        finish = "length" if fault == "cut" else "content_filter" if refusal == "filtered" else "stop"
        choice = {"index": 0, "message": said, "finish_reason": finish}
        whole = {"id": "x", "object": "chat.completion", "choices": [choice], "usage": self.server.usage}
        data = json.dumps(whole).encode()
        if fault is not None and fault.isdigit():
            self.give(self.server.failure, int(fault), **({"Retry_After": "0"} if fault == "429" else {}))
        elif fault == "silence":
            time.sleep(self.server.silence)
            self.close_connection = True
        elif fault == "garbage":
            self.give(b'{"hello": [1, 2')
        elif fault == "truncated":
            self.give(data[:-20], Content_Length=str(len(data)))
            self.close_connection = True
        else:
            self.give(data)
            with self.server.lock:
                self.server.answered[self.headers["Idempotency-Key"]] += 1


def serving(
    answer: Callable[[dict[str, Any]], str], fault: Callable[[int], Fault | None] = lambda number: None
) -> AbstractContextManager[ChatServer]:
    return running(ChatServer(answer, fault))


def often(share: float, seed: int = 0) -> Callable[[int], Fault | None]:
    """A share of the requests fails, in all ways alike."""
    chance = random.Random(seed)
    return lambda number: chance.choice(FAULTS) if chance.random() < share else None


def digest(body: dict[str, Any]) -> str:
    """A few letters that depend on all that was said."""
    return hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()[:12]
