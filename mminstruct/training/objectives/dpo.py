"""Direct preference optimisation (arXiv 2305.18290): of two continuations of a prompt the better becomes likelier.

    h = log p(chosen) / p_ref(chosen) - log p(rejected) / p_ref(rejected), p(answer) the product over its tokens
    sigmoid: -log sigmoid(beta h), with label smoothing e: (1 - e) of that and e of -log sigmoid(-beta h)
    ipo:     (h - 1 / (2 beta))^2                                        (arXiv 2310.12036, equation 17)
    supervised_weight w adds -w log p(chosen) / tokens of chosen         (arXiv 2404.19733, equation 1)

Equation 7 of the first; label smoothing is that of its authors' code (eric-mitchell/direct-preference-optimization,
`trainers.py`, `preference_loss`), where a share e of the preferences is taken to be the wrong way round.

Only the difference `h` is rewarded, so both answers may become unlikely together and what then is said is neither. The
supervised term keeps the chosen one likely.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, TrainingArguments

from mminstruct.chat_template import IGNORE
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.pairs import PairDataset
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.packing import owners
from mminstruct.models.transfer import sent
from mminstruct.training.objectives.base import (
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    at_supervised,
    with_auxiliary,
)
from mminstruct.training.objectives.frozen import FrozenModel

START = "start"


class DpoConfig(ObjectiveConfig):
    """
    Attributes:
        beta: how dearly a distance from the reference is paid for.
        label_smoothing: of `sigmoid`, the share of preferences taken to be wrong.
        supervised_weight: of the chosen answer's mean cross-entropy, added to the loss.
        reference: the model that answers are compared with: a checkpoint folder, or `start`, a frozen copy of the model
            as the stage begins. Default: the model without the stage's adapters where nothing but adapters learns,
            which costs no memory; otherwise `start`.
    """

    dataset: ClassVar[type[ConversationDataset]] = PairDataset
    of_tokens: ClassVar[bool] = False
    kind: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    supervised_weight: float = Field(default=0.0, ge=0)
    reference: str | None = None

    @model_validator(mode="after")
    def _smoothing_is_of_sigmoid(self) -> Self:
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing belongs to the loss sigmoid; take it out")
        return self

    def needs_second_model(self, whole: Sequence[str]) -> bool:
        return self.reference is not None or bool(whole)

    def build(self) -> PreferenceTuning:
        return PreferenceTuning(self)


class PreferenceTuning(Objective):
    """See the module. `loss_sum` is summed over pairs; a connector's own loss counts once a pair.

    Metrics: the rewards `beta log p / p_ref` of both, their margin, and how often it is positive; with a supervised
    term the chosen answer's mean cross-entropy too.
    """

    unit: ClassVar[str] = "pairs"

    def __init__(self, config: DpoConfig) -> None:
        self.config = config
        self._reference: FrozenModel | None = None

    def start(
        self, model: PreTrainedModel, processor: BaseProcessor, whole: Sequence[str], settings: TrainingArguments
    ) -> None:
        named = self.config.reference
        if named is not None and named != START:
            self._reference = FrozenModel.read(named, processor, settings, where="objective.reference")
        elif named == START or whole:
            self._reference = FrozenModel.copy_of(model, settings)

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (_tokens(batch) > 0).sum() // 2

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        reference = self._reference_log_probabilities(model, batch)
        found, tokens, output = _log_probabilities(model, batch)
        ratios = found - reference
        chosen, rejected = ratios[0::2], ratios[1::2]
        loss_sum = self.losses(chosen - rejected).sum()
        rewards = [self.config.beta * ratio.detach() for ratio in (chosen, rejected)]
        metrics = {
            "chosen_reward_sum": rewards[0].sum(),
            "rejected_reward_sum": rewards[1].sum(),
            "reward_margin_sum": (rewards[0] - rewards[1]).sum(),
            "preference_accuracy_sum": (rewards[0] > rewards[1]).sum(),
        }
        if self.config.supervised_weight:
            supervised = -(found[0::2] / tokens[0::2]).sum()
            loss_sum = loss_sum + self.config.supervised_weight * supervised
            metrics["supervised_loss_sum"] = supervised.detach()
        count = torch.tensor(len(chosen))
        return ObjectiveOutput(with_auxiliary(loss_sum, count, output, metrics), count, metrics)

    def losses(self, differences: torch.Tensor) -> torch.Tensor:
        """The loss of each pair, of `h` in the module's formulas."""
        beta, smoothing = self.config.beta, self.config.label_smoothing
        if self.config.loss == "ipo":
            return (differences - 1 / (2 * beta)) ** 2
        return -(1 - smoothing) * logsigmoid(beta * differences) - smoothing * logsigmoid(-beta * differences)

    @torch.no_grad()
    def _reference_log_probabilities(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if self._reference is not None:
            return _log_probabilities(self._reference, batch)[0]
        with contextlib.ExitStack() as stack:
            for adapter in self.adapters:
                stack.enter_context(adapter.off())
            training = model.training
            model.eval()
            found, _, _ = _log_probabilities(model, batch)
            model.train(training)
        return found


def _tokens(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """How many labels a sample has, in the order of the samples; rows that only fill a batch are the last, with 0."""
    labelled = owners(batch)[:, 1:][batch["labels"][:, 1:] != IGNORE]
    return torch.bincount(labelled)


def _log_probabilities(
    model: nn.Module | FrozenModel, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """`log p` of each sample's supervised tokens together, their number, both `[samples]`, and the model's output."""
    output, logits, targets, where = at_supervised(model, batch)
    log_p = -nn.functional.cross_entropy(logits, targets, reduction="none")
    tokens = _tokens(batch)
    real = tokens.nonzero().squeeze(-1)
    sums = log_p.new_zeros(len(tokens)).index_add(0, sent(owners(batch)[:, 1:][where], log_p.device), log_p)
    return sums.index_select(0, sent(real, log_p.device)), sent(tokens[real], log_p.device), output
