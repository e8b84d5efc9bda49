"""Perceiver resampler: a fixed number of learnt latents attends to the features (Flamingo, arXiv 2204.14198, 3.1).

    features [n, P, D] ─resampler─▶ latents [n, N, D] ─linear─▶ [n, N, H]

The resampler is transformers' `IdeficsPerceiverResampler`, which has OpenFlamingo's structure; its attention, besides,
takes media of different lengths in one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, cast

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional
from transformers import IdeficsConfig
from transformers.activations import ACT2FN
from transformers.models.idefics.perceiver import IdeficsMLP, IdeficsPerceiverAttention

from mminstruct.config import Config
from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction


class ResamplerOptions(Config):
    """Options.

    Attributes:
        latents: N.
        qk_norm: normalise queries and keys, as Idefics does and OpenFlamingo does not.
        activation: of the feed-forwards, `relu` in Idefics, `gelu` in OpenFlamingo (`open_flamingo/src/helpers.py`).
    """

    latents: int = Field(default=64, ge=1)
    depth: int = Field(default=6, ge=1)
    heads: int = Field(default=8, ge=1)
    head_size: int = Field(default=64, ge=1)
    qk_norm: bool = False
    activation: Literal["relu", "gelu"] = "relu"


class ResamplerAttention(IdeficsPerceiverAttention):
    """transformers' own, with a way in for media of different lengths."""

    def forward(
        self, context: torch.Tensor, latents: torch.Tensor, lengths: Sequence[int] | None = None
    ) -> torch.Tensor:
        """What the latents `[n, N, D]` find in the context.

        Args:
            context: `[n, P, D]`, or with `lengths` the features of all media, `[sum of lengths, D]`.
        """
        if lengths is None:
            alike: torch.Tensor = super().forward(context, latents)
            return alike
        context, latents = self.context_layer_norm(context), self.latents_layer_norm(latents)
        read = torch.cat([context, latents.flatten(0, 1)])
        # Each [tokens, heads, head size]
        query, key, value = (
            projected.unflatten(-1, (self.n_heads, self.head_dim))
            for projected in (self.q_proj(latents.flatten(0, 1)), self.k_proj(read), self.v_proj(read))
        )
        if self.qk_layer_norms:
            query, key = self.q_layer_norm(query), self.k_layer_norm(key)
        queries = query.split(latents.shape[1])
        keys, values = (self._by_medium(one, lengths, latents.shape[1]) for one in (key, value))
        found = [
            functional.scaled_dot_product_attention(
                q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), scale=self.qk_scale
            )
            for q, k, v in zip(queries, keys, values, strict=True)
        ]
        output: torch.Tensor = self.output_proj(torch.stack(found).transpose(1, 2).flatten(-2))
        return output

    @staticmethod
    def _by_medium(vectors: torch.Tensor, lengths: Sequence[int], latents: int) -> list[torch.Tensor]:
        """Of each medium the vectors of its features and those of its latents, which stand behind all features."""
        contexts = vectors[: sum(lengths)].split(list(lengths))
        return [torch.cat(pair) for pair in zip(contexts, vectors[sum(lengths) :].split(latents), strict=True)]


class Resampler(nn.Module):
    """`[n, P, D] -> [n, N, D]`, for any P; or `[sum of lengths, D] -> [n, N, D]`, where media differ in length.

    Either way each module is called once: ZeRO-3 waits for ever for a process that calls one more often than others.
    """

    def __init__(self, size: int, options: ResamplerOptions) -> None:
        super().__init__()
        config = IdeficsConfig(vision_config={"embed_dim": size})
        self.n_latents = options.latents
        self.latents = nn.Parameter(torch.randn(options.latents, size))
        self.blocks = nn.ModuleList()
        for _ in range(options.depth):
            attention = ResamplerAttention(size, options.heads, options.head_size, options.qk_norm)
            feed_forward = IdeficsMLP(4 * size, config)
            feed_forward.act = ACT2FN[options.activation]
            self.blocks.append(nn.ModuleList([attention, feed_forward]))
        self.layer_norm = nn.LayerNorm(size)

    def forward(self, context: torch.Tensor, lengths: Sequence[int] | None = None) -> torch.Tensor:
        latents = self.latents.expand(len(context) if lengths is None else len(lengths), -1, -1)
        for attention, feed_forward in cast(Iterable[tuple[nn.Module, nn.Module]], self.blocks):
            latents = attention(context, latents, lengths) + latents
            latents = feed_forward(latents) + latents
        resampled: torch.Tensor = self.layer_norm(latents)
        return resampled


class PerceiverOptions(ConnectorOptions, ResamplerOptions):
    """The resampler's."""


class Perceiver(Connector):
    Options = PerceiverOptions

    def __init__(self, input_size: int, output_size: int, options: PerceiverOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.resampler = Resampler(input_size, options)
        self.projection = nn.Linear(input_size, output_size)

    def num_tokens(self, patches: int) -> int:
        return self.resampler.n_latents

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        projected: torch.Tensor = self.projection(self.resampler(features))
        return projected
