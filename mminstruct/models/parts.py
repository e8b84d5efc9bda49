"""The parts of any model, for freezing, learning rates and counting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from mminstruct.errors import ConfigError
from mminstruct.models.native import parts as native
from mminstruct.models.vlm import VisionLanguageModel


def parts(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """The parameters of each part that the model has, shared ones once.

    Raises:
        ConfigError: a native model whose parts cannot be told apart.
    """
    if isinstance(model, VisionLanguageModel):
        return {name: list(model.part(name).parameters()) for name in model.parts}
    return native.parts(model)


def require_parts(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Raises `ConfigError` for a name of a part that the model does not have."""
    known = parts(model)
    for name in names:
        if name not in known:
            raise ConfigError(f"this model has no part called {name!r}, only {', '.join(known)}")


def freeze(model: PreTrainedModel, train_parts: Sequence[str]) -> dict[str, int]:
    """Let the named parts learn and no other; returns how many parameters of each part do."""
    members = parts(model)
    for name, parameters in members.items():
        for parameter in parameters:
            parameter.requires_grad_(name in train_parts)
    for parameter in native.unread(model):
        parameter.requires_grad_(False)
    return {name: sum(p.numel() for p in found if p.requires_grad) for name, found in members.items()}


def parameter_counts(model: PreTrainedModel) -> dict[str, int]:
    """Parameters of each part."""
    return {name: sum(p.numel() for p in members) for name, members in parts(model).items()}
