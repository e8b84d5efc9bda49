"""Stopping a run in good order when it is asked to: Ctrl-C (SIGINT), a scheduler's preemption (SIGTERM)."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Which signal asked this process to stop, None so far; and whether the stage is over, which its data loader's
    processes see, too."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.over = multiprocessing.RawValue("b", 0)

    def shield(self, worker: int) -> None:
        """For a data loader's process: a scheduler signals it, too, but it has to work until the stage is over.

        Then it has to end when it is told to, for its parent waits for that.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0) if self.over.value else None)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """While the block runs, the first signal is noted down and no more; the second acts as it did before.

    Python lets only the main thread handle signals, so in another one nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        try:
            yield request
        finally:
            request.over.value = 1
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.received = number
        restore()
        log.warning("%s: when the step is made, a checkpoint is saved and the run stops", signal.Signals(number).name)

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        request.over.value = 1
        restore()
