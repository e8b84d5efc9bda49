"""Short answers without what no reader would call a mistake.

" The Red circle. " ── plain ──▶ "red circle"        "Two" ── plain ──▶ "2"        "−3" ── plain ──▶ "-3"
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBERS = """zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"""
_WORDS = {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_QUOTES = "\"'“”‘’«»„"
_ARTICLE = re.compile(r"^(?:a|an|the)\s+(?=\S)")


def plain(text: str) -> str:
    """Lower case, one blank between words, no outer quotes, final stop or leading article; numbers up to 20 in digits.

    A minus sign of any kind is "-", a curly apostrophe is "'". "A" alone stays: it may be a letter.
    """
    text = text.replace("−", "-").replace("’", "'").lower()
    text = " ".join(text.split()).strip(_QUOTES + " ").rstrip(".!").strip(_QUOTES + " ")
    text = _ARTICLE.sub("", text)
    return " ".join(_WORDS.get(word, word) for word in text.split())


def says(text: str, words: str) -> bool:
    """Whether some words stand in a text, as whole words, after `plain` on both sides."""
    wanted = plain(words)
    return bool(wanted) and re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", _each_word(text)) is not None


def option(text: str, labels: Sequence[str], options: Sequence[str]) -> str | None:
    """The option that an answer names, by its label or by its text; None where it names none.

    The label stands in front, alone or followed by one of . ) : or a blank and the option's own text ("B. red"), in
    brackets or behind "the answer is". An option's text is the whole answer.
    """
    bare = re.sub(
        r"^\W*(?:(?:the|my)\s+)?(?:correct\s+)?(?:answer|option)(?:\s+is|:)?\s*", "", text.strip(), flags=re.I
    )
    match = re.match(r"^[(\[]?(\w+)(?:[.):\]]+|\s*$)\s*(.*)$", bare, re.DOTALL)
    if match is not None and match[1] in labels:
        return options[labels.index(match[1])]
    whole = plain(text)
    return next((one for one in options if plain(one) == whole), None)


def _each_word(text: str) -> str:
    """A whole text as `plain`, but for its first article: number words become digits wherever they stand."""
    lower = " ".join(text.replace("−", "-").replace("’", "'").lower().split())
    return re.sub(r"\w+", lambda found: _WORDS.get(found[0], found[0]), lower)
