"""A language model that is asked for a judgement, each only once.

    prompt (a file's text and version) + facts ─▶ request ─ log of calls? ─ no ─▶ server ─▶ reply ─ parse ─▶ value
                                                       └ key: the judge's model, prompt and version, content

A reply that cannot be read is asked for again, three times in all, by telling the judge what is wrong; one that still
cannot be, a refusal, and a server that does not answer give None. What became of a judgement is counted and never
turned into a score. Where nobody listens at the server's address, as many questions as are on their way at once try
until they give up, and no other is sent: only what the log has is judged.
"""

from __future__ import annotations

import logging
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from mminstruct.building.asking import Asker, AskingConfig
from mminstruct.building.call_log import CallLog
from mminstruct.building.clients import LanguageModelClient
from mminstruct.building.limits import Budget, BudgetConfig, Price, Rate, RateConfig
from mminstruct.building.prompt import Prompt
from mminstruct.building.usage import Usage
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Message, message
from mminstruct.errors import ReplyError, ServerError
from mminstruct.evaluation.judges.listening import Listening

F = TypeVar("F")
R = TypeVar("R")

log = logging.getLogger(__name__)

_PLACE = re.compile(r"\{(\w+)\}")


class Told(Config):
    """A judge's prompt as its YAML file has it.

    Attributes:
        version: changes whenever the same reply would be read in another way; a part of every key.
        source: whose prompt it is.
        system: "" where there is none.
        user: with a place `{name}` for each fact.
        parts: texts that stand in a place by a name of their own: a category's instruction.
    """

    version: str = Field(min_length=1)
    source: str = Field(min_length=1)
    system: str = ""
    user: str = Field(min_length=1)
    parts: dict[str, str] = Field(default_factory=dict)

    def messages(self, **facts: str) -> list[Message]:
        """Raises `KeyError` where the text has a place that no fact fills."""
        asked = [message("user", fill(self.user, facts))]
        return [message("system", self.system), *asked] if self.system else asked


def read_told(path: Path) -> Told:
    """A prompt file. Raises `ConfigError`."""
    return validate(Told, load_yaml(path), where=str(path))


def fill(text: str, facts: Mapping[str, str]) -> str:
    """A text with its places filled, in one go: what fills one may itself look like a place."""
    return _PLACE.sub(lambda place: facts[place[1]], text)


class JudgePrompt(Prompt[F, R]):
    """A question to a judge. There is none that facts alone could answer, so it has no template."""

    def template(self, facts: F, rng: random.Random) -> str:
        raise TypeError(f"{self.name} asks a judge; it has no answer of its own")


class Judge:
    """One model, for one benchmark at a time.

    Args:
        log: where its replies are kept, and found again.
        concurrency: questions that are on their way at once.
        price: of the model, where money is to be shown.
    """

    def __init__(
        self,
        client: LanguageModelClient,
        log: CallLog,
        *,
        concurrency: int = 8,
        price: Price | None = None,
        asking: AskingConfig | None = None,
    ) -> None:
        self._asking = asking or AskingConfig(stop_unanswered=False)
        tries = self._asking.server_attempts * concurrency
        self._client = client if isinstance(client, Listening) else Listening(client, tries)
        self._log = log
        self._concurrency = concurrency
        self._price = price
        self._usage = Usage(price)
        self._prompts: set[str] = set()
        self.failures: Counter[str] = Counter()

    def anew(self) -> Judge:
        """The same judge, that has counted nothing yet; one that was not there is not asked again either."""
        return Judge(self._client, self._log, concurrency=self._concurrency, price=self._price, asking=self._asking)

    def ask(self, prompt: Prompt[F, R], facts: Sequence[F], draw: int = 0) -> list[R | None]:
        """The judgement of each, None where the judge failed; `failures` says how often and why.

        Args:
            draw: another number has all of them judged anew.

        Raises:
            ConfigError: the server refuses every question.
            RunError: the log cannot be written.
        """
        self._prompts.add(f"{prompt.name}@{prompt.version}")
        asker = Asker(
            self._client,
            self._log,
            self._log.path.parent,
            self._asking,
            Budget(BudgetConfig(), self._price),
            Rate(RateConfig()),
            usage=self._usage,
        )

        def one(fact: F) -> R | None:
            try:
                return asker.ask(prompt, fact, (), [], draw=draw)
            except (ReplyError, ServerError) as error:
                if not self.failures[error.code]:
                    log.warning("%s could not judge an answer, which is in no figure: %s", self._client.model, error)
                self.failures[error.code] += 1
                return None

        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="judge")
        try:
            return list(pool.map(one, facts))
        finally:
            asker.stop()  # what is on its way ends and is kept: it is paid for
            pool.shutdown(cancel_futures=True)

    def facts(self) -> dict[str, Any]:
        """What a report says of it: model, prompts, and what its replies took, those known from before too."""
        return {
            "model": self._client.model,
            "prompts": sorted(self._prompts),
            "replies": self._usage.replies,
            "tokens_read": self._usage.read,
            "tokens_written": self._usage.written,
            "cost": None if self._price is None else round(self._usage.cost, 6),
            "failures": dict(sorted(self.failures.items())),
        }
