"""The statistics equal brute force, and mean what they say (checked by simulation)."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest

from mminstruct.evaluation.scorers import Item, Verdict, scorer
from mminstruct.evaluation.scorers.metric import Figures, mean
from mminstruct.evaluation.statistics import (
    compare,
    estimate,
    interval,
    is_mean,
    majority_accuracy,
    most_frequent_answer,
    spread,
    standard_error,
    wilson,
)


def brute_force(scores: list[float], clusters: list[str]) -> float:
    """Miller's formula as it stands on paper: the independent part plus the double sum over pairs of one cluster."""
    n, mean = len(scores), sum(scores) / len(scores)
    independent = sum((score - mean) ** 2 for score in scores) / (n - 1) / n
    pairs = 0.0
    for i in range(n):
        for j in range(n):
            if i != j and clusters[i] == clusters[j]:
                pairs += (scores[i] - mean) * (scores[j] - mean)
    return math.sqrt(max(0.0, independent + pairs / n**2))


def test_clustered_error_equals_the_double_sum() -> None:
    draw = random.Random(0)
    for _ in range(200):
        n = draw.randrange(2, 30)
        clusters = [str(draw.randrange(draw.randrange(2, 12))) for _ in range(n)]
        scores = [draw.choice([0.0, 0.3, 0.6, 0.9, 1.0]) for _ in range(n)]
        found = standard_error(scores, clusters)
        if len(set(clusters)) < 2:
            assert found is None
        else:
            assert found == pytest.approx(brute_force(scores, clusters), abs=1e-12)


def test_singletons_give_the_usual_error() -> None:
    scores = [0.0, 1.0, 1.0, 0.3, 0.9]
    expected = statistics.stdev(scores) / math.sqrt(len(scores))
    assert standard_error(scores, list(range(5))) == pytest.approx(expected, abs=1e-15)


def test_whole_clusters_repeated_do_not_look_surer() -> None:
    """Each question asked five times over: n grows, knowledge does not."""
    scores = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0] * 10
    names = list(range(len(scores)))
    once, repeated = standard_error(scores, names), standard_error(scores * 5, names * 5)
    assert once is not None and repeated is not None
    assert repeated == pytest.approx(once, rel=0.02)


def test_simulation_covers_the_truth() -> None:
    """95 % intervals hold the true mean about 95 % of the time for clustered data; the naive ones do not."""
    draw = random.Random(2)
    clustered = naive = 0
    trials = 400
    for _ in range(trials):
        scores, clusters = [], []
        for cluster in range(80):
            easy = draw.random()  # images differ in difficulty; their mean is 0.5
            for _ in range(6):
                scores.append(float(draw.random() < easy))
                clusters.append(cluster)
        mean = sum(scores) / len(scores)
        by_cluster, alone = standard_error(scores, clusters), standard_error(scores, list(range(len(scores))))
        assert by_cluster is not None and alone is not None
        clustered += abs(mean - 0.5) <= 1.96 * by_cluster
        naive += abs(mean - 0.5) <= 1.96 * alone
    assert 0.91 <= clustered / trials <= 0.98
    assert naive / trials < 0.88


def test_error_is_unknown_for_one_cluster() -> None:
    assert standard_error([1.0], ["x"]) is None
    assert standard_error([1.0, 0.0, 1.0], ["x", "x", "x"]) is None


def test_clusters_that_cancel_out_give_a_number() -> None:
    assert standard_error([1.0, 0.0, 1.0, 0.0], ["a", "a", "b", "b"]) == pytest.approx(math.sqrt(1 / 12 - 1 / 16))


def test_wilson_is_the_interval_of_the_tables_and_covers_the_truth() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 5) == pytest.approx((0.5655, 1.0), abs=1e-4)
    assert wilson(0.0, 1)[0] == 0.0
    rng = np.random.default_rng(0)
    covered = [low <= 0.8 <= high for low, high in (wilson(share / 20, 20) for share in rng.binomial(20, 0.8, 4000))]
    assert 0.93 < sum(covered) / len(covered) < 0.98
    for share, n in ((0.5, 0), (1.1, 3)):
        with pytest.raises(ValueError, match="give 0 to 1, and one trial at least"):
            wilson(share, n)


def test_estimate() -> None:
    found = estimate([1.0, 0.0, 0.5], ["a", "b", "b"])
    assert (found.mean, found.n) == (0.5, 3)
    with pytest.raises(ValueError, match="one cluster for each score"):
        estimate([1.0], ["a", "b"])
    with pytest.raises(ValueError, match="0 scores"):
        estimate([], [])


def test_most_frequent_answer_weighs_questions_alike() -> None:
    assert most_frequent_answer([["yes"], ["no"], ["yes"]]) == "yes"
    assert most_frequent_answer([["b"], ["a"]]) == "a"
    # One question with ten votes for "no" does not outweigh two questions whose one gold is "yes".
    assert most_frequent_answer([["no"] * 10, ["yes"], ["yes"]]) == "yes"
    # Thirds add up to one: a tie, whatever the rounding.
    assert most_frequent_answer([["b", "b", "b"], ["a", "x", "y"], ["a", "x", "z"], ["a", "u", "v"]]) == "a"


def test_majority_accuracy_uses_the_scorer() -> None:
    items = [Item(str(place), answers=(answer,)) for place, answer in enumerate(("Yes", "yes", "yes", "no"))]
    assert majority_accuracy(items, scorer("exact-match")) == 0.75
    assert majority_accuracy(items, scorer("exact-match.strict")) == 0.5
    votes = Item("1", answers=("yes",) * 3 + ("no",) * 7)
    assert majority_accuracy([votes], scorer("vqa.evalai")) == pytest.approx(1.0)


# --- bootstrap and comparison -----------------------------------------------------------------------------------------


def sample(seed: int, count: int = 120) -> tuple[list[Item], list[Verdict], list[Verdict]]:
    """Items in clusters of one to five, judged of two models of which the second is better."""
    draw = random.Random(seed)
    items, cluster = [], 0
    while len(items) < count:
        for _ in range(draw.randrange(1, 6)):
            items.append(Item(str(len(items)), cluster=str(cluster), group=f"g{len(items) // 2}"))
        cluster += 1
    a = [Verdict(float(draw.random() < 0.5)) for _ in items]
    b = [Verdict(max(one.score, float(draw.random() < 0.3))) for one in a]
    return items, a, b


def slow_mean(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """As `mean`, but another function, so that nothing is known of it."""
    return {"score": sum(verdict.score for verdict in verdicts) / len(verdicts)}


@pytest.mark.parametrize("seed", range(3))
def test_drawing_sums_of_clusters_is_drawing_clusters(seed: int) -> None:
    items, a, b = sample(seed)
    assert interval(items, a, mean, draws=50) == pytest.approx(interval(items, a, slow_mean, draws=50))
    fast, slow = compare(items, a, b, mean, draws=50), compare(items, a, b, slow_mean, draws=50)
    assert fast is not None and slow is not None and asdict(fast) == pytest.approx(asdict(slow))


def test_interval_is_as_wide_as_the_clustered_error() -> None:
    items, a, _ = sample(7, 2000)
    found = interval(items, a, mean, draws=4000)
    error = standard_error([verdict.score for verdict in a], [item.cluster for item in items])
    assert found is not None and error is not None
    assert (found[1] - found[0]) / (2 * 1.96 * error) == pytest.approx(1, abs=0.05)
    middle = sum(verdict.score for verdict in a) / len(a)
    assert found[0] < middle < found[1]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 200 samples of 60 clusters whose three questions fall together, 95 % of the intervals hold the true mean."""
    hits = 0
    for seed in range(200):
        draw = random.Random(seed)
        items = [Item(f"{c}-{q}", cluster=str(c)) for c in range(60) for q in range(3)]
        verdicts = [Verdict(score) for _ in range(60) for score in [float(draw.random() < 0.6)] * 3]
        found = interval(items, verdicts, mean, draws=400, seed=seed)
        assert found is not None
        hits += found[0] <= 0.6 <= found[1]
    assert 0.90 <= hits / 200 <= 0.99


def test_comparison_by_hand() -> None:
    items = [Item(str(n), cluster=str(n // 2)) for n in range(8)]
    a = [Verdict(score) for score in (0, 0, 1, 1, 0, 1, 0, 0)]
    b = [Verdict(score) for score in (1, 0, 1, 0, 1, 1, 1, 0)]
    found = compare(items, a, b, mean)
    assert found is not None
    assert (found.wins, found.losses, found.ties, found.n) == (3, 1, 4, 8)
    assert (found.a, found.b, found.difference) == (0.375, 0.625, 0.25)
    # Gains of the four clusters are 1, -1, 1, 1: of the 16 ways to exchange them, 10 sum to 2 or more either way.
    assert found.p == pytest.approx(10 / 16, abs=0.05)
    assert found.low <= 0.25 <= found.high


def test_equal_models_do_not_differ_and_exchanged_ones_mirror() -> None:
    items, a, b = sample(1)
    same = compare(items, a, a, mean)
    assert same is not None and same.p == 1.0 and (same.low, same.difference, same.high) == (0, 0, 0)
    one, other = compare(items, a, b, mean), compare(items, b, a, mean)
    assert one is not None and other is not None
    assert one.difference == pytest.approx(-other.difference) and one.p == other.p < 0.01
    assert (one.wins, one.losses) == (other.losses, other.wins)


def test_p_is_uniform_where_nothing_differs() -> None:
    """Of 200 comparisons of two equally good models, 5 % have p <= .05."""
    found = []
    for seed in range(200):
        draw = random.Random(f"p{seed}")
        items = [Item(str(n), cluster=str(n // 3)) for n in range(90)]
        a, b = ([Verdict(float(draw.random() < 0.5)) for _ in items] for _ in range(2))
        one = compare(items, a, b, mean, draws=200, seed=seed)
        assert one is not None
        found.append(one.p)
    assert sum(p <= 0.05 for p in found) <= 20 and 60 <= sum(p <= 0.5 for p in found) <= 140


def test_groups_of_a_cluster_drawn_twice_stay_apart() -> None:
    sizes: set[int] = set()

    def groups(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
        sizes.add(len({item.group for item in items}))
        return {"score": float(len({item.group for item in items}))}

    items = [Item(str(n), cluster=str(n // 2), group=str(n // 2)) for n in range(10)]
    assert interval(items, [Verdict(1.0)] * 10, groups, draws=20) == (5.0, 5.0) and sizes == {5}


def test_one_cluster_or_an_undefined_figure_has_no_interval() -> None:
    items = [Item("1", cluster="x"), Item("2", cluster="x")]
    assert interval(items, [Verdict(1.0)] * 2, mean) is None
    assert compare(items, [Verdict(1.0)] * 2, [Verdict(0.0)] * 2, mean) is None
    apart = [Item("1"), Item("2")]
    assert interval(apart, [Verdict(1.0)] * 2, lambda items, verdicts: {"score": None}) is None


def test_a_total_is_a_mean_where_it_is_one_of_all_and_of_parts() -> None:
    """VQA's figures of answer types do not keep its headline from being one; F1 and pairs of questions do."""
    draw = random.Random(0)
    for name, expected in (("vqa.evalai", True), ("exact-match", True), ("pope", False), ("mme", False)):
        items = [
            Item(str(n), question="?", answers=(draw.choice(["yes", "no"]),), kind="existence", group=str(n // 2))
            for n in range(60)
        ]
        rule = scorer(name)
        verdicts = rule.score(items, [draw.choice(["yes", "no"]) for _ in items]).verdicts
        assert is_mean(items, verdicts, rule.variant.total) is expected, name
        if name == "vqa.evalai":
            assert spread(items, verdicts, mean, draws=50) == spread(items, verdicts, rule.variant.total, draws=50)


def test_a_cluster_drawn_twice_counts_as_two() -> None:
    """Of pairs that are right together: a copy of a pair is a pair of its own."""
    items = [Item(str(n), answers=("x",), cluster=str(n // 2), group=str(n // 2)) for n in range(6)]
    verdicts = [Verdict(score) for score in (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)]

    def pairs(some: Sequence[Item], judged: Sequence[Verdict]) -> dict[str, float | None]:
        together: dict[str, list[float]] = {}
        for item, verdict in zip(some, judged, strict=True):
            together.setdefault(item.group, []).append(verdict.score)
        assert {len(scores) for scores in together.values()} == {2} and len(together) == 3
        return {"score": sum(min(scores) for scores in together.values()) / len(together)}

    found = spread(items, verdicts, pairs, draws=200)
    chosen = np.random.default_rng(0).integers(3, size=(200, 3))
    expected = [float(np.mean([number == 0 for number in drawn])) for drawn in chosen]
    assert found is not None and found.stderr == pytest.approx(np.std(expected, ddof=1))
