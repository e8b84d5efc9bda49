"""Greedy answers to many prompts that begin alike: what they share is computed once.

    questions about one picture: [prefix | question 1], [prefix | question 2], ...
    prefixes [G, P] ─model─▶ keys and values, a row per picture
                              └─ rows of the questions ─▶ [Q, P] + rests [Q, R] ─model─▶ first tokens ─▶ the others

In a causal model the keys and values of a prefix do not depend on what follows, so the answers are those of the prompts
one by one. The picture is encoded once and its tokens pass through the language model once, not once per question.
Which models can do it: `shares_prefixes`.

In half precision another batch adds numbers in another order, and an answer on a knife's edge can differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from mminstruct.models.packing import hindrance
from mminstruct.models.vlm import VisionLanguageModel

Sample = dict[str, torch.Tensor]
Collate = Callable[[Sequence[Sample], str], dict[str, torch.Tensor]]
"""A processor's `collate`: (samples, padding side) -> batch."""
MOST_DONE = 0.25
"""The share of ended rows from which on a batch is cut down to those that go on: cutting copies all keys and values."""


@dataclass
class Generated:
    """What was generated behind one prompt.

    Attributes:
        ids: the new tokens, without the one that ended them.
        ended: whether an end token came, rather than the limit.
        logits: `[V]`, of the first new token, where they were asked for.
    """

    ids: list[int]
    ended: bool = False
    logits: torch.Tensor | None = None


class Rows(DynamicLayer):
    """One layer's keys and values with room for those to come: `[Q, heads, room, D]`, written in place.

    transformers' own layer joins old and new ones at each step, which copies every prefix again for every token.

    Attributes:
        filled: how many places hold something.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._places = room
        self.filled = 0

    @classmethod
    def holding(cls, keys: torch.Tensor, values: torch.Tensor, filled: int) -> Rows:
        """A layer whose first `filled` places hold something already."""
        rows = cls(keys.shape[2])
        rows._begin(keys, values)
        rows.filled = filled
        return rows

    def _begin(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._room = (keys, values)
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_initialized:
            rooms = [new.new_empty(*new.shape[:2], self._places, new.shape[3]) for new in (key_states, value_states)]
            self._begin(rooms[0], rooms[1])
        end = self.filled + key_states.shape[-2]
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, self.filled : end] = new
        self.filled = end
        return self.so_far

    @property
    def so_far(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values up to `filled`, `[Q, heads, filled, D]`."""
        keys, values = self._room
        return keys[:, :, : self.filled], values[:, :, : self.filled]

    def get_seq_length(self) -> int:
        return self.filled

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        keys, values = self._room
        self._room = keys[indices], values[indices]


class Prefixes:
    """The keys and values of some prefixes, a row each.

    Attributes:
        lengths: of each prefix, without padding.
    """

    def __init__(self, cache: DynamicCache, mask: torch.Tensor) -> None:
        layers: list[Any] = cache.layers  # plain ones: `shares_prefixes` lets no others through
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = [(layer.keys, layer.values) for layer in layers]
        self._mask = mask
        self.lengths: list[int] = mask.sum(1).tolist()

    def rows(self, rows: torch.Tensor, room: int) -> tuple[DynamicCache, torch.Tensor]:
        """A cache with these prefixes, one per question, with `room` for more tokens, and its mask `[Q, P]`; padding
        that all share is left out."""
        mask = self._mask[rows]
        first = int((mask.sum(0) > 0).nonzero()[0])
        width = mask.shape[1] - first
        cache = DynamicCache()
        cache.layers = [
            Rows.holding(
                _with_room(keys[:, :, first:], rows, width + room),
                _with_room(values[:, :, first:], rows, width + room),
                width,
            )
            for keys, values in self._layers
        ]
        return cache, mask[:, first:]


def _with_room(prefixes: torch.Tensor, rows: torch.Tensor, room: int) -> torch.Tensor:
    """These rows of `[G, heads, P, D]`, each with places for `room` tokens in all."""
    _, heads, width, size = prefixes.shape
    found = prefixes.new_empty(len(rows), heads, room, size)
    found[:, :, :width] = prefixes[rows]
    return found


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether prefixes can be shared: a model of our own parts in which a prefix does not depend on what follows.

    A connector that reads the question sees pictures otherwise for each; gated cross-attention keeps what was seen
    beside the cache; native models count positions in ways of their own.
    """
    return isinstance(model, VisionLanguageModel) and model.connector.reads == "nothing" and hindrance(model) is None


def longest(model: PreTrainedModel) -> int | None:
    """How long prompt and answer may be together: within the window of sliding attention, if there is one."""
    config = model.config.get_text_config()
    kinds = config.to_dict().get("layer_types") or ()
    window: int | None = config.to_dict().get("sliding_window") if "sliding_attention" in kinds else None
    return window


def common_prefix(samples: Sequence[Sample], image_token: int) -> int | None:
    """How many tokens the prompts begin with alike, leaving each at least one; None where that does not hold all
    pictures, or the prompts have none in common."""
    shortest = min(len(sample["input_ids"]) for sample in samples) - 1
    first = samples[0]["input_ids"][:shortest]
    length = shortest
    for sample in samples[1:]:
        differs = (sample["input_ids"][:shortest] != first).nonzero()
        length = min(length, int(differs[0]) if len(differs) else length)
    behind = samples[0]["input_ids"][length:] == image_token
    if length == 0 or any(bool((sample["input_ids"][length:] == image_token).any()) for sample in samples[1:]):
        return None
    return None if bool(behind.any()) else length


def read_prefixes(model: PreTrainedModel, collate: Collate, samples: Sequence[Sample]) -> Prefixes:
    """Pass prefixes, pictures and all, through the model.

    Args:
        samples: of each prefix its `input_ids` and the tensors of its pictures.
    """
    batch = {name: value.to(model.device) for name, value in collate(samples, "left").items()}
    mask = batch.pop("attention_mask")
    cache = DynamicCache(config=model.config.get_text_config())
    model(
        **batch,
        attention_mask=mask,
        position_ids=_positions(mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=_last(mask.shape[1], model.device),
    )
    return Prefixes(cache, mask)


def answer(
    model: PreTrainedModel,
    prefixes: Prefixes,
    rows: Sequence[int],
    rests: Sequence[torch.Tensor],
    *,
    max_new_tokens: int,
    ends: frozenset[int],
    stopped: Callable[[list[int]], bool] | None = None,
    keep_logits: bool = False,
) -> list[Generated]:
    """Greedy answers behind prefix `rows[i]` and then `rests[i]`, `[R]`, of at least one token each.

    Args:
        ends: the tokens that end an answer.
        stopped: whether these tokens are enough, asked after each new one.
        keep_logits: also give the logits of each first token.
    """
    device = model.device
    width = max(len(rest) for rest in rests)
    cache, mask = prefixes.rows(torch.tensor(rows, device=device), width + max_new_tokens - 1)
    ids = torch.zeros(len(rests), width, dtype=torch.long, device=device)
    behind = torch.zeros(len(rests), width, dtype=mask.dtype, device=device)
    for row, rest in enumerate(rests):
        ids[row, width - len(rest) :] = rest.to(device)
        behind[row, width - len(rest) :] = 1
    # Places without a token stand between prefix and rest; nobody looks at them, and they count in no position.
    mask = torch.cat([mask, behind], 1)
    places = _positions(mask)
    # As `generate` does it: places of pictures are not to be generated.
    never = torch.tensor(model.generation_config.suppress_tokens or [], dtype=torch.long, device=device)
    found = [Generated([]) for _ in rests]
    going = list(range(len(rests)))
    inputs, positions = ids, places[:, -width:]
    for step in range(max_new_tokens):
        output = model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=_last(inputs.shape[1], device),
        )
        logits = output.logits[:, -1]
        if step == 0 and keep_logits:
            for row, one in zip(going, logits, strict=True):
                found[row].logits = one
        tokens = logits.index_fill(1, never, -torch.inf).argmax(-1)
        for row, token in zip(going, tokens.tolist(), strict=True):
            one = found[row]
            if one.ended:
                continue
            if token in ends:
                one.ended = True
            else:
                one.ids.append(token)
                one.ended = stopped is not None and stopped(one.ids)
        kept = [place for place, row in enumerate(going) if not found[row].ended]
        if not kept or step + 1 == max_new_tokens:
            break
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        inputs = tokens.unsqueeze(1)
        if len(kept) <= (1 - MOST_DONE) * len(going):
            chosen = torch.tensor(kept, device=device)
            cache.batch_select_indices(chosen)
            positions, mask, inputs = positions[chosen], mask[chosen], inputs[chosen]
            going = [going[place] for place in kept]
    return found


def _last(length: int, device: torch.device) -> torch.Tensor:
    """The last place, as `last_layer_where_read` takes it."""
    return torch.tensor([length - 1], device=device)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """The place of each token among the real ones of its row, `[B, L]`."""
    return (mask.cumsum(1) - 1).clamp(min=0)
