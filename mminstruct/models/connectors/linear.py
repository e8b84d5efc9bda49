"""One linear layer, LLaVA's first projector (arXiv 2304.08485, section 4.1)."""

from __future__ import annotations

import torch
from torch import nn

from mminstruct.models.connectors.base import Connector, ConnectorOptions, Instruction


class Linear(Connector):
    def __init__(self, input_size: int, output_size: int, options: ConnectorOptions) -> None:
        super().__init__(input_size, output_size, options)
        self.projection = nn.Linear(input_size, output_size)

    def num_tokens(self, patches: int) -> int:
        return patches

    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        projected: torch.Tensor = self.projection(features)
        return projected
