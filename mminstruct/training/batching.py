"""How a stage's conversations become micro-batches: packed or padded, with shared prefixes or not, in which order."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel

from mminstruct.data.dataset import ConversationDataset, MicroBatches
from mminstruct.data.plan import BatchPlan, StepPlan
from mminstruct.errors import ConfigError
from mminstruct.models.packing import hindrance, position_function
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.training.config import StageConfig


@dataclass(frozen=True)
class Batching:
    """A stage's micro-batches, and which of them make a step.

    Attributes:
        packed: whether they are rows without padding.
    """

    batches: MicroBatches
    plan: StepPlan
    packed: bool


def batching(
    stage: StageConfig, model: PreTrainedModel, dataset: ConversationDataset, seed: int, processes: int
) -> Batching:
    """The plan of a stage, a function of the data, the recipe, the model's kind and the number of processes alone.

    Raises:
        ConfigError: packing or shared prefixes are asked for, and the model does not allow them.
        DataError: a conversation is larger than a pack.
    """
    against = hindrance(model)
    share_against = against or _instructed(model)
    if stage.pack_tokens is not None and against:
        raise ConfigError(f"stage {stage.name!r} has pack_tokens, but {against}; take it out")
    if stage.share_prefix and share_against:
        raise ConfigError(f"stage {stage.name!r} has share_prefix, but {share_against}; take it out")
    share = share_against is None and stage.share_prefix is not False and not stage.group_by_length
    keys = dataset.keys() if share else []
    share = any(key is not None for key in keys)
    counted = stage.pack_tokens is not None or stage.group_by_length
    tokens, prefixes = dataset.token_counts(share) if counted else ((), ())
    plan = BatchPlan(
        dataset.units,
        seed,
        batch_size=stage.batch_size,
        pack_tokens=stage.pack_tokens,
        keys=keys if share else (),
        tokens=tokens,
        prefixes=prefixes,
        lengths=tokens if stage.group_by_length else (),
        pictured=dataset.pictured() if stage.group_by_length else (),
        group=stage.batch_size * stage.accumulate * processes,
        mixture=dataset.mixture,
    )
    steps = StepPlan(plan, stage.epochs, stage.accumulate, processes, stage.steps)
    batches = MicroBatches(dataset, against is None, share, position_function(model))
    return Batching(batches, steps, packed=against is None)


def _instructed(model: PreTrainedModel) -> str | None:
    """Why a model's pictures are not the same for two questions; None where they are."""
    if isinstance(model, VisionLanguageModel) and model.connector.reads != "nothing":
        return "its connector reads the question, so a picture's tokens differ from one to the next"
    return None
