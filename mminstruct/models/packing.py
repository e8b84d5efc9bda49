"""Several conversations in one row of tokens, each blind to the others, and what they begin with alike only once.

    row [1, L]      | picture, shared by the next two | question, answer | question, answer | another conversation |
    segments [S, 3]   start, length, parent: a segment sees its ancestors whole, and itself up to each token

Segments of one tree stand one behind the other, parents first, so a conversation is a path from a root to a leaf, and
its tokens have the positions that they have alone. In a causal model what is seen of a prefix does not depend on what
follows, so losses and gradients are those of the conversations one by one, while the prefix is computed once.

The table travels where transformers' attention mask does, as `[1, 1, S, 3]`: a mask with four dimensions reaches every
layer as it is, through gradient checkpointing, DDP and DeepSpeed, in any model that knows transformers' attention
interface. `packed_attention` reads it there; given any other mask it is transformers' SDPA.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mminstruct.chat_template import IGNORE
from mminstruct.models.vlm import VisionLanguageModel

# The name in transformers' registries of attention functions and of mask functions.
PACKED = "mminstruct_packed"
# Trees of like length are computed together, each filled up to the longest. A bucket takes another tree as long as its
# padded tokens stay below this multiple of the real ones.
_WASTE = 1.25


class Segment(NamedTuple):
    """A stretch of the row; `parent` is the number of the segment that it continues, -1 for none."""

    start: int
    length: int
    parent: int


def hindrance(model: PreTrainedModel) -> str | None:
    """Why a model's conversations cannot stand in one row; None where they can."""
    if not isinstance(model, VisionLanguageModel):
        return "native models are trained on padded batches"
    if not model.connector.in_prompt:
        return "gated cross-attention looks at the last picture of a row, whichever conversation it belongs to"
    language_model = model.language_model
    config = language_model.config.get_text_config()
    if not language_model._supports_attention_backend:
        return f"the attention of {type(language_model).__name__} does not go through transformers' interface"
    kinds = sorted(set(config.to_dict().get("layer_types") or ()) - {"full_attention", "sliding_attention"})
    if kinds:
        return f"{type(language_model).__name__} has layers of the kind {kinds[0]}, which carry a state along the row"
    if config.to_dict().get("attn_logit_softcapping") is not None:
        return f"{type(language_model).__name__} caps its attention, which SDPA does not"
    return None


@contextlib.contextmanager
def packed(model: PreTrainedModel) -> Iterator[None]:
    """Within, the model's language model takes packed rows, and other batches as before."""
    assert isinstance(model, VisionLanguageModel)  # `hindrance` has been asked
    before = model.language_model.config._attn_implementation
    model.language_model.set_attn_implementation(PACKED)
    try:
        yield
    finally:
        model.language_model.set_attn_implementation(before)


def positions(segments: Sequence[Segment]) -> torch.Tensor:
    """The position of each token `[L]` in its own conversation."""
    begins: list[int] = []
    for segment in segments:
        begins.append(0 if segment.parent < 0 else begins[segment.parent] + segments[segment.parent].length)
    return torch.cat([torch.arange(begin, begin + s.length) for begin, s in zip(begins, segments, strict=True)])


def as_mask(segments: Sequence[Segment]) -> torch.Tensor:
    """`[1, 1, S, 3]`, what a model takes as its attention mask."""
    return torch.tensor(segments, dtype=torch.int32)[None, None]


def trees(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments of each tree, with starts and parents counted from the tree's own first."""
    found: list[list[Segment]] = []
    first = begin = 0
    for number, segment in enumerate(segments):
        if segment.parent < 0:
            first, begin = number, segment.start
            found.append([])
        found[-1].append(Segment(segment.start - begin, segment.length, max(segment.parent - first, -1)))
    return found


def visible(tree: Sequence[Segment], length: int, window: int | None = None) -> torch.Tensor:
    """Which tokens of a tree each of them sees, `[length, length]`; tokens behind the tree's end see themselves.

    Args:
        window: how many positions back a token sees at most, itself counted (sliding window attention).
    """
    seen = torch.eye(length, dtype=torch.bool)
    for segment in tree:
        rows = slice(segment.start, segment.start + segment.length)
        seen[rows, rows] = torch.ones(segment.length, segment.length, dtype=torch.bool).tril()
        if segment.parent >= 0:
            parent = tree[segment.parent]
            # The parent's last token sees all of the parent's ancestors and all of the parent.
            seen[rows, : segment.start] = seen[parent.start + parent.length - 1, : segment.start]
    if window is not None:
        place = functional.pad(positions(tree), (0, length - tree[-1].start - tree[-1].length))
        seen &= place[:, None] - place[None, :] < window
    return seen


class Run(NamedTuple):
    """Neighbouring samples, and how many of their first tokens stand in the row only once."""

    samples: list[dict[str, torch.Tensor]]
    prefix: int


def shared_runs(samples: Sequence[dict[str, torch.Tensor]], share: bool) -> list[Run]:
    """Samples in their order, neighbours together where standing behind one prefix saves tokens.

    A prefix holds whole media, at least one, and ends in front of the token before the first supervised one: each
    conversation then predicts its own tokens from its own, except for those that no loss is taken on.

    Args:
        samples: what `training_sample` makes.
    """
    runs: list[Run] = []
    for sample in samples:
        if share and runs:
            members, prefix = runs[-1]
            common = min(prefix or _limit(members[0]), _common(members[0], sample))
            if common * len(members) > prefix * (len(members) - 1):
                runs[-1] = Run([*members, sample], common)
                continue
        runs.append(Run([sample], 0))
    return runs


def _limit(sample: dict[str, torch.Tensor]) -> int:
    """How many tokens stand in front of the one that predicts the first supervised token."""
    supervised = (sample["labels"][1:] != IGNORE).nonzero()
    return int(supervised[0]) if len(supervised) else 0


def _common(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> int:
    """How many tokens two samples may share: see `shared_runs`."""
    if "places" not in one or "places" not in two:
        return 0
    length = min(_limit(one), _limit(two))
    differing = (one["input_ids"][:length] != two["input_ids"][:length]).nonzero()
    common = int(differing[0]) if len(differing) else length
    held = False
    for place, other in zip(one["places"].tolist(), two["places"].tolist(), strict=False):
        _, start, count, _ = place
        if place != other or start + count > common:
            common = min(common, start)  # no medium is cut, and other pixels are other tokens
            break
        held = True
    return common if held else 0


class _Bucket(NamedTuple):
    """Trees that are computed together: how many, how long the longest is, their mask (None: causal)."""

    trees: int
    length: int
    mask: torch.Tensor | None


class _Arrangement(NamedTuple):
    """How a row is laid out for attention, bucket behind bucket.

    Attributes:
        take: `[P]`, the row's token that stands at each padded place; a filled place takes its tree's last token.
        place: `[L]`, where each token of the row stands among the padded places.
    """

    buckets: list[_Bucket]
    take: torch.Tensor
    place: torch.Tensor


@functools.lru_cache(maxsize=4)  # a pure function, asked the same by every layer of a step and by checkpointing again
def _arrange(segments: tuple[Segment, ...], window: int | None) -> _Arrangement:
    forest = trees(segments)
    lengths = [tree[-1].start + tree[-1].length for tree in forest]
    starts = [sum(lengths[:number]) for number in range(len(forest))]
    order = sorted(range(len(forest)), key=lambda number: (len(forest[number]) > 1, lengths[number], number))
    groups: list[list[int]] = []
    real = 0
    for number in order:
        alike = groups and (len(forest[groups[-1][0]]) > 1) == (len(forest[number]) > 1)
        if alike and lengths[number] * (len(groups[-1]) + 1) <= _WASTE * (real + lengths[number]):
            groups[-1].append(number)
            real += lengths[number]
        else:
            groups.append([number])
            real = lengths[number]
    buckets, take, place = [], [], torch.empty(sum(lengths), dtype=torch.long)
    reached = 0
    for group in groups:
        longest = lengths[group[-1]]
        masked = len(forest[group[0]]) > 1 or (window is not None and longest > window)
        mask = torch.stack([visible(forest[number], longest, window) for number in group]) if masked else None
        buckets.append(_Bucket(len(group), longest, None if mask is None else mask.unsqueeze(1)))
        for number in group:
            tokens = torch.arange(longest).clamp(max=lengths[number] - 1) + starts[number]
            take.append(tokens)
            place[starts[number] : starts[number] + lengths[number]] = torch.arange(reached, reached + lengths[number])
            reached += longest
    return _Arrangement(buckets, torch.cat(take), place)


class _Pad(torch.autograd.Function):
    """`[L, ...] -> [P, ...]`, the rows that `take` names. Nobody sees filled places, so nothing comes back of them."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, take: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(place)
        return values.index_select(0, take)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        (place,) = ctx.saved_tensors
        return gradient.index_select(0, place), None, None


class _Unpad(torch.autograd.Function):
    """`[P, ...] -> [L, ...]`, the rows that `place` names, each at most once."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(place)
        ctx.rows = len(values)
        return values.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        (place,) = ctx.saved_tensors
        padded = gradient.new_zeros(ctx.rows, *gradient.shape[1:])
        return padded.index_copy_(0, place, gradient), None


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One layer's attention, as transformers' attention interface wants it.

    Args:
        query: `[1, heads, L, D]`; `key` and `value` perhaps with fewer heads.
        attention_mask: `[1, 1, S, 3]`, see the module; any other mask goes to transformers' SDPA.

    Returns:
        `[1, L, heads, D]`, and no attention weights.
    """
    if attention_mask is None or attention_mask.dtype != torch.int32:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ValueError("packed attention has neither soft caps nor attention sinks; set packing: false")
    segments = tuple(Segment(*row) for row in attention_mask[0, 0].tolist())
    arrangement = _arrange(segments, sliding_window)
    take, place = arrangement.take.to(query.device), arrangement.place.to(query.device)
    heads = query.shape[1]
    tokens = [
        _Pad.apply(states.squeeze(0).transpose(0, 1), take, place)  # [P, heads, D]
        for states in (query, key, value)
    ]
    sizes = [bucket.trees * bucket.length for bucket in arrangement.buckets]
    outputs = []
    for bucket, *parts in zip(arrangement.buckets, *(states.split(sizes) for states in tokens), strict=True):
        q, k, v = (part.unflatten(0, (bucket.trees, bucket.length)).transpose(1, 2) for part in parts)
        if k.shape[1] != heads:
            k, v = (repeat_kv(states, heads // states.shape[1]) for states in (k, v))
        output = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if bucket.mask is None else bucket.mask.to(query.device),
            dropout_p=dropout,
            is_causal=bucket.mask is None,
            scale=scaling,
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return _Unpad.apply(torch.cat(outputs), place).unsqueeze(0), None


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
