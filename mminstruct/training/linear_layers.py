"""Linear layers with less around their products, while a stage trains: LoRA as one operation, one cast for all readers.

    peft:  y = W x;  z = B (A cast(x)) * scale;  y + z      and backwards the same pieces, added up one by one
    here:  y = W x;  y += scale B (A x)                     and backwards  dx = W' dy;  dx += scale A' (B' dy)

The sums are made by the products themselves (`addmm`), where peft and autograd write each summand to memory and read
it again, so nothing of the width of `x` or `y` is written but `y` and `dx`. What is computed is the same; in bfloat16
`y` is rounded twice where peft rounds four times.

Autocast casts what goes into each layer. Layers that read one tensor (queries, keys and values) get one cast of it
here, which is also the one that is kept for the backward pass; what comes back to it is added up in half precision.
Weights that learn it casts anew in each micro-batch. Here a cast lives until the optimiser's step, where it saves time
for one: all micro-batches of a step compute with the same weights.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers.integrations import is_deepspeed_zero3_enabled


@contextlib.contextmanager
def lean_linear_layers(model: nn.Module, keep: bool = False) -> Iterator[None]:
    """Within, the model's linear layers compute as the module says, with LoRA beside them or without.

    DoRA, dropout, 4-bit weights and layers with several adapters stay as they are, and under ZeRO-3 all LoRA, because
    DeepSpeed brings weights together when their own modules are called.

    Args:
        keep: casts of weights, until any optimiser of torch makes its next step. Where a step is one micro-batch it
            would save nothing, and keep them in memory until the last gradient is there.
    """
    casts = _Casts(keep)
    fusible = not is_deepspeed_zero3_enabled()
    lora = [module for module in model.modules() if fusible and _plain(module)]
    fused = {id(part) for layer in lora for part in layer.modules()}
    plain = [module for module in model.modules() if type(module) is nn.Linear and id(module) not in fused]
    for layer in lora:
        layer.forward = _WithLowRank(layer, casts)  # type: ignore[method-assign]
    for linear in plain:
        linear.forward = functools.partial(_linear, linear, casts)  # type: ignore[method-assign]
    # Fused AdamW changes weights without a sign of it on them.
    before_a_step = register_optimizer_step_pre_hook(lambda *_: casts.forget())
    try:
        yield
    finally:
        before_a_step.remove()
        for changed in (*lora, *plain):
            del changed.forward


def _plain(module: nn.Module) -> bool:
    """Whether a layer is W and one A and B, and nothing else."""
    return (
        type(module) is LoraLinear
        and type(module.base_layer) is nn.Linear
        and not module.base_layer.weight.requires_grad
        and len(module.lora_A) == 1
        and not module.lora_variant
        and not any(module.lora_bias.values())
        and all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values())
    )


class _Casts:
    """What layers compute with in autocast's precision: the last states that were cast, and weights that learn.

    A cast that was made without a graph is of no use within one. Weights are kept in training only: what is computed
    without gradients may be of other weights, such as their average.
    """

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        # By the weight and whether the cast has a graph; with the version that was cast.
        self._weights: dict[tuple[torch.Tensor, bool], tuple[int, torch.Tensor]] = {}
        self._of: Callable[[], torch.Tensor | None] = lambda: None
        self._key: tuple[Any, ...] = ()
        self._states: torch.Tensor | None = None

    def states(self, states: torch.Tensor) -> torch.Tensor:
        dtype = _cast_to(states)
        if dtype is None:
            return states
        key = (dtype, torch.is_grad_enabled(), states._version)
        if self._of() is not states or self._key != key or self._states is None:
            self._of, self._key, self._states = weakref.ref(states), key, states.to(dtype)
        return self._states

    def weight(self, weight: torch.Tensor, graph: bool = True) -> torch.Tensor:
        """The weight itself where autocast would cast it just as well.

        Args:
            graph: whether gradients go through the cast.
        """
        dtype = _cast_to(weight)
        if dtype is None or not (self._keep and weight.requires_grad and torch.is_grad_enabled()):
            return weight
        version, made = self._weights.get((weight, graph), (-1, weight))
        if version != weight._version:
            made = (weight if graph else weight.detach()).to(dtype)
            self._weights[weight, graph] = weight._version, made
        return made

    def forget(self) -> None:
        """Weights are about to change."""
        self._weights.clear()
        self._states = None


def _cast_to(tensor: torch.Tensor) -> torch.dtype | None:
    """The precision that autocast would cast a factor of a product to; None where it would not."""
    device = tensor.device.type
    if tensor.dtype != torch.float32 or device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def _linear(module: nn.Linear, casts: _Casts, states: torch.Tensor) -> torch.Tensor:
    return functional.linear(casts.states(states), casts.weight(module.weight), module.bias)


class _WithLowRank:
    """The `forward` of one of peft's layers; what it needs is looked up once, because 224 layers do it at each step."""

    def __init__(self, layer: Any, casts: _Casts) -> None:
        ((name, self.down),) = layer.lora_A.items()
        self.layer, self.peft_forward, self.casts = layer, layer.forward, casts
        self.base, self.up, self.scale = layer.base_layer, layer.lora_B[name], layer.scaling[name]

    def __call__(self, states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if self.layer.disable_adapters or self.layer.merged or kwargs:
            return self.peft_forward(states, **kwargs)  # type: ignore[no-any-return]
        base, casts = self.base, self.casts
        down, up = self.down.weight, self.up.weight
        cast = casts.weight(down, graph=False), casts.weight(up, graph=False)
        states = casts.states(states)
        return _LowRank.apply(states, base.weight, base.bias, down, up, cast, self.scale)  # type: ignore[no-any-return]


class _LowRank(torch.autograd.Function):
    """`x [..., in] -> W x + b + scale B A x [..., out]`, for a frozen `W [out, in]` and `b`."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        cast: tuple[torch.Tensor, torch.Tensor],
        scale: float,
    ) -> torch.Tensor:
        shape, states = states.shape, states.reshape(-1, states.shape[-1])
        weight, down, up = (one.to(states.dtype) for one in (weight, *cast))
        low = states.mm(down.t())
        output = functional.linear(states, weight, None if bias is None else bias.to(states.dtype))
        low.requires_grad_()  # a gradient goes through it, and `ModelFlops` counts by that
        torch.addmm(output, low, up.t(), alpha=scale, out=output)
        ctx.save_for_backward(states, weight, down, up, low)
        ctx.shape, ctx.scale = shape, scale
        return output.view(*shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, down, up, low = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        to_low = gradient.mm(up)
        to_states = None
        if ctx.needs_input_grad[0]:
            to_states = gradient.mm(weight)
            torch.addmm(to_states, to_low, down, alpha=ctx.scale, out=to_states)
            to_states = to_states.view(ctx.shape)
        nothing = states.new_empty(1)  # what is added with beta = 0 is not looked at
        to_down = torch.addmm(nothing, to_low.t(), states, beta=0, alpha=ctx.scale)
        to_up = torch.addmm(nothing, gradient.t(), low, beta=0, alpha=ctx.scale)
        return to_states, None, None, to_down, to_up, None, None
