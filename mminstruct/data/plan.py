"""Which conversations each step of a stage is made of: a function of the data, the seed and the step alone.

    conversations ──drawn and shuffled by (seed, epoch)──▶ units ──cut by number, or packed by tokens──▶ micro-batches
    micro-batches of all epochs, one behind the other ──▶ steps of `accumulate * processes` micro-batches

A unit is what stays together: the conversations about one picture where they share it, otherwise one conversation.
Epochs follow one another without a gap, so every step but the last has all of its micro-batches; in the last one,
processes without a micro-batch of their own repeat the first one with weight zero, since all have to call the model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from mminstruct.data.mixture import Mixture
from mminstruct.data.packs import pack
from mminstruct.errors import DataError


@dataclass(frozen=True)
class BatchPlan:
    """How one epoch is cut into micro-batches.

    Attributes:
        count: of the conversations.
        seed: of the run.
        batch_size: conversations of a micro-batch, the last of an epoch has fewer; or
        pack_tokens: tokens of a micro-batch at most, filled as `packs` says; then `tokens` and `prefixes` are needed.
        keys: of each conversation; those with the same key, if it is not None, stay together.
        tokens, prefixes: of each conversation, and how many of the first ones it shares with others of its key.
        lengths: when given, conversations of like length become neighbours; only with `batch_size`.
        pictured: of each conversation, whether it has pictures or videos; with `lengths`, those with and those without
            stand in micro-batches of their own, all but one of an epoch.
        group: conversations of one step, which become neighbours by length together.
        mixture: draws the conversations of an epoch; otherwise it has each of them once.
    """

    count: int
    seed: int
    batch_size: int = 1
    pack_tokens: int | None = None
    keys: Sequence[int | None] = ()
    tokens: Sequence[int] = ()
    prefixes: Sequence[int] = ()
    lengths: Sequence[int] = ()
    pictured: Sequence[bool] = ()
    group: int = 1
    mixture: Mixture | None = None

    def epoch(self, number: int) -> list[list[int]]:
        """The micro-batches of an epoch."""
        generator = torch.Generator()
        generator.manual_seed(self.seed * 1_000_003 + number)
        drawn = range(self.count) if self.mixture is None else self.mixture.epoch(self.seed, number)
        if self.lengths:
            lengths = [self.lengths[index] for index in drawn]
            pictured = [bool(self.pictured[index]) for index in drawn] if self.pictured else [False] * len(drawn)
            order = by_length(lengths, pictured, self.group, generator)
        else:
            order = torch.randperm(len(drawn), generator=generator).tolist()
        order = [drawn[place] for place in order]
        units = together(order, self.keys) if self.keys else [[index] for index in order]
        if self.pack_tokens is None:
            flat = [index for unit in units for index in unit]
            return [flat[start : start + self.batch_size] for start in range(0, len(flat), self.batch_size)]
        parts, sizes = split(units, self.tokens, self.prefixes, self.pack_tokens)
        packs = pack(parts, sizes, self.pack_tokens)
        return [packs[number] for number in torch.randperm(len(packs), generator=generator).tolist()]


def by_length(lengths: Sequence[int], pictured: Sequence[bool], group: int, generator: torch.Generator) -> list[int]:
    """Places in an order in which neighbours are of like length, and all with pictures or all without, group by group.

    What LLaVA's `group_by_modality_length` gives (`llava/train/llava_trainer.py`). The groups are shuffled, but the one
    with the longest comes first, so that what does not fit into memory shows at once. What is left of both kinds, less
    than a group each, comes last.
    """
    groups: list[list[int]] = []
    rest: list[int] = []
    for kind in (True, False):
        own = [place for place, has in enumerate(pictured) if has == kind]
        if not own:
            continue
        order = get_length_grouped_indices([lengths[place] for place in own], group, generator=generator)
        order = [own[number] for number in order]
        whole = len(order) - len(order) % group
        groups += [order[start : start + group] for start in range(0, whole, group)]
        rest += order[whole:]
    groups = [groups[number] for number in torch.randperm(len(groups), generator=generator).tolist()]
    longest = max(groups, key=lambda places: max(lengths[place] for place in places), default=[])
    return [place for places in [longest, *(one for one in groups if one is not longest), rest] for place in places]


def together(order: Sequence[int], keys: Sequence[int | None]) -> list[list[int]]:
    """Conversations in their order, but those of one key right behind the first of them.

    One that comes again stands in another unit, with the others of its key that come again.
    """
    units: list[list[int]] = []
    known: dict[tuple[int, int], list[int]] = {}
    times: Counter[int] = Counter()
    for index in order:
        key = keys[index]
        if key is None:
            units.append([index])
            continue
        place = (key, times[index])
        times[index] += 1
        if place in known:
            known[place].append(index)
        else:
            known[place] = [index]
            units.append(known[place])
    return units


def split(
    units: Sequence[list[int]], tokens: Sequence[int], prefixes: Sequence[int], capacity: int
) -> tuple[list[list[int]], list[int]]:
    """Units no larger than a pack, and how many tokens each takes, what it shares counted once.

    A larger unit is cut in its order, and each part has the prefix for itself.

    Raises:
        DataError: a conversation by itself is larger than a pack.
    """
    parts: list[list[int]] = []
    sizes: list[int] = []
    for unit in units:
        prefix = min(prefixes[index] for index in unit) if len(unit) > 1 else 0
        room = 0
        for index in unit:
            own = tokens[index] - prefix
            if own + prefix > capacity:
                raise DataError(
                    f"conversation number {index} has {tokens[index]} tokens, more than the {capacity} of a pack; "
                    "raise pack_tokens or split the conversation"
                )
            if own > room:
                parts.append([])
                sizes.append(prefix)
                room = capacity - prefix
            parts[-1].append(index)
            sizes[-1] += own
            room -= own
    return parts, sizes


@dataclass(frozen=True)
class MicroBatch:
    """Conversations of one call of the model; `counts` is False where it only keeps a process in step."""

    indices: list[int]
    counts: bool = True


class StepPlan:
    """The micro-batches of a whole stage.

    Args:
        plan: of one epoch.
        epochs: how often the data are gone through; the last time perhaps only in part.
        accumulate: micro-batches of a step and process.
        processes: how many there are.
        steps: stop after so many instead.
    """

    def __init__(
        self, plan: BatchPlan, epochs: float, accumulate: int, processes: int = 1, steps: int | None = None
    ) -> None:
        self.plan, self.accumulate, self.processes = plan, accumulate, processes
        self._batches: list[list[int]] = []
        self._epochs: list[tuple[int, int]] = []  # where each begins, and its whole length
        wanted = None if steps is None else steps * accumulate * processes
        whole, part = math.floor(epochs), epochs - math.floor(epochs)
        number = 0
        while len(self._batches) < wanted if wanted is not None else number < math.ceil(epochs):
            epoch = plan.epoch(number)
            self._epochs.append((len(self._batches), len(epoch)))
            if wanted is None and number == whole and part:
                epoch = epoch[: math.ceil(part * len(epoch))]
            self._batches += epoch
            number += 1
        if wanted is not None:
            del self._batches[wanted:]
        self.steps = math.ceil(len(self._batches) / (accumulate * processes))

    def epochs_done(self, step: int) -> float:
        """How often the data have been gone through after so many steps."""
        done = min(step * self.accumulate * self.processes, len(self._batches))
        number = max(number for number, (start, _) in enumerate(self._epochs) if start <= done)
        start, length = self._epochs[number]
        return number + (done - start) / length

    def batches(self, process: int) -> Iterator[MicroBatch]:
        """What one process computes, micro-batch after micro-batch."""
        for number in range(process, self.steps * self.accumulate * self.processes, self.processes):
            yield self._batch(number)

    def step(self, number: int) -> list[MicroBatch]:
        """What all processes compute in a step (the first is 0): one micro-batch of each, then the next of each."""
        size = self.accumulate * self.processes
        return [self._batch(place) for place in range(number * size, (number + 1) * size)]

    def _batch(self, number: int) -> MicroBatch:
        if number < len(self._batches):
            return MicroBatch(self._batches[number])
        return MicroBatch(self._batches[0], counts=False)


class StepSampler(Sampler[list[MicroBatch]]):
    """A plan as torch's data loader wants it: one micro-batch is one batch of one element."""

    def __init__(self, plan: StepPlan, process: int = 0) -> None:
        self.plan, self.process = plan, process

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        return ([batch] for batch in self.plan.batches(self.process))

    def __len__(self) -> int:
        return self.plan.steps * self.plan.accumulate
