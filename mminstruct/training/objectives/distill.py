"""Distillation (arXiv 1503.02531): the model learns a teacher's whole distribution of the next token.

    loss of a token = T^2 KL(p_teacher || p) + cross_entropy * -log p(token), both p of logits / T in the first term

Forward KL, summed over the whole vocabulary, at the places of supervised tokens only; `T^2` keeps the size of the
gradient whatever the temperature is (section 2 of the paper). The cross-entropy is at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from mminstruct.errors import ConfigError
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.training.objectives.base import (
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    at_supervised,
    supervised_tokens,
    with_auxiliary,
)
from mminstruct.training.objectives.frozen import FrozenModel


class DistillConfig(ObjectiveConfig):
    """
    Attributes:
        teacher: a checkpoint folder, of a model with the same tokenizer that takes the same pictures.
        temperature: T in the module's formula.
        cross_entropy: the weight of the data's own tokens beside the teacher's distribution.
    """

    kind: Literal["distill"] = "distill"
    teacher: str
    temperature: float = Field(default=1.0, gt=0)
    cross_entropy: float = Field(default=0.0, ge=0)

    def needs_second_model(self, whole: Sequence[str]) -> bool:
        return True

    def build(self) -> Distillation:
        return Distillation(self)


class Distillation(Objective):
    """See the module. Logged are both terms, and how often the model's likeliest token is the teacher's."""

    def __init__(self, config: DistillConfig) -> None:
        self.config = config
        self._teacher: FrozenModel | None = None

    def start(
        self, model: PreTrainedModel, processor: BaseProcessor, whole: Sequence[str], settings: TrainingArguments
    ) -> None:
        self._teacher = FrozenModel.read(self.config.teacher, processor, settings, where="objective.teacher")

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return supervised_tokens(batch)

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        assert self._teacher is not None  # `start` has been called
        wanted = at_supervised(self._teacher, batch).logits
        output, logits, targets, where = at_supervised(model, batch)
        if wanted.shape != logits.shape:
            raise ConfigError(
                f"objective.teacher: the teacher gives {wanted.shape[-1]} logits a token, the model "
                f"{logits.shape[-1]}; give both a vocabulary of one size"
            )
        temperature = self.config.temperature
        divergence = temperature**2 * nn.functional.kl_div(
            (logits / temperature).log_softmax(-1),
            (wanted / temperature).log_softmax(-1),
            reduction="sum",
            log_target=True,
        )
        cross_entropy = nn.functional.cross_entropy(logits, targets, reduction="sum")
        loss_sum = divergence + self.config.cross_entropy * cross_entropy
        best = logits.detach().argmax(-1)
        metrics = {
            "divergence_sum": divergence.detach(),
            "cross_entropy_sum": cross_entropy.detach(),
            "teacher_agreement_sum": (best == wanted.argmax(-1)).sum(),
            "token_accuracy_sum": (best == targets).sum(),
        }
        return ObjectiveOutput(with_auxiliary(loss_sum, where.sum(), output, metrics), where.sum(), metrics, logits)
