"""mminstruct: a zoo of visual instruction-tuned models.

    model, processor = mminstruct.load("runs/quickstart/model")   # a checkpoint folder
    model, processor = mminstruct.create("nano")                  # a new model from a zoo row or a row of one's own
    mminstruct.list_models("llava*")

Importing this package loads no torch; the first call does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mminstruct.models.base_processor import BaseProcessor

__version__ = "0.1.0"
__all__ = ["create", "list_models", "load"]


def load(checkpoint: str | Path, **options: Any) -> tuple[PreTrainedModel, BaseProcessor]:
    """The model and processor saved in a checkpoint folder; see `mminstruct.models.checkpoint.load`."""
    from mminstruct.models.checkpoint import load as load_checkpoint

    return load_checkpoint(checkpoint, **options)


def create(row: str | Path | dict[str, Any], **options: Any) -> tuple[PreTrainedModel, BaseProcessor]:
    """A new model and its processor from a zoo row; see `mminstruct.models.factory.create`."""
    from mminstruct.models.factory import create as create_model

    return create_model(row, **options)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the zoo's rows that match a shell pattern."""
    from mminstruct import catalog

    return catalog.names(catalog.MODEL, pattern)
