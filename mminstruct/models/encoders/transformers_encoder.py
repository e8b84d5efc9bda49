"""Vision transformers of transformers: CLIP, SigLIP, SigLIP2, DINOv2 and whatever has patches and hidden states."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from mminstruct.errors import ConfigError
from mminstruct.models.config import EncoderConfig
from mminstruct.models.encoders.base import VisionEncoder

# Modules that no hidden state passes through (a pooled output is made of them); they are not kept, so that every
# parameter that is left is read and can be trained.
_BEHIND_HIDDEN_STATES = {
    "clip_vision_model": ("post_layernorm",),
    "siglip_vision_model": ("post_layernorm", "head"),
    "dinov2": ("layernorm",),
}
_BEHIND_LAST_OUTPUT = {"clip_vision_model": ("post_layernorm",), "siglip_vision_model": ("head",)}


class TransformersEncoder(VisionEncoder):
    """`architecture` is a transformers config with its `model_type`; `name` the hub repository of the weights."""

    def __init__(self, config: EncoderConfig, pretrained: bool = False) -> None:
        super().__init__(config)
        architecture = dict(config.architecture)
        model_type = architecture.pop("model_type", None)
        try:
            settings = AutoConfig.for_model(model_type, **architecture)
        except ValueError:
            raise ConfigError(
                f"transformers knows no model_type {model_type!r} for the encoder {config.name!r}"
            ) from None
        if config.layer is not None:
            if -config.layer > settings.num_hidden_layers:
                raise ConfigError(
                    f"the encoder {config.name!r} has {settings.num_hidden_layers} layers, none {config.layer}"
                )
            settings.num_hidden_layers += config.layer + 1
        self.model = AutoModel.from_config(settings, attn_implementation="sdpa")
        if pretrained and config.weights:
            whole = type(self.model).from_pretrained(config.name, attn_implementation="sdpa").state_dict()
            wanted = self.model.state_dict().keys()
            self.model.load_state_dict({key: whole[key] for key in wanted}, strict=True)
            self.origin = f"hub {config.name}"
        unread = _BEHIND_LAST_OUTPUT if config.layer is None else _BEHIND_HIDDEN_STATES
        for name in unread.get(settings.model_type, ()):
            setattr(self.model, name, nn.Identity())
        self.hidden_size = settings.hidden_size
        self._patch = settings.patch_size
        self._prefix = self._count_prefix_tokens(settings)
        self._add_norm()

    def _count_prefix_tokens(self, settings: PreTrainedConfig) -> int:
        """Class and register tokens in front of the patches, read off a forward pass that computes no numbers."""
        size = self.config.image.size
        with torch.device("meta"):
            output = AutoModel.from_config(settings)(torch.zeros(1, 3, size, size)).last_hidden_state
        return int(output.shape[1]) - (size // self._patch) ** 2

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.config.layer is None:
            output = self.model(pixel_values).last_hidden_state
        else:
            output = self.model(pixel_values, output_hidden_states=True).hidden_states[-1]
        return output if self.config.feature == "cls_patch" else output[:, self._prefix :]

    def num_patches(self, height: int, width: int) -> int:
        grid = (height // self._patch) * (width // self._patch)
        return grid + (self._prefix if self.config.feature == "cls_patch" else 0)
