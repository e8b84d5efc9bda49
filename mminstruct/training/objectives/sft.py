"""Supervised fine-tuning: the negative log-likelihood of the supervised tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from mminstruct.training.objectives.base import (
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    at_supervised,
    supervised_tokens,
    with_auxiliary,
)


class SftConfig(ObjectiveConfig):
    """Which tokens are supervised says the stage's `loss`."""

    kind: Literal["sft"] = "sft"

    def build(self) -> SupervisedFineTuning:
        return SupervisedFineTuning()


class SupervisedFineTuning(Objective):
    """`loss_sum = -sum log p(token | everything before it)` over tokens whose label is not `IGNORE`.

    What a connector adds to the mean loss of a token (the load balance of a mixture of experts) counts once a token.
    The metric `token_accuracy_sum` counts the supervised tokens that are also the most likely ones.
    """

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return supervised_tokens(batch)

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        output, logits, targets, where = at_supervised(model, batch)
        loss_sum = nn.functional.cross_entropy(logits, targets, reduction="sum")
        metrics = {"token_accuracy_sum": (logits.detach().argmax(-1) == targets).sum()}
        loss_sum = with_auxiliary(loss_sum, where.sum(), output, metrics)
        return ObjectiveOutput(loss_sum, where.sum(), metrics, logits)
