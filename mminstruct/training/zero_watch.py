"""What watches a stage under ZeRO, where no process has all weights in float32 and DeepSpeed makes the step itself.

    average   each process keeps that of the float32 weights that its share of the optimiser holds
    guard     ZeRO takes the gradient norm, clips, then calls the optimiser for each of its groups: in front of these
              calls a step that is left out loses its gradients, as without DeepSpeed

In a checkpoint the average is whole, under the model's names, so that any number of processes goes on with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled

from mminstruct.training.ema import FILE, WeightAverage


class ZeroAverage(WeightAverage):
    """The average under ZeRO; what it does is done by all processes together."""

    def __init__(self, model: PreTrainedModel, decay: float) -> None:
        super().__init__(model, decay)
        self._divided = is_deepspeed_zero3_enabled()

    def _averaged(self, optimizer: Any) -> list[torch.Tensor]:
        zero = optimizer.optimizer  # DeepSpeed's, within accelerate's
        shares: list[torch.Tensor] = (
            zero.fp32_partitioned_groups_flat if self._divided else zero.single_partition_of_fp32_groups
        )
        return shares

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        whole = {}
        with self._exchanged():
            for name, weight in self.learning.items():
                value = self._whole(weight)
                if self.first:
                    whole[name] = value.detach().cpu().clone()
        if self.first:
            save_file(whole, folder / FILE)

    def load(self, folder: Path) -> None:
        """Take the average of a checkpoint."""
        found = load_file(folder / FILE)
        with self._exchanged():
            for name, weight in self.learning.items():
                self._give(weight, found[name])

    def put_in(self) -> None:
        """Give the model and the optimiser the average."""
        self._exchange()
        self._show()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average inside the block, and its own weights again behind it."""
        self.put_in()
        try:
            yield
        finally:
            self._exchange()
            self._show()

    # ---- the optimiser's weights and the average, each in the other's place -----------------------------------------

    @torch.no_grad()
    def _exchange(self) -> None:
        for weight, value in zip(self._weights, self._average.module.parameters(), strict=True):
            own = weight.detach().clone()
            weight.copy_(value)
            value.copy_(own)

    @contextlib.contextmanager
    def _exchanged(self) -> Iterator[None]:
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _show(self) -> None:
        """Give the model what the optimiser holds, which DeepSpeed does at the end of a step alone."""
        from deepspeed.runtime.zero import GatheredParameters

        for weight in self.learning.values():
            value = self._whole(weight)
            with GatheredParameters([weight], modifier_rank=0, enabled=self._divided):
                weight.copy_(value)

    @staticmethod
    def _whole(weight: torch.Tensor) -> torch.Tensor:
        """What the optimiser holds of a parameter, on all processes."""
        from deepspeed.utils import safe_get_full_fp32_param

        value: torch.Tensor = safe_get_full_fp32_param(weight)
        return value

    def _give(self, weight: torch.Tensor, value: torch.Tensor) -> None:
        """Let the optimiser hold `value` of a parameter."""
        from deepspeed.utils import safe_get_local_fp32_param, safe_set_full_fp32_param, safe_set_local_fp32_param

        if not self._divided:
            safe_set_full_fp32_param(weight, value.to(weight.device))
            return
        # DeepSpeed 0.19 sets whole parameters under ZeRO-3 only where the shares come out even.
        size = safe_get_local_fp32_param(weight).numel()
        filled = functional.pad(value.flatten(), (0, size * self.processes - value.numel()))
        safe_set_local_fp32_param(weight, filled.split(size)[self.process].to(weight.device))


class ZeroStep:
    """Lets `left_out` decide, behind the clipping, whether a step under ZeRO is made.

    Args:
        optimizer: the one that DeepSpeed is given.
        left_out: asked for each of the optimiser's groups.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, left_out: Callable[[], bool]) -> None:
        self._left_out = left_out
        self._hidden: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._behind)

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._left_out():
            members = [p for group in optimizer.param_groups for p in group["params"]]
            self._hidden = [(p, p.grad) for p in members]
            for p in members:
                p.grad = None

    def _behind(self, *_: Any) -> None:
        """With offload a gradient is the place that the next one is written to."""
        for p, gradient in self._hidden:
            p.grad = gradient
        self._hidden = []
