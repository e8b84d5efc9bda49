"""How a model computes while a stage trains it, and no longer: rows, what is not computed, what is computed twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from transformers import PreTrainedModel

from mminstruct.models.last_layer import last_layer_where_read
from mminstruct.models.packing import hindrance, packed
from mminstruct.training.activation_checkpointing import activation_checkpointing
from mminstruct.training.config import Kernels, StageConfig
from mminstruct.training.kernels import liger
from mminstruct.training.linear_layers import lean_linear_layers


@contextlib.contextmanager
def as_trained(stage: StageConfig, model: PreTrainedModel, kernels: Kernels = "torch") -> Iterator[None]:
    """Within, a model takes the rows of a stage, computes with the kernels, and keeps for gradients what it says."""
    with (
        liger(model) if kernels == "liger" else contextlib.nullcontext(),
        packed(model) if hindrance(model) is None else contextlib.nullcontext(),
        last_layer_where_read(model),
        lean_linear_layers(model, keep=stage.accumulate > 1),
        activation_checkpointing(model, stage.activation_checkpointing),
    ):
        yield
