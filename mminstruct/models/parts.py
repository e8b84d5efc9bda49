"""The parts of any model, for freezing, learning rates and counting."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from mminstruct.models.native import parts as native
from mminstruct.models.vlm import PARTS, VisionLanguageModel


def parts(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """The parameters of each of `PARTS`, shared ones once.

    Raises:
        ConfigError: a native model whose parts cannot be told apart.
    """
    if isinstance(model, VisionLanguageModel):
        return {name: list(model.part(name).parameters()) for name in PARTS}
    return native.parts(model)


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
