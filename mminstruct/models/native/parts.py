"""The parts of a native model: which of its modules are the vision encoder's, the connector's, the language model's.

transformers says which module is the encoder (`get_encoder("image")`) and which the language model (`get_decoder`).
What is neither is the connector, except where it stands inside the encoder, which no public method tells.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from mminstruct.errors import ConfigError

NATIVE_PARTS = ("vision_encoder", "connector", "language_model")

# Children of the vision encoder that are the connector, by the model type of the encoder's config.
CONNECTOR_INSIDE: dict[str, tuple[str, ...]] = {
    "qwen2_vl_vision": ("merger",),
    "qwen2_5_vl_vision": ("merger",),
    "qwen3_vl_vision": ("merger", "deepstack_merger_list"),
}

# Parameters that no forward pass reads, by the model type: they can learn nothing, and DDP waits for their gradients.
UNREAD: dict[str, tuple[str, ...]] = {
    "llava_onevision": ("model.vision_tower.post_layernorm",),
}


def unread(model: PreTrainedModel) -> list[nn.Parameter]:
    """Parameters that are saved with the model but never used."""
    return [p for name in UNREAD.get(model.config.model_type, ()) for p in model.get_submodule(name).parameters()]


def parts(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Each part as one module, in which names are those of the whole model; every parameter is in exactly one.

    Raises:
        ConfigError: the module tree does not say where the connector is.
    """
    encoder, decoder = model.get_encoder("image"), model.get_decoder()
    heads = [head for head in (model.get_input_embeddings(), model.get_output_embeddings()) if head is not None]
    inside = [encoder.get_submodule(name) for name in CONNECTOR_INSIDE.get(encoder.config.model_type, ())]
    vision, language = set(encoder.modules()), {inner for top in (decoder, *heads) for inner in top.modules()}
    owners = dict.fromkeys(model.modules(), "connector")
    owners |= dict.fromkeys(language, "language_model") | dict.fromkeys(vision, "vision_encoder")
    owners |= {inner: "connector" for top in inside for inner in top.modules()}
    found = {name: _share(model, owners, name) for name in NATIVE_PARTS}
    empty = [name for name, part in found.items() if not any(True for _ in part.parameters())]
    if empty or encoder is model or decoder is model or vision & language:
        raise ConfigError(
            f"no {' and no '.join(empty) or 'separate encoder and language model'} can be told apart in a "
            f"{type(model).__name__}; if its connector stands inside the encoder, add {encoder.config.model_type!r} "
            "to CONNECTOR_INSIDE in mminstruct/models/native/parts.py"
        )
    return found


def _share(module: nn.Module, owners: dict[nn.Module, str], part: str) -> nn.Module:
    """The module itself where all of it is the part's, else a branch with what is."""
    if all(owners[inner] == part for inner in module.modules()):
        return module
    branch = _Branch(module)
    if owners[module] == part:
        for name, parameter in module.named_parameters(recurse=False):
            branch.register_parameter(name, parameter)
    for name, child in module.named_children():
        if part in {owners[inner] for inner in child.modules()}:
            branch.add_module(name, _share(child, owners, part))
    return branch


class _Branch(nn.Module):
    """Stands for a module that is not one part's alone, under its name, and holds what is.

    A module that is put in the place of one that it holds is put into the model, too: so LoRA goes on a layer.
    """

    def __init__(self, stands_for: nn.Module) -> None:
        super().__init__()
        self.__dict__["_stands_for"] = stands_for  # past torch, which would make it a member with all that it holds

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, nn.Module):
            setattr(self._stands_for, name, value)
