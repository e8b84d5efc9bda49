"""Streams answers from one model: one inference thread, one request at a time, stopped within a token.

    generator = Generator(model, processor)
    answer = generator.stream(conversation, images, GenerationSettings(max_new_tokens=64))
    for delta in answer:              # pieces of text, joined they are the whole answer
        ...
    answer.usage                      # prompt tokens, new tokens, seconds, why it finished

Requests wait in a queue and are served in the order in which `stream` was called. Everything that touches the model or
the tokenizer happens in the one persistent thread: compiled models keep state per thread, and fast tokenizers may not
be shared between threads. An answer is cancelled by its `cancel` event, by closing its iterator or by dropping it; a
cancelled request that still waits is never started.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from mminstruct.config import Config
from mminstruct.conversation import Conversation, Message, TextPart
from mminstruct.errors import DataError, RunError
from mminstruct.serving.detokenizer import Detokenizer

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel

    from mminstruct.models.base_processor import BaseProcessor

# How often a waiting consumer looks at its cancel event. Tokens wake it at once; this bounds only the cancel.
POLL_SECONDS = 0.05

FinishReason = Literal["waiting", "running", "end", "length", "cancelled", "error"]


class GenerationSettings(Config):
    """How an answer is drawn. `temperature` 0 is greedy; then `top_p` and `seed` have no effect."""

    max_new_tokens: int = Field(default=512, ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0.0, le=5.0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int | None = Field(default=None, ge=0, lt=2**63)

    def arguments(self) -> dict[str, Any]:
        """These settings as arguments of `generate`. Filters of the checkpoint's own config (top-k) are off, so that
        what the settings say is what happens."""
        if self.temperature == 0:
            return {"do_sample": False, "num_beams": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
        return {
            "do_sample": True,
            "num_beams": 1,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,
        }


@dataclass
class Usage:
    """What the model saw and made. Filled in while the answer runs, final once the iterator has ended.

    `seconds` is the time in the model, prompt included, without the time in the queue.
    """

    prompt_tokens: int = 0
    images: int = 0
    new_tokens: int = 0
    seconds: float = 0.0
    finish_reason: FinishReason = "waiting"

    @property
    def tokens_per_second(self) -> float:
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0


class _Request:
    """What the consumer and the inference thread share about one answer."""

    def __init__(
        self,
        conversation: Conversation,
        images: Sequence[Image],
        settings: GenerationSettings,
        cancel: threading.Event | None,
    ) -> None:
        self.conversation = conversation
        self.images = images
        self.settings = settings
        self.usage = Usage(images=len(images))
        # A str is text, an Exception the failure, None the end.
        self.out: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
        self.closed = threading.Event()
        self._cancel = cancel

    @property
    def cancelled(self) -> bool:
        return self.closed.is_set() or (self._cancel is not None and self._cancel.is_set())


class Answer(Iterator[str]):
    """The text of one answer, piece by piece. `close()` (or dropping the object) cancels what is left of it."""

    def __init__(self, request: _Request, thread: threading.Thread) -> None:
        self._request = request
        self._thread = thread
        self._ended = False
        # Dropping the iterator cancels; the request is held by the inference thread, this object only by its consumer.
        self._finalizer = weakref.finalize(self, request.closed.set)

    @property
    def usage(self) -> Usage:
        return self._request.usage

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> str:
        """The next piece. Raises the original error when generation failed."""
        while not self._ended:
            try:
                item = self._request.out.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if self._request.cancelled:
                    self.usage.finish_reason = "cancelled"
                    self._end()
                elif not self._thread.is_alive() and self._request.out.empty():
                    self._end()
                    raise RunError("the inference thread has ended; make a new Generator") from None
                continue
            if isinstance(item, str):
                return item
            self._end()
            if isinstance(item, Exception):
                raise item
        raise StopIteration

    def close(self) -> None:
        """Cancel the answer. Text that was made but not read is dropped."""
        self._end()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self) -> None:
        self._ended = True
        self._finalizer()


class Generator:
    """Answers conversations with one model in one persistent thread.

    Puts the model in evaluation mode. `close()` (or leaving the `with` block) ends the thread; requests that wait then
    fail with `RunError`.
    """

    def __init__(self, model: PreTrainedModel, processor: BaseProcessor) -> None:
        self.model = model.eval()
        self.processor = processor
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._steps = 0
        self._closing = threading.Event()
        # Guards "not closed, so put it in the queue" against a close() in between.
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="mminstruct-generator", daemon=True)
        self._thread.start()

    @property
    def steps(self) -> int:
        """Tokens generated since the start, over all requests. Stands still exactly when nothing is generated."""
        return self._steps

    @property
    def context_length(self) -> int | None:
        """Tokens that prompt and answer may have together; None where the model's config names no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def stream(
        self,
        conversation: Conversation,
        images: Sequence[Image],
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """Ask for an answer to `conversation`; `images` in the order of its media.

        Text of the conversation is taken as untrusted: special tokens spelled in it are made harmless. The request is
        queued at once. Iterating raises `DataError` when the prompt is longer than the model's context, and otherwise
        whatever error generation raised. Raises `RunError` when the generator is closed.
        """
        request = _Request(conversation, images, settings or GenerationSettings(), cancel)
        with self._gate:
            if self._closing.is_set():
                raise RunError("this generator is closed; make a new one")
            self._requests.put(request)
        return Answer(request, self._thread)

    def close(self) -> None:
        """Cancel what runs, refuse what waits, end the thread. May be called twice."""
        with self._gate:
            if not self._closing.is_set():
                self._closing.set()
                self._requests.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        """Wait for a request and answer it; False at the end marker. A call of its own, so that between two requests no
        variable keeps the last one's images alive."""
        request = self._requests.get()
        if request is None:
            return False
        outcome: Exception | None = None
        if request.cancelled:
            request.usage.finish_reason = "cancelled"
        elif self._closing.is_set():
            outcome = RunError("the generator was closed before this question's turn; ask again")
        else:
            try:
                self._answer(request)
            except Exception as error:  # noqa: BLE001 - any failure belongs to this request; the thread serves the next
                outcome = error
        if outcome is not None:
            request.usage.finish_reason = "error"
        request.out.put(outcome)
        return True

    def _answer(self, request: _Request) -> None:
        usage, settings = request.usage, request.settings
        usage.finish_reason = "running"
        started = time.perf_counter()
        try:
            sample = self.processor.prompt(_escaped(request.conversation, self.processor), request.images)
            usage.prompt_tokens = len(sample["input_ids"])
            room = self._room(usage.prompt_tokens, settings)
            batch = self.processor.collate([sample], padding_side="left")
            ends = _end_tokens(self.model)
            streamer = _Streamer(request, Detokenizer(self.processor.tokenizer), ends, self._count_step)

            def stopped() -> bool:
                return request.cancelled or self._closing.is_set()

            with _seeded(settings.seed, self.model.device):
                self.model.generate(
                    **{name: value.to(self.model.device) for name, value in batch.items()},
                    **settings.arguments(),
                    max_new_tokens=room,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_Stop(stopped)]),
                )
        finally:
            usage.seconds = time.perf_counter() - started
        if stopped():
            usage.finish_reason = "cancelled"
        else:
            usage.finish_reason = "end" if streamer.ended else "length"

    def _count_step(self) -> None:
        self._steps += 1

    def _room(self, prompt_tokens: int, settings: GenerationSettings) -> int:
        """How many tokens may be generated: what is asked for, less where the context ends before."""
        limit = self.context_length
        if limit is None:
            return settings.max_new_tokens
        if prompt_tokens >= limit:
            raise DataError(
                f"the conversation has {prompt_tokens} tokens, images included, and this model can read {limit} with "
                f"room for an answer; start a new conversation, or send fewer images or less text"
            )
        return min(settings.max_new_tokens, limit - prompt_tokens)


class _Streamer(BaseStreamer):
    """Receives each token from `generate`, counts it and passes on the text that is complete."""

    def __init__(
        self, request: _Request, text: Detokenizer, ends: frozenset[int], count_step: Callable[[], None]
    ) -> None:
        self._request = request
        self._text = text
        self._ends = ends
        self._count_step = count_step
        self._started = time.perf_counter()
        self._prompt_seen = False
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        # The first call is always the prompt.
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        (token,) = value.flatten().tolist()
        self._count_step()
        self._request.usage.new_tokens += 1
        self._request.usage.seconds = time.perf_counter() - self._started
        # The end mark is no text of the answer, also where the tokenizer does not know it as a special token.
        self.ended = token in self._ends
        if not self.ended:
            self._pass_on(self._text.add(token))

    def end(self) -> None:
        self._pass_on(self._text.finish())

    def _pass_on(self, text: str) -> None:
        # A cancelled answer ends where it was cancelled; its consumer may be gone.
        if text and not self._request.cancelled:
            self._request.out.put(text)


class _Stop(StoppingCriteria):
    """Ends `generate` with the first token after which `stopped()` holds."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._stopped(), dtype=torch.bool, device=input_ids.device)


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draws from a seed inside the block and leaves the process's own random state as it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices, enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def _end_tokens(model: PreTrainedModel) -> frozenset[int]:
    ids = model.generation_config.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list | tuple) else frozenset([ids])


def _escaped(conversation: Conversation, processor: BaseProcessor) -> Conversation:
    """The conversation with special tokens in its text made harmless, in every turn: an answer can spell one too."""
    messages = [
        Message(
            role=message.role,
            content=[
                TextPart(text=processor.escape(part.text)) if isinstance(part, TextPart) else part
                for part in message.content
            ],
        )
        for message in conversation.messages
    ]
    return conversation.model_copy(update={"messages": messages})
