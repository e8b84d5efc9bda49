"""Perceiver resampler: a fixed number of learnt latents attends to the features (Flamingo, arXiv 2204.14198, 3.1).

The block is transformers' `IdeficsPerceiverResampler`, which has OpenFlamingo's structure; a linear layer brings the
latents to the language model's width.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from transformers import IdeficsConfig
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction


class PerceiverOptions(ConnectorOptions):
    """`latents` is N. `qk_norm` normalises queries and keys, as Idefics does and OpenFlamingo does not."""

    latents: int = Field(default=64, ge=1)
    depth: int = Field(default=6, ge=1)
    heads: int = Field(default=8, ge=1)
    head_size: int = Field(default=64, ge=1)
    qk_norm: bool = False


class Perceiver(Connector):
    Options = PerceiverOptions

    def __init__(self, input_size: int, output_size: int, options: PerceiverOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.latents = options.latents
        config = IdeficsConfig(
            perceiver_config={"qk_layer_norms_perceiver": options.qk_norm}, vision_config={"embed_dim": input_size}
        )
        self.resampler = IdeficsPerceiverResampler(
            config, input_size, options.depth, options.heads, options.head_size, options.latents
        )
        self.projection = nn.Linear(input_size, output_size)

    def num_tokens(self, patches: int) -> int:
        return self.latents

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        projected: torch.Tensor = self.projection(self.resampler(features))
        return projected
