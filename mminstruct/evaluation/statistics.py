"""How sure a score is: mean, standard error clustered by image, and the majority baseline.

    scores [n], clusters [n] ── estimate ──▶ Estimate(mean, n, stderr)

Questions about the same image are not independent, so an error bar that treats them as such is too small. The standard
error here is the clustered one of Miller, "Adding Error Bars to Evals" (arXiv 2411.00640, section 2.2); where every
question has its own image it is the usual standard error of the mean (section 2.1).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from mminstruct.evaluation.scorers import Item, Scorer


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


def most_frequent_answer(answers: Sequence[Sequence[str]]) -> str:
    """The gold answer given most often, each question weighing the same however many golds it has.

    Of several that are given equally often, the first in alphabetical order.
    """
    weights: Counter[str] = Counter()
    for golds in answers:
        for gold in golds:
            weights[gold] += 1 / len(golds)  # type: ignore[assignment]
    return min(weights, key=lambda gold: (-round(weights[gold], 9), gold))


def majority_accuracy(items: Sequence[Item], scorer: Scorer) -> float:
    """Mean score of giving every question the one answer that is the most frequent gold among these questions."""
    guess = most_frequent_answer([item.answers for item in items])
    verdicts = scorer.variant.judge_all(items, [guess] * len(items))
    return math.fsum(verdict.score for verdict in verdicts) / len(items)
