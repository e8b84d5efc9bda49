"""Lettered options of multiple-choice questions: read as models write them, checked, and written.

"A. red\\nB. green" ──lettered──▶ ["red", "green"] ──named_option("B. green")──▶ "green"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from mminstruct.errors import ReplyError

_WIDE = re.compile(r"(?<![A-Za-z])([A-Z])[、．：）]\s*")  # Chinese punctuation behind a letter
_OPTION = r"\(?([A-Z])[.):]\s+"
_NAMED = re.compile(r"\(?([A-Z])\)?[.):]?(?:\s+(.+))?", re.DOTALL)
_OTHERS = re.compile(
    r"(?i:\b(all|none|both|any|neither) of (the|these|those)\b)|\b[A-Z] and [A-Z]\b"
    r"|以上(都|皆|均)|(都|皆|均)不是|[A-Z]和[A-Z]"
)


def lettered(text: str, count: int, where: str) -> list[str]:
    """The options, one a line or all on one, each with its letter in front.

    Args:
        where: what the text is called in errors, such as `<C1>`.

    Raises:
        ReplyError: there are more or fewer, with other letters, two are equal, or one is about others ("all of these"),
            which is wrong as soon as options change places.
    """
    text = _WIDE.sub(r"\1. ", text)
    start = r"^\s*" if "\n" in text.strip() else r"(?:^|\s)"
    pattern = re.compile(rf"{start}{_OPTION}(.*?)\s*(?={start}{_OPTION}|\Z)", re.DOTALL | re.MULTILINE)
    found = [(match[1], " ".join(match[2].split())) for match in pattern.finditer(text.strip())]
    wanted = list(ascii_uppercase[:count])
    if [letter for letter, _ in found] != wanted:
        letters = ", ".join(letter for letter, _ in found) or "nothing"
        raise ReplyError(f"{where} has options with {letters} in front; write {count}, A to {wanted[-1]}, one a line")
    options = [option for _, option in found]
    if len({option.casefold().rstrip(".") for option in options}) < count:
        raise ReplyError(f"two options of {where} are equal")
    other = next((option for option in options if _OTHERS.search(option)), None)
    if other is not None:
        raise ReplyError(f"the option {other!r} of {where} is about other options; each must stand alone")
    return options


def named_option(answer: str, options: Sequence[str], where: str) -> str:
    """The option that an answer names by its letter, its text or both. Raises `ReplyError` where it names none."""
    same = next((option for option in options if option.casefold() == answer.casefold()), None)
    if same is not None:
        return same
    match = _NAMED.fullmatch(_WIDE.sub(r"\1. ", answer).strip())
    if match is None or match[1] not in ascii_uppercase[: len(options)]:
        raise ReplyError(f"the answer {answer!r} of {where} is not among the options")
    option = options[ascii_uppercase.index(match[1])]
    if match[2] is not None and match[2].strip().casefold() != option.casefold():
        raise ReplyError(f"{where} is {answer!r}, but the option {match[1]} is {option!r}")
    return option


def with_letters(options: Sequence[str]) -> str:
    """One a line, each with its letter."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(ascii_uppercase, options, strict=False))
