"""Encoders of timm: vision transformers and convolutional networks alike.

`timm.create_model(name, num_classes=0, global_pool="", **architecture)` gives unpooled, normed features:
`[n, prefix + P, D]` from transformers, `[n, D, h, w]` from convolutional networks (flattened here, row by row).
"""

from __future__ import annotations

from typing import Any

import timm
import torch

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.models.config import EncoderConfig
from mminstruct.models.encoders.base import VisionEncoder


class TimmEncoder(VisionEncoder):
    model: Any  # timm's models share methods that torch.nn.Module does not declare

    def __init__(self, config: EncoderConfig, pretrained: bool = False) -> None:
        super().__init__(config)
        architecture, _, _ = config.name.partition(".")
        if not timm.is_model(architecture):
            raise ConfigError(f"timm has no model {config.name!r}.{did_you_mean(architecture, timm.list_models())}")
        pretrained = pretrained and bool(config.weights)
        try:
            model: Any = timm.create_model(
                config.name, pretrained=pretrained, num_classes=0, global_pool="", **config.architecture
            )
        except TypeError as error:
            raise ConfigError(f"timm cannot build {config.name!r} with {config.architecture}: {error}") from None
        if config.layer is not None:
            # With `prune_head` and `prune_norm` nothing behind the layer that is read stays in memory.
            model.prune_intermediate_layers([config.layer], prune_norm=True, prune_head=True)
        if pretrained:
            self.origin = f"timm {config.name}"
        self.model = model
        self.hidden_size = int(model.num_features)
        self._reduction = int(model.feature_info[-1]["reduction"])
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))  # timm's convolutional networks have none
        self._add_norm()

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.config.layer is not None:
            layers: list[torch.Tensor] = self.model.forward_intermediates(
                pixel_values, indices=[-1], norm=False, output_fmt="NLC", intermediates_only=True
            )
            return layers[0]
        output: torch.Tensor = self.model(pixel_values)
        if output.ndim == 4:
            return output.flatten(2).transpose(1, 2)
        return output if self.config.feature == "cls_patch" else output[:, self._prefix :]

    def num_patches(self, height: int, width: int) -> int:
        # Strided convolutions with padding round up, patch embeddings take whole patches only: both agree on sizes
        # that the reduction divides, the only ones `ImageConfig.size` should have.
        grid = -(-height // self._reduction) * -(-width // self._reduction)
        return grid + (self._prefix if self.config.feature == "cls_patch" else 0)
