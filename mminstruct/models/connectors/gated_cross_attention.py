"""Gated cross-attention: pictures stay beside the prompt, and blocks in front of decoder layers look at them.

    features [n, P, D] ─resampler─▶ latents [n, N, D]
    hidden [B, L, H], latents by rows [B, M, N, D] ─block─▶ hidden + tanh(gate) * what was seen

Two kinds of block: `flamingo` is OpenFlamingo's (`open_flamingo/src/helpers.py`, also Otter's), `idefics` is
transformers' `IdeficsGatedCrossAttentionLayer`. A picture takes one place in the prompt, and its token keeps its own
embedding. Gates start at zero, so a new model says exactly what its language model says (Flamingo, arXiv 2204.14198,
section 3.1.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional
from transformers import IdeficsConfig
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

from mminstruct.errors import DataError
from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction
from mminstruct.models.connectors.perceiver import Resampler, ResamplerOptions
from mminstruct.models.cross_attention import Sights, stand_in_front


class GatedCrossAttentionOptions(ConnectorOptions):
    """Options.

    Attributes:
        resampler: the Perceiver that turns a medium into latents; null to look at the encoder's own features.
        block: `flamingo` or `idefics`.
        every: a block for every so many decoder layers.
        first: the layer, counted from 0, that has the first one; default: `every - 1` for `flamingo`, 0 for `idefics`.
        heads, head_size: of the blocks' attention; Idefics' head is the model's width divided by `heads`.
        intermediate_size: of the blocks' feed-forward; default: four times the model's width.
        hidden_act, rms_norm_eps, qk_norm, gate: of `idefics` only; its gates are one number or one for each `channel`.
    """

    resampler: ResamplerOptions | None = ResamplerOptions()
    block: Literal["flamingo", "idefics"] = "flamingo"
    every: int = Field(default=4, ge=1)
    first: int | None = Field(default=None, ge=0)
    heads: int = Field(default=8, ge=1)
    head_size: int = Field(default=64, ge=1)
    intermediate_size: int | None = Field(default=None, ge=1)
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    qk_norm: bool = False
    gate: Literal["one", "channel"] = "one"


class FlamingoBlock(nn.Module):
    """OpenFlamingo's `GatedCrossAttentionBlock`: attention and feed-forward, each behind a gate of one number."""

    def __init__(self, width: int, seen_width: int, options: GatedCrossAttentionOptions) -> None:
        super().__init__()
        inner = options.heads * options.head_size
        self.heads = options.heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(seen_width, inner, bias=False)
        self.value = nn.Linear(seen_width, inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        between = options.intermediate_size or 4 * width
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, between, bias=False),
            nn.GELU(),
            nn.Linear(between, width, bias=False),
        )
        self.feed_forward_gate = nn.Parameter(torch.zeros(1))

    def forward(self, hidden: torch.Tensor, seen: Sights) -> torch.Tensor:
        """`[B, L, H] -> [B, L, H]`."""
        if seen.latents is not None:
            hidden = hidden + self.attention_gate.tanh() * self._look(hidden, seen.latents, seen.mask)
        fed: torch.Tensor = self.feed_forward(hidden)
        return hidden + self.feed_forward_gate.tanh() * fed

    def _look(self, hidden: torch.Tensor, latents: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        def split(vectors: torch.Tensor) -> torch.Tensor:
            return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        media = latents.flatten(1, 2)
        query, key, value = split(self.query(self.norm(hidden))), split(self.key(media)), split(self.value(media))
        blind = ~mask.any(-1, keepdim=True)  # [B, L, 1]; softmax over nothing would be no number
        allowed = (mask | blind).repeat_interleave(latents.shape[2], dim=-1).unsqueeze(1)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        output: torch.Tensor = self.output(found.transpose(1, 2).flatten(2))
        return output.masked_fill(blind, 0.0)


class IdeficsBlock(nn.Module):
    """transformers' own layer, told who sees what. Without any picture it is shown a blank one that nobody sees."""

    def __init__(self, width: int, seen_width: int, options: GatedCrossAttentionOptions) -> None:
        super().__init__()
        self.seen_width = seen_width
        config = IdeficsConfig(
            hidden_size=width,
            num_attention_heads=options.heads,
            intermediate_size=options.intermediate_size or 4 * width,
            hidden_act=options.hidden_act,
            rms_norm_eps=options.rms_norm_eps,
            qk_layer_norms=options.qk_norm,
            alpha_initializer="zeros",
            alpha_type="float" if options.gate == "one" else "vector",
            vision_config={"embed_dim": seen_width},
        )
        cast(Any, config)._attn_implementation = "sdpa"
        self.layer = IdeficsGatedCrossAttentionLayer(config, layer_idx=0)

    def forward(self, hidden: torch.Tensor, seen: Sights) -> torch.Tensor:
        """`[B, L, H] -> [B, L, H]`."""
        latents = seen.latents
        if latents is None:
            latents = hidden.new_zeros(len(hidden), 1, 1, self.seen_width)
        mask = Sights(latents, seen.index).mask
        closed = torch.finfo(hidden.dtype).min
        bias = hidden.new_zeros(mask.shape).masked_fill(~mask, closed).repeat_interleave(latents.shape[2], dim=-1)
        result: torch.Tensor = self.layer(
            hidden,
            image_hidden_states=latents.flatten(1, 2),
            image_attention_mask=bias.unsqueeze(1),
            cross_attention_gate=mask.any(-1),
        )
        return result


_BLOCKS: dict[str, type[FlamingoBlock] | type[IdeficsBlock]] = {"flamingo": FlamingoBlock, "idefics": IdeficsBlock}


class GatedCrossAttention(Connector):
    """See the module. `forward` gives the latents; the blocks stand in `blocks` once `attach` has been called."""

    Options = GatedCrossAttentionOptions
    options: GatedCrossAttentionOptions
    in_prompt = False

    def __init__(self, input_size: int, output_size: int, options: GatedCrossAttentionOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.resampler = None if options.resampler is None else Resampler(input_size, options.resampler)
        self.blocks = nn.ModuleList()

    def num_tokens(self, patches: int) -> int:
        return patches if self.resampler is None else self.resampler.n_latents

    def attach(self, layers: nn.ModuleList) -> None:
        """Make the blocks and let them run in front of a language model's decoder layers."""
        options = self.options
        default = options.every - 1 if options.block == "flamingo" else 0
        numbers = range(default if options.first is None else options.first, len(layers), options.every)
        kind = _BLOCKS[options.block]
        self.blocks.extend(kind(self.output_size, self.input_size, options) for _ in numbers)
        stand_in_front(dict(zip(numbers, self.blocks, strict=True)), layers)

    def look(self, features: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        """The latents of each medium, a video's frames together as one: `[sum of frames, P, D] -> [n, N, D]`.

        Raises:
            DataError: a video, and no resampler to make as many latents of it as of a picture.
        """
        if max(frames) == 1:
            latents: torch.Tensor = self(features)
            return latents
        if self.resampler is None:
            raise DataError("this model looks at features without a resampler, so it takes pictures only; send frames")
        found: torch.Tensor = self(features.flatten(0, 1), lengths=[count * features.shape[1] for count in frames])
        return found

    def forward(
        self,
        features: torch.Tensor,
        instruction: Instruction | None = None,
        lengths: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """The latents; with `lengths` of media that have so many of the features `[sum of lengths, D]`."""
        return features if self.resampler is None else self.resampler(features, lengths)
