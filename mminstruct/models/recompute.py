"""Activation checkpointing of transformers' layers: each keeps its input alone, the backward pass computes it again.

x ─layer 1─▶ ─layer 2─▶ ...      kept: what goes into each layer, instead of everything inside it (arXiv 1604.06174)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from mminstruct.errors import ConfigError


def recompute_layers(module: nn.Module, enable: bool) -> None:
    """Switch it on or off for all layers in a module that transformers made to be computed again.

    transformers' own switch works in training mode only. A frozen language model is in evaluation mode, and the
    gradients of what stands in front of it pass through all of its layers: there it would keep everything, silently.

    Raises:
        ConfigError: there are no such layers.
    """
    layers = [one for one in module.modules() if isinstance(one, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            f"the layers of {type(module).__name__} cannot be computed again one by one; take its part out of "
            "activation_checkpointing"
        )
    for layer in layers:
        if enable:
            layer.forward = functools.partial(_recomputed, layer.forward)  # type: ignore[method-assign]
        else:
            del layer.forward  # the class has its own


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
