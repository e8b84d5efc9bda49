"""The parts of a native model: whose parameters are the vision encoder's, the connector's, the language model's.

transformers says which module is the encoder (`get_encoder("image")`) and which the language model (`get_decoder`).
What is neither is the connector, except where it stands inside the encoder, which no public method tells.
"""

from __future__ import annotations

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


def parts(model: PreTrainedModel) -> dict[str, list[nn.Parameter]]:
    """Each part's parameters; together they are all of the model's, each once.

    Raises:
        ConfigError: the module tree does not say where the connector is.
    """
    encoder, decoder = model.get_encoder("image"), model.get_decoder()
    inside = CONNECTOR_INSIDE.get(encoder.config.model_type, ())
    connector = {id(p) for name in inside for p in encoder.get_submodule(name).parameters()}
    language = {id(p) for p in decoder.parameters()}
    for head in (model.get_input_embeddings(), model.get_output_embeddings()):
        language |= {id(p) for p in head.parameters()}
    vision = {id(p) for p in encoder.parameters()} - connector
    found: dict[str, list[nn.Parameter]] = {name: [] for name in NATIVE_PARTS}
    for parameter in model.parameters():
        part = "connector"
        if id(parameter) in language:
            part = "language_model"
        elif id(parameter) in vision:
            part = "vision_encoder"
        found[part].append(parameter)
    empty = [name for name, members in found.items() if not members]
    if empty or encoder is model or decoder is model or vision & language:
        raise ConfigError(
            f"no {' and no '.join(empty) or 'separate encoder and language model'} can be told apart in a "
            f"{type(model).__name__}; if its connector stands inside the encoder, add {encoder.config.model_type!r} "
            "to CONNECTOR_INSIDE in mminstruct/models/native/parts.py"
        )
    return found
