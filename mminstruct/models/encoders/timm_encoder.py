"""Encoders of timm: vision transformers and convolutional networks alike.

`timm.create_model(name, num_classes=0, global_pool="", **architecture)` gives unpooled, normed features:
`[n, prefix + P, D]` from transformers, `[n, D, h, w]` from convolutional networks (flattened here, row by row).
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import PatchEmbed

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.models.config import TimmConfig
from mminstruct.models.encoders.base import Tower, in_chosen_order


class TimmEncoder(Tower):
    model: Any  # timm's models share methods that torch.nn.Module does not declare

    def __init__(self, config: TimmConfig, pretrained: bool = False) -> None:
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
        self._layers: list[int] = []
        if config.layers:
            # Layers can be joined where all of them have the same grid, as in a vision transformer's.
            if len({level["reduction"] for level in model.feature_info}) > 1:
                raise ConfigError(f"timm's {config.name!r} has layers of different grids; leave layer out")
            deepest, self._layers = self._chosen_layers(len(model.feature_info))
            # With `prune_head` and `prune_norm` nothing behind the layers that are read stays in memory.
            model.prune_intermediate_layers([deepest], prune_norm=True, prune_head=True)
        if pretrained:
            self.origin = f"timm {config.name}"
        self.model = model
        self._reduction = int(model.feature_info[-1]["reduction"])
        # Strided convolutions with padding round up; a patch embedding takes whole patches only, unless it pads.
        patches = [m for m in model.modules() if isinstance(m, PatchEmbed) and m.patch_size[0] == self._reduction]
        self._whole_patches_only = any(not embedding.dynamic_img_pad for embedding in patches)
        # timm's convolutional networks have neither of the two.
        prefix, class_token = getattr(model, "num_prefix_tokens", 0), getattr(model, "cls_token", None)
        self._describe(int(model.num_features), prefix=int(prefix), has_class_token=class_token is not None)

    def tokens(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        if not self._layers:
            output: torch.Tensor = self.model(pixel_values)
            return [output.flatten(2).transpose(1, 2) if output.ndim == 4 else output]
        found: list[Any] = self.model.forward_intermediates(
            pixel_values,
            indices=self._layers,
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
            return_prefix_tokens=True,
        )
        if self._prefix:  # then timm gives pairs: patches, and what stands in front of them
            found = [torch.cat([prefix, patches], dim=1) for patches, prefix in found]
        return in_chosen_order(found, self._layers)

    def checkpoint_activations(self, enable: bool) -> None:
        try:
            self.model.set_grad_checkpointing(enable)
        except (AttributeError, AssertionError):  # the two ways in which timm's models say that they cannot
            raise ConfigError(
                f"timm's {self.config.name!r} cannot compute its layers again; take the vision_encoder out of "
                "activation_checkpointing"
            ) from None

    def grid(self, height: int, width: int) -> int:
        if self._whole_patches_only:
            return (height // self._reduction) * (width // self._reduction)
        return -(-height // self._reduction) * -(-width // self._reduction)
