"""The errors a person can act on.

Every error that the user can cause or mend is a `MminstructError`: one line that says what was found, where, and
what to do. The command line prints that line and exits with code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class MminstructError(Exception):
    """Base class. The message is one line: what was found, where, what to do.

    Attributes:
        code: one word for reports that count errors by kind.
    """

    code: ClassVar[str] = "error"

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class ConfigError(MminstructError):
    """A config file, an override or a name that does not exist."""

    code = "config"


class DataError(MminstructError):
    """A data set, a conversation or a file format that does not hold what it should."""

    code = "data"


class PlacesError(DataError):
    """A conversation whose media and their places in its turns do not go together."""

    code = "places"


class RoleError(DataError):
    """A turn of somebody that nobody knows."""

    code = "role"


class MediaError(MminstructError):
    """An image or a video that is missing, broken, too large or not what it claims to be."""

    code = "media"


class CheckpointError(MminstructError):
    """A checkpoint folder that is incomplete or does not fit its own description."""

    code = "checkpoint"


class RunError(MminstructError):
    """An output folder, a port or a run in a state that would lose or overwrite something."""

    code = "run"


class BusyError(RunError):
    """A model that has as many questions as may wait. The same one may be answered later."""

    code = "busy"


class MemoryLimitError(MminstructError):
    """A conversation for which the device has too little memory."""

    code = "memory"


class ServerError(MminstructError):
    """A model's server that did not answer, or refused this one question.

    Attributes:
        again: whether the same question may be answered later.
        after: seconds to wait before, where the server says so.
    """

    code = "server"

    def __init__(self, message: str, *, again: bool = False, after: float | None = None) -> None:
        super().__init__(message)
        self.again = again
        self.after = after


class UnreachableError(ServerError):
    """A server that no connection could be made to: nobody listens there."""


class WaitingError(ServerError):
    """A question that will be answered later, together with others."""

    code = "waiting"


class ReplyError(MminstructError):
    """A model's reply that is not of the form that was asked for, or is cut off."""

    code = "reply"


class RefusedError(ReplyError):
    """A model that declined to answer, in its server's words. Told what is wrong it would decline again."""

    code = "refused"


class BudgetError(MminstructError):
    """Work that would cost more than was allowed."""

    code = "budget"


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A run that was asked to stop by a signal, and has saved what it needs to go on. The message says how.

    Attributes:
        signal: its number; the command exits with 128 more, as a shell says it of a process that a signal ended.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean 'x'?' for the nearest known name, or the list of known names where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f" Did you mean {' or '.join(repr(n) for n in near)}?"
    return f" Known: {', '.join(known)}." if known else " None exist."
