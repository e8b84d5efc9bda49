"""Tiny models with mixture layers, and what a layer with new experts computes, one token at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import mminstruct
from mminstruct.models.factory import read_row
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from tests.conftest import conversation, picture

_SHAPE = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "initializer_range": 0.2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": {"model_type": "mixtral", "num_local_experts": 5, **_SHAPE},
    "qwen2_moe": {
        "model_type": "qwen2_moe",
        "num_experts": 5,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
        "norm_topk_prob": False,
        **_SHAPE,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "num_experts": 5,
        "moe_intermediate_size": 24,
        "norm_topk_prob": True,
        "head_dim": 8,
        **_SHAPE,
    },
}
EXTENSION = {"layers": "all", "experts": 2, "start": "random", "calibration": 4}


def row(family: str, extension: dict[str, Any] | None, **architecture: Any) -> dict[str, Any]:
    found: dict[str, Any] = read_row("nano")[0].model_dump(mode="json")
    found["language_model"] = {"architecture": {**FAMILIES[family], **architecture}}
    found["expert_extension"] = extension
    return found


def build(
    family: str, extension: dict[str, Any] | None = EXTENSION, **architecture: Any
) -> tuple[VisionLanguageModel, Processor]:
    """A model in which a picture's places differ, so that they choose different experts; calibration does something."""
    torch.manual_seed(0)
    model, processor = mminstruct.create(row(family, extension, **architecture))
    with torch.no_grad():  # an encoder of random weights gives every patch nearly the same; take out what they share
        pixels = torch.cat([processor.prepare(picture(index)).pixels for index in range(3)])
        shared = model.vision_encoder(pixels).mean((0, 1))
        nn.init.normal_(model.connector.projection.weight, std=2.0)
        model.connector.projection.bias.copy_(-model.connector.projection.weight @ shared)
    if model.experts is not None:
        for name, parameter in model.experts.named_parameters():
            if "calibration" in name:
                nn.init.normal_(parameter, std=0.3)
    return model.eval(), processor


def batch_of(processor: Processor, pictures: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
    """Two conversations of different lengths, the first with pictures, the second with text alone."""
    images = [picture(seed + index) for index in range(pictures)]
    first = processor.training_sample(conversation("what is it?", "a blue circle", images=pictures), images)
    second = processor.training_sample(conversation("and what of all this, is it red?", "no"), [])
    return processor.collate([first, second], padding_side="right")


def slow_logits(model: VisionLanguageModel, embeddings: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Logits `[L, V]` of one sequence `[L, H]`: in its mixtures every token by itself, every expert by hand."""
    language_model: Any = model.language_model
    decoder = language_model.model
    length = len(embeddings)
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
    states = embeddings[None]
    rotary = decoder.rotary_emb(states, position_ids=torch.arange(length)[None])
    for index, layer in enumerate(decoder.layers):
        normed = layer.input_layernorm(states)
        states = states + layer.self_attn(normed, position_embeddings=rotary, attention_mask=mask)[0]
        normed = layer.post_attention_layernorm(states)[0]
        new = dict(model.experts.layers.items()).get(str(index))
        mixed = [
            slow_mixture(layer.mlp, new if place else None, token, language_model.config)
            for token, place in zip(normed, places.tolist(), strict=True)
        ]
        states = states + torch.stack(mixed)[None]
    return language_model.lm_head(decoder.norm(states))[0]


def slow_mixture(mixture: Any, new: Any, token: torch.Tensor, config: Any) -> torch.Tensor:
    """What a mixture makes of one token `[H]`; `new` are the new parts that it may choose, or None."""
    columns = mixture.gate.weight if new is None else torch.cat([mixture.gate.weight, new.router.weight])
    shares = torch.softmax(columns @ token, dim=0)
    chosen = sorted(range(len(shares)), key=lambda expert: -float(shares[expert]))[: config.num_experts_per_tok]
    if new is not None and new.calibration is not None:
        first, last = new.calibration[0].weight, new.calibration[2].weight
        shares = shares + last @ nn.functional.gelu(first @ shares)
    total = torch.stack([shares[expert] for expert in chosen]).sum()
    if config.model_type == "qwen2_moe":
        total = torch.tensor(1.0)  # norm_topk_prob is false
    result = torch.zeros_like(token)
    for expert in chosen:
        stack, place = (mixture.experts, expert) if expert < mixture.gate.num_experts else (new.experts, None)
        if place is None:
            place = expert - mixture.gate.num_experts
        gate, up = (stack.gate_up_proj[place] @ token).chunk(2)
        inner = nn.functional.silu(gate) * up
        result = result + shares[expert] / total * (stack.down_proj[place] @ inner)
    if config.model_type == "qwen2_moe":
        shared = mixture.shared_expert(token[None])[0]
        result = result + torch.sigmoid(mixture.shared_expert_gate(token[None]))[0] * shared
    return result
