"""Steps that are not made: a loss far above those before it, a gradient that is too long.

    loss of the step, gradient norm before clipping ──judge──▶ None, or why the step is left out
    OUT/skipped_steps.jsonl     a line for each: stage, step, why, and the conversations of its micro-batches

A step that is skipped changes no weight and nothing of the optimiser's state; the schedule and the data go on.
"""

from __future__ import annotations

import json
import logging
import statistics
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from mminstruct.training.callbacks import Kept, drop_repeated
from mminstruct.training.checkpointing import saving
from mminstruct.training.watch_config import GuardConfig

log = logging.getLogger(__name__)

WINDOW = 50  # steps that a loss is compared with
LEAST = 10  # so many have to be known before a loss is


class StepGuard(Kept):
    """See the module; the same on all processes, since it goes by numbers of all of them.

    Attributes:
        losses: of the last steps that were made.
        skipped: how many steps of the stage were left out.
    """

    kept = ("losses", "skipped")

    def __init__(self, config: GuardConfig, path: Path, stage: str) -> None:
        self.config, self.path, self.stage = config, path, stage
        self.losses: list[float] = []
        self.skipped = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if state.is_world_process_zero:
            drop_repeated(self.path, self.stage, state.global_step)

    def judge(self, loss: float, grad_norm: float) -> str | None:
        """Why the step at hand should not be made; where it should, its loss is remembered."""
        spike, longest = self.config.loss_spike, self.config.grad_norm
        if spike is not None and len(self.losses) >= LEAST:
            median = statistics.median(self.losses)
            if loss > spike * median:
                return f"its loss {loss:.4g} is above {spike:g} times the median of the steps before, {median:.4g}"
        if longest is not None and not grad_norm <= longest:  # a norm may be nan
            return f"its gradient norm {grad_norm:.4g} is above {longest:g}"
        self.losses = [*self.losses, loss][-WINDOW:]
        return None

    def skip(self) -> bool:
        """Count a step that should not be made; False where it is to stop the run."""
        self.skipped += 1
        return self.config.action == "skip" and self.skipped <= self.config.limit

    def write(self, step: int, why: str, micro_batches: list[dict[str, Any]]) -> None:
        """Name the conversations of a step that is left out."""
        log.warning("stage %s: step %d is left out: %s", self.stage, step, why)
        line = {"stage": self.stage, "step": step, "why": why, "micro_batches": micro_batches}
        with saving(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
