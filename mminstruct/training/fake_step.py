"""The memory that one micro-batch needs beside weights, counted by running it on tensors that have no numbers.

    model on the meta device ─fake─▶ the same modules, every weight a FakeTensor of the CPU
    micro-batch (its ids are real) ─objective, backward─▶ bytes alive after each operator ─▶ Peak

torch's own fake tensors stand for their memory and take none, so a model of any size is run within seconds: through
autograd, autocast, activation checkpointing and the attention that a CPU would choose. What is counted is what exists
between two operators; scratch memory inside of one is not seen.

torch has a counter of its own, `torch.distributed._tools.mem_tracker.MemTracker`. It gives the peak of a model that is
whole on each process; ZeRO divides gradients and not activations, so here both are followed one beside the other.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from mminstruct.training.objectives import Objective


@dataclass(frozen=True)
class Peak:
    """Bytes of a micro-batch beside the weights.

    Attributes:
        activations: the most that is alive at once, gradients of weights left out.
        with_gradients: the most that is alive at once with those that there are by then; a micro-batch that finds no
            gradients of an earlier one.
    """

    activations: int
    with_gradients: int


def without_numbers(model: PreTrainedModel) -> None:
    """Turn a model on the meta device into one of fake tensors on the CPU, in place; flags and ties stay."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        known: dict[int, Any] = {}

        def fake(tensor: torch.Tensor) -> torch.Tensor:
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")

        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None and not isinstance(parameter, FakeTensor):
                    if id(parameter) not in known:
                        made = nn.Parameter(fake(parameter), requires_grad=parameter.requires_grad)
                        known[id(parameter)] = (made, parameter)  # the old one too: its id must stay its own
                    module._parameters[name] = known[id(parameter)][0]
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.device.type == "meta":
                    module._buffers[name] = fake(buffer)
    assert mode is not None


def peak_memory(
    model: PreTrainedModel, objective: Objective, batch: dict[str, torch.Tensor], autocast: bool
) -> Peak:
    """Run a micro-batch forward and backward on a model of `without_numbers`.

    Args:
        batch: what the trainer would give the model, real tensors.
        autocast: compute in bfloat16 where torch does.
    """
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    counter = _Counter(own=[*model.parameters(), *model.buffers()], given=tree_leaves(batch))
    handles = [one.register_post_accumulate_grad_hook(counter.is_gradient) for one in learning]
    forward = model.forward
    if autocast:  # as accelerate does it
        wrapped = torch.autocast("cpu", torch.bfloat16)(forward)
        model.forward = convert_outputs_to_fp32(wrapped)  # type: ignore[method-assign]
    batch = {name: value for name, value in batch.items() if name != "conversations"}
    try:
        with counter:
            objective(model, batch).loss_sum.backward()
    finally:
        model.forward = forward  # type: ignore[method-assign]
        for handle in handles:
            handle.remove()
        model.zero_grad()
    return Peak(counter.most, counter.most_with_gradients)


class _Counter(TorchDispatchMode):
    """Follows every storage that an operator makes, from its birth to its end.

    Args:
        own: the model's tensors, which do not count.
        given: the micro-batch, which counts.
    """

    def __init__(self, own: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.alive = self.gradients = self.most = self.most_with_gradients = 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, bool] = weakref.WeakKeyDictionary()
        self._known.update({tensor.untyped_storage(): False for tensor in own})
        for tensor in given:
            self._born(tensor)

    def _born(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            size = storage.nbytes()
            self._known[storage] = False
            self.alive += size
            weakref.finalize(storage, self._gone, size)
            self.most = max(self.most, self.alive - self.gradients)
            self.most_with_gradients = max(self.most_with_gradients, self.alive)

    def _gone(self, size: int) -> None:
        self.alive -= size

    def is_gradient(self, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        storage = parameter.grad.untyped_storage()
        if not self._known.get(storage, False):
            self._known[storage] = True
            self.gradients += storage.nbytes()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.index.Tensor:  # how many a mask chooses can be asked of a real one
            args = (args[0], _chosen(args[1]))
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._born(leaf)
        return out


def _chosen(indices: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """Indices with masks of bool as the places that they choose."""
    found: list[torch.Tensor | None] = []
    for one in indices:
        found += one.nonzero().unbind(1) if one is not None and one.dtype == torch.bool else [one]
    return found
