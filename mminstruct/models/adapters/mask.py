"""Binary masks on frozen weights (R-AMT, arXiv 2307.15049; official code: github.com/wuw2019/R-AMT).

    mask = 1 where score > threshold, else 0        scores and masks have the shape of their weight
    forward:  W * mask
    backward: d loss / d score = d loss / d mask = d loss / d (W * mask) * W       (straight through the threshold)

The formulas are those of the official `modules/masklayers.py` (`Binarizer`) and `trainers/masktuning.py`
(`graddrop_backward_and_update`). On disk a mask is a bit for each number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models.adapters.base import Adapter, parameter_order, restore_order
from mminstruct.models.adapters.config import MaskConfig
from mminstruct.models.adapters.targets import maskable_weights
from mminstruct.models.parts import part

WEIGHTS = "masks.safetensors"


class _Binarize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, threshold: float) -> torch.Tensor:
        return (scores > threshold).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return gradient, None


def binarize(scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """1 where a score lies above the threshold, else 0; the gradient passes as if nothing had happened."""
    mask: torch.Tensor = _Binarize.apply(scores, threshold)
    return mask


class _Masked(nn.Module):
    """One weight's mask, as a parametrization of torch: `weight -> weight * mask`."""

    def __init__(self, weight: torch.Tensor, config: MaskConfig) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.full_like(weight, config.start))
        self.threshold = config.threshold
        self.active = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * binarize(self.scores, self.threshold) if self.active else weight


class Mask(Adapter):
    """See the module.

    Args:
        names: of the weights that get a mask; default: all that can have one.

    Raises:
        ConfigError: the part has no such weight.
    """

    config: MaskConfig

    def __init__(self, model: PreTrainedModel, config: MaskConfig, names: Sequence[str] | None = None) -> None:
        known = maskable_weights(model, config.part)
        self.config = config
        self.names = list(known) if names is None else list(names)
        for name in self.names:
            if name not in known:
                raise ConfigError(f"the {config.part} has no weight {name!r} that a mask could go on")
        self._holders = {name: known[name] for name in self.names}
        self._order = parameter_order(part(model, config.part))
        self._masks: dict[str, _Masked] = {}
        for name, (module, attribute) in self._holders.items():
            weight = getattr(module, attribute)
            weight.requires_grad_(False)
            self._masks[name] = _Masked(weight.detach(), config)
            parametrize.register_parametrization(module, attribute, self._masks[name])

    def parameters(self) -> list[nn.Parameter]:
        return [mask.scores for mask in self._masks.values()]

    def masks(self) -> dict[str, torch.Tensor]:
        """Weight's name -> bool of its shape, False where the weight counts as zero."""
        return {name: mask.scores.detach() > mask.threshold for name, mask in self._masks.items()}

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Within the block the model computes with its whole weights."""
        for mask in self._masks.values():
            mask.active = False
        try:
            yield
        finally:
            for mask in self._masks.values():
                mask.active = True

    def save(self, folder: Path) -> None:
        """`masks.safetensors`: for each weight its mask as `uint8 [ceil(numbers / 8)]`, first number in the top bit."""
        save_file({name: pack(mask) for name, mask in self.masks().items()}, folder / WEIGHTS)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        for name, bits in read_packed(folder).items():
            scores = self._masks[name].scores
            kept = unpack(bits, scores.shape, f"{folder / WEIGHTS}: {name!r}")
            scores.copy_(torch.where(kept, self.config.start, 0.0))

    def merge(self) -> None:
        self._take_off(keep_masked=True)

    def unload(self) -> None:
        self._take_off(keep_masked=False)

    def compute_exactly(self) -> None:
        pass  # a mask computes in its weight's own dtype

    def _take_off(self, keep_masked: bool) -> None:
        for module, attribute in self._holders.values():
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=keep_masked)
            getattr(module, attribute).requires_grad_(False)
        restore_order(self._order)


def read_packed(folder: Path) -> dict[str, torch.Tensor]:
    """The packed masks of a folder. Raises `CheckpointError` where they cannot be read."""
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read ({error}); copy the adapter again") from None


def pack(mask: torch.Tensor) -> torch.Tensor:
    """bool of any shape -> `uint8 [ceil(numbers / 8)]`."""
    return torch.from_numpy(numpy.packbits(mask.cpu().numpy().reshape(-1)))


def unpack(bits: torch.Tensor, shape: torch.Size, where: str) -> torch.Tensor:
    """`uint8 [ceil(numbers / 8)]` -> bool of a shape. Raises `CheckpointError`, beginning with `where`."""
    if bits.dtype != torch.uint8 or bits.numel() != -(-shape.numel() // 8):
        raise CheckpointError(f"{where} holds {bits.numel()} x {bits.dtype}, no mask of shape {list(shape)}")
    unpacked = numpy.unpackbits(bits.numpy(), count=shape.numel())
    return torch.from_numpy(unpacked.astype(bool)).reshape(shape)


def most_important(gradients: Mapping[str, torch.Tensor], share: float) -> list[str]:
    """Names of the weights with the largest mean absolute gradient that together hold at most `share` of all numbers.

    The one with the largest is always taken; one that no longer fits is passed over. The order is that of `gradients`.
    """
    ranked = sorted(gradients, key=lambda name: float(gradients[name].abs().mean()), reverse=True)
    left = share * sum(gradient.numel() for gradient in gradients.values())
    chosen: set[str] = set()
    for name in ranked:
        if not chosen or gradients[name].numel() <= left:
            chosen.add(name)
            left -= gradients[name].numel()
    return [name for name in gradients if name in chosen]


def keep_probability(task: torch.Tensor, general: torch.Tensor) -> torch.Tensor:
    """With which probability each number of the task's gradient is kept, 1 where both gradients point the same way.

    `P = 1/2 (1 + sign(a) (a + b) / (|a| + |b|))` for the task's `a` and the general `b`, as the official code has it,
    its 1e-8 in the denominator included.
    """
    return (task.sign() * (task + general) / (task.abs() + general.abs() + 1e-8) + 1) / 2


def drop_gradient(
    task: torch.Tensor, general: torch.Tensor, strength: float, generator: torch.Generator
) -> torch.Tensor:
    """The task's gradient, `1 - strength` of it where a draw falls on dropping: `P > U` keeps, U uniform in [0, 1)."""
    draw = torch.rand(task.shape, generator=generator, device=task.device, dtype=task.dtype)
    kept = (keep_probability(task, general) > draw).to(task.dtype)
    return task * (1 - strength + strength * kept)
