"""Image towers of open_clip, taken out of the two-tower model that open_clip builds."""

from __future__ import annotations

from typing import Any

import open_clip
import torch

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.models.config import OpenClipConfig
from mminstruct.models.encoders.base import Tower, in_chosen_order

# open_clip builds both towers; the text tower is thrown away, so a config of one's own gets the smallest.
_NO_TEXT = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}


class OpenClipEncoder(Tower):
    """The tower's transformer output at `config.layers` (default: the last), `architecture` is its `vision_cfg`."""

    def __init__(self, config: OpenClipConfig, pretrained: bool = False) -> None:
        super().__init__(config)
        if pretrained and config.weights:
            known = open_clip.list_models()
            if config.name not in known:
                raise ConfigError(f"open_clip has no model {config.name!r}.{did_you_mean(config.name, known)}")
            trained_so = bool(open_clip.get_pretrained_cfg(config.name, str(config.weights)).get("quick_gelu", False))
            if trained_so != _quick_gelu(config.name):
                raise ConfigError(
                    f"open_clip: the weights {config.weights!r} were trained {'with' if trained_so else 'without'} "
                    f"QuickGELU, the model {config.name!r} is {'without' if trained_so else 'with'} it; name the model "
                    f"{'with' if trained_so else 'without'} '-quickgelu'"
                )
            whole = open_clip.create_model(config.name, pretrained=str(config.weights))
            self.origin = f"open_clip {config.name}/{config.weights}"
        else:
            vision = {**_known_vision(config.name), **config.architecture}
            if not vision:
                raise ConfigError(
                    f"open_clip has no model {config.name!r} and the config gives no architecture; "
                    f"name one of open_clip.list_models() or write its vision_cfg under architecture"
                )
            whole = open_clip.model.CLIP(
                embed_dim=8, vision_cfg=vision, text_cfg=_NO_TEXT, quick_gelu=_quick_gelu(config.name)
            )
        self.visual = whole.visual
        deepest, self._layers = -1, [-1]
        if config.layers:
            deepest, self._layers = self._chosen_layers(len(self.visual.transformer.resblocks))
        self.visual.prune_intermediate_layers([deepest], prune_norm=True, prune_head=True)
        self._patch = self.visual.patch_size
        # open_clip's transformers have a class token in front of the patches and nothing else.
        self._describe(self.visual.transformer.width, prefix=1, has_class_token=True)

    def tokens(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        output = self.visual.forward_intermediates(
            pixel_values, indices=self._layers, output_fmt="NLC", intermediates_only=True, output_extra_tokens=True
        )
        found = zip(output["image_intermediates_prefix"], output["image_intermediates"], strict=True)
        return in_chosen_order([torch.cat(both, dim=1) for both in found], self._layers)

    def checkpoint_activations(self, enable: bool) -> None:
        self.visual.set_grad_checkpointing(enable)

    def grid(self, height: int, width: int) -> int:
        return (height // self._patch[0]) * (width // self._patch[1])


def _known_vision(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(name)
    return dict(config["vision_cfg"]) if config else {}


def _quick_gelu(name: str) -> bool:
    config = open_clip.get_model_config(name)
    return bool(config and config.get("quick_gelu", False))
