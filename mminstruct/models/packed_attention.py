"""Attention over packed rows, as one of transformers' attention functions.

    queries, keys, values [1, heads, L, D] ─tree by tree─▶ [1, L, heads, D]

The table of segments (`segments.as_mask`) travels where the attention mask does: a mask with four dimensions reaches
every layer as it is, through gradient checkpointing, DDP and DeepSpeed, in any model that knows transformers' attention
interface. Given any other mask the function is transformers' SDPA.

Half precision on a GPU takes a whole row in one call of torch's flash attention for sequences of any length, unless it
holds shared prefixes, which that has no mask for. Elsewhere each tree is a call of SDPA, causal or with its own mask;
causal trees of one length are a batch of one call.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mminstruct.models.segments import Segment, trees, visible
from mminstruct.models.transfer import sent

# The name in transformers' registries of attention functions and of mask functions.
PACKED = "mminstruct_packed"
_LARGEST_HEAD = 256  # that flash attention takes


class _Forest(NamedTuple):
    """What a row's table says to attention.

    Attributes:
        lengths: of each tree.
        masks: of each tree `[length, length]`, which tokens each sees; None where it is causal.
        bounds: `[trees + 1]`, int32, where each tree begins, and where the last one ends.
        chains: whether no tree has branches.
    """

    lengths: list[int]
    masks: list[torch.Tensor | None]
    bounds: torch.Tensor
    chains: bool


@functools.lru_cache(maxsize=2)  # a table is the same tensor in all layers of a step
def _forest(table: torch.Tensor, window: int | None, device: torch.device) -> _Forest:
    forest = trees([Segment(*row) for row in table[0, 0].tolist()])
    lengths = [tree[-1].start + tree[-1].length for tree in forest]
    masks = [
        sent(visible(tree, length, window), device)
        if len(tree) > 1 or (window is not None and length > window)
        else None
        for tree, length in zip(forest, lengths, strict=True)
    ]
    bounds = sent(torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32), device)
    return _Forest(lengths, masks, bounds, all(len(tree) == 1 for tree in forest))


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
        attention_mask: `[1, 1, S, 3]`, the table of segments, best on the CPU, because it is read there; any other mask
            goes to transformers' SDPA.

    Returns:
        `[1, L, heads, D]`, and no attention weights.
    """
    if attention_mask is None or attention_mask.dtype != torch.int32:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ValueError("packed attention has neither soft caps nor attention sinks")
    forest = _forest(attention_mask, sliding_window, query.device)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (repeat_kv(states, groups) for states in (key, value))
    kind = _computed_in(query) if query.device.type == "cuda" else torch.float32
    half = kind in (torch.bfloat16, torch.float16)
    fits = query.shape[-1] == value.shape[-1] <= _LARGEST_HEAD and query.shape[-1] % 8 == 0
    if half and fits and forest.chains and not dropout:
        longest = max(forest.lengths)
        q, k, v = (states.squeeze(0).transpose(0, 1).to(kind) for states in (query, key, value))  # [L, heads, D]
        output = varlen_attn(
            q,
            k,
            v,
            forest.bounds,
            forest.bounds,
            longest,
            longest,
            scale=scaling,
            window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        )
        assert isinstance(output, torch.Tensor)
        return output.unsqueeze(0), None
    if len(set(forest.lengths)) == 1 and forest.chains and forest.masks[0] is None:  # a batch: one call, nothing joined
        q, k, v = (
            states.squeeze(0).unflatten(1, (-1, forest.lengths[0])).transpose(0, 1) for states in (query, key, value)
        )
        output = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
        return output.transpose(1, 2).flatten(0, 1).unsqueeze(0), None
    parts = zip(*(states.split(forest.lengths, dim=2) for states in (query, key, value)), forest.masks, strict=True)
    outputs = [
        functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
        ).transpose(1, 2)  # as torch lays it out in memory, so that joining is the only copy
        for q, k, v, mask in parts
    ]
    return torch.cat(outputs, dim=1), None


def _computed_in(states: torch.Tensor) -> torch.dtype:
    """What attention computes in on a GPU, autocast or not."""
    return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else states.dtype


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
