"""IFEval's checks as its program runs them: with langdetect for languages, and NLTK for sentences and words.

    text, instruction ── language, case in English, sentences, capital words ── langdetect, NLTK ──▶ followed?
                      └─ any other kind ── instructions.follows ──▶ followed?

`parsing/instructions.py` needs neither package and is therefore no more than near in five kinds. Here they are the
official ones (google-research/instruction_following_eval, instructions.py):

- The language is langdetect's. The official program leaves its chance unseeded, so that short texts may come out
  differently from run to run; here it starts from 0. A text without letters is of any language.
- `change_case:english_capital` and `english_lowercase` also want the language to be English, and langdetect often takes
  short texts in capitals for something else: such a text does not follow.
- Sentences are those of NLTK's punkt model for English, words those of its `word_tokenize`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.parsing.instructions import NOT_CHECKED, Instruction, can_check, compared, follows

ENGLISH = "en"
SENTENCES = "length_constraints:number_sentences"
CAPITAL_WORDS = "change_case:capital_word_frequency"
_CASES: dict[str, Callable[[str], bool]] = {
    "change_case:english_capital": str.isupper,
    "change_case:english_lowercase": str.islower,
}


def can_check_officially(instruction: Instruction) -> bool:
    """As `can_check`, and the language of a text can be checked too: always True.

    Raises:
        DataError: an unknown instruction, or one without its keywords.
    """
    if instruction.id != NOT_CHECKED:
        return can_check(instruction)
    if not isinstance(instruction.kwargs.get("language"), str):
        raise DataError(f"the instruction {instruction.id!r} lacks 'language'; give it in kwargs")
    return True


def follows_officially(text: str, instruction: Instruction) -> bool:
    """Whether a text follows an instruction, as the official program says; an empty one follows none.

    Raises:
        ConfigError: langdetect, NLTK or its punkt model is missing.
    """
    if not text.strip():
        return False
    kwargs = instruction.kwargs
    if instruction.id == NOT_CHECKED:
        return language(text) in (None, kwargs["language"])
    if instruction.id in _CASES:
        return _CASES[instruction.id](text) and language(text) in (None, ENGLISH)
    if instruction.id == SENTENCES:
        return compared(len(_nltk("sent_tokenize", text)), kwargs["relation"], kwargs["num_sentences"])
    if instruction.id == CAPITAL_WORDS:
        words = sum(word.isupper() for word in _nltk("word_tokenize", text))
        return compared(words, kwargs["capital_relation"], kwargs["capital_frequency"])
    return follows(text, instruction)


@cache
def language(text: str) -> str | None:
    """The language's code by langdetect; None where the text has nothing to tell it by. Raises `ConfigError`."""
    detector = _languages().create()
    detector.append(text)
    try:
        return str(detector.detect())
    except _package("langdetect").LangDetectException:
        return None


@cache
def _languages() -> Any:
    """A factory of detectors of its own, so that nobody else's seed is touched."""
    factory = _package("langdetect.detector_factory")
    own = factory.DetectorFactory()
    own.load_profile(factory.PROFILES_DIRECTORY)
    own.seed = 0
    return own


def _nltk(name: str, text: str) -> list[str]:
    try:
        return list(getattr(_package("nltk.tokenize"), name)(text))
    except LookupError:
        raise ConfigError(
            "NLTK lacks its model of sentences; run python -m nltk.downloader punkt_tab, or take strict or loose"
        ) from None


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"IFEval's own checks need {name.split('.')[0]}, which is not installed; install langdetect and nltk, "
            "or use the variants strict, loose"
        ) from None
