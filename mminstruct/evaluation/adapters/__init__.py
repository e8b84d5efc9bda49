"""What answers a benchmark's questions: a model of the zoo, any VLM of transformers, or a server.

[Request] ── Adapter.answer ──▶ [(place, Reply)], [(place, Reply)], ... as they become known
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mminstruct.evaluation.requests import Reply, Request


class Adapter(ABC):
    """The contract. Decoding is greedy; equal requests get equal replies."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, str] | None:
        """Hashes and names of all that replies depend on beside the request (weights, processor, precision); part of
        the key under which they are kept. None where that cannot be said (a model in training): nothing is kept."""

    @abstractmethod
    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """(place in `requests`, reply) of those that became known together, at once; every place once.

        Requests about the same media stand together.

        Raises:
            DataError: a request does not fit the model.
            MediaError: a medium cannot be opened.
            ServerError: a server does not answer.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a report says of the model."""


__all__ = ["Adapter"]
