"""An ASGI application on a port of this computer, for as long as a block runs or until somebody ends the process.

address = reserve(port=8000)          # before anything slow: a taken port is told at once
with served(app, address):
    wait_for_interrupt()
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mminstruct.errors import ConfigError, RunError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
GRACE = 5  # seconds for what runs when the server ends
START_SECONDS = 60.0
END_SECONDS = 10.0  # beside the grace of requests
_BACKLOG = 2048


@dataclass(frozen=True)
class Address:
    """Where something is served."""

    host: str = HOST
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def reserve(host: str = HOST, port: int = 0) -> Address:
    """The address, checked before anything slow happens; port 0 picks a free one.

    Raises:
        ConfigError: the port is no port.
        RunError: the port is taken, or the host is not an address of this computer.
    """
    with _bound(host, port) as probe:
        return Address(host, probe.getsockname()[1])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio switch off Nagle's algorithm, which holds a piece of an answer back
    # until the one before was confirmed: 40 ms, where the client is in no hurry.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A port whose last connections are still winding down counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OverflowError:
        listener.close()
        raise ConfigError(f"--port {port} is no port; give a number from 0 to 65535") from None
    except socket.gaierror:
        listener.close()
        raise RunError(f"the host {host} is unknown on this computer; give one of its addresses") from None
    except OSError as error:
        listener.close()
        raise RunError(
            f"port {port} on {host} cannot be used ({error.strerror}); "
            f"end the program that holds it, or give another one: --port {port + 1 if port < 65535 else 0}"
        ) from None
    return listener


@contextlib.contextmanager
def served(app: ASGIApp, address: Address, grace: int = GRACE) -> Iterator[None]:
    """The application, served while the block runs. At its end no request is taken, those that run get `grace` seconds;
    an application that has not ended `END_SECONDS` later is left to the end of the process, and the log says so.

    Raises:
        RunError: the port was taken in the meantime, or the application did not start; the log says why.
    """
    import uvicorn

    listener = _bound(address.host, address.port)
    listener.listen(_BACKLOG)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=grace,
    )
    server = uvicorn.Server(config)

    def run() -> None:
        with contextlib.suppress(SystemExit):  # its way to say that it did not start
            server.run([listener])

    thread = threading.Thread(target=run, name="mminstruct-http", daemon=True)
    thread.start()
    try:
        end = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                raise RunError(f"{address.url} could not be served; the log says why")
            time.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        thread.join(grace + END_SECONDS)
        if thread.is_alive():  # an application that does not end, or a connection that nobody closes
            log.warning(
                "%s does not end and is left to the end of the process; it waits in %s", *_stuck(address, server)
            )
        listener.close()


def _stuck(address: Address, server: uvicorn.Server) -> tuple[str, str]:
    """The address, and in which function each task of its event loop began to wait."""
    tasks = asyncio.all_tasks(server.servers[0].get_loop()) if server.servers else set()
    places = [
        f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"
        for task in tasks
        for frame in task.get_stack(limit=1)
    ]
    return address.url, ", ".join(sorted(places)) or "no task"


def wait_for_interrupt() -> None:
    """Return at Ctrl-C, or when the process is asked to end; what was begun is then cleared away in order."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    asked.wait()
