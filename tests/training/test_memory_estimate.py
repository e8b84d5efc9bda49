"""How the terms of a process's memory are put together; what they are measured against is benchmarks/memory.py."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mminstruct.training import dry_run
from mminstruct.training.memory_estimate import LIBRARIES, Division, Learning, divided, undivided
from tests.training.conftest import make_recipe

MODEL = Learning(trainable=1000, frozen=0, frozen_bytes=0, buffers=0)


def gradients(stage: int, bucket: int, bfloat16: bool) -> int:
    division = Division(stage, offload_optimizer=False, offload_weights=False, bucket=bucket, gathered=10**9)
    return divided(MODEL, 0, division, bfloat16, processes=2).gradients


@pytest.mark.parametrize(
    "stage, bucket, bfloat16, bytes_",
    [
        (1, 10**6, False, 4 * 1000 + 2 * 4 * 1000),
        (2, 10**6, False, 4 * 500 + 2 * 4 * 1000),
        (2, 10**6, True, 2 * 500 + 2 * 2 * 1000),
        (3, 100, False, 4 * 500 + 4 * 500),
        (3, 100, True, 2 * 500 + 4 * 500),
    ],
)
def test_the_buckets_are_gone_before_the_step_has_its_float32_gradients(stage, bucket, bfloat16, bytes_):
    assert gradients(stage, bucket, bfloat16) == bytes_


@pytest.mark.parametrize("gpu", [False, True])
def test_libraries_count_where_tensors_lie_in_the_same_memory(workspace, monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    (stage,) = dry_run.dry_run(make_recipe(workspace, [{}]), measure_time=False)
    for memory in stage.memory.values():
        assert memory.libraries == (0 if gpu else LIBRARIES)
        assert (memory.holes > 0) != gpu  # a nano model's activations are larger than its gradients
        assert memory.total == dataclasses.replace(memory, libraries=0, holes=0).total + memory.libraries + memory.holes


def test_holes_are_as_large_as_gradients_do_not_fill_them():
    holes = [undivided(MODEL, activations, 1, cpu=True).holes for activations in (8_000, 10_000, 20_000)]
    assert holes == [0, 500, 5000]
    assert undivided(MODEL, 20_000, 1).holes == 0


def test_what_is_gathered_leaves_holes_but_for_large_blocks():
    """A tensor of 64 MiB in float32 has pages of its own, and in bfloat16 not."""
    large = Learning(trainable=2**24 + 1000, frozen=0, frozen_bytes=0, buffers=0, sizes=(2**24, 1000))

    def holes(stage: int, bfloat16: bool, gathered: int = 10**9) -> int:
        division = Division(stage, offload_optimizer=False, offload_weights=False, bucket=100, gathered=gathered)
        return divided(large, 0, division, bfloat16, processes=2, cpu=True).holes

    assert holes(3, bfloat16=False) == 4 * 1000
    assert holes(3, bfloat16=True) == 2 * (2**24 + 1000)
    assert holes(3, bfloat16=True, gathered=500) == 2 * 500
    assert holes(2, bfloat16=True) == 0
