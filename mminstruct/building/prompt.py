"""A prompt: facts to messages, a reply to a checked value, and the reply that facts alone give.

    facts ──messages──▶ request ──model──▶ text ──parse──▶ reply (or ReplyError, and the model is told what is wrong)
    facts ──template──▶ text of the same form, without a model

`template` makes every builder that asks a language model run without one, on the same path.
"""

from __future__ import annotations

import json
import random
import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from mminstruct.building.request import Parameters
from mminstruct.conversation import Message
from mminstruct.errors import ReplyError

F = TypeVar("F")
R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)


class Prompt(ABC, Generic[F, R]):
    """One kind of question: `F` the facts that it is made of, `R` the reply.

    Attributes:
        name: `BUILDER/KIND`.
        version: changes whenever the same reply would be read in another way.
        parameters: how replies are drawn, unless a build says otherwise.
        reply_schema: the JSON schema of replies that are JSON.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    parameters: ClassVar[Parameters] = Parameters()
    reply_schema: ClassVar[dict[str, Any] | None] = None

    @abstractmethod
    def messages(self, facts: F) -> list[Message]:
        """System, examples and the question. Image parts point into the media that are given with the facts."""

    @abstractmethod
    def parse(self, reply: str, facts: F) -> R:
        """The reply's content. Raises `ReplyError` saying what is wrong with it, in words that the model is sent."""

    @abstractmethod
    def template(self, facts: F, rng: random.Random) -> str:
        """A reply of the same form, of what the facts say and nothing else."""


def json_reply(reply: str, model: type[M]) -> M:
    """The value in a reply that is JSON, bare or within a fence. Raises `ReplyError`."""
    fenced = _FENCED.search(reply)
    try:
        return model.model_validate(json.loads(fenced.group(1) if fenced else reply))
    except json.JSONDecodeError as error:
        raise ReplyError(f"the reply is not JSON ({error.msg} at character {error.pos})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        raise ReplyError(f"the reply does not fit: {f'{key}: ' if key else ''}{problem}") from None
