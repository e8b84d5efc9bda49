"""The order of samples, a function of (seed, epoch) alone, so that any step of a run can be found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class EpochSampler(Sampler[int]):
    """A new shuffle for each epoch.

    Args:
        count: the number of samples.
        seed: of the run.
        lengths: when given, samples of like length become neighbours: 50 batches are drawn at random, sorted by length
            and cut into batches of `batch_size` again.
        batch_size: samples of one optimiser step in this process; only used with `lengths`.
    """

    def __init__(self, count: int, seed: int, lengths: Sequence[int] | None = None, batch_size: int = 1) -> None:
        self.count, self.seed, self.lengths, self.batch_size = count, seed, lengths, batch_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.lengths is None:
            return iter(torch.randperm(self.count, generator=generator).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))

    def __len__(self) -> int:
        return self.count
