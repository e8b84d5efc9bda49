"""Relaxed correctness of ChartQA: numbers within five per cent, other texts to the letter; in two published readings.

prediction, target ── pix2struct ──▶ bool      the text as it stands
                   ── mistral ─────▶ bool      marks and quotes dropped, per cents in three ways, letters
answer of a model ── final_answer ──▶ what follows its last "answer:", as mistral's prompt asks for it
"""

from __future__ import annotations

import re
import string

TOLERANCE = 0.05
_LEAST = 1e-10  # what a target of zero counts as in mistral's quotient
_MARKED_ANSWER = re.compile(r"([aA]nswer)\**:\**")
_MARKDOWN = re.compile(r"[*_\[\]\(\)]")


def pix2struct(prediction: str, target: str) -> bool:
    """google-research/pix2struct, metrics.py, `relaxed_correctness`.

    "50%" is 0.5. A target that is no number, or that is zero, is compared as a text without regard to case; so is a
    prediction that is no number. Years are numbers.
    """
    found, wanted = _number(prediction), _number(target)
    if found is not None and wanted:
        return abs(found - wanted) / abs(wanted) <= TOLERANCE
    return prediction.lower() == target.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def mistral(prediction: str, target: str) -> bool:
    """mistralai/mistral-evals, eval/metrics.py, `RelaxedCorrectness`, which lm-eval's tasks/chartqa has too."""
    prediction, target = _cleaned(prediction), _cleaned(target)
    found, wanted = _number_as_written(prediction), _number_as_written(target)
    if found is not None and wanted is not None:
        if _near(found, wanted):
            return True
        # Where one is a per cent, either may be meant as a share.
        shares = found / 100 if prediction.strip().endswith("%") else found
        wanted_share = wanted / 100 if target.strip().endswith("%") else wanted
        return _near(shares, wanted) or _near(found, wanted_share)
    if len(target) == 1 and target.isalpha() and prediction:
        return prediction[0].lower() == target.lower()
    return prediction.lower() == target.lower()


def _near(found: float, wanted: float) -> bool:
    return abs(found - wanted) / max(abs(wanted), _LEAST) <= TOLERANCE


def _number_as_written(text: str) -> float | None:
    try:
        return float(text.strip().rstrip("%"))
    except ValueError:
        return None


def _cleaned(text: str) -> str:
    """With a digit: final punctuation and blanks (up to a %), commas and dollars deleted; else a pair of quotes."""
    if not any(character.isdigit() for character in text):
        quoted = any(text.startswith(quote) and text.endswith(quote) for quote in "\"'")
        return text[1:-1] if quoted else text
    while text and text[-1] != "%" and (text[-1] in string.punctuation or text[-1].isspace()):
        text = text[:-1]
    return text.replace(",", "").replace("$", "")


def final_answer(text: str) -> str:
    """The first line with a text after the last "answer:", without markdown; "" where there is none."""
    text = _MARKED_ANSWER.sub(r"\1:", text)
    start = text.lower().rfind("answer:")
    if start < 0:
        return ""
    lines = (line.strip() for line in text[start + len("answer:") :].split("\n"))
    return _MARKDOWN.sub("", next((line for line in lines if line), ""))


def anywhere(text: str, targets: tuple[str, ...]) -> bool:
    """mistral-evals' `AnywhereInAnswerRelaxedCorrectness` for a text without a final answer: overly generous.

    A number anywhere in the text, also as a part of another ("12" in "2012"); or a word after is, was or are, before a
    full stop, or at the start of a paragraph. The words are put into lower case and the text is not.
    """
    for target in targets:
        try:
            number: float | int = float(target)
            if int(number) == number:
                number = int(number)
        except (ValueError, OverflowError):
            patterns = [
                pattern
                for word in targets
                for pattern in (f"is {word}", f"was {word}", f" {word}.", f"are {word}", f"\n\n{word}")
            ]
            if any(pattern.lower() in text for pattern in patterns):
                return True
            continue
        if format(number, ",") in text or str(number) in text:
            return True
    return False
