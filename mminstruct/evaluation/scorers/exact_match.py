"""Exact match: 1.0 where the prediction equals any one of the gold answers, else 0.0.

`exact_match` forgives what no reader would call a mistake: blanks around the answer, upper case, and full stops at the
end (the rule of LLaVA's GQA script, `text.rstrip('.').lower()`, applied to prediction and gold alike). `strict`
forgives nothing.
"""

from __future__ import annotations

from collections.abc import Sequence


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where prediction and a gold answer agree after `normalise`."""
    found = normalise(prediction)
    return float(any(found == normalise(answer) for answer in answers))


def strict(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the prediction is a gold answer, character for character."""
    return float(prediction in answers)


def normalise(text: str) -> str:
    """Blanks around the text and full stops at its end removed, lower case."""
    return text.strip().rstrip(".").rstrip().lower()
