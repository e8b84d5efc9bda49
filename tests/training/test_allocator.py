"""Memory that tensors give back stays with the process."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from mminstruct.training.allocator import keep_freed_memory
{keep}
weights = torch.ones(3 * 2**22, requires_grad=True)
for step in range(9):
    if step == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    values = weights
    for layer in range(4):
        values = values.sin()
    values.sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

BUCKET = """
from pathlib import Path
import torch
from mminstruct.training.allocator import keep_freed_memory

def resident():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

assert keep_freed_memory()
before, most = resident(), 0
for step in range(9):
    bucket = torch.empty(500_000_000, dtype=torch.bfloat16)
    bucket[: 2**25].zero_()  # 64 MiB of its 954
    most = max(most, resident() - before)
    del bucket
    kept = [torch.zeros(2**18) for _ in range(8)]
print(most, resident() - before)
"""


only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")


@only_glibc
def test_a_steps_pages_are_not_fetched_anew():
    """Four steps, each with four and more new tensors of 48 MiB."""
    given_back, kept = (
        int(subprocess.check_output([sys.executable, "-c", STEPS.format(keep=keep)], text=True))
        for keep in ("", "assert keep_freed_memory()")
    )
    assert given_back > 4 * 4 * 48 * 2**20 / resource.getpagesize()
    assert kept < given_back / 3  # not none: an aligned tensor does not always fit where one as large was


@only_glibc
def test_a_large_block_of_which_little_is_used_leaves_nothing_behind():
    most, left = map(int, subprocess.check_output([sys.executable, "-c", BUCKET], text=True).split())
    assert 2**26 <= most < 2**26 + 2**25
    assert left < 2**25
