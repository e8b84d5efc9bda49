"""Supervised fine-tuning: the negative log-likelihood of the supervised tokens.

    average: token          loss = the mean over tokens of -log p(token | everything before it)
    average: conversation   loss = the mean over conversations of the mean of that over each one's tokens

The second lets a short answer count as much as a long one, as the loss weights of LongAlign do (arXiv 2401.18058,
section 3.3; in its code, THUDM/LongAlign, each token's weight is one by the number of its sequence's targets).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from mminstruct.chat_template import IGNORE
from mminstruct.models.packing import owners
from mminstruct.models.transfer import sent
from mminstruct.training.objectives.base import (
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    at_supervised,
    supervised_tokens,
    with_auxiliary,
)


class SftConfig(ObjectiveConfig):
    """Which tokens are supervised says the stage's `loss`.

    Attributes:
        average: over what a step's loss is the mean: its supervised tokens, or its conversations, each with the mean of
            its own tokens.
    """

    kind: Literal["sft"] = "sft"
    average: Literal["token", "conversation"] = "token"

    @property
    def token_mean(self) -> bool:
        return self.average == "token"

    def build(self) -> Objective:
        return SupervisedFineTuning() if self.average == "token" else ConversationMean()


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


class ConversationMean(Objective):
    """`loss_sum` is summed over conversations with a supervised token, of each the mean of its tokens' losses.

    What a connector adds to the loss counts once a conversation. `token_accuracy_sum` is summed in the same way.
    """

    unit: ClassVar[str] = "supervised_conversations"

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        where = batch["labels"][:, 1:] != IGNORE
        return (torch.bincount(owners(batch)[:, 1:][where]) > 0).sum()

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        output, logits, targets, where = at_supervised(model, batch)
        conversation = owners(batch)[:, 1:][where]
        lengths = torch.bincount(conversation)
        weights = sent(1 / lengths[conversation], logits.device)
        loss_sum = nn.functional.cross_entropy(logits, targets, reduction="none") @ weights
        metrics = {"token_accuracy_sum": (logits.detach().argmax(-1) == targets).float() @ weights}
        count = (lengths > 0).sum()
        return ObjectiveOutput(with_auxiliary(loss_sum, count, output, metrics), count, metrics)
