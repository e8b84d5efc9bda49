"""A stage made ready: what does not learn frozen, adapters attached, and what `adapter.json` will say noted down."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, TrainingArguments, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled

from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.plan import BatchPlan
from mminstruct.errors import ConfigError
from mminstruct.models.adapters import Adapter, MaskConfig, attach
from mminstruct.models.adapters import folder as adapter_folder
from mminstruct.models.parts import freeze, parameter_counts
from mminstruct.training.config import Recipe, StageConfig
from mminstruct.training.mask_tuning import choose_weights
from mminstruct.training.objectives import Objective
from mminstruct.training.zero import require_watchable


@dataclass
class Prepared:
    """A stage's objective, made ready; its adapters, attached; what `adapter.json` will say, None where the stage
    leaves no adapter folder; the parts' sizes without adapters."""

    objective: Objective
    adapters: list[Adapter]
    description: adapter_folder.Description | None
    totals: dict[str, int]


def prepare(
    stage: StageConfig,
    recipe: Recipe,
    settings: TrainingArguments,
    model: PreTrainedModel,
    dataset: ConversationDataset,
) -> Prepared:
    """Freeze what does not learn and attach the adapters, a function of the model, the data and the seed alone.

    Raises:
        ConfigError: an adapter's part has nothing for it to go on.
    """
    objective = stage.objective.build()
    objective.start(model, dataset.processor, stage.train, settings)
    freeze(model, stage.train)
    totals = parameter_counts(model)
    # Under ZeRO-3 no process holds a part whole; `require_launch` has refused adapters there.
    if not stage.adapters and ("experts" not in stage.train or is_deepspeed_zero3_enabled()):
        return Prepared(objective, [], None, totals)
    description = adapter_folder.describe(model, recipe.model, stage.train, stage.adapters)
    set_seed(recipe.seed)  # an earlier stage has drawn numbers, or, when resumed, has not
    adapters = []
    for config in stage.adapters:
        names = None
        if isinstance(config, MaskConfig):
            model.to(settings.device)  # type: ignore[arg-type]
            plan = BatchPlan(dataset.units, recipe.seed, stage.batch_size, mixture=dataset.mixture)
            first = plan.epoch(0)[: config.importance_batches]
            batches = (dataset.processor.collate(dataset.samples(indices), "right") for indices in first)
            names = choose_weights(model, config, objective, batches)
        adapters.append(attach(model, config, names, torch.bfloat16 if settings.bf16 else torch.float32))
    objective.adapters = adapters
    return Prepared(objective, adapters, description, totals)


def require_launch(recipe: Recipe) -> None:
    """Raises `ConfigError` where DeepSpeed hides what an adapter, a guard or an average needs to see."""
    adapters = [adapter for stage in recipe.stages for adapter in stage.adapters]
    if adapters and is_deepspeed_zero3_enabled():
        raise ConfigError("under ZeRO-3 no process holds the weights to merge adapters into; use deepspeed=zero2")
    if recipe.deepspeed and any(isinstance(one, MaskConfig) and one.gradient_dropout > 0 for one in adapters):
        raise ConfigError(
            "DeepSpeed does not show gradients before its step, so masks cannot have a gradient_dropout with it; "
            "set gradient_dropout: 0, or launch with torchrun and without deepspeed"
        )
    for stage in recipe.stages:
        watched = [name for name, one in (("guard", stage.guard), ("ema", stage.ema)) if one is not None]
        if recipe.deepspeed and watched:
            require_watchable(recipe.deepspeed, f"stage {stage.name!r} has {' and '.join(watched)}")
