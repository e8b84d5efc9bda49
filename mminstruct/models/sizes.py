"""How large a row's parts are and how many tokens an image takes, counted on modules that hold no numbers.

Rows share parts, so each encoder and language model is built once a process, on the meta device; so is a whole model
where that is counted.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mminstruct.models import connectors, encoders
from mminstruct.models.config import ModelRow, OwnParts
from mminstruct.models.factory import skeleton
from mminstruct.models.meta import meta
from mminstruct.models.native.config import NativeRow
from mminstruct.models.parts import parameter_counts
from mminstruct.models.vlm import VisionLanguageModel


@dataclass(frozen=True)
class Size:
    """Parameters of each part, shared ones counted once, and the most places that an image takes.

    `image_tokens` is None for a native model, whose processor decides by the picture's size.
    """

    parameters: dict[str, int]
    image_tokens: int | None

    @property
    def total(self) -> int:
        return sum(self.parameters.values())


def size(spec: ModelRow | NativeRow) -> Size:
    """Of a row, as large as it is written."""
    if isinstance(spec, NativeRow):
        return _native(spec.model_dump_json())
    tiled = spec.tiling is not None
    if tiled or spec.expert_extension is not None or not connectors.CONNECTORS[spec.connector.kind].in_prompt:
        return _whole(spec.model_dump_json())  # what depends on several parts at once is counted on the whole model
    encoder, width, patches = _encoder(spec.vision_encoder.model_dump_json())
    language_model, hidden = _language_model(json.dumps(spec.language_model.architecture, sort_keys=True))
    with meta():
        connector = connectors.build(spec.connector, input_size=width, output_size=hidden)
    parameters = {
        "vision_encoder": encoder,
        "connector": _count(connector),
        "language_model": language_model,
    }
    return Size(parameters, connector.num_tokens(patches))


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@functools.cache
def _native(row: str) -> Size:
    return Size(parameter_counts(skeleton(NativeRow.model_validate_json(row))), None)


@functools.cache
def _whole(row: str) -> Size:
    model = skeleton(ModelRow.model_validate_json(row))
    assert isinstance(model, VisionLanguageModel)
    return Size(model.parameter_counts(), model.layout.most_tokens())


@functools.cache
def _encoder(config: str) -> tuple[int, int, int]:
    """Parameters, width of a feature, patches of a picture."""
    parts = OwnParts.model_validate({"vision_encoder": json.loads(config), "connector": {"kind": "linear"}})
    with meta():
        encoder = encoders.build(parts.vision_encoder)
    side = parts.vision_encoder.image.size
    return _count(encoder), encoder.hidden_size, encoder.num_patches(side, side)


@functools.cache
def _language_model(architecture: str) -> tuple[int, int]:
    """Parameters, width of an embedding."""
    config = AutoConfig.for_model(**json.loads(architecture))
    with meta():
        model = AutoModelForCausalLM.from_config(config)
    return _count(model), config.get_text_config().hidden_size
