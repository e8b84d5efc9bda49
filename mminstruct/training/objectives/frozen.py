"""A second model beside the one that learns: a preference's reference, a teacher. It is never saved."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.initialization import no_init_weights
from transformers.integrations import is_deepspeed_zero3_enabled

from mminstruct.errors import ConfigError
from mminstruct.models import checkpoint
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.packing import hindrance, packed

# What of a processor's config may differ between models that are given the same batch.
_MAY_DIFFER = {"version", "chat_template", "origins"}


class FrozenModel:
    """A whole model on this process's device, called like the one that learns and in the same precision."""

    def __init__(self, model: PreTrainedModel, settings: TrainingArguments) -> None:
        self.model = model.requires_grad_(False).eval().to(settings.device)  # type: ignore[arg-type]
        self._bf16 = settings.bf16
        self._packs = hindrance(model) is None

    @classmethod
    def copy_of(cls, model: PreTrainedModel, settings: TrainingArguments) -> FrozenModel:
        """The model as it is now. Built anew, since hooks of a deep copy would lead back to the original's layers."""
        _require_whole_models()
        with no_init_weights():
            copied = type(model)(copy.deepcopy(model.config))
        copied.to(dtype=model.dtype).load_state_dict(model.state_dict())  # type: ignore[call-arg]
        return cls(copied, settings)

    @classmethod
    def read(cls, folder: str, processor: BaseProcessor, settings: TrainingArguments, where: str) -> FrozenModel:
        """The model of a checkpoint folder.

        Args:
            processor: of the model that learns; the frozen one is given the batches that it makes.
            where: the recipe's key, for errors.

        Raises:
            ConfigError: its processor makes other token ids or other pictures.
            CheckpointError: the folder holds no whole checkpoint.
        """
        _require_whole_models()
        model, own = checkpoint.load(Path(folder), dtype=torch.float32)
        if own.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
            raise ConfigError(f"{where}: the model in {folder} has another tokenizer; give one with the same token ids")
        ours, theirs = (_prepares(one) for one in (processor, own))
        if ours != theirs:
            differing = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
            raise ConfigError(
                f"{where}: the model in {folder} wants its pictures prepared otherwise ({', '.join(differing)}); "
                "give one that takes the same inputs"
            )
        return cls(model, settings)

    def __call__(self, **inputs: torch.Tensor) -> Any:
        device = next(self.model.parameters()).device
        rows = packed(self.model) if self._packs else contextlib.nullcontext()
        with torch.no_grad(), rows, torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._bf16):
            return self.model(**inputs)


def _prepares(processor: BaseProcessor) -> dict[str, object]:
    config: Any = processor.config
    return {"kind": type(config).__name__} | {
        name: getattr(config, name) for name in type(config).model_fields if name not in _MAY_DIFFER
    }


def _require_whole_models() -> None:
    """Raises `ConfigError` under ZeRO-3, where each process would have but a share of a model that is made."""
    if is_deepspeed_zero3_enabled():
        raise ConfigError("under ZeRO-3 no process holds a model whole, not even a frozen one; use deepspeed=zero2")
