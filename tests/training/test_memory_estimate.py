"""How the terms of a process's memory are put together; what they are measured against is benchmarks/memory.py."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mminstruct.training import dry_run
from mminstruct.training.memory_estimate import LIBRARIES, Division, Learning, divided
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
        assert memory.total == dataclasses.replace(memory, libraries=0).total + memory.libraries
