"""Numbers as people read them, on pages and in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SPACE = "\N{NO-BREAK SPACE}"


def percent(value: float | None) -> str:
    """An accuracy in [0, 1] as people read it."""
    return "not run" if value is None else f"{100 * value:.2f}{SPACE}%"


def points(value: float | None) -> str:
    """A standard error in percentage points."""
    return "unknown" if value is None else f"±{SPACE}{100 * value:.2f}"


def score_text(value: float | None, best: float) -> str:
    """A figure on its metric's scale: in per cent where 1 is the best."""
    if value is None:
        return "undefined"
    return percent(value) if best == 1 else f"{value:,.2f}"


def control_text(row: Mapping[str, Any], control: str, best: float) -> str:
    """What a control (`majority`, `blank_image`) reaches in a row of numbers, on the metric's scale."""
    return "not run" if row[f"{control}_accuracy"] is None else score_text(row[f"{control}_score"], best)


def error_text(value: float | None, best: float) -> str:
    """The standard error of such a figure."""
    if value is None:
        return "unknown"
    return points(value) if best == 1 else f"±{SPACE}{value:,.2f}"


def interval_text(interval: Sequence[float] | None, best: float, sign: bool = False) -> str:
    """Its interval; with `sign`, that of a difference."""
    if interval is None:
        return "unknown"
    factor, form = (100 if best == 1 else 1), ("+,.2f" if sign else ",.2f")
    low, high = (format(factor * edge, form) for edge in interval)
    return f"{low} to {high}"


def difference_text(value: float | None, best: float) -> str:
    """A difference of two figures: in percentage points where 1 is the best."""
    return "undefined" if value is None else f"{100 * value if best == 1 else value:+,.2f}"


def chance_text(p: float | None) -> str:
    """A p value."""
    if p is None:
        return "unknown"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def fact(value: Any) -> str:
    """A value of the facts table: large numbers in groups of three, None as a dash."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
