"""Stopping a run in good order when it is asked to: Ctrl-C (SIGINT), a scheduler's preemption (SIGTERM)."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Which signal asked this process to stop; None so far."""

    received: int | None = None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """While the block runs, the first signal is noted down and no more; the second acts as it did before.

    Python lets only the main thread handle signals, so in another one nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
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
        restore()


def ignore_signals(worker: int) -> None:
    """For a data loader's processes, which get a signal to the whole group, too: their parent decides when they end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
