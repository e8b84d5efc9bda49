"""Where something is served: addresses that can be had, an application that begins and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mminstruct.errors import ConfigError, RunError
from mminstruct.serving import server
from mminstruct.serving.server import Address, reserve, served, wait_for_interrupt


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0"])
def test_port_0_is_a_free_one(host: str) -> None:
    address = reserve(host, 0)
    assert address.port > 0
    assert address.url == f"http://{host}:{address.port}"


def test_a_taken_port_is_told_with_the_remedy(taken: int) -> None:
    with pytest.raises(RunError, match=rf"port {taken} on 127\.0\.0\.1 .* --port {taken + 1}"):
        reserve(port=taken)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port(port: int) -> None:
    with pytest.raises(ConfigError, match="no port"):
        reserve(port=port)


def test_a_foreign_host() -> None:
    with pytest.raises(RunError, match="cannot be used"):
        reserve("192.0.2.1", 0)


def test_ipv6_addresses_are_written_in_brackets() -> None:
    assert Address("::1", 80).url == "http://[::1]:80"


# ---- a served application --------------------------------------------------------------------------------------------


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def test_an_application_is_there_in_the_block_and_gone_behind_it() -> None:
    before, address = threading.active_count(), reserve()
    for _ in range(2):  # the port is free again at once
        with served(Starlette(routes=[Route("/", hello)]), address):
            response = httpx.get(address.url)
            assert response.text == "hello" and "server" not in response.headers
        with pytest.raises(httpx.ConnectError):
            httpx.get(address.url)
    assert threading.active_count() == before


def test_pieces_of_an_answer_are_sent_at_once() -> None:
    """Nagle's algorithm would hold each back until the client has confirmed the one before."""
    address = reserve()
    with served(Starlette(), address), socket.create_connection((address.host, address.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(9) == b"HTTP/1.1 "
        everything = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
        far = [one for one in everything if one.getsockname()[:2] == (address.host, address.port)]
        accepted = [one for one in far if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
        assert [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in accepted] == [1]


def test_a_port_that_was_taken_in_the_meantime(taken: int) -> None:
    with pytest.raises(RunError, match=f"port {taken}"), served(Starlette(), Address(port=taken)):
        pytest.fail("it is served")


def test_an_application_that_does_not_start() -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise ValueError("broken")

    with pytest.raises(RunError, match="could not be served"), served(broken, reserve()):
        pytest.fail("it is served")


def test_what_runs_at_the_end_gets_its_time() -> None:
    async def slow(request: Request) -> PlainTextResponse:
        import anyio

        begun.set()
        await anyio.sleep(0.5)
        return PlainTextResponse("done")

    begun = threading.Event()
    address, answers = reserve(), []
    asker = threading.Thread(target=lambda: answers.append(httpx.get(address.url).text))
    with served(Starlette(routes=[Route("/", slow)]), address, grace=5):
        asker.start()
        assert begun.wait(10)
    asker.join()
    assert answers == ["done"]


def test_an_application_that_does_not_end_is_left_behind_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextlib.asynccontextmanager
    async def endless_end(app: Starlette) -> AsyncIterator[None]:
        yield
        loops.append(asyncio.get_running_loop())
        await ended.wait()

    loops: list[asyncio.AbstractEventLoop] = []
    ended = asyncio.Event()
    monkeypatch.setattr(server, "END_SECONDS", 0.5)
    with served(Starlette(lifespan=endless_end), reserve(), grace=0):
        pass
    assert "does not end and is left to the end of the process; it waits in " in caplog.text
    assert "main (" in caplog.text and "lifespan" in caplog.text
    loops[0].call_soon_threadsafe(ended.set)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_the_waiting(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    try:
        timer.start()
        started = time.monotonic()
        wait_for_interrupt()
        assert time.monotonic() - started < 5
    finally:
        timer.join()
        for one, handler in before.items():
            signal.signal(one, handler)
