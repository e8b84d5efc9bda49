"""What a generator asks of the part that runs the model, and what every model can have: `generate`, one by one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from mminstruct.conversation import Conversation, Message, Part, TextPart
from mminstruct.errors import DataError
from mminstruct.serving.request import Request
from mminstruct.serving.structured import Grammars
from mminstruct.serving.writer import Writer, end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mminstruct.models.base_processor import BaseProcessor, Picture


class Decoder(ABC):
    """Runs the model for some requests. All calls come from the generator's one thread.

    Attributes:
        running: the requests that are being answered.
        batch: how many of them there may be.
    """

    batch = 1

    def __init__(self, model: PreTrainedModel, processor: BaseProcessor, count: Callable[[], None]) -> None:
        self.model = model
        self.processor = processor
        self.count = count
        self._grammars = Grammars(processor.tokenizer, end_tokens(model), model.generation_config.suppress_tokens or [])

    @property
    @abstractmethod
    def running(self) -> list[Request]: ...

    @abstractmethod
    def admit(self, request: Request) -> None:
        """Begin an answer, or make it: it is over where it does not run then. What this raises is the request's own
        failure."""

    @abstractmethod
    def step(self) -> None:
        """Go on with all running answers by a token or a piece of prompt; those that are over are told so and run no
        more. After `torch.OutOfMemoryError` it can be called again."""

    @abstractmethod
    def drop(self, request: Request) -> None:
        """Forget a running request."""

    def release(self) -> int:
        """Give back memory that is not needed for what runs. Returns how many bytes."""
        return 0

    @property
    def context_length(self) -> int | None:
        """Tokens that prompt and answer may have together; None where the model's config names no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def prompt(self, request: Request, conversation: Conversation, media: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """The model's inputs of one request. Raises `DataError` when they leave no room for an answer."""
        sample = self.processor.prompt(escaped(conversation, self.processor), media)
        length = len(sample["input_ids"])
        request.usage.prompt_tokens = length
        limit = self.context_length
        if limit is not None and length >= limit:
            raise DataError(
                f"the conversation has {length} tokens, pictures included, and this model can read {limit} with "
                f"room for an answer; start a new conversation, or send fewer pictures or less text"
            )
        return sample

    def writer(self, request: Request, input_ids: torch.Tensor, started: float) -> Writer:
        """What makes the answer to a prompt of these ids, `[L]`."""
        prompt = input_ids.tolist()
        room = request.settings.max_new_tokens
        if self.context_length is not None:
            room = min(room, self.context_length - len(prompt))
        schema = request.settings.response_schema
        constraint = None if schema is None else self._grammars.constraint(schema)
        return Writer(request, self.model, self.processor.tokenizer, prompt, room, started, self.count, constraint)


class OneByOne(Decoder):
    """Answers one request at a time by the model's own `generate`."""

    @property
    def running(self) -> list[Request]:
        return []

    def admit(self, request: Request) -> None:
        started = time.perf_counter()
        usage = request.usage
        try:
            sample = self.prompt(request, request.conversation, request.media)
            writer = self.writer(request, sample["input_ids"], started)
            batch = self.processor.collate([sample], padding_side="left")
            generate: Any = self.model.generate
            generate(
                **{name: value.to(self.model.device) for name, value in batch.items()},
                **_PLAIN,
                max_new_tokens=request.settings.max_new_tokens,
                logits_processor=LogitsProcessorList([_Choose(writer)]),
                stopping_criteria=StoppingCriteriaList([_Stop(writer)]),
            )
        finally:
            usage.seconds = time.perf_counter() - started
        writer.finish("length")

    def step(self) -> None:
        """Nothing runs between two calls."""

    def drop(self, request: Request) -> None:
        """Nothing runs between two calls."""


# What a checkpoint's own generation config may ask for beside the likeliest token is off, so that what the settings say
# is what happens.
_PLAIN: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 50,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}


class _Choose(LogitsProcessor):
    """Lets `generate` take the token that the writer chooses."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._writer.reason is not None:
            return scores
        token = self._writer.put(scores[0])
        chosen = torch.full_like(scores, -torch.inf)
        chosen[0, token] = 0
        return chosen


class _Stop(StoppingCriteria):
    """Ends `generate` with the first token after which the answer is over."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._writer.look(), dtype=torch.bool, device=input_ids.device)


def escaped(conversation: Conversation, processor: BaseProcessor) -> Conversation:
    """The conversation with special tokens in its text made harmless, in every turn: an answer can spell one too.

    Texts that meet become one part first, or a token could be spelled across their seam.
    """
    messages = [
        Message(role=message.role, content=[_harmless(part, processor) for part in _joined(message.content)])
        for message in conversation.messages
    ]
    return conversation.model_copy(update={"messages": messages})


def _joined(content: Sequence[Part]) -> list[Part]:
    found: list[Part] = []
    for part in content:
        last = found[-1] if found else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            found[-1] = TextPart(text=last.text + part.text)
        else:
            found.append(part)
    return found


def _harmless(part: Part, processor: BaseProcessor) -> Part:
    return TextPart(text=processor.escape(part.text)) if isinstance(part, TextPart) else part
