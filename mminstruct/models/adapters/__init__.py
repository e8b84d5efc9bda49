"""Adapters: what learns beside the frozen weights of a part. `attach` puts one on, `folder` holds them on disk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from mminstruct.models.adapters.base import Adapter
from mminstruct.models.adapters.config import AdapterConfig, LoraConfig, MaskConfig
from mminstruct.models.adapters.mask import Mask
from mminstruct.models.parts import part


def attach(
    model: PreTrainedModel,
    config: LoraConfig | MaskConfig,
    names: Sequence[str] | None = None,
    compute_dtype: torch.dtype = torch.float32,
) -> Adapter:
    """Put an adapter on a part; only its own parameters learn there.

    Args:
        names: of the weights that a mask goes on; default: all that can have one. LoRA goes on every linear layer.
        compute_dtype: that a part in 4 bits computes in.

    Raises:
        ConfigError: the model has no such part, or the part has nothing that this kind of adapter goes on.
    """
    part(model, config.part).requires_grad_(False)
    if isinstance(config, MaskConfig):
        return Mask(model, config, names)
    from mminstruct.models.adapters.lora import Lora  # peft comes with an extra

    return Lora(model, config, compute_dtype)


__all__ = ["Adapter", "AdapterConfig", "LoraConfig", "Mask", "MaskConfig", "attach"]
