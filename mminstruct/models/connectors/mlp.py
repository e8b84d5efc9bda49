"""Linear, GELU, linear: LLaVA-1.5's projector `mlp2x_gelu` (arXiv 2310.03744, section 3.3)."""

from __future__ import annotations

import torch
from torch import nn

from mminstruct.models.connectors.base import Connector, ConnectorOptions


def mlp2x_gelu(input_size: int, output_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(input_size, output_size), nn.GELU(), nn.Linear(output_size, output_size))


class Mlp2xGelu(Connector):
    def __init__(self, input_size: int, output_size: int, options: ConnectorOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.projection = mlp2x_gelu(input_size, output_size)

    def num_tokens(self, patches: int) -> int:
        return patches

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.projection(features)
        return projected
