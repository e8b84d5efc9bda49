"""Pixel shuffle: `factor x factor` neighbouring patches become one token of `factor^2` times the width.

Space to depth as in Idefics3 / SmolVLM (arXiv 2408.12637, section 2.2) and InternVL; each token then goes through one
linear layer (`projection: linear`) or two with a GELU between (`projection: mlp2x_gelu`).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from mminstruct.errors import ConfigError
from mminstruct.models.connectors.base import Connector, ConnectorOptions
from mminstruct.models.connectors.mlp import mlp2x_gelu


class PixelShuffleOptions(ConnectorOptions):
    factor: int = Field(default=2, ge=1)
    projection: Literal["linear", "mlp2x_gelu"] = "linear"


class PixelShuffle(Connector):
    Options = PixelShuffleOptions

    def __init__(self, input_size: int, output_size: int, options: PixelShuffleOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.factor = options.factor
        wide = input_size * self.factor**2
        self.projection: nn.Module = (
            nn.Linear(wide, output_size) if options.projection == "linear" else mlp2x_gelu(wide, output_size)
        )

    def num_tokens(self, patches: int) -> int:
        side = math.isqrt(patches)
        if side * side != patches or side % self.factor:
            raise ConfigError(
                f"pixel_shuffle with factor {self.factor} wants a square grid whose side it divides, found {patches} "
                "patches; choose another factor or image size (and feature: patch)"
            )
        return (side // self.factor) ** 2

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        n, patches, width = features.shape
        side, step = math.isqrt(patches), self.factor
        grid = features.reshape(n, side // step, step, side // step, step, width)
        tokens = grid.permute(0, 1, 3, 2, 4, 5).reshape(n, -1, step * step * width)
        projected: torch.Tensor = self.projection(tokens)
        return projected
