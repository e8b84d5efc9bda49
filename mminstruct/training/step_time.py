"""How long a stage takes, by two micro-batches of its plan's median size, run on this machine with random weights."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import convert_outputs_to_fp32

from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.plan import MicroBatch
from mminstruct.models import checkpoint
from mminstruct.models.factory import create
from mminstruct.training.as_trained import as_trained
from mminstruct.training.batching import Batching
from mminstruct.training.config import Recipe, StageConfig
from mminstruct.training.preparing import prepare
from mminstruct.training.stage_run import training_arguments

_RUNS = 2


@dataclass(frozen=True)
class StageTime:
    """Seconds of an optimiser step and of all steps, and what computed them."""

    step: float
    run: float
    device: str


def step_time(
    stage: StageConfig,
    recipe: Recipe,
    dataset: ConversationDataset,
    arranged: Batching,
    conversations: list[int],
    steps: int,
    needed: int | None,
    notes: list[str],
) -> StageTime | None:
    """None, and a note, where the model does not fit into this machine's memory.

    Args:
        conversations: of the micro-batch that is run.
        steps: of the stage.
        needed: bytes that training takes without DeepSpeed; None where that is not known.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else _free_memory()
    if needed is None or needed > free:
        wanted = "an unknown amount" if needed is None else f"{needed / 1e9:.1f} GB"
        notes.append(f"no time: training takes {wanted} without DeepSpeed, and {free / 1e9:.1f} GB are free here")
        return None
    if Path(recipe.model).is_dir():
        model, _ = checkpoint.load(recipe.model, dtype=torch.float32)
    else:
        model, _ = create(recipe.model)
    with tempfile.TemporaryDirectory() as folder:
        settings = training_arguments(recipe.model_copy(update={"deepspeed": None}), stage, Path(folder))
    prepared = prepare(stage, recipe, settings, model, dataset)
    model.to(device).train()  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.0, fused=True)
    if recipe.precision == "bf16":
        autocast = torch.autocast(device.type, torch.bfloat16)
        model.forward = convert_outputs_to_fp32(autocast(model.forward))  # type: ignore[method-assign]
    batch = arranged.batches[MicroBatch(conversations)]
    del batch["conversations"]
    batch = {name: value.to(device) for name, value in batch.items()}
    forward_backward = step = 0.0
    with as_trained(stage, model, recipe.kernels if device.type == "cuda" else "torch"):
        for _ in range(_RUNS):  # the last one counts; the first one warms up
            started = _now(device)
            prepared.objective(model, dict(batch)).loss_sum.backward()
            computed = _now(device)
            optimizer.step()
            forward_backward, step = computed - started, _now(device) - computed
    one = stage.accumulate * forward_backward + step
    return StageTime(one, steps * one, torch.cuda.get_device_name() if device.type == "cuda" else "CPU")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _free_memory() -> int:
    """Bytes of this machine that nobody uses; caches of files count as used."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
