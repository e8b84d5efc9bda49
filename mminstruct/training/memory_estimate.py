"""What a training process needs, for each way of dividing it, by its largest micro-batch and by arithmetic.

    peak = weights + gradients + optimizer + activations of the largest micro-batch (+ libraries, holes on a CPU)

`fake_step` counts the activations; the rest is how torch and DeepSpeed keep the numbers:

    without DeepSpeed   weights     float32, frozen matrices on a GPU in bfloat16 where that is computed in
                                    (`frozen_weights`); casts to bfloat16 are activations, kept for the backward pass
                        gradients   float32; DDP has them a second time in its buckets
                        optimizer   AdamW's two moments, float32
    under ZeRO          weights     bfloat16 or float32, divided by ZeRO-3, and what it has gathered at once
                        gradients   as weights, divided from ZeRO-2 on; two buckets to reduce or, once these are gone
                                    (`_release_ipg_buffers`), float32 for the step, whichever is more
                        optimizer   the moments and the weights that it steps, float32, divided

(DeepSpeed 0.19, `runtime/zero/stage_1_and_2.py` and `stage3.py`.) Gradients and activations are added up although the
last activation is gone when the last gradient comes: from the second micro-batch of a step on they are there together,
and otherwise memory that was freed in small pieces does not take large ones. DeepSpeed's own
`estimate_zero2_model_states_mem_needs` takes every parameter to learn and leaves buckets and activations out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mminstruct.training.allocator import LARGE

FLOAT32, BFLOAT16 = 4, 2  # bytes
_MOMENTS = 2 * FLOAT32  # of AdamW, a parameter
# On a CPU tensors come and go in glibc's heap (`allocator`), where what was touched stays resident although the next
# tensor lies elsewhere. No rule of the heap was found that predicts it; this share of the activations covers what was
# measured in models of 55 to 252 million parameters (benchmarks/memory-2026-11-27.md), as far as gradients do not come
# to lie there. What ZeRO-3 gathers comes and goes twice a micro-batch and leaves as much again, but for blocks with
# pages of their own.
_HOLES = 0.45
# What is alive on a CPU beside the model's tensors: data and Python objects until the first step (15 to 20 MB), and
# what libraries make in the first steps and keep (28 to 35 MB): MKL's buffers for packing matrices, and in bfloat16
# oneDNN's products, 0.3 MB for each shape. Counted in malloc, 2026-11-26, Xeon with AVX-512 and AMX, torch 2.15: 46
# to 55 MB where a connector learns, in models of 59, 125 and 290 million parameters
# (benchmarks/memory-2026-11-26.md).
LIBRARIES = 50_000_000


@dataclass(frozen=True)
class Learning:
    """A stage's parameters: how many learn, how many do not; bytes of those that do not, and of the buffers; how many
    numbers each tensor has."""

    trainable: int
    frozen: int
    frozen_bytes: int
    buffers: int
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> Learning:
        parameters = list(model.parameters())
        trainable = sum(one.numel() for one in parameters if one.requires_grad)
        return cls(
            trainable,
            sum(one.numel() for one in parameters) - trainable,
            sum(one.nbytes for one in parameters if not one.requires_grad),
            sum(one.nbytes for one in model.buffers()),
            tuple(one.numel() for one in parameters),
        )


@dataclass(frozen=True)
class Memory:
    """Bytes of one process.

    Attributes:
        activations: of the largest micro-batch.
        host: of all these, what lies in the CPU's memory under offload.
        libraries: what is alive beside tensors in a process whose tensors are in the CPU's memory, too.
        holes: what freed tensors leave resident there.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    host: int = 0
    libraries: int = 0
    holes: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.libraries + self.holes

    def on_cpu(self, passing: int = 0) -> Memory:
        """With what a CPU's process has besides; `passing`: bytes that come and go in its heap while it computes."""
        holes = max(0, round(_HOLES * self.activations) - self.gradients) + passing
        return replace(self, libraries=LIBRARIES, holes=holes)


@dataclass(frozen=True)
class Division:
    """How a DeepSpeed config divides a model; sizes in numbers, not bytes.

    Attributes:
        bucket: gradients that are reduced together at most.
        gathered: parameters that a process may hold whole at once (ZeRO-3).
    """

    stage: int
    offload_optimizer: bool
    offload_weights: bool
    bucket: int
    gathered: int

    @classmethod
    def read(cls, config: dict[str, Any], hidden_size: int) -> Division:
        """Of a config of `train/deepspeed`; what is left out is DeepSpeed's default, "auto" is transformers'."""
        zero = config.get("zero_optimization", {})
        bucket = zero.get("reduce_bucket_size", 500_000_000)
        return cls(
            stage=zero.get("stage", 0),
            offload_optimizer=_on_cpu(zero, "offload_optimizer"),
            offload_weights=_on_cpu(zero, "offload_param"),
            bucket=hidden_size**2 if bucket == "auto" else int(bucket),
            gathered=int(zero.get("stage3_max_live_parameters", 1_000_000_000)),
        )


def _on_cpu(zero: dict[str, Any], key: str) -> bool:
    return zero.get(key, {}).get("device", "none") != "none"


def undivided(learning: Learning, activations: int, processes: int, cpu: bool = False) -> Memory:
    """Without DeepSpeed: one process, or DDP; `cpu`: it computes there."""
    weights = FLOAT32 * learning.trainable + learning.frozen_bytes + learning.buffers
    gradients = FLOAT32 * learning.trainable
    buckets = gradients if processes > 1 else 0
    memory = Memory(weights, gradients + buckets, _MOMENTS * learning.trainable, activations)
    return memory.on_cpu() if cpu else memory


def divided(
    learning: Learning, activations: int, division: Division, bfloat16: bool, processes: int, cpu: bool = False
) -> Memory:
    """Under ZeRO.

    Args:
        bfloat16: compute in it; the model's own weights are then bfloat16, too.
        cpu: compute there.
    """
    number = BFLOAT16 if bfloat16 else FLOAT32
    everything = learning.trainable + learning.frozen
    share = -(-learning.trainable // processes)
    weights = number * everything
    passing = 0
    if division.stage >= 3:
        gathered = number * min(everything, division.gathered)
        weights = number * -(-everything // processes) + gathered
        passing = min(gathered, sum(number * size for size in learning.sizes if number * size < LARGE))
    # The bucket itself, and the flat copy of it that is sent (`allreduce_bucket`). On a CPU it takes the pages that are
    # used; on a GPU all of it, however few numbers are in it.
    buckets = 2 * number * min(division.bucket, learning.trainable)
    own = number * (share if division.stage >= 2 else learning.trainable)
    step = FLOAT32 * share  # those that the optimizer is given
    optimizer = (FLOAT32 + _MOMENTS) * share
    host = optimizer + step if division.offload_optimizer else 0
    if division.offload_weights:
        host += number * -(-everything // processes)
    memory = Memory(weights + learning.buffers, own + max(buckets, step), optimizer, activations, host)
    return memory.on_cpu(passing) if cpu else memory
