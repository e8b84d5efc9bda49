"""Linear layers with GELU between: with two, LLaVA-1.5's projector `mlp2x_gelu` (arXiv 2310.03744, section 3.3)."""

from __future__ import annotations

import torch
from pydantic import Field

from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction, mlp


class MlpOptions(ConnectorOptions):
    layers: int = Field(default=2, ge=2)


class Mlp(Connector):
    Options = MlpOptions

    def __init__(self, input_size: int, output_size: int, options: MlpOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.projection = mlp(input_size, output_size, options.layers)

    def num_tokens(self, patches: int) -> int:
        return patches

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        projected: torch.Tensor = self.projection(features)
        return projected
