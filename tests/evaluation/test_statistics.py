"""The statistics equal brute force, and mean what they say (checked by simulation)."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from mminstruct.evaluation.scorers import Item, scorer
from mminstruct.evaluation.statistics import estimate, majority_accuracy, most_frequent_answer, standard_error


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
