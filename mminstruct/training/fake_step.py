"""The memory that one micro-batch needs beside weights, counted by running it on tensors that have no numbers.

    model on the meta device ─fake─▶ the same modules, every weight a FakeTensor of the CPU
    micro-batch (its ids are real) ─objective, backward─▶ bytes alive after each operator ─▶ the most

torch's own fake tensors stand for their memory and take none, so a model of any size is run within seconds: through
autograd, autocast, activation checkpointing and the attention that a CPU would choose. What is counted is what exists
between two operators; scratch memory inside of one is not seen.

torch has a counter of its own, `torch.distributed._tools.mem_tracker.MemTracker`. It gives the peak of weights,
gradients and activations together, of a model that is whole on each process; ZeRO divides all of these but activations,
so here they are counted for themselves.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from mminstruct.training.objectives import Objective


def without_numbers(model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> None:
    """Turn a model on the meta device into one of fake tensors on the CPU, in place; flags and ties stay.

    Args:
        dtype: of the parameters; buffers keep theirs. Another one may be asked for later.
    """
    made: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # by id, with the old one, so that its id stays its own
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, old in module._parameters.items():
                if old is not None:
                    if id(old) not in made:
                        new = torch.empty(old.shape, dtype=dtype, device="cpu")
                        made[id(old)] = nn.Parameter(new, requires_grad=old.requires_grad), old
                    module._parameters[name] = made[id(old)][0]
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.device.type == "meta":
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def activation_bytes(
    model: PreTrainedModel, objective: Objective, batch: dict[str, torch.Tensor], autocast: bool
) -> int:
    """The most that is alive at once of a micro-batch, forward and backward, beside weights and their gradients.

    Args:
        model: made by `without_numbers`.
        batch: what the trainer would give the model, real tensors; they count, too.
        autocast: compute in bfloat16 where torch does.
    """
    model.train()
    counter = _Counter(own=[*model.parameters(), *model.buffers()], given=tree_leaves(batch))
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles = [one.register_post_accumulate_grad_hook(counter.is_gradient) for one in learning]
    forward = model.forward
    if autocast:  # as accelerate does it
        model.forward = convert_outputs_to_fp32(torch.autocast("cpu", torch.bfloat16)(forward))  # type: ignore[method-assign]
    inputs = {name: value for name, value in batch.items() if name != "conversations"}
    try:
        with counter:
            objective(model, inputs).loss_sum.backward()
    finally:
        model.forward = forward  # type: ignore[method-assign]
        for handle in handles:
            handle.remove()
        model.zero_grad()
    return counter.most


class _Counter(TorchDispatchMode):
    """Follows every storage that an operator makes, from its birth to its end.

    Args:
        own: the model's tensors, which do not count.
        given: the micro-batch, which counts.
    """

    def __init__(self, own: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.alive = self.gradients = self.most = 0
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
