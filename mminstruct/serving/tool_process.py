"""Runs tools in a process of their own, where they can be stopped and are held to limits.

    ToolProcess ──JSON {tool, arguments, size}, RGB bytes──▶ python -m mminstruct.serving.tool_process
                ◀──JSON {output, pictures} or {error}, RGB bytes──┘  memory limit, no socket, no file written

The process holds the tools, so that code of one's own never runs beside the models. It starts with the first call and
again after one that was stopped, answers one call after the other, and ends when its owner does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image
from pydantic import Field, ValidationError

from mminstruct import catalog
from mminstruct.config import Config
from mminstruct.errors import MediaError, MminstructError, RunError
from mminstruct.evidence.tool import Tool, call, tools_of

log = logging.getLogger(__name__)

_POLL = 0.05  # seconds between two looks at whether the caller has left
_START = 60.0  # seconds in which the process must have read its tools
_CUT = ("socket.", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")


class ToolLimits(Config):
    """What one call of a tool may take.

    Attributes:
        seconds: until it is stopped.
        memory: bytes of address space of the process that the tools share.
        pixels: of the picture that is looked at, and of each that is given back.
        characters: of the output as JSON; a model reads all of it.
    """

    seconds: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    memory: int = Field(default=4 * 2**30, ge=2**28)
    pixels: int = Field(default=64_000_000, ge=1)
    characters: int = Field(default=8000, ge=1)


class ToolCard(Config):
    """What is known of a tool without running it; `arguments` is the JSON schema of what it takes."""

    name: str
    version: str
    does: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Given:
    """What a tool gave: values that JSON can hold, and pictures."""

    output: dict[str, Any]
    pictures: tuple[Image.Image, ...] = ()


class ToolProcess:
    """The tools of these files (names in the toolbox, or paths). Calls from several threads wait for each other.

    Attributes:
        cards: of the tools, by name.
        missing: why a file's tools are not there, in one line each.

    Raises:
        RunError: the process did not start, or two files have tools of one name.
    """

    def __init__(self, entries: Sequence[str], limits: ToolLimits | None = None) -> None:
        self.limits = limits or ToolLimits()
        self._entries = list(entries)
        self._lock = threading.Lock()
        self._child: _Child | None = None
        with self._lock:
            told = self._started().told
        self.cards = {card.name: card for card in (ToolCard.model_validate(one) for one in told["tools"])}
        self.missing: list[str] = told["missing"]

    def call(
        self, tool: str, arguments: dict[str, Any], picture: Image.Image, cancel: threading.Event | None = None
    ) -> Given:
        """What a tool gives of a picture.

        Raises:
            MediaError: the tool failed, at this picture or at these arguments, or took more than its limits.
            RunError: the process did not start, or `cancel` was set meanwhile.
        """
        if picture.width * picture.height > self.limits.pixels:
            raise MediaError(
                f"the picture has {picture.width:,} x {picture.height:,} pixels and tools look at "
                f"{self.limits.pixels:,} at most; send a smaller one"
            )
        while not self._lock.acquire(timeout=_POLL):
            _leave(cancel)
        try:
            return self._called(tool, arguments, picture, cancel)
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process. May be called twice."""
        with self._lock:
            self._stop()

    def _called(
        self, tool: str, arguments: dict[str, Any], picture: Image.Image, cancel: threading.Event | None
    ) -> Given:
        child = self._started()
        order = {"tool": tool, "arguments": arguments, "size": picture.size}
        until = time.monotonic() + self.limits.seconds
        try:
            child.link.send_bytes(json.dumps(order).encode())
            child.link.send_bytes(picture.convert("RGB").tobytes())
            while not child.link.poll(_POLL):
                _leave(cancel)
                if time.monotonic() > until:
                    raise MediaError(f"{tool} took more than {self.limits.seconds:g} s and was stopped; ask for less")
            told = json.loads(child.link.recv_bytes())
            pictures = tuple(
                Image.frombytes("RGB", (width, height), child.link.recv_bytes())
                for width, height in told.get("pictures", ())
            )
        except (EOFError, OSError):
            self._stop()
            raise MediaError(f"{tool} ended without an answer, perhaps for lack of memory; ask for less") from None
        except BaseException:
            self._stop()  # whatever it still does, its answer would be taken for the next one's
            raise
        if "trace" in told:
            log.error("the tool %s failed: %s", tool, told["trace"])
        if "error" in told:
            raise MediaError(told["error"])
        return Given(told["output"], pictures)

    def _started(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self._stop()
            self._child = _Child(self._entries, self.limits)
            self._finalizer = weakref.finalize(self, self._child.kill)
        return self._child

    def _stop(self) -> None:
        if self._child is not None:
            self._finalizer.detach()
            self._child.kill()
            self._child = None


def _leave(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise RunError("the tool was stopped")


class _Child:
    """The process, and what it told when it had read its tools."""

    def __init__(self, entries: list[str], limits: ToolLimits) -> None:
        self._dead = False
        ours, theirs = socket.socketpair()
        order = json.dumps({"entries": entries, "limits": limits.model_dump()})
        command = [sys.executable, "-m", "mminstruct.serving.tool_process", str(theirs.fileno()), order]
        # A session of its own: Ctrl-C is for its owner, and programs that a tool started end with it.
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.link = Connection(ours.detach())
        try:
            if not self.link.poll(_START):
                raise RunError(f"the tools were not ready within {_START:g} s; start again on a less busy machine")
            self.told: dict[str, Any] = json.loads(self.link.recv_bytes())
        except (EOFError, OSError):
            self.kill()
            raise RunError("the process of the tools did not start; the log has its own words") from None
        except BaseException:
            self.kill()
            raise
        if "error" in self.told:
            self.kill()
            raise RunError(self.told["error"])

    def kill(self) -> None:
        """End it, with all that it started. Once only: its number may be another process' afterwards."""
        if self._dead:
            return
        self._dead = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.link.close()


# ---- in the process --------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the tools, tell which there are, answer calls until the owner has gone."""
    link = Connection(int(sys.argv[1]))
    order = json.loads(sys.argv[2])
    limits = ToolLimits.model_validate(order["limits"])
    tools: dict[str, Tool[Any]] = {}
    missing = []
    for entry in order["entries"]:
        try:
            found = tools_of(entry)
        except MminstructError as error:
            missing.append(f"{entry}: {error}")
            continue
        twice = next((tool.name for tool in found if tool.name in tools), None)
        if twice is not None:
            link.send_bytes(json.dumps({"error": f"two tools are called {twice}; rename one of them"}).encode())
            return
        tools |= {tool.name: tool for tool in found}
    cards = [
        ToolCard(name=tool.name, version=tool.version, does=tool.does, arguments=tool.arguments.model_json_schema())
        for tool in tools.values()
    ]
    _confine(limits)
    link.send_bytes(json.dumps({"tools": [card.model_dump() for card in cards], "missing": missing}).encode())
    with contextlib.suppress(EOFError, OSError):  # the owner has gone
        while True:
            asked = json.loads(link.recv_bytes())
            picture = Image.frombytes("RGB", tuple(asked["size"]), link.recv_bytes())
            head, pictures = _answer(tools[asked["tool"]], asked["arguments"], picture, limits)
            link.send_bytes(head)
            for one in pictures:
                link.send_bytes(one.tobytes())


def _answer(
    tool: Tool[Any], given: dict[str, Any], picture: Image.Image, limits: ToolLimits
) -> tuple[bytes, list[Image.Image]]:
    """The first message of an answer, and the pictures whose bytes follow."""
    trace = {}
    try:
        arguments = tool.arguments.model_validate(given)
        output = call(tool, picture, arguments)
        pictures = tool.pictures(picture, arguments)
        told = json.dumps(output, ensure_ascii=False, allow_nan=False)
        large = next((one.size for one in pictures if one.width * one.height > limits.pixels), None)
        if large is not None:
            raise MediaError(f"{tool.name} made a picture of {large[0]} x {large[1]} pixels, more than is allowed")
        if len(told) > limits.characters:
            raise MediaError(
                f"{tool.name} gave {len(told):,} characters, more than the {limits.characters:,} that a model is told; "
                f"ask for a part of the picture"
            )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "arguments"
        problem = f"{tool.name} cannot be called so: {key}: {first['msg']}; it {tool.does}"
    except MminstructError as error:
        problem = str(error)
    except MemoryError:
        problem = f"{tool.name} needs more memory than it is allowed; send a smaller picture"
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is this call's, and the next one is answered
        trace = {"trace": traceback.format_exc()}
        problem = f"{tool.name} failed ({type(error).__name__}); call it otherwise, or leave it"
    else:
        sizes = [one.size for one in pictures]
        return json.dumps({"output": output, "pictures": sizes}).encode(), [one.convert("RGB") for one in pictures]
    return json.dumps({"error": " ".join(problem.split())} | trace).encode(), []


def _confine(limits: ToolLimits) -> None:
    """From here on: so much memory, no file written, no core left, no socket. Programs that a tool starts inherit the
    first three; the last is Python's own word, kept by tools in Python."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then fails, where the default would end the process
    for kind, value in ((resource.RLIMIT_AS, limits.memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(_CUT):
        raise PermissionError("tools use no network and change no files")
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if isinstance(path, str | bytes) and writes and os.fsdecode(path) != os.devnull:
            raise PermissionError("tools use no network and change no files")


def entries() -> list[str]:
    """The names of the toolbox's files."""
    return catalog.names(catalog.TOOL)


if __name__ == "__main__":
    main()
