"""An exponential moving average of the weights that learn, which becomes the stage's model.

    average_0 = weights at the start;  average_t = decay * average_(t-1) + (1 - decay) * weights_t

after each step that is made, by torch's own `AveragedModel`. A checkpoint keeps it beside the weights that train.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "ema.safetensors"


class WeightAverage(TrainerCallback):
    """See the module. It lives from the stage's first step on, where the weights are on their device.

    Only what learns is copied: a copy of the whole model would hold the frozen parts twice.

    Attributes:
        held: whether the step at hand is left out, so that the average stays what it is.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.held = False
        self._checkpoint: Path | None = None

    def resume(self, checkpoint: Path) -> None:
        """Begin with the average of a checkpoint."""
        self._checkpoint = checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.first, self.process, self.processes = args.process_index == 0, args.process_index, args.world_size
        self._weights = nn.ParameterList(self._averaged(kwargs["optimizer"]))
        self._average = AveragedModel(self._weights, multi_avg_fn=get_ema_multi_avg_fn(self.decay))
        self._average.update_parameters(self._weights)  # the first one counts as the start
        if self._checkpoint is not None:
            self.load(self._checkpoint)

    def _averaged(self, optimizer: Any) -> list[torch.Tensor]:
        """What it is the average of."""
        return list(self.learning.values())

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.held:
            self._average.update_parameters(self._weights)
        self.held = False

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint; called by all processes, of which the first writes."""
        if self.first:
            averaged = zip(self.learning, self._average.module.parameters(), strict=True)
            save_file({name: value.detach().contiguous() for name, value in averaged}, folder / FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Take the average of a checkpoint."""
        found = load_file(folder / FILE)
        for name, value in zip(self.learning, self._average.module.parameters(), strict=True):
            value.copy_(found[name])

    @torch.no_grad()
    def put_in(self) -> None:
        """Give the model the average."""
        for weight, value in zip(self.learning.values(), self._average.module.parameters(), strict=True):
            weight.copy_(value)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average inside the block, and its own weights again behind it."""
        own = [weight.detach().clone() for weight in self.learning.values()]
        self.put_in()
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, value in zip(self.learning.values(), own, strict=True):
                    weight.copy_(value)
