"""Answers of a model of the zoo: pictures encoded once, prompts that begin alike read once, batches by a token budget.

    requests ─ by media ─▶ groups ─ window ─▶ prefixes [G, P] ─▶ batches of questions [Q, P + R] ─▶ replies

A window holds as many groups as the budget has room for the prefixes of; its questions are answered in batches of alike
length, longest first. Models that cannot share prefixes (`mminstruct.models.prefix`) answer left-padded batches by
`generate`, with the same replies.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import torch

from mminstruct.conversation import message
from mminstruct.errors import ConfigError
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.requests import Reply, Request
from mminstruct.models import prefix
from mminstruct.models.last_layer import last_layer_where_read

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mminstruct.models.base_processor import BaseProcessor, Picture

log = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 8_192, "cuda": 32_768}
"""Tokens of a batch by the kind of device: on a CPU what fits its caches, on a GPU about 16 GB of keys and values of a
model of 7 billion parameters in half precision."""


@dataclass
class _Prompt:
    """One request, ready for the model."""

    place: int
    request: Request
    sample: dict[str, torch.Tensor]

    @property
    def length(self) -> int:
        return len(self.sample["input_ids"])

    @property
    def room(self) -> int:
        """Tokens of the whole prompt and the longest answer."""
        return self.length + (1 if self.request.choices else self.request.max_new_tokens)


class ZooAdapter(Adapter):
    """Asks a loaded model.

    Args:
        batch_tokens: of prompts and answers together in one batch, and of the prefixes that are kept for it (default:
            `BATCH_TOKENS`); replies do not depend on it. One prompt is always taken, however long.
        identity: of the weights (`mminstruct.evaluation.facts.identity`), where replies are to be kept.
        facts: what a report says of the model.
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
        self.model = model
        self.processor = processor
        self.batch_tokens = batch_tokens or BATCH_TOKENS[model.device.type]
        self._identity = identity
        self._facts = dict(facts or {})
        ends = model.generation_config.eos_token_id
        self._ends = frozenset([] if ends is None else ends if isinstance(ends, list | tuple) else [ends])

    @property
    def identity(self) -> Mapping[str, str] | None:
        return self._identity

    def facts(self) -> dict[str, Any]:
        return dict(self._facts)

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        with torch.inference_mode(), evaluation_mode(self.model):
            if not prefix.shares_prefixes(self.model):
                yield from self._by_generate(requests)
                return
            with last_layer_where_read(self.model):
                for window in self._windows(requests):
                    yield from self._window(window)

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def _prompts(self, requests: Sequence[Request]) -> Iterator[list[_Prompt]]:
        """The prompts about the same media, group by group; their media are opened and prepared once."""
        places = range(len(requests))
        for _, members in groupby(places, key=lambda place: _media(requests[place])):
            group = list(members)
            if any(requests[place].alone for place in group):
                yield from ([_Prompt(place, requests[place], self._sample(requests[place], None))] for place in group)
                continue
            opened = requests[group[0]].open(self.processor.frame_sampling)
            pictures = [self.processor.prepare(picture) for picture in opened]
            yield [_Prompt(place, requests[place], self._sample(requests[place], pictures)) for place in group]

    def _sample(self, request: Request, pictures: Sequence[Picture] | None) -> dict[str, torch.Tensor]:
        if pictures is None:
            pictures = request.open(self.processor.frame_sampling)
        return self.processor.prompt(request.conversation, pictures)

    # ---- with shared prefixes ----------------------------------------------------------------------------------------

    def _windows(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, list[_Prompt]]]]:
        """(length of the prefix, prompts) of as many groups as there is room for the prefixes of."""
        window: list[tuple[int, list[_Prompt]]] = []
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

    def _split(self, group: list[_Prompt]) -> list[tuple[int, list[_Prompt]]]:
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

    def _window(self, window: Sequence[tuple[int, list[_Prompt]]]) -> Iterator[list[tuple[int, Reply]]]:
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
        self, prefixes: prefix.Prefixes, rows: Mapping[int, int], batch: Sequence[_Prompt]
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
        self, prefixes: prefix.Prefixes, rows: Mapping[int, int], batch: Sequence[_Prompt]
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

    def _batches(self, prompts: Sequence[_Prompt], width: Any, shared: int = 0) -> Iterator[list[_Prompt]]:
        """Prompts that are decoded alike, of alike width, longest first, as many as the budget has room for."""

        def decoding(prompt: _Prompt) -> tuple[Any, ...]:
            request = prompt.request
            return request.max_new_tokens, request.stop, bool(request.choices), request.alone

        for key, members in groupby(sorted(prompts, key=decoding), key=decoding):
            batch: list[_Prompt] = []
            new = 1 if key[2] else key[0]
            for prompt in sorted(members, key=width, reverse=True):
                widest = shared + width(batch[0] if batch else prompt) + new
                if batch and (prompt.request.alone or (len(batch) + 1) * widest > self.batch_tokens):
                    yield batch
                    batch = []
                batch.append(prompt)
            yield batch

    # ---- by generate -------------------------------------------------------------------------------------------------

    def _by_generate(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """A window of prompts at a time, so that few pictures are held."""
        window: list[_Prompt] = []
        for group in self._prompts(requests):
            window += group
            if sum(prompt.room for prompt in window) > 8 * self.batch_tokens:
                yield from self._generate(window)
                window = []
        yield from self._generate(window)

    def _generate(self, prompts: Sequence[_Prompt]) -> Iterator[list[tuple[int, Reply]]]:
        for batch in self._batches(prompts, lambda prompt: prompt.length):
            first = batch[0].request
            inputs = self.processor.collate([prompt.sample for prompt in batch], padding_side="left")
            inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
            width = inputs["input_ids"].shape[1]
            # Greedy whatever the checkpoint's own generation config says: a repetition penalty would change answers.
            # (`generate` is typed for models of one modality, hence Any.)
            found = cast(Any, self.model).generate(
                **inputs,
                max_new_tokens=1 if first.choices else first.max_new_tokens,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                return_dict_in_generate=True,
                output_logits=bool(first.choices),
                **({"stop_strings": list(first.stop), "tokenizer": self.processor.tokenizer} if first.stop else {}),
            )
            replies: list[tuple[int, Reply]] = []
            for row, prompt in enumerate(batch):
                if prompt.request.choices:
                    replies.append((prompt.place, self._choice(prompt.request, found.logits[0][row])))
                    continue
                ids = found.sequences[row, width:].tolist()
                end = next((place for place, token in enumerate(ids) if token in self._ends), None)
                replies.append((prompt.place, self._reply(prompt.request, ids[:end], end is not None)))
            yield replies

    # ---- replies -----------------------------------------------------------------------------------------------------

    def _reply(self, request: Request, ids: list[int], ended: bool) -> Reply:
        found = self.processor.decode(ids)
        place = self._stop(ids, request.stop)
        if place is not None:
            found, ended = found[:place].strip(), True
        return Reply(text=found, tokens=len(ids), finish="end" if ended else "length")

    def _stop(self, ids: list[int], stops: Sequence[str]) -> int | None:
        """Where in the decoded text the first stop text begins."""
        found = self.processor.decode(ids)
        places = [found.find(stop) for stop in stops]
        return min((place for place in places if place >= 0), default=None)

    def _choice(self, request: Request, logits: torch.Tensor) -> Reply:
        """The choice whose first token is the most probable, the first of several."""
        chances = torch.log_softmax(logits.float(), -1)
        tokens = self._first_tokens(request)
        scores = {choice: float(chances[token]) for choice, token in zip(request.choices, tokens, strict=True)}
        return Reply(text=max(scores, key=lambda choice: scores[choice]), tokens=1, finish="choice", scores=scores)

    def _first_tokens(self, request: Request) -> list[int]:
        """The token that an answer would begin with, for each choice, as the chat template writes answers."""
        template, tokenizer = self.processor.template, self.processor.tokenizer
        messages = request.conversation.messages
        before = len(template.encode(messages, tokenizer, True).input_ids)
        found = []
        for choice in request.choices:
            ids = template.encode([*messages, message("assistant", choice)], tokenizer).input_ids
            found.append(ids[before])
        if len(set(found)) < len(found):
            raise ConfigError(
                f"two of the choices {', '.join(request.choices)} begin with the same token of this model's tokenizer; "
                "use a protocol that generates"
            )
        return found


def _media(request: Request) -> tuple[Any, ...]:
    return request.blank, request.alone, tuple((medium.kind, medium.path) for medium in request.conversation.media)


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout and the like off inside the block, each module's own mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
