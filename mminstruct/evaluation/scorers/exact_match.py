"""Exact match: 1.0 where the prediction equals any one of the gold answers, else 0.0.

`forgiving` forgives what no reader would call a mistake: blanks around the answer, upper case, and full stops at the
end (the rule of LLaVA's GQA script, `text.rstrip('.').lower()`, applied to prediction and gold alike). `strict`
forgives nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from mminstruct.evaluation.own_files import read_items, read_predictions
from mminstruct.evaluation.scorers.metric import Metric, Variant, by_answers


def forgiving(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where prediction and a gold answer agree after `normalise`."""
    found = normalise(prediction)
    return float(any(found == normalise(answer) for answer in answers))


def strict(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the prediction is a gold answer, character for character."""
    return float(prediction in answers)


def normalise(text: str) -> str:
    """Blanks around the text and full stops at its end removed, lower case."""
    return text.strip().rstrip(".").rstrip().lower()


METRIC = Metric(
    name="exact-match",
    summary="Share of answers that equal a gold answer.",
    variants=(
        Variant("forgiving", "Outer blanks, final full stops and upper case do not count.", by_answers(forgiving)),
        Variant("strict", "Character for character.", by_answers(strict)),
    ),
    files='JSON lines of {"id", "answers"} and of {"id", "prediction"}',
    gold=read_items,
    predictions=read_predictions,
)
