"""Every reply of a model, written before anything is made of it: an SQLite file that only grows.

    key of the request ──▶ reply, or nothing; a reply is on the disk when `put` returns

Resuming a build is running it again over this file: what was paid for is found. The file can be shared by builds and
kept, and a data set's `provenance.call_ids` are its keys.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from mminstruct.building.request import Completion, Request
from mminstruct.errors import DataError, RunError

_VERSION = 1
_TABLE = """CREATE TABLE calls (
    key TEXT PRIMARY KEY,
    backend TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    request TEXT NOT NULL,
    reply TEXT NOT NULL
) WITHOUT ROWID"""
_BATCH = 1000


class CallLog:
    """The log in one file, made where there is none. Safe for threads; one process at a time should write to it.

    A thread that waits for the disk writes for all that came meanwhile, so many share one wait.

    Raises:
        DataError: the file is something else, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writing = threading.Lock()
        self._writer = _connect(path)
        self._reading = threading.Lock()
        self._reader = _connect(path)
        self._queue: deque[tuple[str, ...]] = deque()

    def get(self, key: str) -> Completion | None:
        with self._reading:
            row = self._reader.execute("SELECT reply FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else Completion.model_validate_json(row[0])

    def put(self, key: str, backend: str, model: str, request: Request, reply: Completion, *, paid: bool) -> None:
        """Keep a reply. One that was not `paid` for is only sure to be there after `flush`."""
        asked = request.model_dump_json(exclude_none=True)
        self._queue.append((key, backend, model, request.prompt, asked, reply.model_dump_json()))
        if paid or len(self._queue) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """All that was `put` before is on the disk when this returns."""
        with self._writing:
            # What another thread took from the queue is on the disk by now: it held the lock.
            rows = []
            while self._queue:
                rows.append(self._queue.popleft())
            if not rows:
                return
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.executemany("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?)", rows)
                self._writer.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise RunError(f"{self.path} cannot be written ({error}); make room and go on with --resume") from None

    def add(self, other: Path) -> None:
        """Take over all replies of another log that this one does not have."""
        with CallLog(other) as there:  # looked at first: it may be no log
            there.flush()
        self.flush()
        with self._writing:
            self._writer.execute("ATTACH DATABASE ? AS other", (str(other),))
            self._writer.execute("INSERT OR IGNORE INTO calls SELECT * FROM other.calls")
            self._writer.execute("DETACH DATABASE other")

    def models(self) -> list[tuple[str, str]]:
        """(backend, model) of every reply, each once."""
        with self._reading:
            return list(self._reader.execute("SELECT DISTINCT backend, model FROM calls ORDER BY backend, model"))

    def calls(self) -> Iterator[tuple[str, Request, Completion]]:
        """(key, request, reply) of all, by key."""
        with self._reading:
            found = self._reader.execute("SELECT key, request, reply FROM calls ORDER BY key").fetchall()
        for key, request, reply in found:
            yield key, Request.model_validate_json(request), Completion.model_validate_json(reply)

    def close(self) -> None:
        self.flush()
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60)
    try:
        # FULL: a reply that was written outlives a power cut, not only a killed process.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version={_VERSION}")
            connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise DataError(f"{path} is no log of calls ({error}); give another file") from None
    if version > _VERSION:
        connection.close()
        raise DataError(f"{path} is a log of version {version}, this reads {_VERSION}; upgrade mminstruct")
    return connection
