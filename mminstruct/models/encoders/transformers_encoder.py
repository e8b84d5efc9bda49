"""Vision transformers of transformers: CLIP, SigLIP, SigLIP2, DINOv2 and whatever has patches and hidden states."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, InstructBlipVisionModel, PreTrainedConfig, PreTrainedModel

from mminstruct.errors import ConfigError
from mminstruct.models.config import TransformersConfig
from mminstruct.models.encoders.base import Tower
from mminstruct.models.meta import meta
from mminstruct.models.recompute import recompute_layers

# Modules that no hidden state passes through (a pooled output is made of them); they are not kept, so that every
# parameter that is left is read and can be trained.
_BEHIND_HIDDEN_STATES = {
    "clip_vision_model": ("post_layernorm",),
    "siglip_vision_model": ("post_layernorm", "head"),
    "dinov2": ("layernorm",),
    "instructblip_vision_model": ("post_layernorm",),
}
# Towers that are parts of a larger model in transformers and that `AutoModel` does not list.
_CLASSES: dict[str, type[PreTrainedModel]] = {"instructblip_vision_model": InstructBlipVisionModel}
_BEHIND_LAST_OUTPUT = {"clip_vision_model": ("post_layernorm",), "siglip_vision_model": ("head",)}
# Settings that weights of any values fit.
_UNSEEN = ("hidden_act", "layer_norm_eps", "num_attention_heads")


class TransformersEncoder(Tower):
    """`architecture` is a transformers config with its `model_type`; `name` the hub repository of the weights."""

    def __init__(self, config: TransformersConfig, pretrained: bool = False) -> None:
        super().__init__(config)
        architecture = dict(config.architecture)
        model_type = architecture.pop("model_type", None)
        try:
            settings = AutoConfig.for_model(model_type, **architecture)
        except ValueError:
            raise ConfigError(
                f"transformers knows no model_type {model_type!r} for the encoder {config.name!r}"
            ) from None
        self._layers: list[int] = []
        if config.layers:
            deepest, self._layers = self._chosen_layers(settings.num_hidden_layers)
            settings.num_hidden_layers += deepest + 1
        self.model = _build(settings)
        if pretrained and config.weights:
            source = type(self.model).from_pretrained(config.name, attn_implementation="sdpa")
            _require_described(config.name, settings, source.config)
            whole, wanted = source.state_dict(), self.model.state_dict().keys()
            self.model.load_state_dict({key: whole[key] for key in wanted}, strict=True)
            self.origin = f"hub {config.name}"
        unread = _BEHIND_HIDDEN_STATES if config.layers else _BEHIND_LAST_OUTPUT
        for name in unread.get(settings.model_type, ()):
            setattr(self.model, name, nn.Identity())
        self._patch = settings.patch_size
        prefix = self._count_prefix_tokens(settings)
        # Where transformers' towers put anything in front of the patches, the class token is the first of it.
        self._describe(settings.hidden_size, prefix=prefix, has_class_token=prefix > 0)

    def _count_prefix_tokens(self, settings: PreTrainedConfig) -> int:
        """Class and register tokens in front of the patches, read off a forward pass that computes no numbers."""
        size = self.config.image.size
        shallow = copy.deepcopy(settings)
        shallow.num_hidden_layers = 1  # their number does not depend on the depth, the time does
        with meta():
            output = _build(shallow)(torch.zeros(1, 3, size, size)).last_hidden_state
        return int(output.shape[1]) - (size // self._patch) ** 2

    def tokens(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        if not self._layers:
            return [self.model(pixel_values).last_hidden_state]
        states = self.model(pixel_values, output_hidden_states=True).hidden_states
        return [states[layer] for layer in self._layers]

    def checkpoint_activations(self, enable: bool) -> None:
        recompute_layers(self.model, enable)

    def grid(self, height: int, width: int) -> int:
        grid: int = (height // self._patch) * (width // self._patch)
        return grid


def _require_described(name: str, settings: PreTrainedConfig, found: PreTrainedConfig) -> None:
    """What shows in no tensor's shape must be what the config beside the weights says (QuickGELU or not, for one)."""
    ours, theirs = settings.to_dict(), found.to_dict()
    for key in _UNSEEN:
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"the encoder {name!r}: architecture says {key}: {ours.get(key)!r}, but the config of its weights "
                f"{theirs.get(key)!r}; write that"
            )


def _build(settings: PreTrainedConfig) -> PreTrainedModel:
    known = _CLASSES.get(settings.model_type)
    if known is not None:
        return known._from_config(settings, attn_implementation="sdpa")
    model: PreTrainedModel = AutoModel.from_config(settings, attn_implementation="sdpa")
    return model
