"""Modules on the meta device, made without the random numbers that nobody could read there.

torch runs each initialisation of a meta tensor through Python, operator by operator: for a large encoder a second and
more, of which nothing is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# What gives a tensor other numbers, and changes nothing else about it.
_OF_TENSORS = ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "zero_")
_OF_INIT = (
    "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_", "trunc_normal_", "uniform_", "normal_",
    "constant_",
)  # fmt: skip
_NUMBERS_ONLY = frozenset(
    [*(getattr(torch.Tensor, name) for name in _OF_TENSORS), *(getattr(nn.init, name) for name in _OF_INIT)]
)


class _WithoutNumbers(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NUMBERS_ONLY:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.device.type == "meta":
                return tensor
        return func(*args, **kwargs)


@contextlib.contextmanager
def meta() -> Iterator[None]:
    """What is made within is on the meta device, and not initialised."""
    with torch.device("meta"), _WithoutNumbers():
        yield
