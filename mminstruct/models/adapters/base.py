"""The contract of an adapter: something small beside the frozen weights of one part that learns, and can be merged.

Attaching changes the model in place; afterwards its forward computes with the adapter. `merge` writes the adapter into
the weights and leaves a plain model behind; `unload` leaves the plain model as it was, bit for bit.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path

from torch import nn

from mminstruct.models.adapters.config import LoraConfig, MaskConfig


class Adapter(ABC):
    """
    Attributes:
        config: its settings.
        names: of the modules or weights that carry it, in the part.
    """

    config: LoraConfig | MaskConfig
    names: list[str]

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """What learns."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was learnt into a folder that exists."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take what `save` wrote. Raises `CheckpointError` where it is missing or does not fit."""

    @abstractmethod
    def merge(self) -> None:
        """Write the adapter into the weights and take it off."""

    @abstractmethod
    def unload(self) -> None:
        """Take the adapter off; the weights are what they were."""

    @abstractmethod
    def off(self) -> contextlib.AbstractContextManager[None]:
        """Within the block the model computes as it would without the adapter."""

    @abstractmethod
    def compute_exactly(self) -> None:
        """From now on compute in float32 what was computed in less, so that a merge can be compared."""


def parameter_order(part: nn.Module) -> dict[nn.Module, list[str]]:
    """Each module's own parameters in their order, for `restore_order`."""
    return {module: [name for name, _ in module.named_parameters(recurse=False)] for module in part.modules()}


def restore_order(order: dict[nn.Module, list[str]]) -> None:
    """Give modules their parameters' old order back: what takes a weight off and puts it on again leaves it last.

    An optimiser's saved state goes by that order, and a resumed run reads the model from disk.
    """
    for module, names in order.items():
        if [name for name, _ in module.named_parameters(recurse=False)] != names:
            for name in names:
                parameter = getattr(module, name)
                delattr(module, name)
                module.register_parameter(name, parameter)
