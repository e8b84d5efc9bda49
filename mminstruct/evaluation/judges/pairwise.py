"""Two answers to one question, judged in both orders, since judges favour the place in which an answer stands.

(first, second) ─▶ scores a, b      (second, first) ─▶ scores b', a'
a > b and a' > b': first     a < b and a' < b': second     otherwise a tie; opposite signs are counted as disagreement
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from mminstruct.building.prompt import Prompt
from mminstruct.evaluation.judges.judge import Judge

F = TypeVar("F")

Scores = tuple[float, float]
"""Of the first and the second answer."""
Orders = tuple[Scores | None, Scores | None]
"""As given and swapped, both told in the given order; None where the judge failed."""
Side = Literal["first", "second", "tie"]


def both_orders(
    judge: Judge, prompt: Prompt[F, Scores], pairs: Sequence[F], swap: Callable[[F], F], draw: int = 0
) -> list[Orders]:
    """What the judge says of each pair as it is given and with its answers swapped."""
    given = judge.ask(prompt, pairs, draw)
    swapped = judge.ask(prompt, [swap(pair) for pair in pairs], draw)
    return [(one, None if other is None else (other[1], other[0])) for one, other in zip(given, swapped, strict=True)]


def preferred(one: Scores, other: Scores) -> tuple[Side, bool]:
    """Which answer wins in both orders, and whether the orders name opposite winners."""
    signs = [(scores[0] > scores[1]) - (scores[0] < scores[1]) for scores in (one, other)]
    if signs[0] == signs[1] != 0:
        return ("first" if signs[0] > 0 else "second"), False
    return "tie", signs[0] * signs[1] < 0


@dataclass(frozen=True)
class Tally:
    """How pairs ended. `disagreed` are among the ties; pairs that failed in either order are in `judge_failed` only."""

    first: int = 0
    second: int = 0
    tie: int = 0
    disagreed: int = 0
    judge_failed: int = 0


def tally(pairs: Iterable[Orders]) -> Tally:
    counts = {"first": 0, "second": 0, "tie": 0, "disagreed": 0, "judge_failed": 0}
    for one, other in pairs:
        if one is None or other is None:
            counts["judge_failed"] += 1
            continue
        side, disagreed = preferred(one, other)
        counts[side] += 1
        counts["disagreed"] += disagreed
    return Tally(**counts)
