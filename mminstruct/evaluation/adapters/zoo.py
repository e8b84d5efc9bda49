"""Answers of a model of the zoo: pictures encoded once, prompts that begin alike read once, batches by a token budget.

    requests ─ by media ─▶ groups ─ window ─▶ prefixes [G, P] ─▶ batches of questions [Q, P + R] ─▶ replies

A window holds as many groups as the budget has room for the prefixes of; its questions are answered in batches of alike
length, longest first. Models that cannot share prefixes (`mminstruct.models.prefix`) answer left-padded batches by
`generate`, with the same replies.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mminstruct.conversation import message
from mminstruct.evaluation.adapters.generating import GeneratingAdapter, Prompt, evaluation_mode
from mminstruct.evaluation.requests import Reply, Request
from mminstruct.media import FrameSampling
from mminstruct.models import prefix
from mminstruct.models.last_layer import last_layer_where_read

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mminstruct.models.base_processor import BaseProcessor, Picture

log = logging.getLogger(__name__)


class ZooAdapter(GeneratingAdapter):
    """Asks a loaded model.

    Args:
        batch_tokens: as `GeneratingAdapter` has it, and of the prefixes that are kept for a batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: BaseProcessor,
        *,
        batch_tokens: int | None = None,
        identity: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, batch_tokens=batch_tokens, identity=identity, facts=facts)
        self.processor = processor

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        with torch.inference_mode(), evaluation_mode(self.model):
            if not prefix.shares_prefixes(self.model):
                yield from self._by_generate(requests)
                return
            with last_layer_where_read(self.model):
                for window in self._windows(requests):
                    yield from self._window(window)

    # ---- prompts -----------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def frame_sampling(self) -> FrameSampling:
        return self.processor.frame_sampling

    def prepare(self, medium: Picture) -> Picture:
        return self.processor.prepare(medium)

    def prompt(self, place: int, request: Request, media: Sequence[Picture]) -> Prompt:
        sample = self.processor.prompt(request.conversation, media)
        return Prompt(place, request, sample, len(sample["input_ids"]))

    def inputs(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        return self.processor.collate([prompt.sample for prompt in prompts], padding_side="left")

    def decode(self, ids: list[int]) -> str:
        return self.processor.decode(ids)

    def beginnings(self, request: Request) -> list[int]:
        template, tokenizer = self.processor.template, self.processor.tokenizer
        messages = request.conversation.messages
        before = len(template.encode(messages, tokenizer, True).input_ids)
        ends = [message("assistant", choice) for choice in request.choices]
        return [template.encode([*messages, end], tokenizer).input_ids[before] for end in ends]

    # ---- with shared prefixes ----------------------------------------------------------------------------------------

    def _windows(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, list[Prompt]]]]:
        """(length of the prefix, prompts) of as many groups as there is room for the prefixes of."""
        window: list[tuple[int, list[Prompt]]] = []
        longest = 0
        for group in self._prompts(requests):
            for length, prompts in self._split(group):
                alone = prompts[0].request.alone or (window and window[0][1][0].request.alone)
                if window and (alone or max(longest, length) * (len(window) + 1) > self.batch_tokens):
                    yield window
                    window, longest = [], 0
                window.append((length, prompts))
                longest = max(longest, length)
        if window:
            yield window

    def _split(self, group: list[Prompt]) -> list[tuple[int, list[Prompt]]]:
        """A group behind one prefix; where a picture stands behind what they have in common, each behind its own."""
        image_token = self.model.config.image_token_id
        length = prefix.common_prefix([prompt.sample for prompt in group], image_token)
        if length is not None:
            for prompt in group[1:]:  # the picture's tensors are held once
                prompt.sample = {"input_ids": prompt.sample["input_ids"]}
            return [(length, group)]
        if len(group) > 1:
            return [one for prompt in group for one in self._split([prompt])]
        return [(len(group[0].sample["input_ids"]), group)]  # ends with a picture: nothing is left behind the prefix

    def _window(self, window: Sequence[tuple[int, list[Prompt]]]) -> Iterator[list[tuple[int, Reply]]]:
        limit = prefix.longest(self.model)
        asked = [prompt for _, prompts in window for prompt in prompts]
        if any(length == prompt.length for length, prompts in window for prompt in prompts) or (
            limit is not None and max(prompt.room for prompt in asked) > limit
        ):
            for _, prompts in window:
                for prompt in prompts[1:]:
                    prompt.sample = prompts[0].sample | prompt.sample
            yield from self._generate(asked)
            return
        heads = [
            prompts[0].sample | {"input_ids": prompts[0].sample["input_ids"][:length]} for length, prompts in window
        ]
        prefixes = prefix.read_prefixes(self.model, self.processor.collate, heads)
        rows = {prompt.place: row for row, (_, prompts) in enumerate(window) for prompt in prompts}
        widest = max(prefixes.lengths)
        for batch in self._batches(asked, lambda prompt: prompt.length - prefixes.lengths[rows[prompt.place]], widest):
            yield self._within_memory(prefixes, rows, batch)

    def _within_memory(
        self, prefixes: prefix.Prefixes, rows: Mapping[int, int], batch: Sequence[Prompt]
    ) -> list[tuple[int, Reply]]:
        """The replies to a batch, in halves where the device's memory does not hold it, and so from then on."""
        try:
            return self._answers(prefixes, rows, batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        self.batch_tokens = max(1, self.batch_tokens // 2)
        log.warning("%d prompts did not fit the memory together; batches have %d tokens", len(batch), self.batch_tokens)
        parts = (batch[:half], batch[half:])
        return [reply for part in parts for reply in self._within_memory(prefixes, rows, part)]

    def _answers(
        self, prefixes: prefix.Prefixes, rows: Mapping[int, int], batch: Sequence[Prompt]
    ) -> list[tuple[int, Reply]]:
        first = batch[0].request
        found = prefix.answer(
            self.model,
            prefixes,
            [rows[prompt.place] for prompt in batch],
            [prompt.sample["input_ids"][prefixes.lengths[rows[prompt.place]] :] for prompt in batch],
            max_new_tokens=1 if first.choices else first.max_new_tokens,
            ends=self._ends,
            stopped=(lambda ids: self._stop(ids, first.stop) is not None) if first.stop else None,
            keep_logits=bool(first.choices),
        )
        replies: list[tuple[int, Reply]] = []
        for prompt, one in zip(batch, found, strict=True):
            if one.logits is not None:
                replies.append((prompt.place, self._choice(prompt.request, one.logits)))
            else:
                replies.append((prompt.place, self._reply(prompt.request, one.ids, one.ended)))
        return replies
