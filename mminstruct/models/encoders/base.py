"""The contract of a vision encoder, `pixel_values [n, 3, H, W] -> features [n, P, D]`, and what towers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from mminstruct.errors import ConfigError
from mminstruct.models.config import FusedConfig, TowerConfig


class VisionEncoder(nn.Module, ABC):
    """Turns pictures into a row of feature vectors each.

    Attributes:
        config: what rebuilds it.
        hidden_size: D, the width of a feature.
        origin: where its weights came from, for the report of a load.
    """

    config: TowerConfig | FusedConfig
    hidden_size: int
    origin: str

    @abstractmethod
    def num_patches(self, height: int, width: int) -> int:
        """P for pictures of this size, without running the encoder."""

    @abstractmethod
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[n, 3, H, W] -> [n, P, D]`."""

    @abstractmethod
    def checkpoint_activations(self, enable: bool) -> None:
        """Keep only what goes into each layer, and compute the layer again in the backward pass; or no longer.

        Raises:
            ConfigError: the encoder's layers cannot be computed again.
        """


class Tower(VisionEncoder):
    """One encoder of one library.

    A library's tower gives whole rows of tokens, those in front of the patches included, one row for each layer that
    is read; which of the tokens become features, and how layers are joined, is the same for all of them.
    """

    config: TowerConfig

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.origin = "random"

    def _describe(self, width: int, prefix: int, has_class_token: bool) -> None:
        """Called by each subclass once its module stands.

        Args:
            width: of one token.
            prefix: how many tokens stand in front of the patches; the class token is the first.

        Raises:
            ConfigError: the class token is asked for and there is none.
        """
        if self.config.feature != "patch" and not has_class_token:
            raise ConfigError(
                f"the encoder {self.config.name!r} has no class token to read as feature {self.config.feature!r}; "
                "use feature: patch"
            )
        self._prefix = prefix
        self.hidden_size = width * max(1, len(self.config.layers))
        self.norm = nn.LayerNorm(self.hidden_size) if self.config.norm else nn.Identity()

    def _chosen_layers(self, depth: int) -> tuple[int, list[int]]:
        """The deepest of the layers that are read, and all of them counted from that one (which is -1).

        Raises:
            ConfigError: the encoder has fewer layers.
        """
        layers = self.config.layers
        if -min(layers) > depth:
            raise ConfigError(f"the encoder {self.config.name!r} has {depth} layers, none {min(layers)}")
        deepest = max(layers)
        return deepest, [layer - deepest - 1 for layer in layers]

    @abstractmethod
    def tokens(self, pixel_values: torch.Tensor) -> Sequence[torch.Tensor]:
        """`[n, 3, H, W] -> [n, prefix + patches, width]`, once for each layer of `config.layers`, or the output."""

    @abstractmethod
    def grid(self, height: int, width: int) -> int:
        """The number of patches of a picture of this size."""

    def num_patches(self, height: int, width: int) -> int:
        if self.config.feature == "cls":
            return 1
        return self.grid(height, width) + (self._prefix if self.config.feature == "cls_patch" else 0)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        wanted = {"patch": slice(self._prefix, None), "cls_patch": slice(None), "cls": slice(1)}[self.config.feature]
        features = torch.cat([tokens[:, wanted] for tokens in self.tokens(pixel_values)], dim=-1)
        normed: torch.Tensor = self.norm(features)
        return normed


def in_chosen_order(found: Sequence[torch.Tensor], layers: Sequence[int]) -> list[torch.Tensor]:
    """timm and open_clip give the layers that they were asked for from shallow to deep, and each only once."""
    by_layer = dict(zip(sorted(set(layers)), found, strict=True))
    return [by_layer[layer] for layer in layers]
