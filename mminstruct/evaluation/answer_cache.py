"""Replies that were given once: an SQLite file, key ──▶ reply, shared by runs, benchmarks and metrics.

A run that is killed and started again finds what it had, and a benchmark that asks what another has asked costs
nothing. Each entry carries a checksum: one that does not fit is asked again and replaced, never trusted.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from mminstruct.errors import DataError, RunError
from mminstruct.evaluation.requests import Reply
from mminstruct.files import bytes_sha256

log = logging.getLogger(__name__)

_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT, checksum TEXT) WITHOUT ROWID"
_AT_ONCE = 500  # keys in one query; SQLite takes at least 999 parameters


def default_path() -> Path:
    """`mminstruct/answers.sqlite` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mminstruct" / "answers.sqlite"


class AnswerCache:
    """Replies in one file, made where there is none. Several processes may use it at once.

    Raises:
        DataError: the file is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=120, isolation_level=None)
        try:
            # NORMAL: a killed process loses nothing that was committed; a power cut may lose the last replies.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise DataError(
                f"{path} is no file of answers ({error}); delete it, or name another with --answers"
            ) from None

    def get(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Those of the replies that are there and whole."""
        found: dict[str, Reply] = {}
        broken = 0
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            query = f"SELECT key, reply, checksum FROM replies WHERE key IN ({','.join('?' * len(some))})"
            try:
                rows = self._connection.execute(query, some).fetchall()
            except sqlite3.DatabaseError as error:
                raise DataError(f"{self.path} is damaged ({error}); delete it, or name another file") from None
            for key, reply, checksum in rows:
                whole = _whole(key, reply, checksum)
                if whole is None:
                    broken += 1
                else:
                    found[key] = whole
        if broken:
            log.warning("%d entries of %s are damaged; they are asked again", broken, self.path)
        return found

    def put(self, replies: Iterable[tuple[str, Reply]]) -> None:
        """Keep (key, reply); what was there under a key is replaced."""
        rows = []
        for key, reply in replies:
            content = reply.model_dump_json()
            rows.append((key, content, _checksum(key, content)))
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", rows)
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise RunError(f"{self.path} cannot be written ({error}); make room and start the command again") from None

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _checksum(key: str, content: str) -> str:
    return bytes_sha256(f"{key}\n{content}".encode())


def _whole(key: str, content: object, checksum: object) -> Reply | None:
    if not isinstance(content, str) or checksum != _checksum(key, content):
        return None
    try:
        return Reply.model_validate_json(content)
    except ValidationError:  # of another version
        return None
