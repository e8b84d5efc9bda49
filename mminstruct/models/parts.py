"""The parts of any model, each as one module: for freezing, learning rates, adapters, hashes and counting.

A part's modules, parameters and tensors have names: below the part where it is a module of ours, as in the whole model
where it is a native model's. They are the model's own objects, and a module that is replaced in a part is replaced in
the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from mminstruct.errors import ConfigError
from mminstruct.models.native import parts as native
from mminstruct.models.vlm import VisionLanguageModel


def parts(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Those that the model has.

    Raises:
        ConfigError: a native model whose parts cannot be told apart.
    """
    if isinstance(model, VisionLanguageModel):
        return {name: model.part(name) for name in model.parts}
    return native.parts(model)


def part(model: PreTrainedModel, name: str) -> nn.Module:
    """One of `parts`. Raises `ConfigError` for a part that the model does not have."""
    require_parts(model, [name])
    return parts(model)[name]


def require_parts(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Raises `ConfigError` for a name of a part that the model does not have."""
    known = parts(model)
    for name in names:
        if name not in known:
            raise ConfigError(f"this model has no part called {name!r}, only {', '.join(known)}")


def freeze(model: PreTrainedModel, train_parts: Sequence[str]) -> dict[str, int]:
    """Let the named parts learn and no other; returns how many parameters of each part do."""
    members = parts(model)
    for name, found in members.items():
        found.requires_grad_(name in train_parts)
    for parameter in native.unread(model):
        parameter.requires_grad_(False)
    return {name: sum(p.numel() for p in found.parameters() if p.requires_grad) for name, found in members.items()}


def parameter_counts(model: PreTrainedModel) -> dict[str, int]:
    """Parameters of each part, shared ones once."""
    return {name: sum(p.numel() for p in found.parameters()) for name, found in parts(model).items()}
