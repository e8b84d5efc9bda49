"""How hard the machine works: floating-point operations of a model, the most that a device can do, peak memory.

Model FLOPs are what training the model needs, whatever is in fact computed (Chowdhery et al., arXiv 2204.02311,
appendix B): a product of matrices counts once for the forward pass, and once more for each of its two factors that a
gradient is needed of. So a weight that learns counts three times (the usual 6 per parameter and token), one that is
frozen and has gradients flow through it twice, a frozen encoder once; what activation checkpointing repeats does not.
"""

from __future__ import annotations

import functools
import resource
import sys
import time
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn  # noqa: F401 - registers the operation that it is
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

_aten = torch.ops.aten

# Where the two factors stand in an operation's arguments. Any other that is counted is an attention.
_FACTORS = {
    _aten.mm: (0, 1),
    _aten.bmm: (0, 1),
    _aten.addmm: (1, 2),
    _aten.baddbmm: (1, 2),
    _aten.convolution: (0, 1),
}

# Dense bfloat16 operations a second, by torch's name of the device. Source: NVIDIA's data sheets, without sparsity.
_BF16_PEAKS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
}


class ModelFlops(TorchDispatchMode):
    """Counts, while a forward pass runs in it, the model FLOPs of the whole training step; nothing else changes."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation is _aten._scaled_dot_product_flash_attention_for_cpu:  # torch's registry has the GPU's only
            self.total += sdpa_flop_count(*(tensor.shape for tensor in args[:3])) * _passes(args[:3])
        elif operation is torch.ops.torch_attn._varlen_attn:
            query, key, value, bounds, _, *_ = args
            for length in bounds.diff().tolist():
                shapes = (torch.Size((1, one.shape[1], length, one.shape[2])) for one in (query, key, value))
                self.total += sdpa_flop_count(*shapes) * _passes(args[:3])
        elif operation in flop_registry:
            flops = flop_registry[operation](*args, **(kwargs or {}), out_val=out)
            if operation in _FACTORS:
                self.total += flops * (1 + sum(args[place].requires_grad for place in _FACTORS[operation]))
            else:
                self.total += flops * _passes(args[:3])
        return out


def _passes(queries_keys_values: Any) -> int:
    """An attention is two products; with a gradient it has four more."""
    return 3 if any(tensor.requires_grad for tensor in queries_keys_values) else 1


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Floating-point operations that the device can do in a second: a GPU's by its data sheet, None where it is not
    known; a CPU's as a product of matrices reaches it with this process's threads."""
    if device.type == "cuda":
        return _BF16_PEAKS.get(torch.cuda.get_device_name(device)) if dtype == torch.bfloat16 else None
    return _reached(dtype, torch.get_num_threads()) if device.type == "cpu" else None


@functools.cache
def _reached(dtype: torch.dtype, threads: int) -> float:
    """By this CPU, once a process."""
    size = 1024
    a = torch.ones(size, size, dtype=dtype)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that torch has held on the GPU at once, or without one, that this process has held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
