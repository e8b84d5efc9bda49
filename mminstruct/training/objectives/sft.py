"""Supervised fine-tuning: the negative log-likelihood of the supervised tokens."""

from __future__ import annotations

import torch
from torch import nn

from mminstruct.chat_template import IGNORE
from mminstruct.training.objectives.base import Objective, ObjectiveOutput


class SupervisedFineTuning(Objective):
    """`loss_sum = -sum log p(token | everything before it)` over tokens whose label is not `IGNORE`.

    What a connector adds to the mean loss of a token (the load balance of a mixture of experts) counts once a token.
    The metric `accuracy_sum` counts the supervised tokens that are also the most likely ones.
    """

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (batch["labels"][:, 1:] != IGNORE).sum()

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        targets = batch["labels"][:, 1:]
        supervised = targets != IGNORE
        # The head runs only where some row has a label, and only labels are turned to float32 and to probabilities.
        columns = supervised.any(0).nonzero().squeeze(-1)
        output = model(**inputs, use_cache=False, logits_to_keep=columns)
        logits = output.logits[supervised[:, columns]].float()
        wanted = targets[supervised]
        loss_sum = nn.functional.cross_entropy(logits, wanted, reduction="sum")
        correct = (logits.detach().argmax(-1) == wanted).sum()
        metrics = {"accuracy_sum": correct}
        added = output.get("auxiliary_loss")  # a native model's output has no such field
        if added is not None:
            metrics["auxiliary_loss_sum"] = added * supervised.sum()
            loss_sum = loss_sum + metrics["auxiliary_loss_sum"]
        return ObjectiveOutput(loss_sum, supervised.sum(), metrics, logits)
