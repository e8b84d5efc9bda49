"""Tiny models whose parts are of all kinds, inputs for them, and adapters with numbers that matter."""

from __future__ import annotations

import torch

import mminstruct
from mminstruct import catalog
from mminstruct.models import compose
from mminstruct.models.adapters import Adapter, LoraConfig, MaskConfig, attach

OPEN_CLIP = {
    "source": "open_clip",
    "name": "a tower of torch's attention",
    "architecture": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32},
    "image": {"size": 32},
}


def build(row: str, seed: int = 0):
    """A tiny model in evaluation mode and its processor; `open_clip` is LLaVA's with a tower of that library."""
    torch.manual_seed(seed)
    content = row
    if row == "open_clip":
        content = compose.read(catalog.find(catalog.MODEL, "llava-1.5-7b")) | {"vision_encoder": OPEN_CLIP}
        content["tiny"] = content["tiny"] | {"vision_encoder": {}, "image_size": 32}
    model, processor = mminstruct.create(content, tiny=True)
    return model.eval(), processor


def inputs(model, seed: int = 1) -> dict[str, torch.Tensor]:
    """Two rows of random tokens with a random picture each."""
    generator = torch.Generator().manual_seed(seed)
    size = model.vision_encoder.config.image.size
    places = model.layout.most_tokens()
    ids = torch.randint(5, 50, (2, places + 6), generator=generator)
    ids[:, 1 : places + 1] = model.config.image_token_id
    batch = {"input_ids": ids, "pixel_values": torch.randn(2, 3, size, size, generator=generator)}
    if model.connector.reads != "nothing":
        batch["instruction_ids"] = torch.randint(5, 50, (2, 4), generator=generator)
        batch["instruction_mask"] = torch.ones(2, 4, dtype=torch.long)
    return batch


def copy_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(**inputs(model)).logits


def config(kind: str, part: str, **settings) -> LoraConfig | MaskConfig:
    if kind == "mask":
        return MaskConfig(kind="mask", part=part, **settings)
    extra = {"lora": {}, "dora": {"dora": True}, "rslora": {"rslora": True}, "4 bits": {"bits": 4}}[kind]
    return LoraConfig(kind="lora", part=part, rank=4, alpha=12, **extra, **settings)


def attach_random(model, settings: LoraConfig | MaskConfig) -> Adapter:
    """An adapter as training might leave it: every number of it moved, half of the masks' bits out."""
    torch.manual_seed(5)
    adapter = attach(model, settings)
    with torch.no_grad():
        for parameter in adapter.parameters():
            noise = torch.randn_like(parameter)
            parameter.add_(0.01 * noise - 0.005 if isinstance(settings, MaskConfig) else 0.1 * noise)
    return adapter
