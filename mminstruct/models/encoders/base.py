"""The contract of a vision encoder: `pixel_values [n, 3, H, W] -> features [n, P, D]`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from mminstruct.models.config import EncoderConfig


class VisionEncoder(nn.Module, ABC):
    """Turns pictures into a row of feature vectors each.

    Attributes:
        config: what rebuilds it.
        hidden_size: D, the width of a feature.
        origin: where its weights came from, for the report of a load.
    """

    hidden_size: int

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.origin = "random"

    def _add_norm(self) -> None:
        """Called by each subclass once `hidden_size` is known."""
        self.norm = nn.LayerNorm(self.hidden_size) if self.config.norm else nn.Identity()

    @abstractmethod
    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[n, 3, H, W] -> [n, P, D]`, before the optional norm."""

    @abstractmethod
    def num_patches(self, height: int, width: int) -> int:
        """P for pictures of this size, without running the encoder."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(self.features(pixel_values))
        return normed
