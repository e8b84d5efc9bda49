"""EgoSchema: submissions of all questions against the 500 public answers, and lmms-eval's reading of texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.letters import egoschema_letter
from mminstruct.evaluation.scorers import Item, scorer

from ..texts import options, texts
from .files import score, write_json

GOLD = {"0074f737": 3, "00b9a0de": 0, "011b8b73": 4}
OPTIONS = ("C cooks. He eats", "C cleans the room", "C reads.", "c sleeps", "C walks")


def test_a_submission_holds_more_than_the_public_questions(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "subset_answers.json", GOLD)
    said = {"0074f737": 3, "00b9a0de": -1, "another": 2}
    found = score("egoschema", gold, write_json(tmp_path / "submission.json", said))
    assert found["score"] == pytest.approx(1 / 3)
    assert (found["n"], found["missing"], found["unparsed"]) == (3, 1, 2)
    table = tmp_path / "submission.csv"
    table.write_text("q_uid,answer\r\n" + "".join(f"{name},{number}\r\n" for name, number in said.items()))
    assert score("egoschema", gold, table) == found
    with pytest.raises(DataError, match=r"answers no question of the gold file"):
        score("egoschema", gold, write_json(tmp_path / "x.json", {"another": 1}))
    with pytest.raises(DataError, match=r"'0074f737': the answer is no option's number"):
        score("egoschema", gold, write_json(tmp_path / "x.json", {"0074f737": [1]}))
    with pytest.raises(DataError, match=r"'a': the answer is 5 and no option's number, 0 to 4"):
        score("egoschema", write_json(tmp_path / "y.json", {"a": 5}), table)
    for variant in ("lmms-eval", "lmms-eval-2024"):
        with pytest.raises(DataError, match=r"has no options; put questions.json beside"):
            score(f"egoschema.{variant}", gold, table)


def test_options_come_from_the_file_of_questions(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "subset_answers.json", GOLD)
    entries = [
        {"q_uid": name, "question": "?"} | {f"option {number}": text for number, text in enumerate(OPTIONS)}
        for name in [*GOLD, "another"]
    ]
    write_json(tmp_path / "questions.json", entries)
    said = {"0074f737": "D", "00b9a0de": "A. C cooks. He eats.", "011b8b73": "C walks."}
    assert score("egoschema.lmms-eval-2024", gold, write_json(tmp_path / "p.json", said))["score"] == 1
    del entries[0]["option 4"]
    write_json(tmp_path / "questions.json", entries)
    with pytest.raises(DataError, match=r"entry 0 lacks one of option 0 to option 4"):
        score("egoschema.lmms-eval-2024", gold, tmp_path / "p.json")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("A", "0"),
        ("A. C cooks. He eats.", "0"),
        ("C cooks", "0"),  # the sentence ends at the first full stop with a blank
        ("C cooks. He eats.", None),
        ("C", "2"),
        ("C reads.", "2"),
        ("C reads", None),  # the option's own full stop belongs to it
        ("C cleans the room.", "1"),
        ("C cleans the room", None),
        ("c sleeps.", "3"),
        ("a", None),
        ("A.", None),
        ("", None),
    ],
)
def test_lmms_eval_takes_exact_texts(text: str, number: str | None) -> None:
    item = Item("1", answers=(number or "0",), choices=OPTIONS)
    verdict = scorer("egoschema.lmms-eval-2024").score([item], [text]).verdicts[0]
    assert verdict.answer == number and verdict.score == float(number is not None)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("D", "D"),
        ("(D)", "D"),
        ("D. c sleeps", "D"),
        ("E, then (B)", "B"),  # "E," is no form
        ("E. then (B)", "E"),  # the first of two
        ("DNA is (B)", "A"),
        ("the answer is D: c sleeps", None),
        ("he said that e. c walks slowly on", "E"),  # the option's text with its letter, as the data set has it
        ("he said that c walks slowly on", None),
        ("a. c cooks. he eats", None),  # five words or fewer are not searched for texts
        ("", None),
    ],
)
def test_lmms_eval_takes_the_first_letter(text: str, letter: str | None) -> None:
    options = {letter: f"{letter}. {option}" for letter, option in zip("ABCDE", OPTIONS, strict=True)}
    assert egoschema_letter(text, options) == letter
    item = Item("1", answers=("3",), choices=OPTIONS)
    verdict = scorer("egoschema.lmms-eval").score([item], [text]).verdicts[0]
    assert verdict.parsed == (letter is not None)
    assert verdict.answer == ("01234"["ABCDE".index(letter)] if letter else verdict.answer)
    assert verdict.answer in set("01234") and verdict.score == float(verdict.answer == "3")


def test_lmms_evals_letter_equals_a_slow_restatement() -> None:
    for text, choices in zip(texts("ego", 1000), options("ego", 1000), strict=True):
        shown = f" {text.strip(',').strip('.').strip('!').strip('?').strip(';').strip(':').strip(chr(39))} "
        best: tuple[int, str] | None = None
        for before, behind in (("(", ")"), ("", " "), ("", ".")):
            for letter in choices:
                place = shown.rfind(before + letter + behind)
                if place != -1 and (best is None or place < best[0]):
                    best = (place, letter)
        if best is None and len(shown.split()) > 5:
            for letter, option in choices.items():
                place = shown.lower().rfind(option.lower())
                if place != -1 and (best is None or place < best[0]):
                    best = (place, letter)
        assert egoschema_letter(text, choices) == (best[1] if best else None), text


def test_official_takes_numbers_of_options_alone() -> None:
    item = Item("1", answers=("3",))
    said = ["3", " 3", "3.0", "D", "-1", "5", ""]
    assert [v.score for v in scorer("egoschema").score([item] * 7, said).verdicts] == [1, 1, 0, 0, 0, 0, 0]
