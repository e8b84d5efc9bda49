"""Answers from a log of calls only, so that whoever has the log can build the data set again without a key."""

from __future__ import annotations

from typing import ClassVar

from mminstruct.building.call_log import CallLog
from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.request import Completion
from mminstruct.errors import ConfigError, ServerError


class ReplayClient(LanguageModelClient):
    """Passes for the model whose replies the log holds; the log itself is read before any client is asked.

    Raises:
        ConfigError: the log holds replies of no model, or of several and `model` names none of them.
    """

    paid: ClassVar[bool] = False

    def __init__(self, log: CallLog, model: str | None = None) -> None:
        self._path = log.path
        found = [pair for pair in log.models() if model in (None, pair[1])]
        if len(found) != 1:
            known = ", ".join(f"{one} ({backend})" for backend, one in log.models())
            raise ConfigError(
                f"{log.path} holds replies of {known or 'no model'}; "
                + ("name one of them with --model" if known else "give the log of an earlier build with --calls")
            )
        self.backend, self.model = found[0]

    def complete(self, call: Call) -> Completion:
        raise ServerError(f"{self._path} has no reply to a request of {call.request.prompt}; build it with a model")
