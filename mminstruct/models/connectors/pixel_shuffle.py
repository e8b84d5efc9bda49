"""Pixel shuffle: `factor x factor` neighbouring patches become one token of `factor^2` times the width.

Space to depth as in Idefics3 / SmolVLM (arXiv 2408.12637, section 2.2) and InternVL; each token then goes through
`layers` linear layers with GELU between.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field

from mminstruct.errors import ConfigError
from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction, mlp, square_side


class PixelShuffleOptions(ConnectorOptions):
    factor: int = Field(default=2, ge=1)
    layers: int = Field(default=1, ge=1)


class PixelShuffle(Connector):
    Options = PixelShuffleOptions

    def __init__(self, input_size: int, output_size: int, options: PixelShuffleOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.factor = options.factor
        self.projection = mlp(input_size * self.factor**2, output_size, options.layers)

    def num_tokens(self, patches: int) -> int:
        side = square_side(patches, "pixel_shuffle")
        if side % self.factor:
            raise ConfigError(
                f"pixel_shuffle with factor {self.factor} does not divide a grid of {side} x {side} patches; "
                "choose another factor or image size"
            )
        return (side // self.factor) ** 2

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        n, patches, width = features.shape
        side, step = math.isqrt(patches), self.factor
        grid = features.reshape(n, side // step, step, side // step, step, width)
        tokens = grid.permute(0, 1, 3, 2, 4, 5).reshape(n, -1, step * step * width)
        projected: torch.Tensor = self.projection(tokens)
        return projected
