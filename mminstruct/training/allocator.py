"""The memory of tensors on a CPU: kept by the process between steps, instead of given back and fetched anew; what was
needed before the first step is given back.

glibc gives each large tensor pages of its own and returns them when it is freed, so that every step touches tens of
thousands of pages for the first time, which the kernel has to clear. What is measured: benchmarks/training-*.md.

The largest blocks keep pages of their own all the same (`LARGE`). In the heap a block that is freed and asked for
again can come to lie elsewhere, and what it has touched stays: DeepSpeed's bucket of half a billion bfloat16 numbers,
of which few are used, left 0.6 GB in a process that needed 1.6 (benchmarks/memory-2026-11-26.md).
"""

from __future__ import annotations

import ctypes
import platform

_GLIBC = platform.libc_ver()[0] == "glibc"
# The parameters of mallopt, glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1  # bytes; mallopt takes an int
LARGE = 2**26  # bytes; above the logits of a micro-batch, below ZeRO's flat groups, gathered weights and buckets


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, up to its own peak, but for the largest blocks.

    Returns:
        Whether its C library can; only glibc does.
    """
    if not _GLIBC:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE) and mallopt(_M_TRIM_THRESHOLD, _LARGEST))


def give_back_freed_memory() -> None:
    """Give back what is free at the moment: before a stage's first step the weights that DeepSpeed has copied, and what
    loading them took. Does nothing where the C library is not glibc."""
    if _GLIBC:
        ctypes.CDLL(None).malloc_trim(0)
