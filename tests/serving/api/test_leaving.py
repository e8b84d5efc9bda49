"""Clients that leave, servers that are full, closed or broken: what runs on, what stops, what the others are told."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import torch

from mminstruct.errors import DataError, MemoryLimitError, ServerError
from mminstruct.media.gate import Gate
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.serving.api.app import create_app
from mminstruct.serving.api.errors import ApiError, api_error
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.server import Address, reserve, served
from mminstruct.serving.settings import Limits
from tests.serving.api.conftest import NAME

LONG = {"model": NAME, "temperature": 0, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1900}


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def small(model_and_processor: tuple[VisionLanguageModel, Processor]) -> Iterator[Generator]:
    """One answer at a time, and one that waits."""
    with Generator(*model_and_processor, Limits(waiting=1, batch=1)) as generator:
        yield generator


@pytest.fixture(scope="module")
def place(small: Generator) -> Iterator[Address]:
    address = reserve()
    with served(create_app(Models({NAME: small}), Gate()), address, grace=1):
        yield address


class Visitor:
    """A client that can hang up in the middle, as browsers do."""

    def __init__(self, address: Address, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self._socket = socket.create_connection((address.host, address.port), timeout=60)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: {len(data)}\r\n\r\n"
        self._socket.sendall(head.encode() + data)

    def read_until(self, text: bytes) -> bytes:
        got = b""
        while text not in got:
            piece = self._socket.recv(65536)
            assert piece, got
            got += piece
        return got

    def leave(self) -> None:
        self._socket.close()


def assert_stands_still_soon(generator: Generator) -> None:
    """Nothing is generated any more, long before an answer's end: by steps, since seconds are the machine's."""
    before = generator.steps
    until(lambda: generator.running == 0)
    steps = generator.steps
    assert steps - before < LONG["max_tokens"] / 2
    time.sleep(0.2)
    assert generator.steps == steps


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_in_the_middle_frees_the_model_at_once(small: Generator, place: Address, stream: bool) -> None:
    before = small.steps
    visitor = Visitor(place, {**LONG, "stream": stream})
    until(lambda: small.steps > before + 5)
    if stream:
        visitor.read_until(b'"content":"')
    visitor.leave()
    assert_stands_still_soon(small)
    figures = httpx.get(f"{place.url}/metrics").text
    assert f'mminstruct_requests_total{{model="{NAME}",status="499"}}' in figures


def test_who_leaves_while_waiting_is_never_begun(small: Generator, place: Address) -> None:
    first = Visitor(place, {**LONG, "stream": True})
    first.read_until(b'"content":"')
    second = Visitor(place, {**LONG, "stream": True})
    until(lambda: small.waiting == 1)
    second.leave()
    time.sleep(0.2)
    first.leave()
    assert_stands_still_soon(small)
    assert small.waiting == 0


def test_a_full_queue_says_when_to_ask_again(small: Generator, place: Address) -> None:
    first = Visitor(place, {**LONG, "stream": True})
    first.read_until(b'"content":"')
    second = Visitor(place, {**LONG, "stream": True})
    until(lambda: small.waiting == 1)
    response = httpx.post(f"{place.url}/v1/chat/completions", json=LONG)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["code"] == "busy"
    first.leave()
    second.leave()
    assert_stands_still_soon(small)


def test_many_streams_at_once_leave_room_for_other_requests(small: Generator, place: Address) -> None:
    """However many answers are waited for, the list of models and the figures come at once."""
    with Generator(small.model, small.processor, Limits(waiting=100, batch=1)) as generator:
        address = reserve()
        with served(create_app(Models({NAME: generator}), Gate()), address, grace=1):
            visitors = [Visitor(address, {**LONG, "stream": bool(number % 2)}) for number in range(60)]
            until(lambda: generator.waiting + generator.running == 60)
            started = time.monotonic()
            assert httpx.get(f"{address.url}/v1/models").status_code == 200
            assert f'mminstruct_waiting{{model="{NAME}"}} 59.0' in httpx.get(f"{address.url}/metrics").text
            assert time.monotonic() - started < 2
            assert threading.active_count() < 40
            for visitor in visitors:
                visitor.leave()
            until(lambda: generator.waiting + generator.running == 0, seconds=5)


def test_pictures_of_all_requests_have_a_limit_together(small: Generator, red: str) -> None:
    """Of 80 x 60 pixels; a request alone may have more than the limit."""
    seen = {**LONG, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": red}}]}]}
    address = reserve()
    with served(create_app(Models({NAME: small}), Gate(), most_pixels=4_000), address, grace=1):
        url = f"{address.url}/v1/chat/completions"
        first = Visitor(address, {**seen, "stream": True})
        first.read_until(b'"content":"')
        refused = httpx.post(url, json=seen)
        assert refused.status_code == 429 and "fill the memory" in refused.json()["error"]["message"]
        assert httpx.post(url, json={**LONG, "max_tokens": 2}).status_code == 200  # a text takes no pixels
        first.leave()
        assert_stands_still_soon(small)
        assert httpx.post(url, json={**seen, "max_tokens": 2}).status_code == 200


# ---- failures --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def broken(generator: Generator, error: Exception, at: int = 0) -> Iterator[None]:
    """In the block the model fails at its so many-th step and all later ones."""
    calls = iter(range(10**6))

    def fail(*_: object) -> None:
        if next(calls) >= at:
            raise error

    hook = generator.model.get_output_embeddings().register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


def test_an_unexpected_failure_gives_a_number_that_is_in_the_log(
    small: Generator, place: Address, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), broken(small, RuntimeError("cuDNN at /secret/path")):
        response = httpx.post(f"{place.url}/v1/chat/completions", json=LONG)
    told = response.json()["error"]
    assert response.status_code == 500 and response.headers["x-should-retry"] == "false"
    assert "RuntimeError" in told["message"] and "/secret" not in response.text
    number = response.headers["x-request-id"]
    assert number in told["message"]
    assert any(number in record.getMessage() and record.exc_info for record in caplog.records)


def test_too_little_memory_is_told_with_the_remedy_and_the_server_lives_on(small: Generator, place: Address) -> None:
    with broken(small, torch.OutOfMemoryError("CUDA out of memory at 0x7f")):
        response = httpx.post(f"{place.url}/v1/chat/completions", json=LONG)
    assert response.status_code == 507
    assert "send fewer pictures" in response.json()["error"]["message"] and "0x7f" not in response.text
    assert httpx.post(f"{place.url}/v1/chat/completions", json={**LONG, "max_tokens": 2}).status_code == 200


def test_a_failure_in_the_middle_of_a_stream_is_an_event(small: Generator, place: Address) -> None:
    with broken(small, RuntimeError("x"), at=300):
        response = httpx.post(f"{place.url}/v1/chat/completions", json={**LONG, "stream": True})
    assert response.status_code == 200
    *_, last, done, end = response.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert response.headers["x-request-id"] in json.loads(last.removeprefix("data: "))["error"]["message"]


def test_a_closed_model_is_told_as_such(model_and_processor: tuple[VisionLanguageModel, Processor]) -> None:
    generator = Generator(*model_and_processor, Limits(batch=1))
    address = reserve()
    with served(create_app(Models({NAME: generator}), Gate()), address, grace=1):
        running = Visitor(address, {**LONG, "stream": True})
        running.read_until(b'"content":"')
        waiting = Visitor(address, LONG)
        until(lambda: generator.waiting == 1)
        generator.close()
        assert b"503 Service Unavailable" in waiting.read_until(b"ask again")
        assert b'"code":"closing"' in running.read_until(b"[DONE]")
        response = httpx.post(f"{address.url}/v1/chat/completions", json=LONG)
        assert response.status_code == 503 and "retry-after" in response.headers
        assert httpx.get(f"{address.url}/health").status_code == 503


def test_an_answer_ends_at_the_servers_time_limit(small: Generator) -> None:
    address = reserve()
    with served(create_app(Models({NAME: small}), Gate(), max_seconds=0.2), address, grace=1):
        response = httpx.post(f"{address.url}/v1/chat/completions", json=LONG, timeout=30)
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert response.json()["usage"]["completion_tokens"] < 1900


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServerError("down", again=True, after=7), 503),
        (ServerError("it refuses"), 502),
        (MemoryLimitError("too little"), 507),
        (DataError("bad"), 400),
        (KeyError("x"), 500),
        (ApiError("x", status=413), 413),
    ],
)
def test_every_failure_has_a_status(error: Exception, status: int) -> None:
    told = api_error(error, "id-1")
    assert told.status == status
    assert ("id-1" in str(told)) == (status in (500, 507))
    assert told.headers.get("Retry-After") == ("7" if status == 503 else None)
