"""What a recipe would do, without training: its parameters, its steps, the memory that they take, and how long.

    recipe ──▶ model on the meta device ──▶ parameters by part
           ──▶ data, token index, plan, as for a run ──▶ steps and tokens, the largest micro-batch
    model and micro-batch ──fake_step──▶ activations ──memory_estimate──▶ bytes of a process, by ways to divide them

No weight is read, fetched or made, but for the measurement of time, and nothing is written into a run's folder.
"""

from __future__ import annotations

import copy
import logging
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from mminstruct import catalog
from mminstruct.chat_template import IGNORE
from mminstruct.data.plan import MicroBatch
from mminstruct.models import checkpoint
from mminstruct.models.adapters import Adapter, LoraConfig, MaskConfig, attach
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.factory import create, read_row, skeleton
from mminstruct.models.layout import Medium
from mminstruct.models.meta import meta
from mminstruct.models.packing import hindrance
from mminstruct.models.parts import freeze, parameter_counts, require_parts
from mminstruct.models.segments import Segment, as_mask, positions
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.training.as_trained import as_trained
from mminstruct.training.batching import Batching, batching
from mminstruct.training.caching import require_cacheable
from mminstruct.training.config import Recipe, StageConfig
from mminstruct.training.data import StageData, stage_data
from mminstruct.training.fake_step import activation_bytes, without_numbers
from mminstruct.training.frozen_weights import frozen_matrices, keeps_half
from mminstruct.training.memory_estimate import Division, Learning, Memory, divided, undivided
from mminstruct.training.step_time import StageTime, step_time
from mminstruct.training.trainable import Row, trainable_table
from mminstruct.training.zero import deepspeed_config

log = logging.getLogger(__name__)

UNDIVIDED = "none"  # the name of the way without DeepSpeed, beside those of train/deepspeed


@dataclass(frozen=True)
class Count:
    """Of what a step has, over all steps of a stage."""

    mean: float
    most: int


@dataclass(frozen=True)
class Steps:
    """What a stage goes through.

    Attributes:
        tokens, supervised: of an optimiser step on all processes; what stands in rows, a shared prefix
            once, without padding.
        filled: tokens as a share of what the rows of all micro-batches hold (of `pack_tokens`, or of the padded batch).
    """

    optimizer_steps: int
    micro_batches: int
    conversations: int
    conversations_per_epoch: int
    tokens: Count
    supervised: Count
    filled: float


@dataclass(frozen=True)
class StageEstimate:
    """Of one stage. `steps` and `time` are None where they are left out; `notes` says why.

    Attributes:
        micro_batch_tokens: places of the largest micro-batch, of which `memory` is.
        memory: by ways to divide the model: `none`, and each config of `train/deepspeed`.
    """

    name: str
    parts: list[Row]
    steps: Steps | None
    micro_batch_tokens: int
    memory: dict[str, Memory]
    time: StageTime | None
    notes: list[str]


def dry_run(recipe: Recipe, processes: int = 1, measure_time: bool = True) -> list[StageEstimate]:
    """Estimates for all stages of a recipe on so many processes.

    Args:
        measure_time: run two micro-batches of each stage, where the model fits into memory.

    Raises:
        ConfigError, DataError, MediaError: what training would raise before its first step.
    """
    missing = _missing(recipe)
    model, processor = _model(recipe, with_processor=missing is None)
    for stage in recipe.stages:
        require_parts(model, [*stage.train, *(one.part for one in stage.adapters)])
    require_cacheable(recipe, model)
    if recipe.deepspeed is not None:
        deepspeed_config(recipe.deepspeed)
    with tempfile.TemporaryDirectory() as folder:
        data: list[StageData | None] = [None] * len(recipe.stages)
        if processor is not None:
            data = [stage_data(stage, processor, recipe, Path(folder)) for stage in recipe.stages]
        return [
            _stage(stage, recipe, copy.deepcopy(model), one, processes, missing, measure_time)
            for stage, one in zip(recipe.stages, data, strict=True)
        ]


def _missing(recipe: Recipe) -> Path | None:
    """The first data file of the recipe that is not there."""
    for stage in recipe.stages:
        for source in (stage.data or recipe.data).sources:
            if source.path is not None and not source.path.exists():
                return source.path
    return None


def _model(recipe: Recipe, with_processor: bool) -> tuple[PreTrainedModel, BaseProcessor | None]:
    """The model on the meta device; its processor, whose tokenizer may be on the hub, where data are to be read."""
    if Path(recipe.model).is_dir():
        return checkpoint.skeleton(recipe.model)
    if not with_processor:
        return skeleton(read_row(recipe.model)[0]), None
    with meta():
        return create(recipe.model)


def _stage(
    stage: StageConfig,
    recipe: Recipe,
    model: PreTrainedModel,
    data: StageData | None,
    processes: int,
    missing: Path | None,
    measure_time: bool,
) -> StageEstimate:
    notes: list[str] = []
    freeze(model, stage.train)
    totals = parameter_counts(model)
    with meta():
        adapters = [attach(model, _countable(one, notes)) for one in stage.adapters]
    rows = trainable_table(model, totals, adapters)
    arranged, steps = None, None
    if data is None:
        notes.append(f"{missing} is not there: no steps and tokens; memory is that of the longest micro-batch allowed")
        batch = longest_allowed(stage, recipe, model, notes)
    else:
        arranged = batching(stage, model, data.dataset, recipe.seed, processes)
        steps, batches = count_steps(arranged, data, stage, processes)
        batch = arranged.batches[MicroBatch(batches[-1])]
    if stage.feature_cache is not None and "pixel_values" in batch:
        assert isinstance(model, VisionLanguageModel)  # `require_cacheable` has been asked
        shape = model.pooled_shape if stage.feature_cache.pooled else model.feature_shape
        batch["features"] = torch.zeros(len(batch.pop("pixel_values")), *shape)
    memory: dict[str, Memory] = {}
    if stage.objective.needs_second_model(stage.train):
        notes.append(f"{stage.objective.kind} keeps a second model beside the one that learns: no memory")
    else:
        memory = _memory(stage, recipe, model, adapters, batch, processes)
    time = None
    if measure_time and data is not None and arranged is not None and steps is not None:
        needed = memory[UNDIVIDED].total if memory else None
        time = step_time(
            stage, recipe, data.dataset, arranged, batches[len(batches) // 2], steps.optimizer_steps, needed, notes
        )
    return StageEstimate(stage.name, rows, steps, batch["input_ids"].numel(), memory, time, notes)


def _countable(config: LoraConfig | MaskConfig, notes: list[str]) -> LoraConfig | MaskConfig:
    if isinstance(config, MaskConfig) and config.share < 1:
        notes.append(f"which weights of the {config.part} get a mask shows in training: counted as if all did")
    if isinstance(config, LoraConfig) and config.bits is not None:
        notes.append(f"the {config.part} is counted in float32, not in {config.bits} bits")
        return config.model_copy(update={"bits": None})
    return config


def _memory(
    stage: StageConfig,
    recipe: Recipe,
    model: PreTrainedModel,
    adapters: Sequence[Adapter],
    batch: dict[str, torch.Tensor],
    processes: int,
) -> dict[str, Memory]:
    """By way of dividing: none, and each config of `train/deepspeed`."""
    bf16 = recipe.precision == "bf16"
    objective = stage.objective.build()
    objective.adapters = adapters
    without_numbers(model)
    if keeps_half(stage.adapters, bf16):
        for parameter in frozen_matrices(model):
            parameter.data = parameter.data.to(torch.bfloat16)
    learning, cpu = Learning.of(model), not torch.cuda.is_available()
    with as_trained(stage, model):
        activations = activation_bytes(model, objective, batch, autocast=bf16)
        found = {UNDIVIDED: undivided(learning, activations, processes, cpu)}
        if bf16:  # DeepSpeed keeps the model itself in bfloat16, so nothing is cast
            without_numbers(model, torch.bfloat16)
            activations = activation_bytes(model, objective, batch, autocast=False)
    hidden = model.config.get_text_config().hidden_size
    for name in catalog.names(catalog.DEEPSPEED):
        division = Division.read(deepspeed_config(name), hidden)
        if division.stage == 3 and stage.adapters:
            continue  # refused in training
        found[name] = divided(learning, activations, division, bf16, processes, cpu)
    return found


def count_steps(
    arranged: Batching, data: StageData, stage: StageConfig, processes: int
) -> tuple[Steps, list[list[int]]]:
    """What the plan says, by the token index; and all micro-batches, the smallest first."""
    dataset, plan = data.dataset, arranged.plan
    share = arranged.batches.share_prefix
    tokens, prefixes = dataset.token_counts(share)
    keys = dataset.keys() if share else [None] * dataset.units
    supervised = dataset.index.supervised.reshape(dataset.units, -1).sum(1)
    by_step: list[list[int]] = [[0, 0] for _ in range(plan.steps)]
    micro_batches = conversations = held = 0
    sized: list[tuple[int, list[int]]] = []
    for process in range(processes):
        for number, batch in enumerate(plan.batches(process)):
            if not batch.counts:
                continue
            own = [tokens[index] for index in batch.indices]
            filled = sum(own)
            for before, index in zip(batch.indices, batch.indices[1:], strict=False):
                if keys[index] is not None and keys[before] == keys[index]:
                    filled -= min(prefixes[before], prefixes[index])
            room = filled if arranged.packed else max(own) * len(own)
            held += stage.pack_tokens or room
            sums = by_step[number // stage.accumulate]
            sums[0] += filled
            sums[1] += int(supervised[batch.indices].sum())
            micro_batches += 1
            conversations += len(batch.indices)
            sized.append((room, batch.indices))
    all_tokens, all_supervised = ([step[which] for step in by_step] for which in (0, 1))
    return Steps(
        optimizer_steps=plan.steps,
        micro_batches=micro_batches,
        conversations=conversations,
        conversations_per_epoch=len(dataset.mixture.epoch(plan.plan.seed, 0)),
        tokens=Count(statistics.fmean(all_tokens), max(all_tokens)),
        supervised=Count(statistics.fmean(all_supervised), max(all_supervised)),
        filled=sum(all_tokens) / held,
    ), [indices for _, indices in sorted(sized, key=lambda one: one[0])]


def longest_allowed(
    stage: StageConfig, recipe: Recipe, model: PreTrainedModel, notes: list[str]
) -> dict[str, torch.Tensor]:
    """A micro-batch as large as the recipe takes one: in each conversation the largest picture, and supervised text up
    to the limit. Where only a processor could make the picture's inputs, text alone, which a note says."""
    length, count = recipe.max_length, stage.batch_size
    if stage.pack_tokens is not None:
        length = min(length, stage.pack_tokens)
        count = stage.pack_tokens // length
    ids = torch.zeros(count, length, dtype=torch.long)
    labels = ids.clone()
    batch: dict[str, torch.Tensor] = {}
    if isinstance(model, VisionLanguageModel) and model.connector.reads == "nothing":
        layout = model.layout
        sizes = [(layout.tile, layout.tile)] if layout.tiling is None else layout.tiling.resolutions
        medium = max((Medium(0, *size) for size in sizes), key=layout.tokens)
        places = min(layout.tokens(medium), length)
        model.config.image_token_id = 1  # without its tokenizer it has none yet
        ids[:, :places] = model.config.image_token_id
        labels[:, :places] = IGNORE
        batch["pixel_values"] = torch.zeros(count * layout.tiles(medium), 3, layout.tile, layout.tile)
        batch["media"] = torch.tensor([medium] * count)
    else:
        notes.append("without its processor nobody knows what the model takes of a picture: memory is that of text")
    if hindrance(model) is None:
        segments = [Segment(number * length, length, -1) for number in range(count)]
        batch["attention_mask"], batch["position_ids"] = as_mask(segments), positions(segments).unsqueeze(0)
        ids, labels = ids.view(1, -1), labels.view(1, -1)
    else:
        batch["attention_mask"] = torch.ones_like(ids)
    return batch | {"input_ids": ids, "labels": labels}
