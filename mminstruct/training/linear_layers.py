"""Linear layers with less around their products, while a stage trains: LoRA as one operation, one cast for all readers.

    peft:  y = W x;  z = B (A cast(x)) * scale;  y + z      and backwards the same pieces, added up one by one
    here:  y = W x;  y += B (scale A x)                     and backwards  dx = W' dy;  dx += A' (scale B' dy)

The sums are made by the products themselves (`addmm`), where peft and autograd write each summand to memory and read
it again, so nothing of the width of `x` or `y` is written but `y` and `dx`. What is computed is the same; in bfloat16
`y` is rounded twice where peft rounds four times.

Autocast casts what goes into each layer. Layers that read one tensor (queries, keys and values) get one cast of it
here, which is also the one that is kept for the backward pass; what comes back to it is added up in half precision.
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
from transformers.integrations import is_deepspeed_zero3_enabled


@contextlib.contextmanager
def lean_linear_layers(model: nn.Module) -> Iterator[None]:
    """Within, the model's linear layers compute as the module says, with LoRA beside them or without.

    DoRA, dropout, 4-bit weights and layers with several adapters stay as they are, and under ZeRO-3 all LoRA, because
    DeepSpeed brings weights together when their own modules are called.
    """
    once = _CastOnce()
    fusible = not is_deepspeed_zero3_enabled()
    lora = [module for module in model.modules() if fusible and _plain(module)]
    fused = {id(part) for layer in lora for part in layer.modules()}
    plain = [module for module in model.modules() if type(module) is nn.Linear and id(module) not in fused]
    for layer in lora:
        layer.forward = _WithLowRank(layer, once)  # type: ignore[method-assign]
    for linear in plain:
        linear.forward = functools.partial(_linear, linear, once)  # type: ignore[method-assign]
    try:
        yield
    finally:
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


class _CastOnce:
    """The last tensor that was cast, so that its next reader need not."""

    def __init__(self) -> None:
        self._of: Callable[[], torch.Tensor | None] = lambda: None
        self._key: tuple[Any, ...] = ()
        self._made: torch.Tensor | None = None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """What a layer computes with: `states`, in autocast's precision where autocast would cast it."""
        device = states.device.type
        if states.dtype != torch.float32 or device == "meta" or not torch.is_autocast_enabled(device):
            return states
        dtype = torch.get_autocast_dtype(device)
        # A cast that was made without a graph is of no use within one.
        key = (dtype, torch.is_grad_enabled(), states._version)
        if self._of() is not states or self._key != key or self._made is None:
            self._of, self._key, self._made = weakref.ref(states), key, states.to(dtype)
        return self._made


def _linear(module: nn.Linear, once: _CastOnce, states: torch.Tensor) -> torch.Tensor:
    return functional.linear(once(states), module.weight, module.bias)


class _WithLowRank:
    """The `forward` of one of peft's layers; what it needs is looked up once, because 224 layers do it at each step."""

    def __init__(self, layer: Any, once: _CastOnce) -> None:
        ((name, self.down),) = layer.lora_A.items()
        self.layer, self.peft_forward, self.once = layer, layer.forward, once
        self.base, self.up, self.scale = layer.base_layer, layer.lora_B[name], layer.scaling[name]

    def __call__(self, states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if self.layer.disable_adapters or self.layer.merged or kwargs:
            return self.peft_forward(states, **kwargs)  # type: ignore[no-any-return]
        base, down, up = self.base, self.down.weight, self.up.weight
        return _LowRank.apply(self.once(states), base.weight, base.bias, down, up, self.scale)  # type: ignore[no-any-return]


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
        scale: float,
    ) -> torch.Tensor:
        shape, states = states.shape, states.reshape(-1, states.shape[-1])
        weight, down, up = (one.to(states.dtype) for one in (weight, down, up))
        low = states.mm(down.t()).mul_(scale)
        output = functional.linear(states, weight, None if bias is None else bias.to(states.dtype))
        low.requires_grad_()  # a gradient goes through it, and `ModelFlops` counts by that
        torch.addmm(output, low, up.t(), out=output)
        ctx.save_for_backward(states, weight, down, up, low)
        ctx.shape, ctx.scale = shape, scale
        return output.view(*shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, down, up, low = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        to_low = gradient.mm(up).mul_(ctx.scale)
        to_states = None
        if ctx.needs_input_grad[0]:
            to_states = gradient.mm(weight)
            torch.addmm(to_states, to_low, down, out=to_states)
            to_states = to_states.view(ctx.shape)
        return to_states, None, None, to_low.t().mm(states), gradient.t().mm(low), None
