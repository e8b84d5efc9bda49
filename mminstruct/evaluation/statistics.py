"""How sure a score is: standard error clustered by image, bootstrap intervals, two models on the same questions.

    scores [n], clusters [n] ── estimate ──▶ Estimate(mean, n, stderr)
    items, verdicts, total ── spread ──▶ Spread(stderr, low, high) of any figure, by drawing clusters again
    items, verdicts of a, verdicts of b, total ── compare ──▶ Comparison(difference, interval, p, wins, losses)

Questions about the same image are not independent, so an error bar that treats them as such is too small. The standard
error here is the clustered one of Miller, "Adding Error Bars to Evals" (arXiv 2411.00640, section 2.2); where every
question has its own image it is the usual standard error of the mean (section 2.1).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mminstruct.evaluation.scorers import Item, Scorer, Verdict
from mminstruct.evaluation.scorers.metric import Total, mean, mean_with_kinds

DRAWS = 1000
CORPUS_DRAWS = 300
"""Of figures that are no means: each draw adds up the whole corpus again."""
MEANS = (mean, mean_with_kinds)
"""Totals whose headline is the mean of the verdicts' scores: drawn as sums of clusters, hundreds of times as fast."""


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` scores; `stderr` is None where it cannot be known (fewer than two clusters)."""

    mean: float
    n: int
    stderr: float | None


def estimate(scores: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """Mean and clustered standard error of scores.

    Raises:
        ValueError: no scores, or as many clusters as scores are not given.
    """
    if not scores or len(scores) != len(clusters):
        raise ValueError(f"{len(scores)} scores and {len(clusters)} clusters; give one cluster for each score")
    return Estimate(math.fsum(scores) / len(scores), len(scores), standard_error(scores, clusters))


def standard_error(scores: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """Standard error of the mean of scores that come in clusters, or None for fewer than two clusters.

    With d = score - mean, the squared error is the independent one, sum(d**2) / (n * (n - 1)), plus 1 / n**2 times the
    sum of d[i] * d[j] over all ordered pairs i != j of one cluster. That pair sum is taken as (sum of d)**2 - sum(d**2)
    per cluster, so the work grows with n and not with its square.
    """
    n = len(scores)
    deviations: dict[Hashable, list[float]] = defaultdict(list)
    mean = math.fsum(scores) / n
    for score, cluster in zip(scores, clusters, strict=True):
        deviations[cluster].append(score - mean)
    if len(deviations) < 2:
        return None
    squares = math.fsum(d * d for group in deviations.values() for d in group)
    pairs = math.fsum(math.fsum(group) ** 2 for group in deviations.values()) - squares
    # At least (sum over clusters of (sum of d)**2) / n**2, so never negative but for rounding.
    return math.sqrt(max(0.0, squares / (n * (n - 1)) + pairs / n**2))


@dataclass(frozen=True)
class Comparison:
    """Two models on the same questions, b minus a.

    Attributes:
        difference: of the headline figures.
        low, high: the 95 % bootstrap interval of the difference.
        p: how often a difference at least as large comes about where a and b are exchanged at random, question cluster
            by question cluster (two-sided).
        wins, losses, ties: questions on which b scores more, less, the same.
    """

    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True)
class Spread:
    """How far a headline figure goes over draws of as many clusters, with replacement.

    Attributes:
        stderr: its standard deviation over the draws.
        low, high: the 95 % percentile interval.
    """

    stderr: float
    low: float
    high: float


def spread(
    items: Sequence[Item], verdicts: Sequence[Verdict], total: Total, *, draws: int | None = None, seed: int = 0
) -> Spread | None:
    """The spread of the headline. None for fewer than two clusters, or where the figure is undefined in a draw."""
    found = _draws(items, [verdicts], total, draws or _usual(total), seed)
    return None if found is None else Spread(float(np.std(found[0], ddof=1)), *_percentiles(found[0]))


def interval(
    items: Sequence[Item], verdicts: Sequence[Verdict], total: Total, *, draws: int | None = None, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval of the headline: percentiles over draws of as many clusters, with replacement.

    None for fewer than two clusters, or where the figure is undefined in a draw.
    """
    found = spread(items, verdicts, total, draws=draws, seed=seed)
    return None if found is None else (found.low, found.high)


def compare(
    items: Sequence[Item],
    a: Sequence[Verdict],
    b: Sequence[Verdict],
    total: Total,
    *,
    draws: int | None = None,
    seed: int = 0,
) -> Comparison | None:
    """b against a on the same items: both are drawn again, and exchanged, together, so shared difficulty cancels.

    None for fewer than two clusters, or where a figure is undefined.
    """
    first, second = total(items, a)["score"], total(items, b)["score"]
    draws = draws or _usual(total)
    found = _draws(items, [a, b], total, draws, seed)
    if found is None or first is None or second is None:
        return None
    low, high = _percentiles([y - x for x, y in zip(*found, strict=True)])
    signs = [(y.score > x.score) - (y.score < x.score) for x, y in zip(a, b, strict=True)]
    return Comparison(
        n=len(items),
        a=first,
        b=second,
        difference=second - first,
        low=low,
        high=high,
        p=_exchange(items, a, b, total, second - first, draws, seed),
        wins=signs.count(1),
        losses=signs.count(-1),
        ties=signs.count(0),
    )


def clusters_of(items: Sequence[Item]) -> dict[str, list[int]]:
    """Places of the items of each cluster; an item without one is its own."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        found[item.cluster or item.id].append(place)
    return dict(found)


def is_mean(items: Sequence[Item], verdicts: Sequence[Verdict], total: Total) -> bool:
    """Whether a total's headline is the mean of the verdicts' scores: of all, and of eight halves of the clusters.

    `mean` may then stand for it, whose draws are sums of clusters.
    """
    if total in MEANS:
        return True
    clusters = list(clusters_of(items).values())
    chosen = np.random.default_rng(0).random((8, len(clusters))) < 0.5
    for half in [[True] * len(clusters), *chosen.tolist()]:
        places = [place for taken, cluster in zip(half, clusters, strict=True) if taken for place in cluster]
        if not places:
            continue
        some = [verdicts[place] for place in places]
        score = total([items[place] for place in places], some)["score"]
        if score is None or abs(score - math.fsum(verdict.score for verdict in some) / len(some)) > 1e-9:
            return False
    return True


def _usual(total: Total) -> int:
    """How many draws, where nobody says it."""
    return DRAWS if total in MEANS else CORPUS_DRAWS


def _draws(
    items: Sequence[Item], models: Sequence[Sequence[Verdict]], total: Total, draws: int, seed: int
) -> list[list[float]] | None:
    """The headline of each model in each draw of clusters; the models see the same draws."""
    clusters = list(clusters_of(items).values())
    if len(clusters) < 2:
        return None
    chosen = np.random.default_rng(seed).integers(len(clusters), size=(draws, len(clusters)))
    if total in MEANS:
        sizes = np.array([len(places) for places in clusters], dtype=float)
        count = sizes[chosen].sum(1)
        found = []
        for verdicts in models:
            sums = np.array([math.fsum(verdicts[place].score for place in places) for places in clusters])
            found.append((sums[chosen].sum(1) / count).tolist())
        return found
    result: list[list[float]] = [[] for _ in models]
    copies: dict[tuple[int, int], list[Item]] = {}

    def cluster(number: int, copy: int) -> list[Item]:
        """A cluster that is drawn twice is two clusters: what is judged together stays apart from its copy."""
        if (number, copy) not in copies:
            there = [items[place] for place in clusters[number]]
            copies[number, copy] = [
                replace(item, id=f"{item.id}#{copy}", group=f"{item.group}#{copy}") if copy and item.group else item
                for item in there
            ]
        return copies[number, copy]

    for drawn in chosen.tolist():
        times: Counter[int] = Counter()
        again: list[Item] = []
        places: list[int] = []
        for number in drawn:
            again += cluster(number, times[number])
            places += clusters[number]
            times[number] += 1
        for scores, verdicts in zip(result, models, strict=True):
            score = total(again, [verdicts[place] for place in places])["score"]
            if score is None:
                return None
            scores.append(score)
    return result


def _exchange(
    items: Sequence[Item],
    a: Sequence[Verdict],
    b: Sequence[Verdict],
    total: Total,
    difference: float,
    draws: int,
    seed: int,
) -> float:
    """The share of random exchanges of a and b, cluster by cluster, whose difference is at least as large; the exchange
    that took place counts as one, so p is never 0 (Phipson and Smyth, 2010)."""
    clusters = list(clusters_of(items).values())
    exchanged = np.random.default_rng(seed + 1).random((draws, len(clusters))) < 0.5
    enough = abs(difference) - 1e-12
    if total in MEANS:
        gains = np.array([math.fsum(b[place].score - a[place].score for place in places) for places in clusters])
        found = np.abs((np.where(exchanged, -1.0, 1.0) * gains).sum(1)) / len(items)
        extreme = int((found >= enough).sum())
    else:
        extreme = 0
        for swaps in exchanged:
            first, second = list(a), list(b)
            for swap, places in zip(swaps, clusters, strict=True):
                for place in places if swap else ():
                    first[place], second[place] = b[place], a[place]
            one, other = total(items, first)["score"], total(items, second)["score"]
            extreme += one is None or other is None or abs(other - one) >= enough
    return (extreme + 1) / (draws + 1)


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share of `n` independent trials (Wilson, 1927), 95 % by default; it never leaves 0 to 1.

    Trials that count half, such as ties, only make it wider than it need be.

    Raises:
        ValueError: no trials, or a share that is none.
    """
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"a share of {share} in {n} trials; give 0 to 1, and one trial at least")
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def most_frequent_answer(answers: Sequence[Sequence[str]]) -> str:
    """The gold answer given most often, each question weighing the same however many golds it has.

    Of several that are given equally often, the first in alphabetical order; the empty text where there are no golds.
    """
    weights: Counter[str] = Counter()
    for golds in answers:
        for gold in golds:
            weights[gold] += 1 / len(golds)  # type: ignore[assignment]
    return min(weights, key=lambda gold: (-round(weights[gold], 9), gold), default="")


def majority_accuracy(items: Sequence[Item], scorer: Scorer) -> float:
    """Mean score of giving every question the one answer that is the most frequent gold among these questions."""
    guess = most_frequent_answer([item.answers for item in items])
    verdicts = scorer.variant.judge_all(items, [guess] * len(items))
    return math.fsum(verdict.score for verdict in verdicts) / len(items)
