"""Attention over packed rows, as one of transformers' attention functions.

    queries, keys, values [1, heads, L, D] ─trees of like length─▶ [trees, heads, longest, D] ─SDPA─▶ [1, L, heads, D]

The table of segments (`segments.as_mask`) travels where the attention mask does: a mask with four dimensions reaches
every layer as it is, through gradient checkpointing, DDP and DeepSpeed, in any model that knows transformers' attention
interface. Given any other mask the function is transformers' SDPA.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mminstruct.models.segments import Segment, trees, visible

# The name in transformers' registries of attention functions and of mask functions.
PACKED = "mminstruct_packed"
# Trees of like length are computed together, each filled up to the longest. A bucket takes another tree as long as its
# padded tokens stay below this multiple of the real ones.
_WASTE = 1.25


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
        attention_mask: `[1, 1, S, 3]`, the table of segments; any other mask goes to transformers' SDPA.

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
