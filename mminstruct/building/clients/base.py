"""The contract of what answers requests: a server, a log, or the prompt's own template."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mminstruct.building.prompt import Prompt
from mminstruct.building.request import Completion, Request


@dataclass(frozen=True)
class Call:
    """One question on its way.

    Attributes:
        key: under which the reply will be kept.
        folder: where the request's media lie.
        prompt: what made the request of `facts`, where a prompt did.
        further: what a server is told beside the request, in its API's own keys (`stop`, `logprobs`); a part of `key`.
    """

    key: str
    request: Request
    folder: Path
    prompt: Prompt[Any, Any] | None = None
    facts: Any = None
    further: Mapping[str, Any] = field(default_factory=dict)


class LanguageModelClient(ABC):
    """Answers calls, from several threads at once.

    Attributes:
        backend: what kind of client it is, a part of every key.
        model: which model answers, a part of every key.
        paid: whether a reply costs something, so that it is kept before it is used.
    """

    backend: str
    model: str
    paid: ClassVar[bool] = True

    @abstractmethod
    def complete(self, call: Call) -> Completion:
        """
        Raises:
            ServerError: no reply; `again` says whether to ask once more.
            ConfigError: no request of this build can be answered.
        """

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Give connections back."""
