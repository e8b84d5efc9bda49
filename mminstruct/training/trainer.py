"""A thin subclass of `transformers.Trainer`: our objective, our parameter groups, our log.

Everything else (loop, distribution, DeepSpeed, what a checkpoint holds, resume) is transformers' own. What it adds:

* the loss of a step is the sum over all its supervised tokens (or pairs) divided by their number, over micro-batches
  and processes alike, so the result does not depend on how a batch is split;
* one learning rate per part and adapter, no weight decay on biases, norms and masks;
* the gradient dropout of masks;
* what is logged: exact means, speed, memory;
* a step whose loss is not finite, or that the guard does not let through, is not made, and its conversations are
  named;
* validation, the best of the models that it has seen, the average of the weights;
* a checkpoint appears whole or not at all, and one is saved when the run is asked to stop.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.integrations import is_deepspeed_zero3_enabled

from mminstruct.data.plan import StepSampler
from mminstruct.errors import RunError
from mminstruct.files import publish, write_json
from mminstruct.models.adapters import Adapter, Mask
from mminstruct.models.parts import parts
from mminstruct.models.transfer import sent
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.training.batching import Batching
from mminstruct.training.checkpointing import keep_newest, of_step, saving, staging_folder
from mminstruct.training.config import StageConfig
from mminstruct.training.early_stop import EarlyStop
from mminstruct.training.ema import WeightAverage
from mminstruct.training.guard import StepGuard
from mminstruct.training.log_window import LogWindow
from mminstruct.training.mask_tuning import GradientDropout
from mminstruct.training.objectives import Objective
from mminstruct.training.resume import mend_universal
from mminstruct.training.stopping import StopRequest
from mminstruct.training.throughput import ModelFlops, peak_flops, peak_memory
from mminstruct.training.validation import Validation
from mminstruct.training.zero_watch import ZeroStep

log = logging.getLogger(__name__)

# The model FLOPs of a token are an average over the first micro-batches, because counting costs time.
_COUNTED = 4

KEPT = 2  # checkpoints of a stage, beside the best one


class VisionLanguageTrainer(Trainer):
    """See the module. `stage` says what trains and how; the model's `requires_grad` flags are set by the caller.

    Args:
        stop: says whether this process is asked to stop.
        bad_batch: the file that names the conversations of a step whose loss is not finite.
        adapters: those of the stage, attached to the model.
        validation: what is measured while it trains.
        early_stop: knows the best checkpoint, which is kept.
        guard: says which steps are not made.
        average: of the weights; what is validated, and what the stage ends with.

    Raises:
        RunError: from `train`: a loss is not finite, or the disk does not take a checkpoint.
    """

    objective: Objective

    def __init__(
        self,
        *,
        objective: Objective,
        stage: StageConfig,
        batching: Batching,
        stop: StopRequest,
        bad_batch: Path,
        adapters: Sequence[Adapter] = (),
        validation: Validation | None = None,
        early_stop: EarlyStop | None = None,
        guard: StepGuard | None = None,
        average: WeightAverage | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(train_dataset=batching.batches, **kwargs)
        self.objective = objective
        self.batching = batching
        self.stage = stage
        self.stop = stop
        self.stopping = False  # all processes are of one mind about it
        self.bad_batch = bad_batch
        self.adapters = adapters
        self.validation = validation
        self.early_stop = early_stop
        self.guard = guard
        self.average = average
        for callback in (early_stop, guard, average):
            if callback is not None:
                self.add_callback(callback)
        dropping = [one for one in adapters if isinstance(one, Mask) and one.config.gradient_dropout > 0]
        self.gradient_dropout = GradientDropout(dropping, self.args.seed) if dropping else None
        self.loss_is_scaled_for_ga = True  # `compute_loss` divides by the whole step's tokens itself
        own = self.model if isinstance(self.model, VisionLanguageModel) else None
        self._image_token = None if own is None else own.config.image_token_id
        self._window = LogWindow()
        self._losses: list[torch.Tensor] = []  # of the step's micro-batches so far
        self._step_losses: list[float] = []  # of a whole step's, with a guard
        self._left_out: bool | None = None  # whether the guard leaves the step at hand out; None: not judged so far
        self._flops = ModelFlops()
        self._flops_counted, self._flops_places = 0, 0
        self._peak_flops = peak_flops(self.args.device, torch.bfloat16 if self.args.bf16 else torch.float32)

    def get_train_dataloader(self) -> DataLoader:
        """This process's micro-batches of the whole stage, in one go: the plan has epochs, the loader has none."""
        return DataLoader(
            self.batching.batches,
            batch_sampler=StepSampler(self.batching.plan, self.args.process_index),
            collate_fn=_only,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            worker_init_fn=self.stop.shield,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        self._window.begin()
        started = time.perf_counter()
        batches = list(itertools.islice(epoch_iterator, num_batches))
        self._window.waited += time.perf_counter() - started
        return batches, self._get_num_items_in_batch(batches, device)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Supervised tokens (or pairs) of the whole step: all its micro-batches on all processes."""
        count = sum((self.objective.count(batch) for batch in batch_samples), torch.tensor(0))
        return self._sum_over_processes(sent(count, device))

    def _prepare_inputs(self, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
        """On the device, but for what is read to know how the micro-batch is computed (`models/transfer.py`)."""
        read = {"labels", "media", "conversations"}
        if inputs["attention_mask"].ndim == 4:
            read.add("attention_mask")  # the table of segments
        moved = {name: sent(value, self.args.device) for name, value in inputs.items() if name not in read}
        prepared: dict[str, Any] = super()._prepare_inputs(moved)  # DeepSpeed's precision
        if self._image_token is not None:
            prepared["num_image_places"] = int((inputs["input_ids"] == self._image_token).sum())
        return prepared | {name: value for name, value in inputs.items() if name in read}

    def floating_point_ops(self, inputs: dict[str, torch.Tensor]) -> int:
        """Not transformers' estimate, for which it walks through the whole model at each micro-batch: see `mfu`."""
        return 0

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        conversations = inputs.pop("conversations")
        counting = self._flops_counted < _COUNTED
        with self._flops if counting else contextlib.nullcontext():
            output = self.objective(model, inputs)
        mask = inputs["attention_mask"]
        places = torch.tensor(inputs["input_ids"].numel())
        self._window.add(
            {
                "loss_sum": output.loss_sum,
                "count": output.count,
                "conversations": conversations,
                "micro_batches": torch.tensor(1),
                "places": places,
                "filled": mask.sum() if mask.ndim == 2 else places,
                **output.metrics,
            }
        )
        if counting:
            self._flops_counted += 1
            self._flops_places += inputs["input_ids"].numel()
        total = output.count if num_items_in_batch is None else num_items_in_batch
        if self.gradient_dropout is not None:
            assert output.logits is not None
            plain = self.accelerator.unwrap_model(model)
            self.gradient_dropout.watch(plain, self.objective, inputs, output.logits, total)
        # DDP and DeepSpeed average gradients over processes; multiplying by their number makes that a sum again.
        loss = output.loss_sum / total.clamp(min=1) * self.args.world_size
        self._losses.append(loss.detach())
        if self.accelerator.sync_gradients:
            self._agree_on_step()
        return loss

    def _agree_on_step(self) -> None:
        """Whether the step is made, and whether it is the last one: the same on all processes.

        It stands before the last backward pass of the step, in which DeepSpeed makes the step. One small sum over
        processes and one look at its result a step is all that it costs on a GPU; transformers' own filter, which would
        hide such losses, looks once a micro-batch.
        """
        losses = torch.stack(self._losses)
        broken = (~losses.isfinite()).sum()
        asked = sent(torch.tensor(int(self.stop.received is not None)), broken.device)
        broken_anywhere, asked_anywhere = self._sum_over_processes(torch.stack([broken, asked])).tolist()
        if broken_anywhere:
            step = self.state.global_step + 1
            self._refuse_step(
                self._micro_batches(losses.tolist()), f"the loss of step {step} is not finite, so it was not made"
            )
        self.stopping = asked_anywhere > 0
        self._losses = []
        if self.guard is not None:
            self._step_losses, self._left_out = losses.tolist(), None

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        """Transformers' own; behind it, where the optimiser's step comes next, the guard looks at the step.

        With DeepSpeed the step was made within the backward pass and judged there, or left out by DeepSpeed itself
        because the gradient was not finite.
        """
        norm: torch.Tensor = super()._clip_grad_norm(model)
        if self.guard is not None and self._left_out is None and self._judge(self.guard, float(norm)):
            model.zero_grad()  # an optimiser leaves alone what has no gradient
        self._step_losses = []
        return norm

    def _leaves_out(self) -> bool:
        """Whether the guard leaves the step out that DeepSpeed is about to make."""
        if self.guard is None or not self._step_losses:  # DeepSpeed may try its optimiser before any step
            return False
        if self._left_out is None:
            engine: Any = self.model_wrapped
            self._judge(self.guard, float(engine.optimizer._global_grad_norm))
        return bool(self._left_out)

    def _judge(self, guard: StepGuard, norm: float) -> bool:
        """Whether the guard leaves the step at hand out, which is written down; or it stops the run."""
        loss = self._sum_over_processes(torch.tensor(sum(self._step_losses), device=self.args.device))
        why = guard.judge(loss.item() / self.args.world_size, norm)
        self._left_out = why is not None
        if why is not None:
            step = self.state.global_step + 1
            micro_batches = self._micro_batches(self._step_losses)
            if not guard.skip():
                self._refuse_step(micro_batches, f"step {step} was not made: {why}")
            if self.is_world_process_zero():
                guard.write(step, why, micro_batches)
            if self.average is not None:
                self.average.held = True
        return self._left_out

    def _micro_batches(self, losses: list[float]) -> list[dict[str, Any]]:
        """Of each micro-batch of the step at hand its process, loss and conversations; on the first process.

        Args:
            losses: of this process's.
        """
        gathered: list[float] = gather_object(losses)  # process behind process
        if not self.is_world_process_zero():
            return []
        plan, dataset = self.batching.plan, self.batching.batches.dataset
        rows = []
        for number, batch in enumerate(plan.step(self.state.global_step)):
            process, place = number % plan.processes, number // plan.processes
            members = dataset.members(np.array(batch.indices)).tolist()
            rows.append(
                {
                    "process": process,
                    "loss": str(gathered[process * plan.accumulate + place]),  # JSON has no word for nan
                    "conversations": [
                        {"id": dataset.conversations[index].id, "source": dataset.conversations.part(index).name}
                        for index in members
                    ],
                }
            )
        return rows

    def _refuse_step(self, micro_batches: list[dict[str, Any]], why: str) -> None:
        """Name the conversations of the step at hand in a file, and raise `RunError`."""
        if self.is_world_process_zero():
            found = {"stage": self.stage.name, "step": self.state.global_step + 1, "micro_batches": micro_batches}
            write_json(self.bad_batch, found)
        self.accelerator.wait_for_everyone()  # a launcher ends all processes with the first that fails
        raise RunError(
            f"stage {self.stage.name!r}: {why}; its conversations are named in {self.bad_batch}; look at them, or "
            "lower the learning rate"
        )

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
        if "loss" in logs and self._window.sums:
            seconds = self._window.seconds
            sums = self._sums_over_processes()
            count = max(sums["count"], 1.0)
            for name in sums:
                if name.endswith("_sum"):
                    logs[name.removesuffix("_sum")] = sums[name] / count
            logs[self.objective.unit] = sums["count"]
            logs[f"{self.objective.unit}_per_second"] = sums["count"] / seconds
            logs["conversations_per_second"] = sums["conversations"] / seconds
            logs["tokens_per_second"] = sums["filled"] / seconds
            logs["padding_share"] = 1 - sums["filled"] / sums["places"]
            if self.stage.pack_tokens is not None:
                logs["packing_efficiency"] = sums["filled"] / (sums["micro_batches"] * self.stage.pack_tokens)
            logs["data_wait_share"] = self._window.waited / seconds
            if self.guard is not None:
                logs["skipped_steps"] = self.guard.skipped
            memory = torch.tensor([float(peak_memory(self.args.device))], device=self.args.device)
            logs["memory_gb"] = self.accelerator.gather(memory).max().item() / 1e9
            if self._peak_flops is not None:
                done = self._flops.total / self._flops_places * sums["places"]
                logs["mfu"] = done / seconds / (self._peak_flops * self.args.world_size)
            self._window.clear()
        super().log(logs, start_time)

    def _sums_over_processes(self) -> dict[str, float]:
        """What the log window holds. A process whose batches lack a metric adds nothing to it."""
        found = gather_object([list(self._window.sums)])
        names = sorted({name for own in found for name in own})
        if not names:
            return {}
        nothing = torch.zeros(())
        own = [self._window.sums.get(name, nothing).to(self.args.device) for name in names]
        values = self._sum_over_processes(torch.stack(own))
        return dict(zip(names, values.tolist(), strict=True))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # type: ignore[override]
        """What `validation` says of the model as it is, logged; called behind each step that is due.

        Nothing of it touches training: no random number is drawn, and speed is that without it.
        """
        assert self.validation is not None
        started = time.perf_counter()
        metrics: dict[str, float] = {}
        model: Any = self.model_wrapped
        model.eval()
        with contextlib.nullcontext() if self.average is None else self.average.applied():
            if self.validation.batching is not None:
                metrics |= self._validation_means(model, self.validation.batching)
            if self.validation.score is not None:
                # One process asks, and the others wait for what it found, so that all decide alike.
                asked = self.is_world_process_zero()
                found = self.validation.score(self.accelerator.unwrap_model(model)) if asked else {}
                metrics |= broadcast_object_list([found], from_process=0)[0]
        model.train()
        seconds = time.perf_counter() - started
        self._window.leave_out(seconds)
        self.log({**metrics, "validation_seconds": round(seconds, 2)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_means(self, model: nn.Module, batching: Batching) -> dict[str, float]:
        """The objective's sums over all held-out conversations and processes, by their count."""
        loader = DataLoader(
            batching.batches,
            batch_sampler=StepSampler(batching.plan, self.args.process_index),
            collate_fn=_only,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=self.stop.shield,
            generator=torch.Generator(),  # or the loader would draw a number of the training's
        )
        sums: dict[str, torch.Tensor] = {}
        for batch in loader:
            inputs = self._prepare_inputs(batch)
            inputs.pop("conversations")
            with torch.no_grad(), self.compute_loss_context_manager():
                output = self.objective(model, inputs)
            for name, value in {"loss_sum": output.loss_sum, "count": output.count, **output.metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.double()
        names = sorted(sums)
        stacked = torch.stack([sums[name].to(self.args.device) for name in names])
        totals = self._sum_over_processes(stacked).tolist()
        found = dict(zip(names, totals, strict=True))
        means = [name for name in names if name.endswith("_sum")]
        return {f"validation_{name.removesuffix('_sum')}": found[name] / max(found["count"], 1.0) for name in means}

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
            self._groups = [{name: group[name] for name in ("lr", "weight_decay")} for group in groups]
            self.optimizer = torch.optim.AdamW(groups, betas=self.stage.betas, fused=True)
            if self.guard is not None and self.is_deepspeed_enabled:
                ZeroStep(self.optimizer, self._leaves_out)
        return self.optimizer

    def _get_output_dir(self, trial: Any) -> str:
        """Where transformers writes a checkpoint: a folder with a temporary name."""
        return str(staging_folder(Path(str(self.args.output_dir)), self.state.global_step))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """A checkpoint gets its name when all processes have written their part of it, and older ones go after that."""
        folder = Path(str(self.args.output_dir))
        staging = Path(self._get_output_dir(trial))
        name = staging.stem
        with saving(folder / name):
            try:
                super()._save_checkpoint(model, trial)
                sums = self._sums_over_processes()
                if self.is_world_process_zero():
                    self._window.save(staging / name, sums)
                if self.average is not None:
                    self.average.save(staging / name)
                self.accelerator.wait_for_everyone()
                if self.is_world_process_zero():
                    publish(staging / name, folder / name)
                    staging.rmdir()
                    keep_newest(folder, KEPT, also=self.early_stop.best_step if self.early_stop else None)
            except BaseException:
                if self.is_world_process_zero():
                    shutil.rmtree(staging, ignore_errors=True)
                raise
            self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """A checkpoint to resume from, under the names that the modules have.

        transformers would write those of a family's first release, which its own resuming does not find again: it would
        go on, with a warning, from the weights that the run began with.
        """
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            model: Any = self.accelerator.unwrap_model(self.model)
            model.save_pretrained(folder, state_dict=state_dict, save_original_format=False)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and is_deepspeed_zero3_enabled():
            engine: Any = self.model_wrapped
            assert self.lr_scheduler is not None
            mend_universal(
                engine.optimizer.optimizer, self._groups, [float(rate) for rate in self.lr_scheduler.get_last_lr()]
            )

    def resume(self, checkpoint: Path) -> None:
        """`train`, from a checkpoint on."""
        if self.is_world_process_zero():
            self._window.restore(checkpoint, self.args.device)
        if self.average is not None:
            self.average.resume(checkpoint)
        self.train(resume_from_checkpoint=str(checkpoint))

    def finish(self) -> None:
        """Give the model the weights that the stage ends with: the best ones, or their average."""
        if self.early_stop is not None and self.early_stop.best is not None:
            stop, best = self.early_stop, of_step(Path(str(self.args.output_dir)), self.early_stop.best_step)
            self.state.best_model_checkpoint = str(best)
            self._load_best_model()
            if self.average is not None:
                self.average.load(best)
            log.info(
                "stage %s: of %d steps the best is %d, with %s %.6g",
                self.stage.name, self.state.global_step, stop.best_step, stop.config.metric, stop.best,
            )  # fmt: skip
        if self.average is not None:
            self.average.put_in()

    def unwrap(self) -> None:
        """Take off the model what accelerate has put around its forward (autocast), and its mark that it has done so.

        With the mark left on, the trainer of a later stage would not put autocast on again; with autocast left on,
        bfloat16 would blur the comparison of logits when adapters are merged.
        """
        plain = self.accelerator.unwrap_model(self.model_wrapped)
        for name in ("forward", "_original_forward"):
            vars(plain).pop(name, None)
        plain._is_accelerate_prepared = False

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
