"""Mixtures: the shares that are asked for, caps that hold, everything once before anything twice, the same by seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mminstruct.data.mixture import Member, Mixture
from mminstruct.data.plan import BatchPlan, StepPlan, together
from mminstruct.errors import DataError

SIZES = (10_000, 2_500, 400)


def members(*settings: dict) -> list[Member]:
    starts = np.cumsum([0, *SIZES])
    pairs = zip(settings or [{}] * 3, SIZES, strict=True)
    return [Member(f"s{i}", starts[i] + np.arange(size), **one) for i, (one, size) in enumerate(pairs)]


def counts(indices) -> list[int]:
    return np.histogram(indices, bins=[*np.cumsum([0, *SIZES])])[0].tolist()


@pytest.mark.parametrize(
    ("settings", "balance", "shares"),
    [
        ([{}, {}, {}], "sizes", [100, 25, 4]),
        ([{}, {}, {}], "sqrt", [100, 50, 20]),
        ([{"weight": 5.0}, {"weight": 3.0}, {"weight": 2.0}], "weights", [5, 3, 2]),
        ([{}, {"weight": 0.5}, {}], "sqrt", [100, 25, 20]),
        ([{}, {"repeat": 4.0}, {"cap": 100}], "sizes", [100, 100, 1]),
        ([{"cap": 900}, {}, {}], "sqrt", [30, 50, 20]),
        ([{"weight": 8.0}, {"weight": 1.0}, {"weight": 1.0, "cap": 50}], "weights", [8, 1, 1]),
    ],
)
def test_shares_are_within_one_percent_and_caps_hold(settings, balance, shares):
    mixture = Mixture(members(*settings), balance)
    for number in range(3):
        drawn = mixture.epoch(7, number)
        assert drawn == sorted(drawn) and counts(drawn) == mixture.counts
        for count, share, one in zip(mixture.counts, shares, settings, strict=True):
            assert abs(count / len(drawn) - share / sum(shares)) < 0.01
            assert abs(count / len(drawn) / (share / sum(shares)) - 1) < 0.01 or count < 200
            assert count <= one.get("cap", count)


def test_without_settings_an_epoch_is_everything_once():
    assert Mixture(members()).epoch(0, 0) == Mixture(members()).epoch(1, 5) == list(range(sum(SIZES)))


def test_a_cap_takes_others_each_epoch_until_all_came():
    mixture = Mixture(members({}, {"cap": 1000}, {"repeat": 3}))
    epochs = [mixture.epoch(3, number) for number in range(5)]
    capped = Counter(index for one in epochs for index in one if 10_000 <= index < 12_500)
    assert set(capped.values()) == {2} and len(capped) == 2500  # 5 x 1000 of 2500
    assert not set(epochs[0]) & set(epochs[1]) & set(range(10_000, 12_500))
    assert all(Counter(one)[12_500 + place] == 3 for one in epochs for place in range(400))


def test_it_is_a_function_of_seed_and_epoch():
    settings = [{}, {"cap": 500}, {"cap": 50}]
    mixture = Mixture(members(*settings))
    assert mixture.epoch(1, 4) == Mixture(members(*settings)).epoch(1, 4)
    assert len({tuple(mixture.epoch(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4


def test_plans_draw_from_it():
    mixture = Mixture(members({"cap": 30}, {"cap": 20}, {"repeat": 0.05}))
    plan = BatchPlan(sum(SIZES), seed=2, batch_size=8, mixture=mixture)
    for number in range(2):
        flat = [index for batch in plan.epoch(number) for index in batch]
        assert sorted(flat) == mixture.epoch(2, number) and flat != sorted(flat)
    lengths = BatchPlan(sum(SIZES), 2, 8, lengths=[1 + i % 9 for i in range(sum(SIZES))], group=32, mixture=mixture)
    assert sorted(index for batch in lengths.epoch(1) for index in batch) == mixture.epoch(2, 1)
    assert StepPlan(plan, epochs=3, accumulate=1).steps == 3 * 9  # 30 + 20 + 20 of them in batches of 8


def test_what_comes_again_stands_in_another_unit():
    assert together([0, 2, 1, 0, 1, 2], [5, 5, None]) == [[0, 1], [2], [0, 1], [2]]


def test_a_source_without_anything_is_named():
    with pytest.raises(DataError, match="source none has no conversation to train on"):
        Mixture([Member("some", np.arange(5)), Member("none", np.arange(0))])
    with pytest.raises(DataError, match=r"would have none of the source s2; raise its weight"):
        Mixture(members({}, {}, {"weight": 1e-6}), "sqrt")
