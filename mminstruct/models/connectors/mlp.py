"""Linear layers with GELU between: with two, LLaVA-1.5's projector `mlp2x_gelu` (arXiv 2310.03744, section 3.3).

`expand: 4` puts Prismatic's layer for fused features in front, four times as wide as they are (`fused-gelu-mlp`,
`prismatic/util/nn_utils.py`).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction, mlp


class MlpOptions(ConnectorOptions):
    """`layers` of the output's width, the first from the features; `expand`: one more in front, 0 for none."""

    layers: int = Field(default=2, ge=2)
    expand: int = Field(default=0, ge=0)


class Mlp(Connector):
    Options = MlpOptions

    def __init__(self, input_size: int, output_size: int, options: MlpOptions) -> None:
        super().__init__(input_size, output_size, options)
        if options.expand:
            wide = options.expand * input_size
            self.projection: nn.Module = nn.Sequential(
                nn.Linear(input_size, wide), nn.GELU(), *mlp(wide, output_size, options.layers).children()
            )
        else:
            self.projection = mlp(input_size, output_size, options.layers)

    def num_tokens(self, patches: int) -> int:
        return patches

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        projected: torch.Tensor = self.projection(features)
        return projected
