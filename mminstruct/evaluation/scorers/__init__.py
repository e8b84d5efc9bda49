"""Scorers: pure functions `(prediction, answers) -> score in [0, 1]`, one name for each published behaviour.

    prediction str, answers [str, ...] ── scorer ──▶ float

A name is `metric` or `metric.variant`. Two programs that both print "VQA accuracy" can differ by several points on the
same predictions, so every variant has a name of its own and a report says which one it used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.evaluation.scorers import exact_match, vqa_accuracy

Scorer = Callable[[str, Sequence[str]], float]

SCORERS = MappingProxyType(
    {
        "exact_match": exact_match.exact_match,
        "exact_match.strict": exact_match.strict,
        "vqa.gtvl2021": vqa_accuracy.gtvl2021,
        "vqa.gtvl2016": vqa_accuracy.gtvl2016,
        "vqa.evalai": vqa_accuracy.evalai,
    }
)
"""Every scorer by name."""


def scorer(name: str) -> Scorer:
    """The scorer of a name. Raises `ConfigError` with the nearest names."""
    if name not in SCORERS:
        raise ConfigError(f"no metric is called {name!r}.{did_you_mean(name, SCORERS)}")
    return SCORERS[name]


__all__ = ["SCORERS", "Scorer", "scorer"]
