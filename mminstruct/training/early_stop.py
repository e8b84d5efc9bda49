"""Ending a stage when validation has stopped getting better, and going back to the best model that it saw."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.training.callbacks import Kept
from mminstruct.training.watch_config import StopConfig


class EarlyStop(Kept):
    """Saves a checkpoint of each model that is the best so far, and ends the stage when no better one comes.

    transformers' `EarlyStoppingCallback` goes by `load_best_model_at_end`, which looks for a checkpoint in the folder
    that it is written to, and ours is renamed when it is whole.

    Attributes:
        best: its value; None: nothing was validated so far.
        best_step: where it was measured.
    """

    kept = ("best", "best_step", "waited")

    def __init__(self, config: StopConfig) -> None:
        self.config = config
        self.best: float | None = None
        self.best_step = 0
        self.waited = 0

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Raises `ConfigError` where validation does not measure what is to be compared."""
        metrics: dict[str, float] = kwargs["metrics"]
        name = self.config.metric
        if name not in metrics:
            raise ConfigError(
                f"stop compares {name!r}, which is not measured.{did_you_mean(name, metrics)} "
                f"Measured are: {', '.join(sorted(metrics))}"
            )
        if self._is_better(metrics[name]):
            self.best, self.best_step, self.waited = metrics[name], state.global_step, 0
            control.should_save = True
            return
        self.waited += 1
        if self.waited >= self.config.patience:
            control.should_training_stop = True
            control.should_save = False  # a run resumed from here would go on

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        gain = value - self.best if self.config.mode == "max" else self.best - value
        return gain > self.config.min_delta
