"""The contract of a connector: `features [n, P, D] -> image embeddings [n, N, H]`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from mminstruct.config import Config


class ConnectorOptions(Config):
    """A connector's own settings; each connector subclasses it."""


class Connector(nn.Module, ABC):
    """Turns an encoder's features into embeddings that stand in the language model's input.

    Args:
        input_size: D, the width of the encoder's features.
        output_size: H, the width of the language model's embeddings.
        options: an instance of the class's own `Options`.
    """

    Options: type[ConnectorOptions] = ConnectorOptions

    def __init__(self, input_size: int, output_size: int, options: ConnectorOptions) -> None:
        super().__init__()
        self.input_size, self.output_size, self.options = input_size, output_size, options

    @abstractmethod
    def num_tokens(self, patches: int) -> int:
        """N for P patches. Raises `ConfigError` where the connector cannot take that many."""

    @abstractmethod
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`[n, P, D] -> [n, N, H]`."""
