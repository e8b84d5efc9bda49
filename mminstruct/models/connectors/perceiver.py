"""Perceiver resampler: a fixed number of learnt latents attends to the features (Flamingo, arXiv 2204.14198, 3.1).

    features [n, P, D] ─resampler─▶ latents [n, N, D] ─linear─▶ [n, N, H]

The resampler is transformers' `IdeficsPerceiverResampler`, which has OpenFlamingo's structure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import torch
from pydantic import Field
from torch import nn
from transformers import IdeficsConfig
from transformers.activations import ACT2FN
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

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


class Resampler(IdeficsPerceiverResampler):
    """`[n, P, D] -> [n, N, D]`, for any P."""

    def __init__(self, size: int, options: ResamplerOptions) -> None:
        config = IdeficsConfig(
            perceiver_config={"qk_layer_norms_perceiver": options.qk_norm}, vision_config={"embed_dim": size}
        )
        super().__init__(config, size, options.depth, options.heads, options.head_size, options.latents)
        for _, feed_forward in cast(Iterable[tuple[nn.Module, nn.Module]], self.blocks):
            feed_forward.act = ACT2FN[options.activation]


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
