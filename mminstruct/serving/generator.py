"""Streams answers from one model: one inference thread, a bounded queue, stopped within a token.

    generator = Generator(model, processor)
    answer = generator.stream(conversation, media, GenerationSettings(max_new_tokens=64))
    for delta in answer:              # pieces of text, joined they are the whole answer
        ...
    answer.usage                      # prompt tokens, new tokens, seconds, why it finished

Requests wait in a queue and begin in the order in which `stream` was called. Everything that touches the model or the
tokenizer happens in the one persistent thread: compiled models keep state per thread, and fast tokenizers may not be
shared between threads. An answer is cancelled by its `cancel` event, by closing its iterator or by dropping it; a
cancelled request that still waits is never started.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mminstruct.conversation import Conversation
from mminstruct.errors import BusyError, MemoryLimitError, RunError
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.serving.decoder import Decoder, OneByOne
from mminstruct.serving.engine import Engine
from mminstruct.serving.request import Answer, Request
from mminstruct.serving.settings import GenerationSettings, Limits
from mminstruct.serving.side_by_side import SideBySide, can_be_used

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel

    from mminstruct.media import FrameSampling, Video
    from mminstruct.models.base_processor import BaseProcessor

log = logging.getLogger(__name__)

_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


class Generator(Engine):
    """Answers conversations with one model in one persistent thread.

    Puts the model in evaluation mode. `close()` (or leaving the `with` block) ends the thread; requests that wait then
    fail with `RunError`.
    """

    def __init__(self, model: PreTrainedModel, processor: BaseProcessor, limits: Limits | None = None) -> None:
        self.model = model.eval()
        self.processor = processor
        self.limits = limits or Limits()
        self._steps = 0
        self._decoder: Decoder = (
            SideBySide(model, processor, self._count, self.limits)
            if isinstance(model, VisionLanguageModel) and isinstance(processor, Processor) and can_be_used(model)
            else OneByOne(model, processor, self._count)
        )
        self._waiting: deque[Request] = deque()
        self._taken: Request | None = None  # out of the queue, not yet among those that run
        self._closing = False
        # Guards the queue, and wakes the thread.
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="mminstruct-generator", daemon=True)
        self._thread.start()

    @property
    def steps(self) -> int:
        return self._steps

    @property
    def waiting(self) -> int:
        with self._changed:
            return sum(not one.cancelled for one in self._waiting)

    @property
    def running(self) -> int:
        with self._changed:
            # A request that was just taken may run already.
            taken = self._taken
            running = self._decoder.running
            return len(running) + (taken is not None and all(one is not taken for one in running))

    @property
    def context_length(self) -> int | None:
        return self._decoder.context_length

    @property
    def frame_sampling(self) -> FrameSampling:
        return self.processor.frame_sampling

    @property
    def facts(self) -> list[str]:
        number = self.model.num_parameters()
        size = next((f"{number / unit:.3g} {name}" for unit, name in _UNITS if number >= unit), str(number))
        facts = [f"{size} parameters", f"{self.model.device} · {str(self.model.dtype).removeprefix('torch.')}"]
        if self.context_length is not None:
            facts.append(f"context of {self.context_length:,} tokens")
        return facts

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def ahead(self, request: Request) -> int:
        with self._changed:
            left = [one for one in self._waiting if one is request or not one.cancelled]
            place = next((place for place, one in enumerate(left) if one is request), None)
            return 0 if place is None else place + 1

    def stream(
        self,
        conversation: Conversation,
        media: Sequence[Image | Video],
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """As `Engine` has it. Text of the conversation is taken as untrusted: special tokens spelled in it are made
        harmless."""
        request = Request(conversation, media, settings or GenerationSettings(), cancel)
        request.usage.media = len(media)
        with self._changed:
            if self._closing:
                raise RunError("this generator is closed; make a new one")
            self._waiting = deque(one for one in self._waiting if not self._left(one))
            busy = self._taken is not None or bool(self._decoder.running)
            if busy and len(self._waiting) >= self.limits.waiting:
                raise BusyError(f"{len(self._waiting)} questions wait for this model, as many as may; ask again later")
            self._waiting.append(request)
            self._changed.notify()
        return Answer(request, self)

    def close(self) -> None:
        """Cancel what runs, refuse what waits, end the thread. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Generator:
        return self

    # ---- in the thread -----------------------------------------------------------------------------------------------

    def _count(self) -> None:
        self._steps += 1

    def _left(self, request: Request) -> bool:
        """Whether a request that waits was cancelled; it is then over."""
        if request.cancelled:
            request.usage.finish_reason = "cancelled"
            request.put(None)
        return request.cancelled

    @torch.inference_mode()
    def _serve(self) -> None:
        while self._go_on():
            pass
        self._end_all()

    def _go_on(self) -> bool:
        """One round: begin what there is room for, then a step. A call of its own, so that between two requests no
        variable keeps the last one's pictures alive."""
        with self._changed:
            while not (self._closing or self._waiting or self._decoder.running):
                self._changed.wait()
            if self._closing:
                return False
            room = len(self._decoder.running) < self._decoder.batch
            self._taken = self._waiting.popleft() if room and self._waiting else None
        if self._taken is not None:
            self._begin(self._taken)
        if self._decoder.running:
            self._step()
        return True

    def _begin(self, request: Request) -> None:
        if self._left(request):
            self._taken = None
            return
        usage = request.usage
        usage.queue_seconds = time.perf_counter() - request.asked
        usage.finish_reason = "running"
        try:
            self._decoder.admit(request)
        except Exception as error:  # noqa: BLE001 - any failure belongs to this request; the thread serves the next
            self._fail(request, error)
            return
        with self._changed:
            self._taken = None
            going = any(one is request for one in self._decoder.running)
        if not going:
            request.put(None)

    def _step(self) -> None:
        try:
            self._decoder.step()
        except torch.OutOfMemoryError as error:
            if self._decoder.release():
                return  # what earlier turns left is gone; the same step again
            self._fail(self._decoder.running[-1], error)
            return
        except Exception as error:  # noqa: BLE001 - as above; which of them it was nobody knows
            for request in self._decoder.running:
                self._fail(request, error)

    def _fail(self, request: Request, error: Exception) -> None:
        self._decoder.drop(request)
        with self._changed:
            self._taken = None
        request.usage.finish_reason = "error"
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            self._decoder.release()
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            size = f"{request.usage.prompt_tokens:,} tokens" if request.usage.prompt_tokens else "this conversation"
            error = MemoryLimitError(
                f"the device has too little free memory for {size}; send fewer pictures or a shorter conversation"
            )
        request.put(error)

    def _end_all(self) -> None:
        with self._changed:
            waiting, self._waiting = list(self._waiting), deque()
        for request in self._decoder.running:
            self._decoder.drop(request)
            request.usage.finish_reason = "cancelled"
            request.put(None)
        for request in waiting:
            if not self._left(request):
                request.usage.finish_reason = "error"
                request.put(RunError("the generator was closed before this question's turn; ask again"))
