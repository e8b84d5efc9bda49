"""A benchmark whose answers a language model judges. The judges themselves are loaded only where one is asked.

answers ─ grade, by a judge ─▶ one text per item, as the benchmark's scorers read it ─▶ Score
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mminstruct.errors import ConfigError
from mminstruct.evaluation.benchmark import Benchmark
from mminstruct.evaluation.item import Item

if TYPE_CHECKING:
    from mminstruct.evaluation.judges import Judge


class JudgedBenchmark(Benchmark):
    """Its scorers read grades, not answers; a scorer leaves out what no grade could be had of."""

    @abc.abstractmethod
    def grade(self, judge: Judge, items: Sequence[Item], answers: Sequence[str]) -> list[str]:
        """What the judge says of each answer, as JSON; `null` stands for a judgement that failed."""


def require_judge(benchmark: Benchmark, judge: Judge | None) -> None:
    """Raises `ConfigError` where a benchmark needs a judge and there is none."""
    if isinstance(benchmark, JudgedBenchmark) and judge is None:
        raise ConfigError(
            f"{benchmark.name} is graded by a language model; add --judge-url and --judge-model, "
            f"or score grades that exist already with: mminstruct score {benchmark.primary_scorer}"
        )
