"""A thin subclass of `transformers.Trainer`: our objective, our parameter groups, our log.

Everything else (loop, distribution, DeepSpeed, checkpoints, resume) is transformers' own. What it adds:

* the loss of a step is the sum over all its supervised tokens (or pairs) divided by their number, over micro-batches
  and processes alike, so the result does not depend on how a batch is split;
* one learning rate per part and adapter, no weight decay on biases, norms and masks;
* the gradient dropout of masks;
* `metrics.jsonl` and a progress bar.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME

from mminstruct.data.plan import StepPlan, StepSampler
from mminstruct.errors import RunError
from mminstruct.files import write_text
from mminstruct.models.adapters import Adapter, Mask
from mminstruct.models.parts import parts
from mminstruct.training.batching import Batching
from mminstruct.training.config import StageConfig
from mminstruct.training.mask_tuning import GradientDropout
from mminstruct.training.objectives import Objective


class VisionLanguageTrainer(Trainer):
    """See the module. `stage` says what trains and how; the model's `requires_grad` flags are set by the caller.

    Args:
        adapters: those of the stage, attached to the model.
    """

    objective: Objective

    def __init__(
        self,
        *,
        objective: Objective,
        stage: StageConfig,
        batching: Batching,
        adapters: Sequence[Adapter] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(train_dataset=batching.batches, **kwargs)
        self.objective = objective
        self.batching = batching
        self.stage = stage
        self.adapters = adapters
        dropping = [one for one in adapters if isinstance(one, Mask) and one.config.gradient_dropout > 0]
        self.gradient_dropout = GradientDropout(dropping, self.args.seed) if dropping else None
        self.loss_is_scaled_for_ga = True  # `compute_loss` divides by the whole step's tokens itself
        self._sums: dict[str, torch.Tensor] = {}
        self._waited = 0.0
        self._logged = time.perf_counter()

    def get_train_dataloader(self) -> DataLoader:
        """This process's micro-batches of the whole stage, in one go: the plan has epochs, the loader has none."""
        return DataLoader(
            self.batching.batches,
            batch_sampler=StepSampler(self.batching.plan, self.args.process_index),
            collate_fn=_only,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        started = time.perf_counter()
        batches = list(itertools.islice(epoch_iterator, num_batches))
        self._waited += time.perf_counter() - started
        return batches, self._get_num_items_in_batch(batches, device)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Supervised tokens (or pairs) of the whole step: all its micro-batches on all processes."""
        count = sum((self.objective.count(batch) for batch in batch_samples), torch.tensor(0)).to(device)
        return self._sum_over_processes(count)

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        conversations = inputs.pop("conversations")
        output = self.objective(model, inputs)
        mask = inputs["attention_mask"]
        places = torch.tensor(inputs["input_ids"].numel(), device=mask.device)  # all sums on one device, see `log`
        sums = {
            "loss_sum": output.loss_sum,
            "count": output.count,
            "conversations": conversations,
            "places": places,
            "filled": mask.sum() if mask.ndim == 2 else places,
            **output.metrics,
        }
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        total = output.count if num_items_in_batch is None else num_items_in_batch
        if self.gradient_dropout is not None:
            assert output.logits is not None
            plain = self.accelerator.unwrap_model(model)
            self.gradient_dropout.watch(plain, self.objective, inputs, output.logits, total)
        # DDP and DeepSpeed average gradients over processes; multiplying by their number makes that a sum again.
        return output.loss_sum / total.clamp(min=1) * self.args.world_size

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        # Before the clipping, which scales the one gradient and not the other.
        if self.gradient_dropout is not None and self.accelerator.sync_gradients:
            self.gradient_dropout.apply(self.state.global_step, self._sum_over_processes)
        return loss

    def _sum_over_processes(self, value: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(value, reduction="sum") if self.args.world_size > 1 else value

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Replace transformers' running mean of scaled losses by the exact mean, and add those of the metrics."""
        if "loss" in logs and self._sums:
            now = time.perf_counter()
            seconds, self._logged = now - self._logged, now
            names = sorted(self._sums)
            values = self._sum_over_processes(torch.stack([self._sums[name] for name in names]))
            sums = dict(zip(names, values.tolist(), strict=True))
            count = max(sums["count"], 1.0)
            for name in names:
                if name.endswith("_sum"):
                    logs[name.removesuffix("_sum")] = sums[name] / count
            logs[self.objective.unit] = sums["count"]
            logs[f"{self.objective.unit}_per_second"] = sums["count"] / seconds
            logs["conversations_per_second"] = sums["conversations"] / seconds
            logs["padding_share"] = 1 - sums["filled"] / sums["places"]
            logs["data_wait_share"] = self._waited / seconds
            self._waited = 0.0
            self._sums = {}
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with one pair of groups (decayed, not decayed) per part and adapter that trains."""
        if self.optimizer is None:
            found = parts(self.accelerator.unwrap_model(model or self.model))
            learners = [
                (self.stage.rate(part), self.stage.weight_decay, found[part].parameters()) for part in self.stage.train
            ]
            for adapter in self.adapters:
                # Decay would pull scores through their threshold, whatever the loss says.
                decay = 0.0 if isinstance(adapter, Mask) else self.stage.weight_decay
                learners.append((self.stage.adapter_rate(adapter.config), decay, iter(adapter.parameters())))
            groups = []
            for rate, weight_decay, parameters in learners:
                trainable = [p for p in parameters if p.requires_grad]
                for decay, members in (
                    (weight_decay, [p for p in trainable if p.ndim > 1]),
                    (0.0, [p for p in trainable if p.ndim <= 1]),
                ):
                    if members:
                        groups.append({"params": members, "lr": rate, "weight_decay": decay})
            self.optimizer = torch.optim.AdamW(groups, betas=self.stage.betas, fused=True)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """A checkpoint to resume from, under the names that the modules have.

        transformers would write those of a family's first release, which its own resuming does not find again: it would
        go on, with a warning, from the weights that the run began with.
        """
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            model: Any = self.accelerator.unwrap_model(self.model)
            model.save_pretrained(folder, state_dict=state_dict, save_original_format=False)
            torch.save(self.args, folder / TRAINING_ARGS_NAME)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Raises `RunError` for a checkpoint that is not all of the model's; transformers would warn and go on."""
        model: Any = self.accelerator.unwrap_model(self.model)
        missing = set(load_result.missing_keys) - set(model.all_tied_weights_keys)
        # What 4-bit layers write beside their weight is read by them and counts as unexpected all the same.
        strange = set(load_result.unexpected_keys) - set(model.state_dict())
        if missing or strange:
            raise RunError(
                f"the checkpoint to resume from is not this model's: {sorted(missing | strange)[0]!r} is missing or "
                "left over; train anew, or resume with the version of mminstruct that wrote it"
            )


def _only(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A micro-batch is made by the data set already, so the loader has one to collate."""
    (batch,) = batches
    return batch


class MetricsLog(TrainerCallback):
    """Writes one line per log step to `metrics.jsonl`; a resumed run first drops the lines it is about to repeat."""

    def __init__(self, path: Path, stage: str, plan: StepPlan) -> None:
        self.path = path
        self.stage = stage
        self.plan = plan
        self._started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.monotonic()
        if state.is_world_process_zero and self.path.exists():
            lines = [json.loads(line) for line in self.path.read_text().splitlines()]
            kept = [line for line in lines if line["stage"] != self.stage or line["step"] <= state.global_step]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise RunError(
                f"stage {self.stage!r}: the loss is {logs['loss']} at step {state.global_step}; "
                "lower the learning rate, or look for broken samples with: mminstruct data stats"
            )
        if state.is_world_process_zero:
            line = {
                "stage": self.stage,
                "step": state.global_step,
                "epoch": round(self.plan.epochs_done(state.global_step), 4),
                "seconds": round(time.monotonic() - self._started, 2),
                **{name: value for name, value in logs.items() if name != "epoch"},
            }
            with self.path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")


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
