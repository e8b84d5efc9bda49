"""Sends one question to a client until there is a reply: again on 429, 5xx and silence, within rate and budget.

call ─ rate ─ budget ─▶ client ─▶ Completion
         ▲                │ 429, 5xx, silence: as long as the server says, or a random and growing time
         └────────────────┘
"""

from __future__ import annotations

import json
import logging
import random
import threading
from typing import TYPE_CHECKING

from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.limits import Budget, Rate
from mminstruct.building.request import Completion
from mminstruct.errors import ConfigError, ServerError

if TYPE_CHECKING:
    from mminstruct.building.asking import AskingConfig

_LOG = logging.getLogger(__name__)
CHARACTERS_A_TOKEN = 4  # of English text, near enough to keep to a rate


class Sender:
    """Safe for threads.

    Args:
        config: how often a question is sent, and how long is waited between.
    """

    def __init__(self, client: LanguageModelClient, config: AskingConfig, budget: Budget, rate: Rate) -> None:
        self._client = client
        self._config = config
        self._budget = budget
        self._rate = rate
        self._stopped = threading.Event()
        self._answered = False  # whether the client ever did, in this run
        self._random = random.Random()  # only of waiting times

    def stop(self) -> None:
        """Let nobody wait any more; what is on its way ends, nothing new is sent."""
        self._stopped.set()

    def send(self, call: Call) -> Completion:
        """
        Raises:
            ServerError: no reply at all, or `stop` was called.
            BudgetError: asking would cost too much.
            ConfigError: no question can be answered.
        """
        expected = len(json.dumps([message.text for message in call.request.messages])) // CHARACTERS_A_TOKEN
        for attempt in range(self._config.server_attempts):
            self._wait(self._rate.before(expected))
            self._budget.take()
            try:
                reply = self._client.complete(call)
            except ServerError as error:
                if not error.again:
                    raise
                if attempt + 1 == self._config.server_attempts:
                    if self._answered or not self._config.stop_unanswered:
                        raise
                    # A server that is not there, or cannot do what is asked (pictures, to a model of text): each item
                    # would wait as long for nothing.
                    raise ConfigError(
                        f"no question was answered, this one not in {attempt + 1} attempts: {error}; check that the "
                        f"server runs, and takes what {call.request.prompt} sends"
                    ) from None
                longest = min(self._config.longest_wait, self._config.first_wait * 2**attempt)
                wait = self._random.uniform(0, longest) if error.after is None else error.after
                _LOG.info("%s; asking again in %.1f s", error, wait)
                self._wait(wait)
                continue
            self._answered = True
            self._budget.add(reply)
            self._rate.after(expected, reply)
            return reply
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise ServerError("the build is stopping")
