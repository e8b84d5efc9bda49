"""Trackers of experiments, each by transformers' own callback; what they get is what `metrics.jsonl` gets.

TensorBoard's files lie in `OUT/tensorboard/STAGE`. wandb and trackio know a stage as a run of its own, named after the
run's folder and the stage, in the project `mminstruct`; all else is up to their own settings (WANDB_PROJECT,
WANDB_MODE, TRACKIO_DIR, ...).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from mminstruct.errors import ConfigError

PROJECT = "mminstruct"


def require_trackers(names: Sequence[str]) -> None:
    """Raises `ConfigError` where a tracker is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"trackers names {name}, which is not installed; run: pip install {name}")


def tracker_callbacks(names: Sequence[str], out: Path, stage: str, step: int) -> list[TrainerCallback]:
    """The callbacks of a stage.

    Args:
        step: where the stage goes on; what TensorBoard has of later ones, from before a crash, is no longer shown.
    """
    callbacks: list[TrainerCallback] = []
    for name in names:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(out / "tensorboard" / stage), purge_step=step + 1 if step else None)
            callbacks.append(TensorBoardCallback(writer))
        elif name == "wandb":
            os.environ.setdefault("WANDB_PROJECT", PROJECT)  # transformers asks for it there only
            callbacks.append(WandbCallback())
        else:
            callbacks.append(TrackioCallback())
    return callbacks


def finish_trackers(names: Sequence[str]) -> None:
    """Close the stage's run; transformers leaves wandb's open, and the next stage would go on in it."""
    if "wandb" in names:
        import wandb

        wandb.finish()
