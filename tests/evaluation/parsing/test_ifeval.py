"""IFEval's official checks: what they ask langdetect and NLTK, and what they say where these are missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.parsing import ifeval
from mminstruct.evaluation.parsing.ifeval import can_check_officially, follows_officially
from mminstruct.evaluation.parsing.instructions import Instruction

from ..scorers.files import score, write_lines


class UndecidedError(Exception):
    """Stands for LangDetectException."""


class Detector:
    """Tells languages by one word of each."""

    seed: int | None = None

    def append(self, text: str) -> None:
        self.text = text

    def detect(self) -> str:
        if not any(character.isalpha() for character in self.text):
            raise UndecidedError
        return "fr" if "est" in self.text.lower().split() else "en"


class Factory(Detector):
    def load_profile(self, folder: str) -> None:
        assert folder == "profiles"

    def create(self) -> Detector:
        assert self.seed == 0  # the same language in each run
        return Detector()


def module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    return made


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small stand-ins of the two packages, which the tests' machine has not."""
    made = [
        module("langdetect", LangDetectException=UndecidedError),
        module("langdetect.detector_factory", DetectorFactory=Factory, PROFILES_DIRECTORY="profiles"),
        module("nltk"),
        module("nltk.tokenize", sent_tokenize=lambda text: text.split("|"), word_tokenize=str.split),
    ]
    for each in made:
        monkeypatch.setitem(sys.modules, each.__name__, each)
    yield
    for cached in (ifeval.language, ifeval._languages):
        cached.cache_clear()


def check(name: str, text: str, **kwargs: Any) -> bool:
    instruction = Instruction(id=name, kwargs=kwargs)
    assert can_check_officially(instruction)
    return follows_officially(text, instruction)


@pytest.mark.parametrize(
    ("name", "kwargs", "good", "bad"),
    [
        ("language:response_language", {"language": "fr"}, "Il est tard", "It is late"),
        ("language:response_language", {"language": "fr"}, "12", ""),  # no language at all, and no answer
        ("change_case:english_capital", {}, "IT IS LATE", "IL EST TARD"),
        ("change_case:english_lowercase", {}, "it is late", "It is late"),
        ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}, "A.|B.", "A. B."),
        (
            "change_case:capital_word_frequency",
            {"capital_relation": "less than", "capital_frequency": 2},
            "A-B c",
            "A - B",
        ),
        ("punctuation:no_comma", {}, "a", "a, b"),
    ],
)
@pytest.mark.usefixtures("packages")
def test_the_packages_are_asked(name: str, kwargs: dict[str, Any], good: str, bad: str) -> None:
    assert check(name, good, **kwargs)
    assert not check(name, bad, **kwargs)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("langdetect", "langdetect.detector_factory", "nltk", "nltk.tokenize"):
        monkeypatch.setitem(sys.modules, name, None)
    ifeval._languages.cache_clear()
    with pytest.raises(ConfigError, match=r"need langdetect, which is not installed"):
        check("language:response_language", "a", language="fr")
    with pytest.raises(ConfigError, match=r"need nltk, which is not installed"):
        check("length_constraints:number_sentences", "a", relation="at least", num_sentences=1)
    with pytest.raises(DataError, match=r"lacks 'language'"):
        check("language:response_language", "a")
    assert check("punctuation:no_comma", "a")

    def no_model(_: str) -> list[str]:
        raise LookupError("punkt_tab")

    monkeypatch.setitem(sys.modules, "nltk.tokenize", module("nltk.tokenize", sent_tokenize=no_model))
    with pytest.raises(ConfigError, match=r"NLTK lacks its model of sentences; run python -m nltk.downloader"):
        check("length_constraints:number_sentences", "a", relation="at least", num_sentences=1)


@pytest.mark.usefixtures("packages")
def test_official_figures_count_every_prompt(tmp_path: Path) -> None:
    asked: list[tuple[str, str, dict[str, str]]] = [
        ("In French", "language:response_language", {"language": "fr"}),
        ("No commas", "punctuation:no_comma", {}),
        ("No commas", "change_case:english_lowercase", {}),
    ]
    prompts = [
        {"key": key, "prompt": prompt, "instruction_id_list": [name], "kwargs": [kwargs]}
        for key, (prompt, name, kwargs) in enumerate(asked)
    ]
    said = [
        {"prompt": "No commas", "response": "a, b"},
        {"prompt": "In French", "response": "It is"},
        {"prompt": "No commas", "response": "IT is"},  # the last answer counts
        {"prompt": "of another set", "response": "?"},
    ]
    gold, answers = write_lines(tmp_path / "gold.jsonl", prompts), write_lines(tmp_path / "said.jsonl", said)
    found = score("instruction-following.official-strict", gold, answers)
    assert (found["n"], found["score"]) == (3, pytest.approx(1 / 3)) and found["figures"]["unchecked"] == 0
    near = score("instruction-following", gold, answers)
    assert near["score"] == pytest.approx(1 / 2) and near["figures"]["unchecked"] == 1
