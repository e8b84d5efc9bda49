"""Memory that tensors give back stays with the process."""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys

import pytest

# One process for all three: what is measured of memory that is given back comes before the one call that keeps it.
MEASURED = """
import json, resource, torch
from pathlib import Path
from mminstruct.training.allocator import keep_freed_memory

def fetched():
    weights = torch.ones(9 * 2**20, requires_grad=True)
    for step in range(7):
        if step == 4:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        values = weights
        for layer in range(4):
            values = values.square()
        values.sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

given_back = fetched()
assert keep_freed_memory()
before, most = resident(), 0
for step in range(9):
    bucket = torch.empty(500_000_000, dtype=torch.bfloat16)
    bucket[: 2**25].zero_()  # 64 MiB of its 954
    most = max(most, resident() - before)
    del bucket
    kept = [torch.zeros(2**18) for _ in range(8)]
left = resident() - before
print(json.dumps({"given back": given_back, "most": most, "left": left, "kept": fetched()}))
"""


only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    return json.loads(subprocess.check_output([sys.executable, "-c", MEASURED], text=True))


@only_glibc
def test_a_steps_pages_are_not_fetched_anew(measured):
    """Three steps, each with four and more new tensors of 36 MiB, larger than any that glibc keeps by itself."""
    assert measured["given back"] > 3 * 4 * 36 * 2**20 / resource.getpagesize()
    assert measured["kept"] < measured["given back"] / 3  # not none: a tensor does not always fit where one was


@only_glibc
def test_a_large_block_of_which_little_is_used_leaves_nothing_behind(measured):
    assert 2**26 <= measured["most"] < 2**26 + 2**25
    assert measured["left"] < 2**25
