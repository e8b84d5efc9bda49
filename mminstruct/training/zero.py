"""What DeepSpeed is told, and how a model gets through several stages of ZeRO.

The recipe says what a step is; a DeepSpeed config (`train/deepspeed/*.json`) says only how weights, gradients and the
optimiser's state are divided and where they are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

from mminstruct import catalog
from mminstruct.errors import ConfigError
from mminstruct.files import read_json
from mminstruct.models import checkpoint
from mminstruct.models.base_processor import BaseProcessor

# DeepSpeed would build its own in their place, with one rate for all parts and another number of steps.
_THE_RECIPES_OWN = ("optimizer", "scheduler")
# Left out, DeepSpeed refuses to start or, without the last one, does not clip at all.
_OF_THE_RECIPE = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)


def deepspeed_config(name: str) -> dict[str, Any]:
    """The content of a DeepSpeed config of `train/deepspeed`, or of a file.

    Raises:
        ConfigError: it leaves out what the recipe fills in, has what would silently replace the recipe's own, or would
            train under ZeRO-3 a model that nobody could save.
        DataError: the file is not JSON.
    """
    path = catalog.find(catalog.DEEPSPEED, name)
    config = read_json(path)
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no JSON object; start with one of train/deepspeed")
    for key in _THE_RECIPES_OWN:
        if key in config:
            raise ConfigError(
                f"{path}: {key!r} would replace the recipe's, which has a rate for each part; take it out"
            )
    for key in _OF_THE_RECIPE:
        if key not in config:
            raise ConfigError(f'{path} does not say {key!r}; add "{key}": "auto", which is what the recipe says')
    zero = config.get("zero_optimization", {})
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise ConfigError(
            f'{path}: under ZeRO-3 no process could save the model; add "stage3_gather_16bit_weights_on_model_save": '
            "true to zero_optimization"
        )
    return config


def compile_nothing() -> None:
    """Have DeepSpeed start without the C++ of its CPU communication, which it would compile for a minute and more.

    Only its inference calls that, and falls back to torch. The table is DeepSpeed's own, and made to be edited.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def require_agreement(settings: TrainingArguments, recipe_name: str, stage_name: str) -> None:
    """Raises `ConfigError` where numbers in the DeepSpeed config are not the stage's; DeepSpeed would fail later."""
    if settings.deepspeed is not None and settings.hf_deepspeed_config.mismatches:
        # transformers collects "- ds KEY=VALUE vs hf NAME=VALUE".
        pairs = [line.removeprefix("- ds ").partition(" vs hf ") for line in settings.hf_deepspeed_config.mismatches]
        found = ", ".join(f"{theirs} where the recipe gives {ours.rpartition('=')[2]}" for theirs, _, ours in pairs)
        raise ConfigError(
            f"stage {stage_name!r} of {recipe_name} on {settings.world_size} processes: the DeepSpeed config has "
            f'{found}; write "auto" there'
        )


def require_watchable(name: str, who: str) -> None:
    """Raises `ConfigError` where a DeepSpeed config keeps the optimiser's weights where nothing can look at them.

    Args:
        who: what wants to look, as a message begins.
    """
    zero = deepspeed_config(name).get("zero_optimization", {})
    offload = zero.get("offload_optimizer") or {}
    found = None
    if zero.get("stage", 0) == 0:
        found = "no ZeRO stage"
    elif offload.get("device") == "nvme":
        found = "the optimiser on NVMe"
    elif offload.get("ratio", 1.0) != 1.0:
        found = "the optimiser in two places (offload_optimizer.ratio)"
    if found is not None:
        raise ConfigError(
            f"{who}, and the DeepSpeed config {name} has {found}; use one of train/deepspeed, or launch with torchrun "
            "and without deepspeed"
        )


def load_whole(folder: Path, settings: TrainingArguments) -> tuple[PreTrainedModel, BaseProcessor]:
    """A checkpoint with all its weights on each process, whatever ZeRO does with them afterwards."""
    if settings.deepspeed is None:
        return checkpoint.load(folder, dtype=torch.float32)
    unset_hf_deepspeed_config()  # or transformers would divide the weights as it makes the model
    try:
        return checkpoint.load(folder, dtype=torch.float32)
    finally:
        set_hf_deepspeed_config(settings.hf_deepspeed_config)


def release(trainer: Trainer) -> None:
    """Take DeepSpeed's hooks off a model whose stage has ended; under ZeRO-3 its weights stay divided."""
    if trainer.is_deepspeed_enabled:
        engine: Any = trainer.model_wrapped
        engine.destroy()
