"""The contract of an objective: `(model, batch) -> loss sum, count, metrics`, and what it needs of a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from mminstruct.chat_template import IGNORE
from mminstruct.config import Config
from mminstruct.data.dataset import ConversationDataset
from mminstruct.models.adapters import Adapter
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.transfer import sent


@dataclass
class ObjectiveOutput:
    """`loss_sum` is summed over `count` tokens, conversations or pairs, not averaged: the trainer divides by the whole
    step's count.

    `metrics` named `NAME_sum` are sums over the same count and are logged as their mean `NAME`. `logits` `[count, V]`
    are those that the loss was taken of, in its graph; only where `count` is of tokens.
    """

    loss_sum: torch.Tensor
    count: torch.Tensor
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    logits: torch.Tensor | None = None


class Objective(ABC):
    """What a stage minimises.

    Attributes:
        unit: what `count` counts, the name in the log.
        adapters: those of the stage, given by the stage as soon as they are attached.
    """

    unit: ClassVar[str] = "supervised_tokens"
    adapters: Sequence[Adapter] = ()

    def start(  # noqa: B027 - most need nothing
        self, model: PreTrainedModel, processor: BaseProcessor, whole: Sequence[str], settings: TrainingArguments
    ) -> None:
        """Make ready what the objective needs beside the model, such as a frozen one.

        Called once at a stage's start, resumed or not, before anything has learnt or an adapter is attached.

        Args:
            whole: the parts that learn whole.
            settings: the device and the precision among them.
        """

    @abstractmethod
    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """How many tokens, conversations or pairs the loss of this batch is summed over, known before the model runs.

        0 where no place has a label: such a batch only keeps a process in step.
        """

    @abstractmethod
    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        """The loss of one micro-batch.

        Args:
            model: the model, perhaps wrapped (DDP, DeepSpeed); only its forward may be used.
            batch: what `Processor.pack` or `Processor.collate` makes of the samples that `ObjectiveConfig.dataset`
                gives. `labels` may be on the CPU, whatever the model computes on: they choose places, and a GPU would
                have to be waited for to say how many.
        """


class ObjectiveConfig(Config, ABC):
    """What a recipe says of an objective. Adding one is one file here, and its config in the union of `__init__.py`.

    Attributes:
        dataset: what makes samples of the stage's conversations.
        of_tokens: whether the loss is taken on tokens, of which masks of the loss may choose others.
    """

    dataset: ClassVar[type[ConversationDataset]] = ConversationDataset
    of_tokens: ClassVar[bool] = True

    @property
    def token_mean(self) -> bool:
        """Whether a step's loss is the mean over tokens, so that its output has their `logits`."""
        return self.of_tokens

    def needs_second_model(self, whole: Sequence[str]) -> bool:
        """Whether another model lies in memory beside the one that learns.

        Args:
            whole: the parts that learn whole.
        """
        return False

    @abstractmethod
    def build(self) -> Objective:
        """The objective itself."""


class Supervised(NamedTuple):
    """A forward pass where it counts: at the places that predict a token with a label.

    Attributes:
        output: the model's.
        logits: `[count, V]`, float32.
        targets: `[count]`, the tokens that should follow.
        where: `[B, L - 1]`, whether the token behind each place has a label; on the labels' device.
    """

    output: Any
    logits: torch.Tensor
    targets: torch.Tensor
    where: torch.Tensor


def at_supervised(model: Callable[..., Any], batch: dict[str, torch.Tensor]) -> Supervised:
    """Run the model, its head only where some row has a label; only labels are turned to float32."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    device = batch["input_ids"].device
    targets = batch["labels"][:, 1:]
    where = targets != IGNORE
    columns = where.any(0).nonzero().squeeze(-1)
    output = model(**inputs, use_cache=False, logits_to_keep=sent(columns, device))
    logits = at_places(output.logits, where[:, columns])
    return Supervised(output, logits.float(), sent(targets[where], device), where)


def at_places(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """`[B, K, D]` at the places `[B, K]` that are true: `[count, D]`, without a copy where all are."""
    chosen = where.flatten().nonzero().squeeze(-1)
    flat = states.flatten(0, 1)
    return flat if len(chosen) == len(flat) else flat.index_select(0, sent(chosen, states.device))


def supervised_tokens(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """How many tokens have a label and something before them."""
    return (batch["labels"][:, 1:] != IGNORE).sum()


def with_auxiliary(
    loss_sum: torch.Tensor, count: torch.Tensor, output: Any, metrics: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The loss with what a connector adds to its mean (the load balance of a mixture), noted in the metrics."""
    added = output.get("auxiliary_loss")  # a native model's output has no such field
    if added is None:
        return loss_sum
    metrics["auxiliary_loss_sum"] = added * count
    return loss_sum + metrics["auxiliary_loss_sum"]
