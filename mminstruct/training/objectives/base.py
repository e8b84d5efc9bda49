"""The contract of an objective: `(model, batch) -> loss sum, token count, metrics`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class ObjectiveOutput:
    """`loss_sum` is summed over `count` tokens, not averaged: the trainer divides by the whole step's count.

    `logits` `[count, V]` are those that the loss was taken of, in its graph.
    """

    loss_sum: torch.Tensor
    count: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    logits: torch.Tensor | None = None


class Objective(ABC):
    """What a stage minimises. Adding one is one file here and one line in the table of `objectives/__init__.py`."""

    @abstractmethod
    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """How many tokens the loss of this batch is summed over, known before the model runs."""

    @abstractmethod
    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        """The loss of one micro-batch.

        Args:
            model: the model, perhaps wrapped (DDP, DeepSpeed); only its forward may be used.
            batch: what `Processor.collate` makes.
        """
