"""From chosen tokens to the text of one answer: whole characters, stop texts, limits, figures.

token, logits ─Writer.put─▶ pieces of text in the request's queue; True when the answer is over
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from mminstruct.errors import DataError
from mminstruct.serving.detokenizer import Detokenizer
from mminstruct.serving.request import FinishReason, Request, Token
from mminstruct.serving.sampling import Sampler
from mminstruct.serving.structured import Constraint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# How byte-level tokenizers write bytes as letters.
_BYTES = {letter: byte for byte, letter in bytes_to_unicode().items()}


class StopTexts:
    """Text up to the first of some texts; what could be the beginning of one is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def add(self, text: str) -> str:
        """The text that is certain now."""
        if not self._stops:
            return text
        text = self._held + text
        self._held = ""
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found = True
            return text[: min(places)]
        held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held back: no stop text came of it."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The longest beginning of `stop` that `text` ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class Writer:
    """Makes one answer out of its tokens.

    Args:
        prompt: the ids of the prompt.
        room: how many tokens the answer may have.
        started: when its turn came, as `time.perf_counter` counts.
        count: called at each token.
        constraint: what the answer is kept to.
    """

    def __init__(
        self,
        request: Request,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Sequence[int],
        room: int,
        started: float,
        count: Callable[[], None],
        constraint: Constraint | None = None,
    ) -> None:
        self.request = request
        self.ids: list[int] = []
        self.reason: FinishReason | None = None
        self.sampler = Sampler(request.settings, prompt, model.generation_config.suppress_tokens or [], model.device)
        self._tokenizer = tokenizer
        self._text = Detokenizer(tokenizer)
        self._stops = StopTexts(request.settings.stop)
        self._ends = end_tokens(model)
        self._room = room
        self._started = started
        self._count = count
        self._constraint = constraint

    @property
    def takes_the_likeliest(self) -> bool:
        """Whether a batch may choose the tokens for all its rows at once."""
        return self._constraint is None and self.sampler.takes_the_likeliest

    def put(self, logits: torch.Tensor, token: int | None = None) -> int:
        """Choose the next token out of `[V]`, or take the one that was chosen; then see `reason`."""
        if token is not None:
            self.sampler.took(token)
        elif self._constraint is None:
            token = self.sampler.draw(logits)
        else:
            try:
                token = self.sampler.draw(self._constraint.allowed(logits))
                self._constraint.took(token)
            except DataError as error:
                self.finish("error")
                self.request.put(error)
                return self.ids[-1] if self.ids else 0  # nobody goes on with it
        usage, settings = self.request.usage, self.request.settings
        self._count()
        self.ids.append(token)
        usage.new_tokens += 1
        usage.seconds = time.perf_counter() - self._started
        if usage.first_token_seconds is None:
            usage.first_token_seconds = usage.seconds
        if settings.logprobs is not None and token not in self._ends:
            self.request.tokens.append(self._described(logits, token, settings.logprobs))
        # The end mark is no text of the answer, also where the tokenizer does not know it as a special token.
        if token in self._ends:
            self.finish("end")
            return token
        self._give(self._stops.add(self._text.add(token)))
        if self._stops.found:
            self.finish("stop")
        elif self._constraint is not None and self._constraint.over:
            self.finish("end")
        elif usage.new_tokens >= self._room:
            self.finish("length")
        else:
            self.look()
        return token

    def look(self) -> bool:
        """Whether the answer is over: its asker has left, or its time is up."""
        limit = self.request.settings.max_seconds
        if self.reason is None and self.request.cancelled:
            self.finish("cancelled")
        elif self.reason is None and limit is not None and time.perf_counter() - self._started >= limit:
            self.finish("time")
        return self.reason is not None

    def finish(self, reason: FinishReason) -> None:
        """The answer is over; what was held back is text after all, unless a stop text was found."""
        if self.reason is not None:
            return
        if not self._stops.found:
            self._give(self._stops.add(self._text.finish()))
        if reason in ("end", "length") and self._stops.found:
            reason = "stop"
        if not self._stops.found:
            self._give(self._stops.finish())
        self.reason = reason
        usage = self.request.usage
        usage.seconds = time.perf_counter() - self._started
        usage.finish_reason = reason

    def _give(self, text: str) -> None:
        # A cancelled answer ends where it was cancelled; its consumer may be gone.
        if text and not self.request.cancelled:
            self.request.put(text)

    def _described(self, logits: torch.Tensor, token: int, alternatives: int) -> Token:
        logprobs = logits.float().log_softmax(-1)
        top: tuple[Token, ...] = ()
        if alternatives:
            values, ids = logprobs.topk(min(alternatives, len(logprobs)))
            top = tuple(self._token(i, v) for i, v in zip(ids.tolist(), values.tolist(), strict=True))
        one = self._token(token, float(logprobs[token]))
        return Token(one.id, one.text, one.data, one.logprob, top)

    def _token(self, token: int, logprob: float) -> Token:
        text, data = spelled(self._tokenizer, token)
        return Token(token, text, data, logprob)


def spelled(tokenizer: PreTrainedTokenizerBase, token: int) -> tuple[str, bytes]:
    """The text of a token as it stands within others, and its bytes, which may be a part of a character."""
    # Decoded by itself, a first space is left out by some tokenizers; behind another token it is not.
    alone, twice = (str(tokenizer.decode([token] * times, clean_up_tokenization_spaces=False)) for times in (1, 2))
    text = twice.removeprefix(alone)
    name = str(tokenizer.convert_ids_to_tokens(token))
    fallback = re.fullmatch(r"<0x([0-9A-F]{2})>", name)
    if fallback is not None:
        return text, bytes([int(fallback[1], 16)])
    if "\ufffd" in text and all(letter in _BYTES for letter in name):
        return text, bytes(_BYTES[letter] for letter in name)
    return text, text.encode()


def end_tokens(model: PreTrainedModel) -> frozenset[int]:
    """The ids that end an answer."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list | tuple) else frozenset([ids])
