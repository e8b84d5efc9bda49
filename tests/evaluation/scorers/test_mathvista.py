"""MathVista: both published normalisers by hand, a slow re-statement on random extractions, and its files."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer
from mminstruct.evaluation.scorers.mathvista import Facts, quick_extraction

from ..texts import texts
from .files import score, write_json

METADATA = {
    "language": "english",
    "source": "TQA",
    "task": "geometry",
    "skills": ["algebra", "logic"],
    "grade": "college",
}


def item(question_type: str, answer_type: str, answer: str, precision: float | None = None, *choices: str) -> Item:
    facts = {"question_type": question_type, "answer_type": answer_type, "precision": precision}
    return Item("1", answers=(answer,), choices=choices, facts=facts)


TEXT = ("multi_choice", "text")
CASES = [
    (item("free_form", "integer", "5"), "5", 1, 1),
    (item("free_form", "integer", "5"), " 5 ", 1, 1),
    (item("free_form", "integer", "5"), "5.0", 1, 0),
    (item("free_form", "integer", "1"), "1.5", 1, 0),
    (item("free_form", "integer", "0"), "0.999", 1, 0),
    (item("free_form", "integer", "5"), "five", 0, 0),
    (item("free_form", "integer", "5"), "inf", 0, 0),
    (item("free_form", "integer", "5"), "", 0, 0),
    (item("free_form", "float", "1.2", 1), "1.24", 1, 1),
    (item("free_form", "float", "1.2", 1.0), "1.2", 1, 1),
    (item("free_form", "float", "1.20", 2), "1.2", 0, 0),  # str(1.2) is "1.2"
    (item("free_form", "float", "1.2", None), "1.2", 0, 0),
    (item("free_form", "list", "[1, 2]"), "[1, 2]", 1, 1),
    (item("free_form", "list", "[1, 2]"), "[1,2]", 0, 0),
    (item(*TEXT, "cat", None, "cat", "dog"), "A", 1, 1),
    (item(*TEXT, "cat", None, "cat", "dog"), "(a) dog", 1, 1),
    (item(*TEXT, "cat", None, "cat", "dog"), " cat ", 1, 1),
    (item(*TEXT, "cat", None, "cat", "dog"), "cats", 1, 1),
    (item(*TEXT, "cat", None, "cat", "dog"), "", 1, 1),  # as far from both; the first one
    (item(*TEXT, "dog", None, "cat", "dog"), "(Z)", 0, 0),
    (item(*TEXT, "B", None, "A", "B"), "a", 0, 0),  # lower case is no letter, and as far from both
]


@pytest.mark.parametrize(("question", "extraction", "now", "before"), CASES)
def test_both_published_normalisers(question: Item, extraction: str, now: int, before: int) -> None:
    assert scorer("mathvista.official").score([question], [extraction]).score == now
    assert scorer("mathvista.official-2023").score([question], [extraction]).score == before


def slow_distance(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for number, one in enumerate(first, 1):
        previous, row[0] = row[0], number
        for place, other in enumerate(second, 1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (one != other))
    return row[-1]


def slow_normalise(extraction: Any, choices: list[str], kind: str, answer_type: str, precision: Any, old: bool) -> Any:
    """normalize_extracted_answer in the order of the source."""
    if kind == "multi_choice":
        extraction = extraction.strip()
        letter = re.findall(r"\(([a-zA-Z])\)", extraction)
        if len(letter) > 0:
            extraction = letter[0].upper()
        names = [chr(ord("A") + number) for number in range(len(choices))]
        if extraction in names:
            return choices[names.index(extraction)]
        distances = [slow_distance(extraction, choice) for choice in choices]
        return choices[distances.index(min(distances))]
    try:
        if answer_type == "integer":
            return str(int(extraction)) if old else str(int(float(extraction)))
        if answer_type == "float":
            return str(round(float(extraction), int(precision)))
    except (ValueError, OverflowError, TypeError):
        return None
    return str(extraction)


def test_normalisers_equal_a_slow_restatement() -> None:
    chance = random.Random(3)
    answers = ("cat", "dog", "5", "1.2", "3.5", "1200", "7", "A", "B")
    right = 0
    for text in texts("mathvista", 1500):
        kind, answer_type = chance.choice(
            [TEXT, ("free_form", "integer"), ("free_form", "float"), ("free_form", "list")]
        )
        choices = chance.sample(answers, chance.randint(2, 5))
        precision, gold = chance.choice((0, 1, 2, None)), chance.choice(answers)
        question = item(kind, answer_type, gold, precision, *choices)
        for name, old in (("mathvista.official", False), ("mathvista.official-2023", True)):
            expected = slow_normalise(text, choices, kind, answer_type, precision, old)
            verdict = scorer(name).score([question], [text]).verdicts[0]
            assert verdict.answer == expected and verdict.score == float(expected == gold), (text, question)
            right += int(verdict.score)
    assert right > 50


@pytest.mark.parametrize(
    ("question", "response", "extraction"),
    [
        (item("free_form", "integer", "5"), "5", "5"),
        (item("free_form", "integer", "5"), "5.0", ""),
        (item("free_form", "float", "5"), "5", "5.0"),
        (item("free_form", "integer", "5"), 'So: The answer is "14".', "14"),
        (item("free_form", "integer", "5"), "The answer is 14.", ""),
        (item(*TEXT, "cat", None, "cat", "dog"), "cat", "cat"),
        (item(*TEXT, "cat", None, "cat", "dog"), "(A)", ""),
    ],
)
def test_quick_extraction(question: Item, response: str, extraction: str) -> None:
    assert quick_extraction(response, question.choices, Facts(**question.facts)) == extraction


@pytest.mark.parametrize(
    ("question", "text", "right"),
    [
        (item("free_form", "integer", "5"), "5", 1),
        (item("free_form", "integer", "5"), "5.0", 0),
        (item("free_form", "float", "1.2", 1), "1.20", 1),
        (item("free_form", "float", "1.2", 1), "1.24", 0),
        (item("free_form", "list", "[1, 2]"), "[1, 2]", 0),
        (item(*TEXT, "dog", None, "cat", "dog"), "B", 1),
        (item(*TEXT, "dog", None, "cat", "dog"), "(B) dog", 1),
        (item(*TEXT, "dog", None, "cat", "dog"), "hm", 0),
    ],
)
def test_vlmevalkit(question: Item, text: str, right: int) -> None:
    assert scorer("mathvista.vlmevalkit").score([question], [text]).score == right


def problem(kind: str, answer_type: str, answer: str, extraction: Any, **further: Any) -> dict[str, Any]:
    return {
        "question": "?",
        "choices": ["cat", "dog"] if kind == "multi_choice" else None,
        "precision": 1 if answer_type == "float" else None,
        "answer": answer,
        "question_type": kind,
        "answer_type": answer_type,
        "metadata": METADATA,
        "response": "hm",
        "extraction": extraction,
    } | further


def test_official_files(tmp_path: Path) -> None:
    results = {
        "1": problem("free_form", "float", "1.2", "1.21"),
        "2": problem("free_form", "integer", "5", "5.0", metadata=METADATA | {"skills": ["logic"], "source": "KVQA"}),
        "3": problem("multi_choice", "text", "dog", "B"),
        "4": problem("free_form", "list", "[1, 2]", [1, 2], response="[1, 2]"),
        "5": problem("free_form", "integer", "5", None, response='The answer is "5".'),
    }
    path = write_json(tmp_path / "output_bard.json", results)
    found = score("mathvista", path, path)
    assert found["score"] == pytest.approx(4 / 5) and found["n"] == 5
    assert found["figures"]["skills/algebra"] == pytest.approx(3 / 4)
    assert found["figures"]["skills/logic"] == pytest.approx(4 / 5) and found["figures"]["source/KVQA"] == 1
    assert found["figures"]["question_type/free_form"] == pytest.approx(3 / 4)
    assert found["figures"]["answer_type/integer"] == 0.5
    assert score("mathvista.official-2023", path, path)["score"] == pytest.approx(3 / 5)
    assert score("mathvista.quick-extract", path, path)["score"] == pytest.approx(1 / 5)  # 5 alone
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte order mark changes nothing
    assert score("mathvista", path, path) == found
    some = {pid: {"extraction": results[pid]["extraction"]} for pid in ("1", "2")}
    assert score("mathvista", path, write_json(tmp_path / "some.json", some))["n"] == 2
    with pytest.raises(DataError, match=r"'1' has no response; give the official file"):
        score("mathvista.quick-extract", path, tmp_path / "some.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"holds an array and not a JSON object"),
        ({"1": problem("free_form", "float", "", "1")}, r"'1' has no answer; give testmini.json"),
        ({"1": {"answer": "1"}}, r"'1': question_type: Field required"),
        ({"1": problem("free_form", "float", "1", "1", precision="x")}, r"'1': precision"),
        ({"1": problem("multi_choice", "text", "1", "1", choices=None)}, r"'1' is multi_choice and has no choices"),
    ],
)
def test_wrong_files(value: Any, message: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "gold.json", value)
    with pytest.raises(DataError, match=message):
        score("mathvista", path, path)
    lacking = {"1": problem("free_form", "float", "1", "1")}
    del lacking["1"]["extraction"]
    with pytest.raises(DataError, match=r"'1' has no extraction; run the extraction first"):
        score("mathvista", *[write_json(tmp_path / "x.json", lacking)] * 2)
