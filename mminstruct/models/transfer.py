"""Tensors on their way to a GPU, without waiting for it.

Starting kernels is the CPU's work, and it has to be ahead of the GPU or the GPU stands still. Each number that is read
back from the GPU, and each copy from memory that may be swapped out, makes the CPU wait until all that it has started
is done. So what says how a step is computed (labels, the table of segments, the sizes of media) stays with the CPU, and
what the GPU needs of it goes there from pinned memory, which is a copy that nobody waits for.
"""

from __future__ import annotations

import torch


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; the CPU goes on before the copy is done."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
