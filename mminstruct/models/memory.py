"""What a model's weights, gradients and optimiser take, by arithmetic; activations, cache and buffers come on top.

Training is AdamW in mixed precision as ZeRO counts it (arXiv 1910.02054, section 3.1): for each parameter that trains 2
bytes of bf16 weight, 2 of gradient, and 12 of optimiser state (the weight, mean and variance in fp32); for each frozen
one 2 bytes. ZeRO-1 shares the optimiser state among the processes, ZeRO-2 the gradients too, ZeRO-3 the weights too.
"""

from __future__ import annotations

from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from mminstruct.models.parts import parameter_counts

Stage = Literal[0, 1, 2, 3]
STAGES: tuple[Stage, ...] = (0, 1, 2, 3)

_WEIGHT, _GRADIENT, _OPTIMIZER = 2, 2, 12


def training_bytes(trainable: int, frozen: int, stage: Stage = 0, processes: int = 1) -> float:
    """Bytes on each of `processes` devices under a ZeRO stage (0: none)."""
    weight = _WEIGHT * (trainable + frozen) / (processes if stage >= 3 else 1)
    gradient = _GRADIENT * trainable / (processes if stage >= 2 else 1)
    optimizer = _OPTIMIZER * trainable / (processes if stage >= 1 else 1)
    return weight + gradient + optimizer


def lora_parameters(model: PreTrainedModel, rank: int) -> int:
    """Parameters of LoRA matrices on every linear layer of the language model but its head (arXiv 2106.09685)."""
    head = model.get_output_embeddings()
    layers = [m for m in model.get_decoder().modules() if isinstance(m, nn.Linear) and m is not head]
    return sum(rank * (layer.in_features + layer.out_features) for layer in layers)


def estimates(model: PreTrainedModel, rank: int = 16, processes: int = 8) -> dict[str, dict[str, float]]:
    """Gigabytes (1e9 bytes): to run it in two precisions, and to train it in three usual ways under each ZeRO stage.

    Args:
        model: weights are not looked at, so it may lie on the meta device.
        rank: of LoRA, which trains beside the whole connector.
        processes: that ZeRO shares among.
    """
    counts = parameter_counts(model)
    total, connector = sum(counts.values()), counts["connector"]
    added = lora_parameters(model, rank)
    table = {"run": {"fp32": 4 * total / 1e9, "bf16": 2 * total / 1e9}}
    for name, trainable, frozen in (
        ("train everything", total, 0),
        ("train the connector", connector, total - connector),
        (f"train the connector and LoRA of rank {rank}", connector + added, total - connector),
    ):
        table[name] = {
            "one process" if stage == 0 else f"ZeRO-{stage} on {processes}": training_bytes(
                trainable, frozen, stage, 1 if stage == 0 else processes
            )
            / 1e9
            for stage in STAGES
        }
    return table
