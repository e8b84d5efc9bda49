"""A log of replies as those read it who build nothing: the file is not changed, and may lie where nothing can be.

calls.sqlite ──keys of a record's provenance──▶ Logged(prompt, model, request, reply), ...
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mminstruct.building.request import Completion, Request
from mminstruct.errors import DataError

_BATCH = 500
_COLUMNS = "key, backend, model, prompt"


@dataclass(frozen=True)
class Logged:
    """One reply and how it came to be; `request` is what was said to the model, where it was read too."""

    key: str
    backend: str
    model: str
    prompt: str
    reply: Completion
    request: Request | None = None


class LoggedCalls:
    """Safe for threads, each of which has a connection of its own for the time of a call.

    Raises:
        DataError: the file is missing or is no log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise DataError(f"{path} does not exist; give the calls.sqlite of a build")
        # Without the write-ahead log beside it the file is whole, and then nothing needs to be written to read it.
        waiting = path.with_name(f"{path.name}-wal")
        whole = not (waiting.is_file() and waiting.stat().st_size)
        self._address = f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if whole else "")
        list(self._rows(f"SELECT {_COLUMNS}, reply FROM calls LIMIT 1", ()))

    def find(self, keys: Iterable[str], *, requests: bool = False) -> Iterator[Logged]:
        """Those of these keys that the log has; in the order of the keys, batch by batch.

        Args:
            requests: whether to read what was asked too.
        """
        columns = f"{_COLUMNS}, reply, request" if requests else f"{_COLUMNS}, reply"
        rest = iter(keys)
        while batch := list(itertools.islice(rest, _BATCH)):
            places = ",".join("?" * len(batch))
            rows = self._rows(f"SELECT {columns} FROM calls WHERE key IN ({places})", batch)
            found = {row[0]: row for row in rows}
            for key in batch:
                if key in found:
                    yield self._logged(found[key])

    def cut_off(self) -> dict[str, str]:
        """Key to text of the replies that ended at their greatest length."""
        query = "SELECT key, reply FROM calls WHERE json_extract(reply, '$.finish') = 'length'"
        return {key: Completion.model_validate_json(reply).text for key, reply in self._rows(query, ())}

    def _logged(self, row: tuple[str, ...]) -> Logged:
        key, backend, model, prompt, reply, *request = row
        try:
            asked = Request.model_validate_json(request[0]) if request else None
            return Logged(key, backend, model, prompt, Completion.model_validate_json(reply), asked)
        except ValidationError:
            raise DataError(f"{self.path} holds a call {key} that cannot be read; give another file") from None

    def _rows(self, query: str, values: Iterable[str]) -> Iterator[tuple[str, ...]]:
        try:
            connection = sqlite3.connect(self._address, uri=True)
            try:
                yield from connection.execute(query, list(values))
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.path} is no log of calls that can be read ({error}); give another file") from None
