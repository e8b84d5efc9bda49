"""MMMU's reading of open answers: the pieces of a text that may be the answer, and which of them are right.

    "So x = 1,200 m." ── candidates ──▶ {"1,200 m", 1200.0} ── matches(..., ["1200"]) ──▶ True

Facts from MMMU-Benchmark/MMMU, eval_utils.py, `parse_open_response` and `eval_open`, with their quirks:

- The text is lower case before it is cut at full stops that a capital follows, so only line ends cut it.
- Of each line, the shortest rest after "so ", "is ", "answer " and the like is taken (in the last line also after "=");
  the whole text is used only where no line has such a word. "is " is found within words too ("this ").
- A word matches where a gold answer is contained in it, so "12 apples" matches the gold "2 apples". Numbers must be
  equal after rounding to two decimals. One character counts only with a blank beside it.
- "nan" and "infinity" are numbers; nan equals nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NO_ANSWERS = frozenset(":,.!?;'")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # with marks of thousands
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),  # scientific
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),  # plain
)


def candidates(response: str) -> set[str | float]:
    """What a response may mean: texts in lower case and numbers of two decimals."""
    pieces = _pieces(response)
    numbers = [number for piece in pieces for form in _NUMBERS for number in form.findall(piece)]
    return {value for piece in [*pieces, *numbers] for value in normalised(piece)}


def matches(found: Iterable[str | float], answers: Sequence[str]) -> bool:
    """Whether any candidate is right: a text that contains a gold text, or a number that equals a gold number."""
    golds = [value for answer in answers for value in normalised(answer)]
    texts = [gold for gold in golds if isinstance(gold, str)]
    return any(any(text in value for text in texts) if isinstance(value, str) else value in golds for value in found)


def normalised(text: str) -> list[str | float]:
    """A number rounded to two decimals, or the text in lower case; one character with a blank before, and behind."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _pieces(response: str) -> list[str]:
    response = response.strip().strip(".").lower()
    lines = response.split("\n")
    found = []
    for number, line in enumerate(lines):
        leads = (*_LEADS, "=") if number == len(lines) - 1 else _LEADS
        rests = [line.split(lead)[-1].strip() for lead in leads if lead in line]
        shortest = ""
        for rest in rests:  # an empty rest is shorter than any, and the next one takes its place
            shortest = rest if not shortest or len(rest) < len(shortest) else shortest
        if shortest and shortest not in _NO_ANSWERS:
            found.append(shortest)
    return found or [response]
