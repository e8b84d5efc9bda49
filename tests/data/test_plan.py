"""The plan of micro-batches: all conversations once an epoch, packs that fit, steps however they are split."""

from __future__ import annotations

import random

import pytest

from mminstruct.data.plan import BatchPlan, MicroBatch, StepPlan, split, together
from mminstruct.errors import DataError


def flat(batches):
    return [index for batch in batches for index in batch]


def test_each_epoch_has_every_conversation_once_in_another_order():
    plan = BatchPlan(100, seed=3, batch_size=7)
    first, second = plan.epoch(0), plan.epoch(1)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(100))
    assert first != second and first == BatchPlan(100, seed=3, batch_size=7).epoch(0)
    assert first != BatchPlan(100, seed=4, batch_size=7).epoch(0)
    assert [len(batch) for batch in first] == [7] * 14 + [2]


def test_conversations_about_one_picture_stay_together():
    keys = [0, None, 1, 0, 1, 0, None, 2]
    assert together([7, 5, 1, 4, 0, 2, 6, 3], keys) == [[7], [5, 0, 3], [1], [4, 2], [6]]
    order = flat(BatchPlan(8, seed=0, batch_size=3, keys=keys).epoch(0))
    assert sorted(order) == list(range(8))
    for key in (0, 1):
        places = [order.index(index) for index, own in enumerate(keys) if own == key]
        assert max(places) - min(places) == len(places) - 1


@pytest.mark.parametrize("group", [4, 8])
def test_batches_by_length_are_of_one_kind(group):
    rng = random.Random(0)
    lengths = [rng.randint(5, 500) for _ in range(203)]
    pictured = [rng.random() < 0.6 for _ in lengths]
    plan = BatchPlan(203, seed=1, batch_size=4, lengths=lengths, pictured=pictured, group=group)
    apart = BatchPlan(203, seed=1, batch_size=4)
    for number in range(3):
        batches = plan.epoch(number)
        assert batches == plan.epoch(number) != plan.epoch(number + 1)
        assert sorted(flat(batches)) == list(range(203)) and [len(one) for one in batches] == [4] * 50 + [3]
        mixed = [place for place, one in enumerate(batches) if len({pictured[index] for index in one}) > 1]
        assert len(mixed) <= 1 and all(place >= 51 - 2 * group // 4 for place in mixed)
        assert max(lengths) in [lengths[index] for index in flat(batches)[:group]]
        spread = [sum(max(lengths[i] for i in one) - lengths[j] for one in p.epoch(number) for j in one)
                  for p in (plan, apart)]  # fmt: skip
        assert spread[0] < spread[1] / 3
        kinds = [pictured[one[0]] for one in batches]
        assert True in kinds[:40] and False in kinds[:40]  # they take turns
    one_kind = BatchPlan(203, seed=1, batch_size=4, lengths=lengths, group=group).epoch(0)
    assert sorted(flat(one_kind)) == list(range(203))


def test_a_unit_larger_than_a_pack_is_cut_and_pays_its_prefix_again():
    tokens, prefixes = [30, 30, 40, 35, 20], [20, 20, 20, 20, 0]
    parts, sizes = split([[0, 1, 2, 3], [4]], tokens, prefixes, 50)
    assert parts == [[0, 1], [2], [3], [4]]
    assert sizes == [40, 40, 35, 20]
    with pytest.raises(DataError, match="conversation number 4 has 20 tokens, more than the 19 of a pack"):
        split([[4]], tokens, prefixes, 19)


def test_packs_share_their_prefix_in_the_plan():
    plan = BatchPlan(4, seed=0, pack_tokens=100, keys=[0, 0, 0, 0], tokens=[80] * 4, prefixes=[70] * 4)
    assert [len(batch) for batch in plan.epoch(0)] == [3, 1] or [len(batch) for batch in plan.epoch(0)] == [1, 3]
    apart = BatchPlan(4, seed=0, pack_tokens=100, tokens=[80] * 4, prefixes=[70] * 4)
    assert [len(batch) for batch in apart.epoch(0)] == [1, 1, 1, 1]


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 4), (2, 2), (4, 1)])
def test_a_step_is_the_same_however_it_is_split(processes, accumulate):
    plan = StepPlan(BatchPlan(50, seed=1, batch_size=2), epochs=2, accumulate=accumulate, processes=processes)
    whole = StepPlan(BatchPlan(50, seed=1, batch_size=2), epochs=2, accumulate=4)
    assert plan.steps == whole.steps == 13
    ranks = [list(plan.batches(process)) for process in range(processes)]
    assert {len(batches) for batches in ranks} == {13 * accumulate}
    reference = list(whole.batches(0))
    for step in range(13):
        ours = [batch for batches in ranks for batch in batches[step * accumulate : (step + 1) * accumulate]]
        theirs = reference[step * 4 : (step + 1) * 4]
        assert sorted(b.indices for b in ours if b.counts) == sorted(b.indices for b in theirs if b.counts)
    counted = [batch.indices for batches in ranks for batch in batches if batch.counts]
    assert sorted(flat(counted)) == sorted(2 * list(range(50)))
    assert sum(not batch.counts for batches in ranks for batch in batches) == 2  # 50 micro-batches in 13 steps of 4


def test_parts_of_epochs_and_numbers_of_steps():
    plan = BatchPlan(10, seed=0, batch_size=2)
    half = StepPlan(plan, epochs=1.5, accumulate=1)
    assert half.steps == 8
    assert [half.epochs_done(step) for step in (0, 5, 6, 8)] == pytest.approx([0.0, 1.0, 1.2, 1.6])
    steps = StepPlan(plan, epochs=1, accumulate=2, steps=7)
    assert steps.steps == 7 and len(list(steps.batches(0))) == 14
    assert all(isinstance(batch, MicroBatch) and batch.counts for batch in steps.batches(0))
