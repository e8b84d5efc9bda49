"""Validation while a stage trains: the objective's mean over conversations that it does not learn from.

share: held out of the stage's own data by the hash of their ids     data: a data set of their own
held-out conversations ──the stage's own batching──▶ micro-batches ──objective──▶ sums over all processes ──▶ means
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.mixture import Member, Mixture
from mminstruct.errors import ConfigError, DataError
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.training.batching import Batching, batching
from mminstruct.training.config import Recipe, StageConfig
from mminstruct.training.data import StageData, stage_data

log = logging.getLogger(__name__)

Score = Callable[[PreTrainedModel, BaseProcessor, ConversationDataset | None], dict[str, float]]
"""What a model answers, scored: (model, the run's processor, the held-out conversations) -> numbers by name."""


@dataclass(frozen=True)
class Validation:
    """What is measured of a stage's model, and how often.

    Attributes:
        every: steps.
        batching: of the held-out conversations, each once; None: there are none.
        score: asks the model what it is to answer; None: nothing.
    """

    every: int
    batching: Batching | None
    score: Callable[[PreTrainedModel], dict[str, float]] | None


def require_scores(recipe: Recipe, scores: Mapping[str, Score]) -> None:
    """Raises `ConfigError` where a stage's model is to answer and nobody can ask it, or no process has it whole."""
    for stage in recipe.stages:
        if stage.validation is None or not stage.validation.asks:
            continue
        if is_deepspeed_zero3_enabled():
            raise ConfigError(
                f"stage {stage.name!r} asks its model while it trains (benchmarks, answers), and under ZeRO-3 no "
                "process holds it whole; take them out, or use deepspeed=zero2"
            )
        if stage.name not in scores:
            raise ConfigError(
                f"stage {stage.name!r} asks its model while it trains (benchmarks, answers); give train() "
                "scores=mminstruct.cli.train.scores(recipe), as the command does"
            )


def hold_out(
    stage: StageConfig, data: StageData, processor: BaseProcessor, recipe: Recipe, out: Path
) -> StageData | None:
    """What a stage is validated on, None where there is nothing; a share of its own data is taken out of these.

    Raises:
        DataError: the share leaves nothing to validate on, or nothing to learn from.
    """
    validation = stage.validation
    if validation is None or not validation.holds_out:
        return None
    if validation.data is not None:
        held_out = stage_data(stage.model_copy(update={"data": validation.data}), processor, recipe, out)
    else:
        assert validation.share is not None  # the recipe has been checked
        held_out = _split(stage, data, (stage.data or recipe.data).balance, validation.share)
    log.info("stage %s is validated on %d conversations", stage.name, sum(held_out.dataset.mixture.counts))
    return held_out


def _split(stage: StageConfig, data: StageData, balance: Any, share: float) -> StageData:
    """The same data set with the held-out conversations alone, each once; the stage's own goes on without them."""
    left, held = [], []
    for member in data.dataset.mixture.members:
        chosen = np.array([_held_out(data.sources[index].id, share) for index in member.indices.tolist()], bool)
        left.append(Member(member.name, member.indices[~chosen], member.weight, member.cap, member.repeat))
        if chosen.any():
            held.append(Member(member.name, member.indices[chosen]))
    if not held:
        raise DataError(
            f"stage {stage.name!r}: validation.share {share:g} of {len(data.sources)} conversations holds none out; "
            "raise it, or give validation data of its own"
        )
    held_out = copy.copy(data.dataset)
    held_out.mixture = Mixture(held)
    data.dataset.mixture = Mixture(left, balance)
    return StageData(held_out, data.sources, data.skipped)


def _held_out(name: str, share: float) -> bool:
    """By the id alone, so in every run, on every process and whatever else the data hold."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) < share * 2**64


def validating(
    stage: StageConfig,
    model: PreTrainedModel,
    processor: BaseProcessor,
    held_out: ConversationDataset | None,
    score: Score | None,
    settings: TrainingArguments,
) -> Validation | None:
    """A stage's validation, made ready; None where the recipe asks for none."""
    if stage.validation is None:
        return None
    arranged = None
    if held_out is not None:
        once = stage.model_copy(update={"epochs": 1.0, "steps": None, "accumulate": 1})
        arranged = batching(once, model, held_out, settings.seed, settings.world_size)
    ask = None if score is None else lambda model: score(model, processor, held_out)
    return Validation(stage.validation.every, arranged, ask)


class ValidateEvery(TrainerCallback):
    """Asks for a validation every so many steps and behind the last one."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = True
