"""EgoSchema: submissions of all questions against the 500 public answers, and lmms-eval's reading of texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer

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
    with pytest.raises(DataError, match=r"has no options; put questions.json beside"):
        score("egoschema.lmms-eval", gold, table)


def test_options_come_from_the_file_of_questions(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "subset_answers.json", GOLD)
    entries = [
        {"q_uid": name, "question": "?"} | {f"option {number}": text for number, text in enumerate(OPTIONS)}
        for name in [*GOLD, "another"]
    ]
    write_json(tmp_path / "questions.json", entries)
    said = {"0074f737": "D", "00b9a0de": "A. C cooks. He eats.", "011b8b73": "C walks."}
    assert score("egoschema.lmms-eval", gold, write_json(tmp_path / "p.json", said))["score"] == 1
    del entries[0]["option 4"]
    write_json(tmp_path / "questions.json", entries)
    with pytest.raises(DataError, match=r"entry 0 lacks one of option 0 to option 4"):
        score("egoschema.lmms-eval", gold, tmp_path / "p.json")


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
    verdict = scorer("egoschema.lmms-eval").score([item], [text]).verdicts[0]
    assert verdict.answer == number and verdict.score == float(number is not None)


def test_official_takes_numbers_of_options_alone() -> None:
    item = Item("1", answers=("3",))
    said = ["3", " 3", "3.0", "D", "-1", "5", ""]
    assert [v.score for v in scorer("egoschema").score([item] * 7, said).verdicts] == [1, 1, 0, 0, 0, 0, 0]
