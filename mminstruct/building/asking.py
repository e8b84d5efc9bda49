"""Asks a prompt's question until its reply is of the form that was asked for, and keeps each reply before reading it.

    facts ──prompt──▶ request ──log?──▶ reply ──parse──▶ value
                                 └no─▶ client, again on 429, 5xx and silence ──▶ log ─┘   │ broken: told what is wrong,
                                                                                          └ asked again, 3 times a round

A refusal ends its round at once.

Each question that follows a broken reply holds that reply, so it has a key of its own, and a resumed build walks the
same way through the log.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from mminstruct.building.call_log import CallLog
from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.limits import Budget, Rate
from mminstruct.building.prompt import Prompt
from mminstruct.building.request import Completion, Parameters, Request
from mminstruct.building.sending import Sender
from mminstruct.building.usage import Usage
from mminstruct.config import Config
from mminstruct.conversation import Media, Message, text
from mminstruct.errors import RefusedError, ReplyError

F = TypeVar("F")
R = TypeVar("R")

_REPAIR = (
    "Your reply cannot be used: {problem}. Reply to the same request again, exactly in the form that was asked for."
)
_QUOTED = 200  # characters of a refusal
_SHOWN = 400  # characters of a reply that was cut off, in what is said behind it


class AskingConfig(Config):
    """
    Attributes:
        parse_attempts: how often a question is asked in a round until its reply can be read.
        server_attempts: how often one request is sent until there is a reply.
        first_wait, longest_wait: seconds; between two attempts a random time up to the first, up to its double and so
            on, unless the server says how long.
        stop_unanswered: whether a question that is never answered stops the run where no other was answered either:
            the server is not there, or cannot do what is asked.
        parameters: what replaces those of the prompts.
    """

    parse_attempts: int = Field(default=3, ge=1)
    server_attempts: int = Field(default=8, ge=1)
    first_wait: float = Field(default=1.0, ge=0)
    longest_wait: float = Field(default=60.0, ge=0)
    stop_unanswered: bool = True
    parameters: Parameters = Parameters()


class Asker:
    """Safe for threads.

    Args:
        folder: where the media of requests lie.
        another_round: whether a question whose replies in the log are all broken or refusals is asked in one round
            more. Rounds that the log has are always walked through, so what such a round gave is found again.
        usage: counts all replies that questions got, out of the log too.
    """

    def __init__(
        self,
        client: LanguageModelClient,
        log: CallLog,
        folder: Path,
        config: AskingConfig,
        budget: Budget,
        rate: Rate,
        another_round: bool = False,
        usage: Usage | None = None,
    ) -> None:
        self.client = client
        self.budget = budget
        self.usage = usage or Usage(budget.price)
        self._log = log
        self._folder = folder
        self._config = config
        self._parameters = config.parameters.model_dump(exclude_none=True)
        self._sender = Sender(client, config, budget, rate)
        self._another_round = another_round
        self._lock = threading.Lock()
        self._on_the_way: dict[str, Future[Completion]] = {}

    def stop(self) -> None:
        """Let nobody wait any more; what is on its way ends, nothing new is sent."""
        self._sender.stop()

    def ask(self, prompt: Prompt[F, R], facts: F, media: Sequence[Media], call_ids: list[str], *, draw: int = 0) -> R:
        """The reply's content; the key of every reply on the way is added to `call_ids`.

        Args:
            draw: another number asks the same question anew.

        Raises:
            ReplyError: no reply could be read; a `RefusedError` where the last was a refusal.
            ServerError: no reply at all.
            ConfigError: nor to any other question of this run.
            BudgetError: asking would cost too much.
        """
        parameters = prompt.parameters.model_copy(update=self._parameters)
        first = Request(
            messages=prompt.messages(facts),
            media=list(media),
            parameters=parameters,
            reply_schema=prompt.schema(facts),
            prompt=f"{prompt.name}@{prompt.version}" + (f"#{draw}" if draw else ""),
        )
        rounds_left = int(self._another_round)
        for sample in itertools.count():
            request = first if sample == 0 else first.model_copy(update={"sample": sample})
            for _ in range(self._config.parse_attempts):
                reply = self._reply(request, prompt, facts, call_ids)
                if reply.finish == "content_filter":
                    said = f": {reply.text[:_QUOTED]}" if reply.text.strip() else ""
                    failure: ReplyError = RefusedError(f"the model refused to answer {prompt.name}{said}")
                    break
                try:
                    return _read(reply, prompt, facts)
                except ReplyError as error:
                    problem = str(error).rstrip(".")
                    failure = ReplyError(f"no reply to {prompt.name} could be used; of the last: {problem}")
                request = request.model_copy(update={"messages": [*request.messages, *_repair(reply, problem)]})
            following = self._key(first.model_copy(update={"sample": sample + 1}))
            if self._log.get(following) is None:
                if rounds_left == 0:
                    break
                rounds_left -= 1
        raise failure

    def _key(self, request: Request) -> str:
        return request.key(self.client.backend, self.client.model)

    def _reply(self, request: Request, prompt: Prompt[F, R], facts: F, call_ids: list[str]) -> Completion:
        """From the log, or of the client; of two threads with one question only one asks."""
        key = self._key(request)
        call_ids.append(key)
        reply = self._one_reply(key, request, prompt, facts)
        self.usage.add(key, reply)
        return reply

    def _one_reply(self, key: str, request: Request, prompt: Prompt[F, R], facts: F) -> Completion:
        with self._lock:
            ahead = self._on_the_way.get(key)
            if ahead is None:
                own = self._on_the_way[key] = Future()
        if ahead is not None:
            return ahead.result()
        try:
            own.set_result(self._known_or_sent(key, request, prompt, facts))
        except BaseException as error:
            own.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._on_the_way[key]
        return own.result()

    def _known_or_sent(self, key: str, request: Request, prompt: Prompt[F, R], facts: F) -> Completion:
        known = self._log.get(key)
        if known is not None:
            return known
        call = Call(key, request, self._folder, prompt, facts)
        reply = self._sender.send(call) if self.client.paid else self.client.complete(call)
        self._log.put(key, self.client.backend, self.client.model, request, reply, paid=self.client.paid)
        return reply


def _repair(reply: Completion, problem: str) -> list[Message]:
    """What is said behind a reply that cannot be used."""
    shown = reply.text
    if reply.finish == "length" and len(shown) > _SHOWN:
        # Most of such replies say one thing over and over: all of it would teach the model to go on with that, and may
        # leave no room for another reply.
        shown = f"{shown[:_SHOWN]} [...]"
    said = [Message(role="assistant", content=[text(shown)])]
    return [*said, Message(role="user", content=[text(_REPAIR.format(problem=problem))])]


def _read(reply: Completion, prompt: Prompt[F, R], facts: F) -> R:
    if reply.finish == "length" and not prompt.may_be_cut and not _whole_json(reply, prompt, facts):
        raise ReplyError("the reply was cut off at its greatest length; be shorter")
    return prompt.parse(reply.text, facts)


def _whole_json(reply: Completion, prompt: Prompt[F, R], facts: F) -> bool:
    """Whether JSON is complete though the reply reached its greatest length: small models that a server keeps to a
    schema write spaces behind the last brace until they are stopped."""
    if prompt.schema(facts) is None:
        return False
    try:
        return isinstance(json.loads(reply.text), dict)
    except json.JSONDecodeError:
        return False
