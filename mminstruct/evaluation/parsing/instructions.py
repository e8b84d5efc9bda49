r"""Instructions on the form of an answer that a program can check: length, words, beginning and end, case, lists, JSON.

    {"id": "length_constraints:number_words", "kwargs": {"relation": "at least", "num_words": 50}} ─┐
    "An answer ..." ────────────────────────────────────────────────────────── follows(text, instruction) ──▶ True

The ids with IFEval's names check what google-research/instruction_following_eval `instructions.py` checks, quirks
included: keywords are regular expressions and may be parts of words, forbidden words are whole; words are runs of `\w`;
a bullet is a line that begins with `*` or `-`; JSON may stand in a code fence. Four need data or programs that are
not here, and differ:

- `language:response_language` needs langdetect: `can_check` says no, and nothing is made up.
- `change_case:english_capital` and `english_lowercase` check the case, not that the language is English.
- `length_constraints:number_sentences` counts with `sentences` below, not with NLTK's trained punkt model.
- `change_case:capital_word_frequency` splits words by a rule close to NLTK's `word_tokenize`.

The ids that begin with `sentences:`, `words:` and `numbers:` are this project's, for the kinds of MMMT-IF.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from mminstruct.errors import DataError, did_you_mean
from mminstruct.evaluation.official import Official

Check = Callable[[str, dict[str, Any]], bool]
NOT_CHECKED = "language:response_language"

_TITLE = r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)"
_SENTENCE_END = re.compile(
    rf"(?:{_TITLE}\.|[!?…。！？])+[\"'”’)\]]*(?=\s|$)|[。！？]|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)"
)
_FENCES = ("```json", "```Json", "```JSON", "```")
_FIRST_WORD_ENDS = ".,?!'\""


class Instruction(Official):
    """One instruction: which, and its numbers and words."""

    id: str
    kwargs: dict[str, Any] = Field(default_factory=dict)


def can_check(instruction: Instruction) -> bool:
    """Whether a program can check it here. Raises `DataError` for an unknown id or missing keywords."""
    if instruction.id == NOT_CHECKED:
        return False
    if instruction.id not in _CHECKS:
        raise DataError(f"no instruction is called {instruction.id!r}.{did_you_mean(instruction.id, _CHECKS)}")
    missing = [name for name in _CHECKS[instruction.id][0] if instruction.kwargs.get(name) is None]
    if missing:
        raise DataError(
            f"the instruction {instruction.id!r} lacks {', '.join(map(repr, missing))}; give them in kwargs"
        )
    return True


def follows(text: str, instruction: Instruction) -> bool:
    """Whether a text follows an instruction; an empty one follows none (IFEval, evaluation_lib.py)."""
    if not text.strip():
        return False
    kwargs = {name: value for name, value in instruction.kwargs.items() if value is not None}
    try:
        return _CHECKS[instruction.id][1](text, kwargs)
    except (TypeError, re.error) as error:
        raise DataError(
            f"the instruction {instruction.id!r} cannot be checked with {kwargs} ({error}); mend it"
        ) from None


def follows_loosely(text: str, instruction: Instruction) -> bool:
    """As `follows`, of the text without its first line, its last, both, or asterisks, or of the text itself."""
    lines = text.split("\n")
    cuts = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return any(follows(version, instruction) for cut in cuts for version in (cut, cut.replace("*", "")))


def sentences(text: str) -> list[str]:
    """Sentences: they end at . ! ? and their like before white space, at an empty line, and before a list's next item.

    The stop of a title ("Mr.") and of "e.g." ends none; "3.5" holds none.
    """
    found, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def words(text: str) -> list[str]:
    r"""Runs of `\w`, as IFEval counts them."""
    return re.findall(r"\w+", text)


def _compared(count: int, relation: str, limit: int) -> bool:
    if relation not in ("less than", "at least"):
        raise TypeError(f"relation {relation!r} is neither 'less than' nor 'at least'")
    return count < limit if relation == "less than" else count >= limit


def _paragraphs(text: str, wanted: int) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner = parts[1:-1]
    if any(not part.strip() for part in inner):
        return False
    return len(inner) + sum(bool(part.strip()) for part in (parts[:1] + parts[1:][-1:])) == wanted


def _first_word(text: str, paragraphs: int, which: int, word: str) -> bool:
    parts = text.split("\n\n")
    full = sum(bool(part.strip()) for part in parts)
    if which > full or not parts[which - 1].strip():
        return False
    found = parts[which - 1].split()[0].lstrip("'").lstrip('"')
    for mark in _FIRST_WORD_ENDS:
        found = found.split(mark)[0]
    return full == paragraphs and found.lower() == word.lower()


def _postscript(text: str, marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker.strip(), marker.strip().lower()), text.lower()) is not None


def _bullets(text: str) -> int:
    return len(re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE))


def _highlights(text: str) -> int:
    single = [part.strip("*") for part in re.findall(r"\*[^\n\*]*\*", text)]
    double = [part[2:-2] for part in re.findall(r"\*\*[^\n\*]*\*\*", text)]
    return sum(bool(part.strip()) for part in single + double)


def _is_json(text: str) -> bool:
    inside = text.strip()
    for fence in _FENCES:
        inside = inside.removeprefix(fence)
    try:
        json.loads(inside.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]


def _title(text: str) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _capital_words(text: str) -> int:
    apart = re.sub(r"[^\w\s'./-]|--+|\.\.+|\.(?=\s*$)", " ", text)
    apart = re.sub(r"(?i)(n't|'s|'m|'d|'ll|'re|'ve)\b", r" \1", apart)
    return sum(word.isupper() for word in apart.split())


def _quoted(text: str) -> bool:
    inside = text.strip()
    return len(inside) > 1 and inside[0] == inside[-1] == '"'


def _ends(text: str, phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(phrase.strip().lower())


def _whole(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _bare(sentence: str) -> str:
    return sentence.strip().rstrip(".!?…。！？\"'”’)").rstrip()


def _each(text: str, holds: Callable[[str], bool]) -> bool:
    return all(holds(sentence) for sentence in sentences(text))


def _numbers(text: str) -> int:
    return len(re.findall(r"\d+(?:[.,]\d+)*", text))


def _strings(value: Any) -> Sequence[str]:
    if isinstance(value, str) or not all(isinstance(entry, str) for entry in value):
        raise TypeError("a list of texts is needed")
    return list(value)


_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

_CHECKS: dict[str, tuple[tuple[str, ...], Check]] = {
    "keywords:existence": (
        ("keywords",),
        lambda text, k: all(re.search(word, text, re.IGNORECASE) for word in _strings(k["keywords"])),
    ),
    "keywords:frequency": (
        ("keyword", "relation", "frequency"),
        lambda text, k: _compared(
            len(re.findall(k["keyword"].strip(), text, re.IGNORECASE)), k["relation"], k["frequency"]
        ),
    ),
    "keywords:forbidden_words": (
        ("forbidden_words",),
        lambda text, k: not any(re.search(rf"\b{w}\b", text, re.IGNORECASE) for w in _strings(k["forbidden_words"])),
    ),
    "keywords:letter_frequency": (
        ("letter", "let_relation", "let_frequency"),
        lambda text, k: _compared(
            text.lower().count(k["letter"].strip().lower()), k["let_relation"], k["let_frequency"]
        ),
    ),
    "length_constraints:number_sentences": (
        ("relation", "num_sentences"),
        lambda text, k: _compared(len(sentences(text)), k["relation"], k["num_sentences"]),
    ),
    "length_constraints:number_paragraphs": (
        ("num_paragraphs",),
        lambda text, k: _paragraphs(text, k["num_paragraphs"]),
    ),
    "length_constraints:number_words": (
        ("relation", "num_words"),
        lambda text, k: _compared(len(words(text)), k["relation"], k["num_words"]),
    ),
    "length_constraints:nth_paragraph_first_word": (
        ("num_paragraphs", "nth_paragraph", "first_word"),
        lambda text, k: _first_word(text, k["num_paragraphs"], k["nth_paragraph"], k["first_word"]),
    ),
    "detectable_content:number_placeholders": (
        ("num_placeholders",),
        lambda text, k: len(re.findall(r"\[.*?\]", text)) >= k["num_placeholders"],
    ),
    "detectable_content:postscript": (
        ("postscript_marker",),
        lambda text, k: _postscript(text, k["postscript_marker"]),
    ),
    "detectable_format:number_bullet_lists": (("num_bullets",), lambda text, k: _bullets(text) == k["num_bullets"]),
    "detectable_format:constrained_response": ((), lambda text, k: any(option in text for option in _OPTIONS)),
    "detectable_format:number_highlighted_sections": (
        ("num_highlights",),
        lambda text, k: _highlights(text) >= k["num_highlights"],
    ),
    "detectable_format:multiple_sections": (
        ("section_spliter", "num_sections"),
        lambda text, k: len(re.findall(rf"\s?{k['section_spliter'].strip()}\s?\d+\s?", text)) >= k["num_sections"],
    ),
    "detectable_format:json_format": ((), lambda text, k: _is_json(text)),
    "detectable_format:title": ((), lambda text, k: _title(text)),
    "combination:two_responses": ((), lambda text, k: _two_responses(text)),
    "combination:repeat_prompt": (
        ("prompt_to_repeat",),
        lambda text, k: text.strip().lower().startswith(k["prompt_to_repeat"].strip().lower()),
    ),
    "startend:end_checker": (("end_phrase",), lambda text, k: _ends(text, k["end_phrase"])),
    "startend:quotation": ((), lambda text, k: _quoted(text)),
    "change_case:capital_word_frequency": (
        ("capital_relation", "capital_frequency"),
        lambda text, k: _compared(_capital_words(text), k["capital_relation"], k["capital_frequency"]),
    ),
    "change_case:english_capital": ((), lambda text, k: text.isupper()),
    "change_case:english_lowercase": ((), lambda text, k: text.islower()),
    "punctuation:no_comma": ((), lambda text, k: "," not in text),
    "sentences:max_words": (("num_words",), lambda text, k: _each(text, lambda s: len(words(s)) <= k["num_words"])),
    "sentences:min_words": (("num_words",), lambda text, k: _each(text, lambda s: len(words(s)) >= k["num_words"])),
    "sentences:max_count": (("num_sentences",), lambda text, k: len(sentences(text)) <= k["num_sentences"]),
    "sentences:start": (("start",), lambda text, k: _each(text, lambda s: s.lower().startswith(k["start"].lower()))),
    "sentences:end": (("end",), lambda text, k: _each(text, lambda s: _bare(s).lower().endswith(k["end"].lower()))),
    "words:include": (("words",), lambda text, k: all(_whole(word, text) for word in _strings(k["words"]))),
    "words:exclude": (("words",), lambda text, k: not any(_whole(word, text) for word in _strings(k["words"]))),
    "numbers:at_least": (("count",), lambda text, k: _numbers(text) >= k["count"]),
    "numbers:none": ((), lambda text, k: _numbers(text) == 0),
}
