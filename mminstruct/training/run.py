"""Running a recipe: data and model made ready, the stages one after the other, everything needed to resume on disk.

    OUT/data/                 data sets that the recipe has builders for
    OUT/cache/                conversations and their token counts, read at random; `data_cache` puts it elsewhere
    OUT/config.resolved.yaml  the recipe with every default written out      OUT/env.json  versions and machine
    OUT/metrics.jsonl         loss, learning rate, speed, one line per log step; and one per validation
    OUT/sources.json          what each stage's epochs are made of, and validation data; hashes, compared on resume
    OUT/skipped.jsonl         where conversations are left out: which, and why
    OUT/trainable.json        what trains in each stage, part by part
    OUT/bad_batch.json        where a loss was not finite: the conversations of that step
    OUT/skipped_steps.jsonl   where a guard left steps out: which, why, and their conversations
    OUT/stages/1-align/       checkpoints to resume from (and the best, with `stop`), and the stage's model
    OUT/adapter/              where the last stage has adapters or new experts: only what it trained, and on which base
    OUT/model/                the trained model (`mminstruct.load`), adapters merged, written last

Nothing is written before data and model are known to be good.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from mminstruct import __version__
from mminstruct.config import dump_yaml
from mminstruct.errors import MminstructError, RunError
from mminstruct.files import require_new, write_json, write_text
from mminstruct.models import checkpoint
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.factory import create
from mminstruct.models.parts import require_parts
from mminstruct.training.allocator import keep_freed_memory
from mminstruct.training.caching import attach_caches, require_cacheable
from mminstruct.training.checkpointing import remove_unfinished
from mminstruct.training.config import Recipe
from mminstruct.training.data import (
    SKIPPED,
    SOURCES,
    announce_data,
    report,
    require_equal_data,
    require_same_data,
    stage_data,
    write_skipped,
)
from mminstruct.training.kernels import require_liger
from mminstruct.training.preparing import prepare, require_launch
from mminstruct.training.resume import as_started
from mminstruct.training.stage_run import BAD_BATCH, StageRun, training_arguments
from mminstruct.training.trackers import require_trackers
from mminstruct.training.trainable import announce, record, trainable_table
from mminstruct.training.validation import Score, hold_out, require_scores, validating
from mminstruct.training.zero import load_whole, require_agreement

log = logging.getLogger(__name__)

_RESOLVED = "config.resolved.yaml"


@dataclass
class TrainingResult:
    """Where the model is, how long the data and each stage took in seconds, and what learnt in each stage."""

    model: Path
    seconds: dict[str, float]
    trainable: dict[str, dict[str, int]]


def train(recipe: Recipe, out: Path, resume: bool = False, scores: Mapping[str, Score] | None = None) -> TrainingResult:
    """Run all stages of a recipe.

    Args:
        out: the run's folder; new, or with `resume` one that an interrupted run of the same recipe left.
        scores: what asks the models of stages that are to answer while they train, by the stage's name.

    Raises:
        RunError: the folder holds another run, there is nothing to resume, a loss is not finite, or the disk is full.
        Interrupted: a signal asked the run to stop, and it can be resumed.
        DataError, MediaError, ConfigError: the data or the model cannot be used.
    """
    require_trackers(recipe.trackers)
    resolved = dump_yaml(recipe)
    if resume:
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        _require_same_run(out, dump_yaml(as_started(recipe, out / _RESOLVED, out / "env.json", processes)))
        if _is_main():
            for folder in (out, *out.glob("stages/*")):
                remove_unfinished(folder)
    elif _is_main():
        require_new(out)
    transformers.utils.logging.disable_progress_bar()
    if not torch.cuda.is_available():
        keep_freed_memory()
    set_seed(recipe.seed)
    unset_hf_deepspeed_config()  # of an earlier run in this process, by which transformers would divide the weights
    model, processor = _start_model(recipe.model, recipe.pretrained)
    if recipe.kernels == "liger":
        require_liger(model)
    for stage in recipe.stages:
        require_parts(model, [*stage.train, *(one.part for one in stage.adapters)])  # before anything is built
    folders = [out / "stages" / f"{number}-{stage.name}" for number, stage in enumerate(recipe.stages, start=1)]
    pairs = zip(recipe.stages, folders, strict=True)
    arguments = [training_arguments(recipe, stage, folder) for stage, folder in pairs]
    for stage, settings in zip(recipe.stages, arguments, strict=True):
        require_agreement(settings, recipe.name, stage.name)
    require_launch(recipe)
    require_cacheable(recipe, model)
    scores = scores or {}
    require_scores(recipe, scores)
    seconds: dict[str, float] = {}
    trainable: dict[str, dict[str, int]] = {}
    try:
        started = time.monotonic()
        with arguments[0].main_process_first():  # one process builds the data, the others wait and read it
            data = [stage_data(stage, processor, recipe, out) for stage in recipe.stages]
            held_out = [
                hold_out(stage, one, processor, recipe, out) for stage, one in zip(recipe.stages, data, strict=True)
            ]
        seconds["data"] = round(time.monotonic() - started, 2)
        reports = {stage.name: report(one, recipe.seed) for stage, one in zip(recipe.stages, data, strict=True)}
        for stage, chosen in zip(recipe.stages, held_out, strict=True):
            if chosen is not None and stage.validation is not None and stage.validation.data is not None:
                reports[f"{stage.name} (validation)"] = report(chosen, recipe.seed)
        require_equal_data(reports)
        if resume:
            require_same_data(out / SOURCES, reports)
        if _is_main() and not resume:
            write_json(out / "env.json", environment())
            write_json(out / SOURCES, reports)
            for stage, one in zip(recipe.stages, data, strict=True):
                write_skipped(out / SKIPPED, stage.name, one)
            write_text(out / _RESOLVED, resolved)  # last: from now on the run can be resumed
        datasets = [one.dataset for one in data]
        for number, (stage, dataset, folder, settings) in enumerate(
            zip(recipe.stages, datasets, folders, arguments, strict=True)
        ):
            finished = out / "model" if folder is folders[-1] else folder / "model"
            if resume and finished.is_dir():
                model, processor = load_whole(finished, settings)
                continue
            started = time.monotonic()
            attach_caches(recipe, number, datasets, model, settings)
            chosen = held_out[number]
            kept = None if chosen is None else chosen.dataset
            if kept is not None and kept.conversations is dataset.conversations and dataset.cached is not None:
                kept.use(dataset.cached)
            prepared = prepare(stage, recipe, settings, model, dataset)
            validation = validating(stage, model, processor, kept, scores.get(stage.name), settings)
            rows = trainable_table(model, prepared.totals, prepared.adapters)
            if _is_main():
                announce_data(stage.name, reports[stage.name])
                announce(stage.name, rows)
                record(out / "trainable.json", stage.name, rows)
            trainable[stage.name] = {row.part: row.trainable for row in rows}
            StageRun(
                recipe, stage, settings, model, processor, dataset, prepared, validation, folder, finished, out
            ).run()
            seconds[stage.name] = round(time.monotonic() - started, 2)
            if is_deepspeed_zero3_enabled() and folder is not folders[-1]:
                model, processor = load_whole(finished, settings)  # of this one no process has the whole
    except MminstructError as error:
        saved = list(out.glob("stages/*/*/trainer_state.json")) or (out / BAD_BATCH).exists()
        if _is_main() and not resume and not saved:
            shutil.rmtree(out, ignore_errors=True)  # nothing was saved that a resume could use
        told = _without_worker_traceback(error)
        if told is error:
            raise
        raise told from error
    return TrainingResult(out / "model", seconds, trainable)


def _without_worker_traceback(error: MminstructError) -> MminstructError:
    """The error itself where a data loader's process has wrapped its whole traceback into the message."""
    lines = str(error.args[0]).strip().splitlines()
    if len(lines) > 1 and lines[0].startswith("Caught ") and "DataLoader worker" in lines[0]:
        return type(error)(lines[-1].partition(": ")[2])
    return error


def environment() -> dict[str, Any]:
    """Versions and machine, for the record beside every run."""
    import timm

    return {
        "mminstruct": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "timm": timm.__version__,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _require_same_run(out: Path, resolved: str) -> None:
    path = out / _RESOLVED
    if not path.is_file():
        raise RunError(f"{out} holds no interrupted run ({_RESOLVED} is missing); leave out --resume to start one")
    old = path.read_text(encoding="utf-8").splitlines()
    new = resolved.splitlines()
    if old != new:
        line = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        found = " / ".join(lines[line].strip() if line < len(lines) else "(nothing)" for lines in (old, new))
        raise RunError(f"{out} was started with another recipe (line {line + 1}: {found}); give a new --out folder")


def _start_model(model: str, pretrained: bool) -> tuple[PreTrainedModel, BaseProcessor]:
    if Path(model).is_dir():
        return checkpoint.load(model, dtype=torch.float32)
    return create(model, pretrained=pretrained)
