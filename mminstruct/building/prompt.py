"""A prompt: facts to messages, a reply to a checked value, and the reply that facts alone give.

    facts ──messages──▶ request ──model──▶ text ──parse──▶ reply (or ReplyError, and the model is told what is wrong)
    facts ──template──▶ text of the same form, without a model

`template` makes every builder that asks a language model run without one, on the same path.
"""

from __future__ import annotations

import functools
import random
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from mminstruct.building.request import Parameters
from mminstruct.config import Config
from mminstruct.conversation import Message, Part, message

F = TypeVar("F")
R = TypeVar("R")


class Prompt(ABC, Generic[F, R]):
    """One kind of question: `F` the facts that it is made of, `R` the reply.

    Attributes:
        name: `BUILDER/KIND`.
        version: changes whenever the same reply would be read in another way.
        parameters: how replies are drawn, unless a build says otherwise.
        reply_schema: the JSON schema of replies that are JSON (`replies.strict_schema`).
        may_be_cut: whether a reply that reached its greatest length is read like any other.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    parameters: ClassVar[Parameters] = Parameters()
    reply_schema: ClassVar[dict[str, Any] | None] = None
    may_be_cut: ClassVar[bool] = False

    @abstractmethod
    def messages(self, facts: F) -> list[Message]:
        """System, examples and the question. Image parts point into the media that are given with the facts."""

    def schema(self, facts: F) -> dict[str, Any] | None:
        """The JSON schema of the reply to these facts; `reply_schema`, where it is the same for all."""
        return self.reply_schema

    @abstractmethod
    def parse(self, reply: str, facts: F) -> R:
        """The reply's content. Raises `ReplyError` saying what is wrong with it, in words that the model is sent."""

    @abstractmethod
    def template(self, facts: F, rng: random.Random) -> str:
        """A reply of the same form, of what the facts say and nothing else."""


class Example(Config):
    """What a model is shown in front of the question: one like it, and a reply in the form that is asked for."""

    question: str
    reply: str


class Told(Config):
    """One prompt's part of a prompt file (YAML beside the builder)."""

    system: str
    examples: list[Example] = Field(default_factory=list)

    @functools.cached_property
    def messages(self) -> list[Message]:
        """What stands before each question, made once."""
        messages = [message("system", self.system)]
        for example in self.examples:
            messages += [message("user", example.question), message("assistant", example.reply)]
        return messages


def dialogue(told: Told, *question: Part | str) -> list[Message]:
    """The messages of a prompt: system, examples as earlier turns, and the question."""
    return [*told.messages, message("user", *question)]
