"""Which modules of a part an adapter goes on: chosen by what they are and where they stand, never by their names."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers import PreTrainedModel

from mminstruct.errors import ConfigError
from mminstruct.models.parts import part


def linear_modules(model: PreTrainedModel, where: str) -> dict[str, nn.Module]:
    """Every linear layer of a part by its name in the part, the output head left out.

    torch's `MultiheadAttention` (open_clip's towers) stands for the layers in it: its own code reads their weights and
    never calls them, so an adapter put on one of them would do nothing.

    Raises:
        ConfigError: the part has none.
    """
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = {model.get_output_embeddings()}
    for name, module in part(model, where).named_modules():
        if module in inside:
            continue
        if isinstance(module, nn.MultiheadAttention):
            inside.update(module.modules())
            found[name] = module
        elif isinstance(module, nn.Linear):
            found[name] = module
    if not found:
        raise ConfigError(f"the {where} has no linear layer, so LoRA has nothing to go on; train the part whole")
    return found


def maskable_weights(model: PreTrainedModel, where: str) -> dict[str, tuple[nn.Module, str]]:
    """The weight matrices of a part that a mask can go on: of linear layers, convolutions and torch's attention.

    Returns:
        The parameter's name in the part -> the module that holds it, and its name there.

    Raises:
        ConfigError: the part has none.
    """
    found: dict[str, tuple[nn.Module, str]] = {}
    head = model.get_output_embeddings()
    for name, module in part(model, where).named_modules():
        if module is head:
            continue
        if isinstance(module, nn.Linear | _ConvNd):
            found[f"{name}.weight".lstrip(".")] = (module, "weight")
        elif isinstance(module, nn.MultiheadAttention):
            found[f"{name}.in_proj_weight".lstrip(".")] = (module, "in_proj_weight")
    if not found:
        raise ConfigError(f"the {where} has no linear layer and no convolution that a mask could go on")
    return found
