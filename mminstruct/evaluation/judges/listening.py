"""A judge's server that is not there: after some questions in a row that found nobody, no other is sent.

call ─ given up? ─ no ─▶ client ─▶ reply, or a failure of the server's own: it listens, the count begins anew
          └ yes ─▶ UnreachableError at once      └▶ no connection: counted, and given up at `tries` in a row
"""

from __future__ import annotations

import logging
import threading

from mminstruct.building.clients import LanguageModelClient
from mminstruct.building.clients.base import Call
from mminstruct.building.request import Completion
from mminstruct.errors import MminstructError, UnreachableError

log = logging.getLogger(__name__)


class Listening(LanguageModelClient):
    """Another client, as long as somebody listens there. Safe for threads.

    Args:
        tries: so many in a row without a connection, of all threads together, are enough.
    """

    def __init__(self, client: LanguageModelClient, tries: int) -> None:
        self.backend, self.model = client.backend, client.model
        self.paid = client.paid  # type: ignore[misc]  # of the class, and here that of the other client
        self._client = client
        self._tries = tries
        self._lock = threading.Lock()
        self._in_a_row = 0

    def complete(self, call: Call) -> Completion:
        if self._in_a_row >= self._tries:
            raise UnreachableError(
                f"{self.model} is not asked any more: no connection could be made {self._tries} times"
            )
        try:
            reply = self._client.complete(call)
        except UnreachableError as error:
            with self._lock:
                self._in_a_row += 1
                given_up = self._in_a_row == self._tries
            if given_up:
                log.warning(
                    "%s: %s, %d times in a row; what is not judged yet is asked no more and is in no figure. "
                    "Start the judge's server and the command again: known answers and judgements are kept",
                    self.model,
                    error,
                    self._tries,
                )
            raise
        except MminstructError:
            self._heard()
            raise
        self._heard()
        return reply

    def _heard(self) -> None:
        with self._lock:
            if self._in_a_row < self._tries:
                self._in_a_row = 0
