"""An engine that answers from a script, for tests of what is built around a model's answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from PIL.Image import Image

from mminstruct.conversation import Conversation
from mminstruct.media import FrameSampling, Video
from mminstruct.serving.engine import Engine
from mminstruct.serving.request import Answer, Request
from mminstruct.serving.settings import GenerationSettings


class ScriptedEngine(Engine):
    """Gives the texts one after the other, word by word, `pause` seconds apart; what it was asked stands in `asked`."""

    def __init__(self, *script: str | Exception, pause: float = 0.0) -> None:
        self.script = list(script)
        self.pause = pause
        self.asked: list[tuple[Conversation, list[Image | Video]]] = []
        self.settings: list[GenerationSettings] = []
        self._steps = 0

    def stream(
        self,
        conversation: Conversation,
        media: Sequence[Image | Video],
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        self.asked.append((conversation, list(media)))
        self.settings.append(settings or GenerationSettings())
        request = Request(conversation, media, self.settings[-1], cancel)
        request.usage.media = len(media)
        told = self.script[(len(self.asked) - 1) % len(self.script)]
        threading.Thread(target=self._tell, args=(request, told), daemon=True).start()
        return Answer(request, self)

    def _tell(self, request: Request, told: str | Exception) -> None:
        if isinstance(told, Exception):
            request.usage.finish_reason = "error"
            request.put(told)
            return
        request.usage.finish_reason = "running"
        request.usage.prompt_tokens = 10
        for piece in told.split(" "):
            if request.cancelled:
                request.usage.finish_reason = "cancelled"
                request.put(None)
                return
            request.put(piece if request.usage.new_tokens == 0 else f" {piece}")
            request.usage.new_tokens += 1
            self._steps += 1
            time.sleep(self.pause)
            request.usage.seconds += self.pause
        request.usage.finish_reason = "end"
        request.put(None)

    def close(self) -> None:
        pass

    @property
    def alive(self) -> bool:
        return True

    def ahead(self, request: Request) -> int:
        return 0

    @property
    def steps(self) -> int:
        return self._steps

    @property
    def waiting(self) -> int:
        return 0

    @property
    def running(self) -> int:
        return 0

    @property
    def context_length(self) -> int | None:
        return 4096

    @property
    def frame_sampling(self) -> FrameSampling:
        return FrameSampling()

    @property
    def facts(self) -> list[str]:
        return ["a script"]
