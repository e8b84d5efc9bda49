"""What is told of a stage while it runs: `metrics.jsonl`, and a bar on the terminal; and what stands at its begin."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from mminstruct.data.plan import StepPlan
from mminstruct.files import write_text
from mminstruct.training.allocator import give_back_freed_memory
from mminstruct.training.checkpointing import saving


def drop_repeated(path: Path, stage: str, step: int) -> None:
    """Drop the lines of a stage that a run resumed after `step` is about to write again."""
    if path.exists():
        # A run that was killed, or met a full disk, may have left the last line without its end.
        whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        lines = [json.loads(line) for line in whole]
        kept = [line for line in lines if line["stage"] != stage or line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


class GiveBackMemory(TrainerCallback):
    """Before the first step a process gives back what making the model ready took (`allocator`)."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        give_back_freed_memory()


class MetricsLog(TrainerCallback):
    """Writes one line per log step and validation to `metrics.jsonl`; a resumed run first drops the lines it is about
    to repeat."""

    def __init__(self, path: Path, stage: str, plan: StepPlan) -> None:
        self.path = path
        self.stage = stage
        self.plan = plan
        self._started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.monotonic()
        if state.is_world_process_zero:
            drop_repeated(self.path, self.stage, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or not {"loss", "validation_seconds"} & logs.keys():
            return
        if state.is_world_process_zero:
            line = {
                "stage": self.stage,
                "step": state.global_step,
                "epoch": round(self.plan.epochs_done(state.global_step), 4),
                "seconds": round(time.monotonic() - self._started, 2),
                **{name: value for name, value in logs.items() if name != "epoch"},
            }
            with saving(self.path), self.path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")


class Kept(TrainerCallback, ExportableState):
    """A callback of which something is kept in each checkpoint.

    transformers' own restoring makes such callbacks, and its control of the loop, anew; here the object stays.

    Attributes:
        kept: the names of the attributes, of what JSON can say.
    """

    kept: ClassVar[tuple[str, ...]]

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {name: getattr(self, name) for name in self.kept}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        known: Any = state.stateful_callbacks  # by class; typed as the list that it is made of
        for name in self.kept:
            setattr(self, name, known[type(self).__name__]["attributes"][name])


class StopWhenAsked(TrainerCallback):
    """Saves a checkpoint behind the step in which the run was asked to stop, and ends there.

    Args:
        stopping: whether it was; the same on all processes.
    """

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self.stopping = stopping

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.stopping():
            control.should_save = True
            control.should_training_stop = True


class ProgressBar(TrainerCallback):
    """Steps done, loss and the time that is left, on stderr; nothing where stderr is no terminal."""

    def __init__(self, title: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=Console(stderr=True),
        )
        self._title = title

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._progress.start()
            self._task = self._progress.add_task(
                self._title, total=state.max_steps, completed=state.global_step, loss="-"
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._progress.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            self._progress.update(self._task, loss=f"{logs['loss']:.4f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._progress.stop()
