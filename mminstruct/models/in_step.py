"""Processes in step: where weights are shared among them, each has to call the same modules equally often.

DDP waits for a gradient of every parameter, ZeRO-3 for every process at each call of a module that has weights, in
training and in validation alike. So a batch without pictures runs through the modules that pictures need all the same,
on something that counts nothing.
"""

from __future__ import annotations

from torch import nn
from transformers.integrations import is_deepspeed_zero3_enabled


def calls_everything(module: nn.Module) -> bool:
    """Whether a model has to call each of its modules, whatever the batch."""
    return module.training or is_deepspeed_zero3_enabled()
