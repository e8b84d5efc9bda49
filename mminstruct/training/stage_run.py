"""One stage of a run: its steps, or those that are missing, and the model that it ends with."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel, TrainingArguments

from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import Interrupted
from mminstruct.models import checkpoint
from mminstruct.models.adapters import folder as adapter_folder
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.training.as_trained import as_trained
from mminstruct.training.batching import batching
from mminstruct.training.callbacks import GiveBackMemory, MetricsLog, ProgressBar, StopWhenAsked
from mminstruct.training.checkpointing import checkpoints, saving, steps_done
from mminstruct.training.config import Recipe, StageConfig
from mminstruct.training.early_stop import EarlyStop
from mminstruct.training.ema import WeightAverage
from mminstruct.training.frozen_weights import frozen_in_bfloat16, keeps_half
from mminstruct.training.guard import StepGuard
from mminstruct.training.preparing import Prepared
from mminstruct.training.resume import fit_to_processes
from mminstruct.training.stopping import stop_requests
from mminstruct.training.trackers import PROJECT, finish_trackers, tracker_callbacks
from mminstruct.training.trainer import VisionLanguageTrainer
from mminstruct.training.validation import ValidateEvery, Validation
from mminstruct.training.zero import compile_nothing, deepspeed_config, release
from mminstruct.training.zero_watch import ZeroAverage

log = logging.getLogger(__name__)

BAD_BATCH = "bad_batch.json"
_SKIPPED_STEPS = "skipped_steps.jsonl"


@dataclass(frozen=True)
class StageRun:
    """A stage with all that it needs.

    Attributes:
        settings: the stage in transformers' words.
        prepared: the objective, the adapters, what trains.
        folder: for its checkpoints.
        finished: the folder for its model.
        out: the run's folder.
    """

    recipe: Recipe
    stage: StageConfig
    settings: TrainingArguments
    model: PreTrainedModel
    processor: BaseProcessor
    dataset: ConversationDataset
    prepared: Prepared
    validation: Validation | None
    folder: Path
    finished: Path
    out: Path

    def run(self) -> None:
        """Train the stage and write its model. Raises `Interrupted` where a signal asked it to stop."""
        halved = keeps_half(self.stage.adapters, self.settings.bf16) and self.settings.deepspeed is None
        with frozen_in_bfloat16(self.model) if halved else contextlib.nullcontext():
            trainer = self._train()
        trainer.unwrap()
        if self.prepared.description is not None:
            if trainer.is_world_process_zero():
                place = self.finished.with_name("adapter")
                shutil.rmtree(place, ignore_errors=True)  # of a run that was stopped before its model was whole
                with saving(place):
                    adapter_folder.save(place, self.model, self.prepared.adapters, self.prepared.description)
            difference = adapter_folder.merge(self.model, self.prepared.adapters, self.processor)
            if self.prepared.adapters:
                log.info(
                    "stage %s: adapters merged, the logits differ by %.1e of the largest", self.stage.name, difference
                )
            state_dict = None
        else:
            state_dict = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            with saving(self.finished):
                checkpoint.save(self.finished, self.model, self.processor, state_dict)
        trainer.accelerator.wait_for_everyone()
        release(trainer)
        AcceleratorState._reset_state()  # or accelerate refuses the next stage's DeepSpeed config

    def _train(self) -> VisionLanguageTrainer:
        """All steps, or those that are missing."""
        stage, settings, model, out = self.stage, self.settings, self.model, self.out
        arranged = batching(stage, model, self.dataset, settings.seed, settings.world_size)
        settings.max_steps = arranged.plan.steps
        found = checkpoints(self.folder)
        if found:
            fit_to_processes(found[-1], settings)
        averaging = WeightAverage if settings.deepspeed is None else ZeroAverage
        trackers = self.recipe.trackers if settings.process_index == 0 else []
        with stop_requests() as stop:
            trainer = VisionLanguageTrainer(
                model=model,
                args=settings,
                objective=self.prepared.objective,
                stage=stage,
                batching=arranged,
                stop=stop,
                bad_batch=out / BAD_BATCH,
                adapters=self.prepared.adapters,
                validation=self.validation,
                guard=None if stage.guard is None else StepGuard(stage.guard, out / _SKIPPED_STEPS, stage.name),
                average=None if stage.ema is None else averaging(model, stage.ema),
                early_stop=None if stage.stop is None else EarlyStop(stage.stop),
                callbacks=[MetricsLog(out / "metrics.jsonl", stage.name, arranged.plan)],
            )
            if self.validation is not None:
                trainer.add_callback(ValidateEvery(self.validation.every))
            if settings.device.type == "cpu":
                trainer.add_callback(GiveBackMemory)
            trainer.add_callback(StopWhenAsked(lambda: trainer.stopping))
            for callback in tracker_callbacks(trackers, out, stage.name, steps_done(found[-1]) if found else 0):
                trainer.add_callback(callback)
            # transformers adds one that prints every log entry to stdout; the bar and metrics.jsonl say it better.
            trainer.remove_callback(transformers.PrinterCallback)
            if sys.stderr.isatty():
                trainer.add_callback(ProgressBar(stage.name))
            with as_trained(stage, model, self.recipe.kernels):
                if found:
                    trainer.resume(found[-1])
                else:
                    trainer.train()
        finish_trackers(trackers)
        if trainer.stopping:
            raise Interrupted(
                f"stage {stage.name!r} is saved after step {trainer.state.global_step} of {arranged.plan.steps}; go on "
                f"with --resume, the same recipe and --out {out}",
                stop.received or signal.SIGTERM,  # another process was asked
            )
        trainer.finish()
        return trainer


def training_arguments(recipe: Recipe, stage: StageConfig, folder: Path) -> TrainingArguments:
    """The stage in transformers' words."""
    on_cpu = not torch.cuda.is_available()
    if recipe.deepspeed is not None and on_cpu:
        compile_nothing()
    return TrainingArguments(
        output_dir=str(folder),
        run_name=f"{folder.parents[1].name}-{stage.name}",
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.accumulate,
        learning_rate=stage.highest_rate,
        lr_scheduler_type="cosine",
        warmup_steps=stage.warmup,
        weight_decay=stage.weight_decay,
        max_grad_norm=stage.max_grad_norm,
        bf16=recipe.precision == "bf16",
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_steps=recipe.log_every,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=recipe.save_every,
        logging_nan_inf_filter=False,  # the trainer stops at such a loss
        dataloader_num_workers=recipe.workers,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        report_to=[],
        project=PROJECT,
        disable_tqdm=True,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        ddp_find_unused_parameters=False,
        deepspeed=deepspeed_config(recipe.deepspeed) if recipe.deepspeed else None,
    )
