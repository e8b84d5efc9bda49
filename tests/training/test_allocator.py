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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")
def test_a_steps_pages_are_not_fetched_anew():
    """Four steps, each with four and more new tensors of 48 MiB."""
    given_back, kept = (
        int(subprocess.check_output([sys.executable, "-c", STEPS.format(keep=keep)], text=True))
        for keep in ("", "assert keep_freed_memory()")
    )
    assert given_back > 4 * 4 * 48 * 2**20 / resource.getpagesize()
    assert kept < given_back / 3  # not none: an aligned tensor does not always fit where one as large was
