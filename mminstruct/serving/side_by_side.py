"""Many answers at once from a model of our own parts, each going on from what is known of its chat.

    request ─▶ keys ─Kept─▶ known beginning + the rest ─in steps─▶ keys and values of the prompt ─▶ first token
                                                                          ─join─▶ batch [B, L] ─▶ a token each, a step
    answer over ─▶ its keys and values ─Kept─▶ the next turn begins there

An answer joins the batch when its prompt has been read and leaves it when it is over; the others go on. Rows are
padded on the left, and every answer has its own sampler, so its text does not depend on its neighbours (in 32 bits; in
half precision see `Limits.batch`). Long prompts are read in pieces, between which the others get their tokens and a
request whose asker has left is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DynamicCache

from mminstruct.conversation import Conversation, TextPart
from mminstruct.models import prefix
from mminstruct.models.experts import PLACES
from mminstruct.models.prefix import Rows
from mminstruct.serving.decoder import Decoder
from mminstruct.serving.kept import Kept, Layers, keys_of
from mminstruct.serving.request import Request
from mminstruct.serving.seen import Seen, content_name
from mminstruct.serving.settings import Limits
from mminstruct.serving.writer import Writer

if TYPE_CHECKING:
    from mminstruct.models.processor import Processor
    from mminstruct.models.vlm import VisionLanguageModel

# Places that a batch makes room for at a time.
ROOM = 128
# The share of `Limits.kept_bytes` that is for the encoder's features.
FEATURES = 0.25


@dataclass(eq=False)
class _Prompt:
    """A request whose prompt is being read: `embeddings` `[1, R, H]` of what is not known yet, `read` of them done."""

    writer: Writer
    keys: np.ndarray
    embeddings: torch.Tensor
    places: torch.Tensor  # [1, R], which of these are places of media
    layers: list[Rows]
    known: int
    read: int = 0
    logits: torch.Tensor | None = None  # [V], of what was read last


@dataclass(eq=False)
class _Row:
    """An answer in the batch. `length` tokens of it have keys and values; `token` is the last one, which has none."""

    writer: Writer
    keys: np.ndarray
    length: int
    token: int


def can_be_used(model: Any) -> bool:
    """Whether this is a model whose prompts can be continued, over its whole context."""
    if not prefix.shares_prefixes(model):
        return False
    window = prefix.longest(model)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return window is None or (context is not None and window >= context)


class SideBySide(Decoder):
    """Continuous batches with kept prompts, for models that `can_be_used`."""

    model: VisionLanguageModel
    processor: Processor

    def __init__(
        self, model: VisionLanguageModel, processor: Processor, count: Callable[[], None], limits: Limits
    ) -> None:
        super().__init__(model, processor, count)
        precise = model.get_input_embeddings().weight.dtype == torch.float32
        self.batch = limits.batch or (16 if precise else 1)
        self._piece = limits.prompt_step
        for_features = int(limits.kept_bytes * FEATURES)
        self._kept = Kept(limits.kept_bytes - for_features)
        self._seen = Seen(model, processor, for_features)
        self._prompts: list[_Prompt] = []
        self._rows = _Batch(model)

    @property
    def running(self) -> list[Request]:
        # Prompts first: who looks from another thread while one joins the batch sees it in both, never in neither.
        prompts = [one.writer.request for one in self._prompts]
        rows = [row.writer.request for row in self._rows.rows]
        return rows + [one for one in prompts if all(one is not row for row in rows)]

    def release(self) -> int:
        return self._kept.clear() + self._seen.clear()

    def drop(self, request: Request) -> None:
        self._prompts = [one for one in self._prompts if one.writer.request is not request]
        self._rows.keep([row for row in self._rows.rows if row.writer.request is not request])

    def admit(self, request: Request) -> None:
        started = time.perf_counter()
        try:
            self._prompts.append(self._begin(request, started))
        finally:
            request.usage.seconds = time.perf_counter() - started

    def step(self) -> None:
        self._look()
        if self._prompts and self._read(self._prompts[0]):
            self._begin_to_answer(self._prompts[0])
        if self._rows.rows:
            self._rows.step()
            self._leave()

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def _begin(self, request: Request, started: float) -> _Prompt:
        """What of the prompt is known, and the embeddings of the rest."""
        names = [content_name(medium) for medium in request.media]
        named = _named(request.conversation, names)
        outlines = [self._seen.outline(medium) for medium in request.media]
        sample = self.prompt(request, named, outlines)
        writer = self.writer(request, sample["input_ids"], started)
        places = sample["places"].tolist() if "places" in sample else []
        keys = keys_of(sample["input_ids"], [(number, begin, count) for number, begin, count, _ in places])
        known, layers = self._kept.longest(keys)
        request.usage.cached_tokens = known
        rest = sample["input_ids"][known:].unsqueeze(0).to(self.model.device)
        behind = [index for index, place in zip(_order(request.conversation), places, strict=True) if place[1] >= known]
        found = [self._seen.features(names[index], request.media[index]) for index in behind]
        features = torch.cat([one.features for one in found]) if found else None
        embeddings, _, _ = self.model.embed(rest, None, media=[one.medium for one in found], features=features)
        marks = rest == self.model.config.image_token_id
        return _Prompt(writer, keys, embeddings, marks, _with_room(layers, known, len(keys), self.model), known)

    def _read(self, prompt: _Prompt) -> bool:
        """Pass the next piece through the model; whether that was the last."""
        begin, whole = prompt.read, prompt.embeddings.shape[1]
        if begin == whole:
            return True  # it was, and there was no memory for what came behind
        end = min(begin + self._piece, whole)
        for layer in prompt.layers:
            layer.filled = prompt.known + begin  # a piece that ran out of memory is read anew
        cache = DynamicCache()
        cache.layers = list(prompt.layers)
        device = self.model.device
        places = {} if self.model.experts is None else {PLACES: prompt.places[:, begin:end]}
        output = self.model(
            inputs_embeds=prompt.embeddings[:, begin:end],
            attention_mask=torch.ones(1, prompt.known + end, dtype=torch.long, device=device),
            position_ids=torch.arange(prompt.known + begin, prompt.known + end, device=device).unsqueeze(0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **places,
        )
        prompt.read = end
        prompt.logits = output.logits[0, -1]
        return end == whole

    def _begin_to_answer(self, prompt: _Prompt) -> None:
        """The prompt was read: draw its first token and let it join the others.

        Where there is no memory for that, it is called again, and goes on where it was.
        """
        writer = prompt.writer
        if not writer.ids and writer.reason is None:
            assert prompt.logits is not None
            writer.put(prompt.logits)
        if writer.reason is None:
            self._rows.join(_Row(writer, prompt.keys, len(prompt.keys), writer.ids[0]), prompt.layers)
            self._prompts.remove(prompt)
        else:
            self._keep(prompt.keys, [(layer.so_far[0][0], layer.so_far[1][0]) for layer in prompt.layers])
            self._prompts.remove(prompt)
            writer.request.put(None)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Those whose askers have left, or whose time is up, are over before anything is computed for them."""
        gone = [one for one in self._prompts if one.writer.look()]
        self._prompts = [one for one in self._prompts if one not in gone]
        for one in gone:
            one.writer.request.put(None)
        for row in self._rows.rows:
            row.writer.look()
        self._leave()

    def _leave(self) -> None:
        """Take answers that are over out of the batch and keep what they computed."""
        over = [row for row in self._rows.rows if row.writer.reason is not None]
        for row in over:
            made = row.writer.ids[: row.length - len(row.keys)]
            self._keep(np.concatenate([row.keys, np.array(made, dtype=np.int64)]), self._rows.layers_of(row))
        self._rows.keep([row for row in self._rows.rows if row.writer.reason is None])
        for row in over:
            row.writer.request.put(None)

    def _keep(self, keys: np.ndarray, layers: Layers) -> None:
        size = sum(part.nbytes for layer in layers for part in layer)
        if self._kept.fits(size):
            self._kept.add(keys, [(k.clone(), v.clone()) for k, v in layers])


class _Batch:
    """Keys and values of answers side by side, `[B, heads, room, D]` a layer, `filled` places of them used."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model
        self.rows: list[_Row] = []
        self._layers: Layers = []
        self._filled = 0
        self._never = torch.tensor(model.generation_config.suppress_tokens or [], dtype=torch.long, device=model.device)

    def layers_of(self, row: _Row) -> Layers:
        """Views of one row's keys and values, `[heads, L, D]`."""
        place = self.rows.index(row)
        begin = self._filled - row.length
        return [(k[place, :, begin : self._filled], v[place, :, begin : self._filled]) for k, v in self._layers]

    def join(self, row: _Row, layers: list[Rows]) -> None:
        """Add a row whose prompt is in `layers`, each `[1, heads, L, D]`."""
        new = [(layer.so_far[0][0], layer.so_far[1][0]) for layer in layers]
        self._rebuild([*((old, self.layers_of(old)) for old in self.rows), (row, new)])

    def keep(self, rows: list[_Row]) -> None:
        """Go on with these only."""
        if len(rows) != len(self.rows):
            self._rebuild([(row, self.layers_of(row)) for row in rows])

    def step(self) -> None:
        """A token for each row."""
        if self._filled == self._layers[0][0].shape[2]:
            self._rebuild([(row, self.layers_of(row)) for row in self.rows])
        device = self._model.device
        cache = DynamicCache()
        cache.layers = [Rows.holding(keys, values, self._filled) for keys, values in self._layers]
        lengths = torch.tensor([row.length for row in self.rows], device=device).unsqueeze(1)
        width = self._filled + 1
        padded = any(row.length < self._filled for row in self.rows)
        mask = (torch.arange(width, device=device) >= self._filled - lengths).long() if padded else None
        output = self._model(
            input_ids=torch.tensor([[row.token] for row in self.rows], device=device),
            attention_mask=mask,
            position_ids=lengths,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._filled = width
        logits = output.logits[:, -1]
        likeliest = logits.index_fill(1, self._never, -torch.inf).argmax(-1).tolist()
        for row, one, token in zip(self.rows, logits, likeliest, strict=True):
            row.length += 1
            row.token = row.writer.put(one, token if row.writer.takes_the_likeliest else None)

    def _rebuild(self, rows: list[tuple[_Row, Layers]]) -> None:
        """Put these rows side by side, with room for more tokens."""
        if not rows:
            self.rows, self._layers, self._filled = [], [], 0
            return
        filled = max(row.length for row, _ in rows)
        layers: Layers = []
        for number in range(len(rows[0][1])):
            pair = []
            for part in (0, 1):
                heads, _, size = rows[0][1][number][part].shape
                # Zeros, because what nobody looks at is multiplied all the same, and may not be a NaN.
                room = rows[0][1][number][part].new_zeros(len(rows), heads, filled + ROOM, size)
                for place, (row, found) in enumerate(rows):
                    room[place, :, filled - row.length : filled] = found[number][part]
                pair.append(room)
            layers.append((pair[0], pair[1]))
        self.rows, self._layers, self._filled = [row for row, _ in rows], layers, filled


def _named(conversation: Conversation, names: list[str]) -> Conversation:
    """The record with its media known by their content."""
    # The processor says it where there are too few.
    pairs = zip(conversation.media, names, strict=False)
    media = [medium.model_copy(update={"sha256": name}) for medium, name in pairs]
    media += conversation.media[len(media) :]
    return conversation.model_copy(update={"media": media})


def _order(conversation: Conversation) -> list[int]:
    """Which medium stands at each place, in the order of the places."""
    return [
        part.index for message in conversation.messages for part in message.content if not isinstance(part, TextPart)
    ]


def _with_room(layers: Layers, known: int, length: int, model: VisionLanguageModel) -> list[Rows]:
    """A known beginning, `[heads, P, D]` a layer, copied into room for `length` places."""
    if not layers:
        return [Rows(length) for _ in DynamicCache(config=model.config.get_text_config()).layers]
    found = []
    for keys, values in layers:
        rooms = [part.new_empty(1, part.shape[0], length, part.shape[2]) for part in (keys, values)]
        for room, part in zip(rooms, (keys, values), strict=True):
            room[0, :, :known] = part
        found.append(Rows.holding(rooms[0], rooms[1], known))
    return found
