"""What adapters of models in this process share: batches by a token budget, greedy generation, stop texts, choices.

    requests ─ by media, each opened once ─▶ [Prompt] ─ of alike length ─▶ left-padded batch ─ generate ─▶ replies

How a prompt is made of a request, and a batch of prompts, is the adapter's own.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import torch

from mminstruct.errors import ConfigError
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.requests import Reply, Request, first_stop

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedModel

    from mminstruct.media import FrameSampling, Video

BATCH_TOKENS = {"cpu": 8_192, "cuda": 32_768}
"""Tokens of a batch by the kind of device: on a CPU what fits its caches, on a GPU about 16 GB of keys and values of a
model of 7 billion parameters in half precision."""


@dataclass
class Prompt:
    """One request, ready for the model.

    Attributes:
        place: among the requests.
        sample: what the adapter makes batches of.
        length: tokens of the prompt; where the adapter can only estimate them, batches are a little larger or smaller.
    """

    place: int
    request: Request
    sample: Any
    length: int

    @property
    def room(self) -> int:
        """Tokens of the whole prompt and the longest answer."""
        return self.length + (1 if self.request.choices else self.request.max_new_tokens)


class GeneratingAdapter(Adapter):
    """Asks a loaded model by `generate`.

    Args:
        batch_tokens: of prompts and answers together in one batch (default: `BATCH_TOKENS`); replies do not depend on
            it. One prompt is always taken, however long.
        identity: of the weights (`mminstruct.evaluation.facts.identity`), where replies are to be kept.
        facts: what a report says of the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        batch_tokens: int | None = None,
        identity: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
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
            yield from self._by_generate(requests)

    # ---- what an adapter says ----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def tokenizer(self) -> Any:
        """The model's tokenizer."""

    @property
    @abstractmethod
    def frame_sampling(self) -> FrameSampling:
        """Which frames of a video are shown."""

    @abstractmethod
    def prepare(self, medium: Image.Image | Video) -> Any:
        """What can be made of a medium once, for all questions about it."""

    @abstractmethod
    def prompt(self, place: int, request: Request, media: Sequence[Any]) -> Prompt:
        """The prompt of a request; `media` are prepared."""

    @abstractmethod
    def inputs(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """Prompts as one batch for the model, padded on the left."""

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """The text of an answer, without special tokens and outer white space."""

    @abstractmethod
    def beginnings(self, request: Request) -> list[int]:
        """The token that an answer would begin with, for each choice, as the chat template writes answers."""

    def alike(self, prompt: Prompt) -> tuple[Any, ...]:
        """What prompts of one batch must have in common."""
        request = prompt.request
        return request.max_new_tokens, request.stop, bool(request.choices), request.alone

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def _prompts(self, requests: Sequence[Request]) -> Iterator[list[Prompt]]:
        """The prompts about the same media, group by group; their media are opened and prepared once."""
        places = range(len(requests))
        for _, members in groupby(places, key=lambda place: _media(requests[place])):
            group = list(members)
            if any(requests[place].alone for place in group):
                yield from ([self.prompt(place, requests[place], self._open(requests[place]))] for place in group)
                continue
            media = self._open(requests[group[0]])
            yield [self.prompt(place, requests[place], media) for place in group]

    def _open(self, request: Request) -> list[Any]:
        return [self.prepare(medium) for medium in request.open(self.frame_sampling)]

    def _batches(self, prompts: Sequence[Prompt], width: Any, shared: int = 0) -> Iterator[list[Prompt]]:
        """Prompts that are decoded alike, of alike width, longest first, as many as the budget has room for."""
        for _, members in groupby(sorted(prompts, key=self.alike), key=self.alike):
            batch: list[Prompt] = []
            for prompt in sorted(members, key=width, reverse=True):
                new = 1 if prompt.request.choices else prompt.request.max_new_tokens
                widest = shared + width(batch[0] if batch else prompt) + new
                if batch and (prompt.request.alone or (len(batch) + 1) * widest > self.batch_tokens):
                    yield batch
                    batch = []
                batch.append(prompt)
            yield batch

    # ---- by generate -------------------------------------------------------------------------------------------------

    def _by_generate(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        """A window of prompts at a time, so that few pictures are held."""
        window: list[Prompt] = []
        for group in self._prompts(requests):
            window += group
            if sum(prompt.room for prompt in window) > 8 * self.batch_tokens:
                yield from self._generate(window)
                window = []
        yield from self._generate(window)

    def _generate(self, prompts: Sequence[Prompt]) -> Iterator[list[tuple[int, Reply]]]:
        for batch in self._batches(prompts, lambda prompt: prompt.length):
            first = batch[0].request
            inputs = {name: value.to(self.model.device) for name, value in self.inputs(batch).items()}
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
                **({"stop_strings": list(first.stop), "tokenizer": self.tokenizer} if first.stop else {}),
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
        found = self.decode(ids)
        place = self._stop(ids, request.stop)
        if place is not None:
            found, ended = found[:place].strip(), True
        return Reply(text=found, tokens=len(ids), finish="end" if ended else "length")

    def _stop(self, ids: list[int], stops: Sequence[str]) -> int | None:
        """Where in the decoded text the first stop text begins."""
        return first_stop(self.decode(ids), stops)

    def _choice(self, request: Request, logits: torch.Tensor) -> Reply:
        """The choice whose first token is the most probable, the first of several."""
        chances = torch.log_softmax(logits.float(), -1)
        tokens = self.beginnings(request)
        if len(set(tokens)) < len(tokens):
            raise ConfigError(
                f"two of the choices {', '.join(request.choices)} begin with the same token of this model's tokenizer; "
                "use a protocol that generates"
            )
        scores = {choice: float(chances[token]) for choice, token in zip(request.choices, tokens, strict=True)}
        return Reply(text=max(scores, key=lambda choice: scores[choice]), tokens=1, finish="choice", scores=scores)


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
