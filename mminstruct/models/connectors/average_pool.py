"""Average pooling to a grid of `side x side` tokens, whatever the encoder's grid, then an MLP.

With a side that divides the grid's this is the stride pooling of LLaVA-NeXT-Video (`get_2dPool`,
`llava/model/llava_arch.py`, mode average), done before the projection, where it is cheaper; DeCo (arXiv 2405.20985)
argues that pooling loses less than resamplers that have to learn what to keep.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch.nn import functional

from mminstruct.errors import ConfigError
from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction, mlp, square_side


class AveragePoolOptions(ConnectorOptions):
    side: int = Field(ge=1)
    layers: int = Field(default=2, ge=1)


class AveragePool(Connector):
    Options = AveragePoolOptions

    def __init__(self, input_size: int, output_size: int, options: AveragePoolOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.side = options.side
        self.projection = mlp(input_size, output_size, options.layers)

    def num_tokens(self, patches: int) -> int:
        side = square_side(patches, "average_pool")
        if self.side > side:
            raise ConfigError(
                f"average_pool cannot make a grid of {self.side} x {self.side} tokens out of {side} x {side} patches; "
                "choose a smaller side"
            )
        return self.side**2

    def pooled_patches(self, patches: int) -> int:
        return self.num_tokens(patches)

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        n, patches, width = features.shape
        side = math.isqrt(patches)
        if side == self.side:
            return features
        grid = features.transpose(1, 2).reshape(n, width, side, side)
        return functional.adaptive_avg_pool2d(grid, self.side).flatten(2).transpose(1, 2)

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        projected: torch.Tensor = self.projection(self.pooled(features))
        return projected
