"""Decoding in a process that may do nothing else: `(open file, order) -> one line of JSON, then bytes`, or why not.

    file ──stdin──▶ python -m mminstruct.media.decode ──stdout──▶ facts (a line), then as many bytes as they promise
                    no environment, no working files,
                    limits of memory, time and open files

The parent reads no more than the facts promise and the limits allow, stops the process when its time is over, and
believes nothing that it says: a decoder that was taken over could write anything.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from mminstruct.config import Config
from mminstruct.errors import MediaError

_LOG = logging.getLogger(__name__)

# The child finds its modules where this process does, and looks nowhere else (`-I`): no working folder, no variables.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mminstruct.media.decode import main; main()"
_KEPT_VARIABLES = ("SYSTEMROOT", "LD_LIBRARY_PATH")  # without which Python itself may not start
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each more takes memory of those that are allowed

Facts = TypeVar("Facts", bound=BaseModel)


class Refusal(Config):
    """What the child says instead of facts: why this video is not decoded, in words of `mminstruct.media.decode`."""

    refused: str


class Crash(Config):
    """What the child says where its own code failed: which error, and in which line."""

    crashed: str


@contextlib.contextmanager
def decoder(
    stream: IO[bytes], where: str, order: dict[str, Any], facts: type[Facts], seconds: float, longest: int
) -> Iterator[tuple[Facts, IO[bytes]]]:
    """What the child says of the video in `stream`, and from where its frames are read; it is gone afterwards.

    Args:
        where: what messages begin with.
        facts: of what form its line must be.
        seconds: after which it is stopped.
        longest: bytes of its line.

    Raises:
        MediaError: the video was refused, took too long, or brought the decoder down; also in the block, by `take`.
    """
    path = [place for place in sys.path if place]
    variables = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    command = [sys.executable, "-I", "-B", "-c", _START, json.dumps(path), json.dumps(order)]
    with subprocess.Popen(
        command, stdin=stream, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**variables, **_ONE_THREAD}
    ) as child:
        assert child.stdout is not None
        timer = threading.Timer(seconds, child.kill)
        timer.daemon = True
        timer.start()
        try:
            line = child.stdout.readline(longest)
            yield _facts(line, facts, where), child.stdout
        except _BrokenOffError:
            child.wait()
            over = not timer.is_alive()
            if over or child.returncode == -_SIGXCPU:
                raise MediaError(f"{where} could not be decoded within {seconds:g} seconds; cut it shorter") from None
            _LOG.warning("a video decoder ended early, with exit code %d", child.returncode)
            raise MediaError(f"{where} crashed the video decoder; the file is broken") from None
        finally:
            timer.cancel()
            child.kill()


def take(stream: IO[bytes], size: int) -> bytes:
    """So many bytes of what the child writes; to be called in the block of `decoder`, which says why there are none."""
    data = stream.read(size)
    if len(data) < size:
        raise _BrokenOffError
    return data


_SIGXCPU = 24


class _BrokenOffError(Exception):
    """The child ended before it wrote all that it promised."""


def _facts(line: bytes, facts: type[Facts], where: str) -> Facts:
    if not line.endswith(b"\n"):
        raise _BrokenOffError
    for kind in (facts, Refusal, Crash):
        try:
            found = kind.model_validate_json(line)
        except ValidationError:
            continue
        if isinstance(found, facts):
            return found
        if isinstance(found, Refusal):
            raise MediaError(f"{where}: {found.refused}")
        _LOG.warning("the video decoder failed: %s", found)
    raise _BrokenOffError
