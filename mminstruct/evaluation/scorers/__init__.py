"""Metrics by name: each file of this package has one, `METRIC`, with a named variant for each published behaviour.

    "vqa", "vqa.evalai" ── scorer ──▶ Scorer(metric, variant) ── score(items, predictions) ──▶ Score

Two programs that both print "VQA accuracy" can differ by several points on the same predictions; so every behaviour has
a name of its own, and a report says which one it used.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mminstruct.errors import ConfigError, did_you_mean
from mminstruct.evaluation import own_files
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.scorers.metric import Metric, Predictions, Score, Variant, Verdict

_NO_METRICS = frozenset({"metric"})


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all metrics, sorted; nothing is imported for it."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in found if name not in _NO_METRICS))


def metric(name: str) -> Metric:
    """The metric of a name; `_` may stand for `-`. Raises `ConfigError` with the nearest names."""
    wanted = name.replace("_", "-")
    if wanted not in names():
        raise ConfigError(f"no metric is called {name!r}.{did_you_mean(wanted, names())} See: mminstruct score list")
    found = importlib.import_module(f"{__name__}.{wanted.replace('-', '_')}").METRIC
    assert isinstance(found, Metric)
    return found


@dataclass(frozen=True)
class Scorer:
    """A metric in one of its variants."""

    metric: Metric
    variant: Variant

    @property
    def name(self) -> str:
        """`metric.variant`."""
        return f"{self.metric.name}.{self.variant.name}"

    def score(self, items: Sequence[Item], predictions: Predictions) -> Score:
        return self.variant.score(items, predictions)


def scorer(name: str) -> Scorer:
    """The scorer of `metric` (its default variant) or `metric.variant`.

    Raises:
        ConfigError: no such metric or variant, with the nearest names.
    """
    first, _, second = name.partition(".")
    found = metric(first)
    return Scorer(found, found.variant(second or None))


def read(
    found: Metric, gold: Path, predictions: Path, variant: Variant | None = None
) -> tuple[list[Item], list[str | None]]:
    """Items and texts of two files, each either official or this project's own (`own_files`).

    A variant may have a reader of predictions of its own.

    Raises:
        DataError: a file is not as described, or the two are not of one data set.
    """
    items = own_files.read_items(gold) if own_files.is_own(gold, "answers") else found.gold(gold)
    own = own_files.is_own(predictions, "prediction")
    official = (variant.predictions if variant else None) or found.predictions
    texts = own_files.read_predictions(predictions) if own else official(predictions)
    return found.pairing(items, texts, predictions)


__all__ = [
    "Item",
    "Metric",
    "Predictions",
    "Score",
    "Scorer",
    "Variant",
    "Verdict",
    "metric",
    "names",
    "read",
    "scorer",
]
