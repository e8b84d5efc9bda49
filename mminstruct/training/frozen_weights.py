"""Frozen weights in half the memory, where training in bfloat16 rounds them at every use anyway.

Autocast turns the weight of a matrix product or a convolution to bfloat16 each time it is used. One that does not learn
can be kept so: the products are the same, bit for bit. What is not rounded at its use (norms, embeddings, and weights
that are read by other means than their own layer) stays in float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from mminstruct.models.adapters import LoraConfig, MaskConfig

_ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextlib.contextmanager
def frozen_in_bfloat16(model: nn.Module) -> Iterator[None]:
    """Within, frozen weights of matrix products and convolutions are bfloat16; afterwards they are what they were.

    Their own values wait in the CPU's memory, unless bfloat16 holds them exactly. Afterwards the whole model is there,
    because a GPU that had room for half of them need not have room for all.
    """
    rounded: dict[nn.Parameter, torch.Tensor | None] = {}
    for parameter in frozen_matrices(model):
        small = parameter.data.to(torch.bfloat16)
        exact = torch.equal(small.to(torch.float32), parameter.data)
        rounded[parameter] = None if exact else parameter.data.cpu()
        parameter.data = small
    try:
        yield
    finally:
        if rounded:
            model.cpu()
        for parameter, own in rounded.items():
            parameter.data = parameter.data.to(torch.float32) if own is None else own


def keeps_half(adapters: Sequence[LoraConfig | MaskConfig], bfloat16: bool) -> bool:
    """Whether a stage without DeepSpeed, which has its own ways, keeps frozen matrices in bfloat16: on a GPU, unless it
    learns masks, which read the weights themselves."""
    masked = any(isinstance(one, MaskConfig) for one in adapters)
    return bfloat16 and torch.cuda.is_available() and not masked


def frozen_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights that are rounded at each use. Each once, those left out that another kind of layer shares."""
    owners: dict[nn.Parameter, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(module)
    return [
        parameter
        for parameter, modules in owners.items()
        if not parameter.requires_grad
        and parameter.dtype == torch.float32
        and all(isinstance(module, _ROUNDED) for module in modules)
    ]
