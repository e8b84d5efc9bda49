"""A run that goes on with another number of processes than it was started with.

What makes a step is the product of `accumulate` and the number of processes: so many micro-batches, one after the other
in one list (`data/plan.py`), are a step however they are shared out. As long as the product stays, a resumed run sees
the same micro-batches in the same steps. Checkpoints of DDP are whole; those of ZeRO hold a share for each process and
are made universal first (DeepSpeed's `ds_to_universal`, arXiv 2406.18820).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from mminstruct.config import load_yaml, validate
from mminstruct.errors import RunError
from mminstruct.files import read_json
from mminstruct.training.config import Recipe

log = logging.getLogger(__name__)

_UNIVERSAL = "universal"


def as_started(recipe: Recipe, resolved: Path, env: Path, processes: int) -> Recipe:
    """The recipe as it was given when the run began, where it differs by no more than the number of processes asks for.

    Args:
        resolved, env: `config.resolved.yaml` and `env.json` of the run.
        processes: of this launch.

    Raises:
        RunError: a step would have more or fewer micro-batches than those that were taken.
    """
    if not resolved.is_file() or not env.is_file():
        return recipe  # nothing to go on with, which the caller says
    started = int(read_json(env)["processes"])
    first = validate(Recipe, load_yaml(resolved), where=str(resolved))
    if started == processes or len(first.stages) != len(recipe.stages):
        return recipe
    stages = []
    for number, (before, stage) in enumerate(zip(first.stages, recipe.stages, strict=True)):
        wanted = before.accumulate * started
        if stage.accumulate * processes != wanted:
            hint = f"give stages.{number}.accumulate={wanted // processes}"
            if wanted % processes:
                hint = f"{processes} processes cannot share them equally; take a number that divides {wanted}"
            raise RunError(
                f"{resolved.parent} was started on {started} processes: a step of stage {stage.name!r} is {wanted} "
                f"micro-batches, on {processes} with accumulate={stage.accumulate} it would be "
                f"{stage.accumulate * processes}; {hint}"
            )
        stages.append(stage.model_copy(update={"accumulate": before.accumulate}))
    return recipe.model_copy(update={"stages": stages})


def fit_to_processes(checkpoint: Path, settings: TrainingArguments) -> None:
    """Let DeepSpeed load a ZeRO checkpoint that another number of processes wrote; called by all of them.

    Nothing happens to other checkpoints. The universal one stands beside the shares and goes with them.
    """
    if settings.deepspeed is None:
        return
    shares = checkpoint / (checkpoint / "latest").read_text(encoding="utf-8").strip()
    written_by = len(list(shares.glob("*_optim_states.pt")))
    if written_by == settings.world_size:
        return
    with settings.main_process_first():
        if settings.process_index == 0:
            log.info(
                "%s was written by %d processes; made universal for %d", checkpoint, written_by, settings.world_size
            )
            _make_universal(shares, shares.with_name(f"{shares.name}_{_UNIVERSAL}"))
    settings.hf_deepspeed_config.config["checkpoint"] = {"load_universal": True}


def mend_universal(optimizer: torch.optim.Optimizer, groups: Sequence[dict[str, Any]], rates: Sequence[float]) -> None:
    """Give an optimiser back what DeepSpeed's loading of a universal checkpoint makes the same for all under ZeRO-3.

    It gives all parameters one tensor of steps, which torch's optimisers count up once for each, and all groups the
    settings of the first.

    Args:
        groups: the settings of each group, as the optimiser was made.
        rates: the learning rate of each, as the schedule has it.
    """
    for state in optimizer.state.values():
        state["step"] = state["step"].clone()
    for group, own, rate in zip(optimizer.param_groups, groups, rates, strict=True):
        group |= {**own, "initial_lr": own["lr"], "lr": rate}


def _make_universal(shares: Path, universal: Path) -> None:
    """DeepSpeed's own conversion, made anew each time: one that was cut off cannot be told from a whole one."""
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(universal, ignore_errors=True)
    wanted = argparse.Namespace(
        input_folder=str(shares),
        output_folder=str(universal),
        num_extract_workers=1,  # more are processes of their own, which would start while torch runs here
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # it prints its progress
        try:
            ds_to_universal.main(wanted)
        except KeyError as error:
            raise RunError(
                f"{shares} holds no {error} of the optimiser, because every step before it was left out; resume on as "
                "many processes as wrote it, or start a new run"
            ) from error
