"""Who answers: a model of this process (`Generator`) or one behind a server (`RemoteEngine`), with one way to ask."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mminstruct.conversation import Conversation
from mminstruct.serving.request import Answer, Request
from mminstruct.serving.settings import GenerationSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from mminstruct.media import FrameSampling, Video


class Engine(ABC):
    """Answers conversations with one model, to many askers at once.

    `close()`, or leaving the `with` block, ends it; it may be called twice.
    """

    @abstractmethod
    def stream(
        self,
        conversation: Conversation,
        media: Sequence[Image | Video],
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """Ask for an answer to `conversation`; `media` in the order of its record.

        The request is queued at once. Iterating raises `DataError` when the prompt is longer than the model's context,
        `MemoryLimitError` when the device's memory does not hold it, and otherwise whatever error generation raised.

        Raises:
            BusyError: as many requests as may wait do so.
            RunError: the engine is closed.
        """

    @abstractmethod
    def close(self) -> None: ...

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether what was asked will still be answered."""

    @abstractmethod
    def ahead(self, request: Request) -> int:
        """How many requests are answered before this one; 0 when it is its turn."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Tokens generated since the start, over all requests. Stands still exactly when nothing is generated."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many requests wait for their turn."""

    @property
    @abstractmethod
    def running(self) -> int:
        """How many are being answered."""

    @property
    @abstractmethod
    def context_length(self) -> int | None:
        """Tokens that prompt and answer may have together; None where nobody knows."""

    @property
    @abstractmethod
    def frame_sampling(self) -> FrameSampling:
        """Which frames of a video are looked at."""

    @property
    @abstractmethod
    def facts(self) -> list[str]:
        """A few words each about the model, for people: its size, where it runs."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
