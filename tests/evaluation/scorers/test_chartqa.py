"""ChartQA: relaxed correctness as pix2struct and mistral-evals have it, and the files without ids."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.relaxed import final_answer, mistral, pix2struct
from mminstruct.evaluation.scorers import Item, metric

from .files import score, write_json, write_lines


@pytest.mark.parametrize(
    ("text", "target", "by_pix2struct", "by_mistral"),
    [
        ("105", "100", True, True),  # five per cent is within
        ("105.1", "100", False, False),
        ("95", "100", True, True),
        ("2008", "2010", True, True),  # years are numbers
        ("50%", "50", False, True),
        ("0.5", "50%", True, True),
        ("50", "50%", False, True),
        ("0.0", "0", False, True),  # a target of zero is a text for pix2struct
        ("0", "0", True, True),
        ("0", "0.0", False, True),
        ("1,000", "1000", False, True),
        ("$5", "5", False, True),
        ("3.", "3", True, True),
        ("Yes.", "Yes", False, False),  # mistral drops final marks only beside digits
        ("yes", "Yes", True, True),
        ("'Yes'", "Yes", False, True),
        ('"', "", False, True),
        ("nan", "nan", False, False),
        (" 12\n", "12", True, True),
        (" Yes", "Yes", False, False),
        ("Banana", "b", False, True),  # a gold letter asks for the first letter
        ("-5", "5", False, False),
        ("1_000", "1000", True, True),  # as Python reads numbers
        ("5 %", "0.05", True, True),
        ("2019 (est.)", "2019", False, False),
        ("", "", True, True),
    ],
)
def test_rules_differ(text: str, target: str, by_pix2struct: bool, by_mistral: bool) -> None:
    assert (pix2struct(text, target), mistral(text, target)) == (by_pix2struct, by_mistral)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Final Answer: 12", "12"),
        ("**Final Answer:** *12* [m]", "12 m"),
        ("Answer**: 3", "3"),
        ("answer: 1\nThe answer:\n\n  2 (two)\n3", "2 two"),
        ("FINAL ANSWER: x", "x"),
        ("12", ""),
        ("answer: ", ""),
    ],
)
def test_final_answer(text: str, expected: str) -> None:
    assert final_answer(text) == expected


def slow_pix2struct(text: str, target: str) -> bool:
    numbers = []
    for each in (text, target):
        try:
            numbers.append(float(each[:-1].rstrip("%")) / 100.0 if each[-1:] == "%" else float(each))
        except ValueError:
            numbers.append(None)
    if numbers[0] is None or numbers[1] is None or numbers[1] == 0:
        return text.lower() == target.lower()
    return abs(numbers[0] - numbers[1]) / abs(numbers[1]) <= 0.05


def slow_mistral(text: str, target: str) -> bool:
    sides = []
    for each in (text, target):
        if set(each) & set(string.digits):
            while each and each[-1] != "%" and (each[-1] in string.punctuation or each[-1].isspace()):
                each = each[:-1]
            each = "".join(character for character in each if character not in ",$")
        elif (each[:1] == '"' == each[-1:]) or (each[:1] == "'" == each[-1:]):
            each = each[1:-1]
        sides.append(each)
    values, per_cent = [], []
    for each in sides:
        try:
            values.append(float(each.strip().rstrip("%")))
            per_cent.append(each.strip().endswith("%"))
        except ValueError:
            values.append(None)
            per_cent.append(False)
    if None not in values:
        tried = [(values[0], values[1])]
        if any(per_cent):
            tried.append((values[0] / 100 if per_cent[0] else values[0], values[1]))
            tried.append((values[0], values[1] / 100 if per_cent[1] else values[1]))
        return any(abs(a - b) / max(abs(b), 1e-10) <= 0.05 for a, b in tried)
    if len(sides[1]) == 1 and sides[1].isalpha() and sides[0]:
        return sides[0][0].lower() == sides[1].lower()
    return sides[0].lower() == sides[1].lower()


def test_rules_equal_the_slow_ones() -> None:
    draw = random.Random(0)
    pieces = ["12", "1", "0", ".", "%", "$", ",", " ", "a", "B", "'", '"', "-", "e", "5", "\n", "nan"]
    for _ in range(3000):
        target = "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4)))
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4)))
        text = draw.choice([text, target, target + draw.choice(pieces), draw.choice(pieces) + target])
        assert pix2struct(text, target) == slow_pix2struct(text, target), (text, target)
        assert mistral(text, target) == slow_mistral(text, target), (text, target)


HUMAN = [
    {"imgname": "a.png", "query": "How many?", "label": "14"},
    {"imgname": "a.png", "query": "Which?", "label": "Blue"},
]
AUGMENTED = [{"imgname": "b.png", "query": "What?", "label": "50%"}]
SAID = ["14.5", "blue", "50"]


def folder_of(path: Path, human: Any, augmented: Any) -> Path:
    path.mkdir()
    write_json(path / "test_augmented.json", augmented)
    write_json(path / "test_human.json", human)
    return path


def test_the_files_by_key_and_by_order(tmp_path: Path) -> None:
    gold = folder_of(tmp_path / "gold", HUMAN, AUGMENTED)
    by_order = write_lines(tmp_path / "answers.jsonl", [{"answer": text} for text in SAID])
    found = score("chartqa", gold, by_order)
    assert found["score"] == pytest.approx(2 / 3)
    assert found["figures"] == {"human": 1.0, "augmented": 0.0, "average": 0.5}
    rows = [row | {"prediction": text} for row, text in zip(HUMAN + AUGMENTED, SAID, strict=True)]
    by_key = write_json(tmp_path / "by_key.json", rows[::-1])
    assert score("chartqa", gold, by_key)["figures"] == found["figures"]
    predicted = folder_of(tmp_path / "predicted", rows[:2], rows[2:])
    assert score("chartqa", gold, predicted)["figures"] == found["figures"]
    assert score("chartqa", gold, write_json(tmp_path / "texts.json", SAID))["figures"] == found["figures"]
    assert score("chartqa.mistral-relaxed", gold, by_order)["score"] == 1.0
    one = score("chartqa", gold / "test_human.json", write_json(tmp_path / "two.json", SAID[:2]))
    assert one["score"] == 1.0 and one["figures"] == {"human": 1.0}


def test_variants_of_mistral(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "test_human.json", [*HUMAN, HUMAN[0] | {"label": "1200"}])
    said = ["So, Final Answer: **14**", "It is blue.", "about 1,200 people"]
    predicted = write_json(tmp_path / "said.json", said)
    found = score("chartqa.mistral", gold, predicted)
    assert found["score"] == pytest.approx(1 / 3) and found["unparsed"] == 2
    # Words are sought in lower case in the text as it is.
    assert score("chartqa.mistral-anywhere", gold, predicted)["score"] == 1.0
    predicted = write_json(tmp_path / "said.json", [said[0], "It is Blue.", "in 12001"])
    assert score("chartqa.mistral-anywhere", gold, predicted)["score"] == pytest.approx(2 / 3)


def test_one_file_of_both_as_qwen_vl_writes_it(tmp_path: Path) -> None:
    rows = [{"answer": "14", "annotation": ["14"]}, {"answer": " Blue", "annotation": ["Blue", "Navy"]}]
    both = write_json(tmp_path / "chartqa_test_human_0.json", rows)
    assert score("chartqa", both, both)["score"] == 0.5
    assert score("chartqa.lmms-eval", both, both)["score"] == 0.5
    assert score("chartqa.vlmevalkit", both, both)["score"] == 1.0


def test_tables_of_vlmevalkit(tmp_path: Path) -> None:
    table = tmp_path / "ChartQA_TEST.tsv"
    table.write_text(
        "index\tquestion\tanswer\tsplit\tprediction\n0\tq\t['14']\ttest_human\t14.0 \n1\tq\tBlue\ttest_augmented\tRed\n"
    )
    assert score("chartqa.vlmevalkit", table, table)["figures"] == {"human": 1.0, "augmented": 0.0, "average": 0.5}


def test_the_same_question_twice_is_two(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "test_human.json", [HUMAN[0], HUMAN[0] | {"label": "20"}])
    rows = [HUMAN[0] | {"prediction": text} for text in ("14", "14")]
    assert score("chartqa", gold, write_json(tmp_path / "said.json", rows))["score"] == 0.5


def test_a_fact_free_item_of_ones_own_is_scored() -> None:
    found = metric("chartqa").variant(None).score([Item(id="1", answers=("3", "4"))], ["4.1"])
    assert found.score == 1.0 and found.figures == {"score": 1.0}


@pytest.mark.parametrize(
    ("gold", "said", "message"),
    [
        (HUMAN, ["1"], r"said.json has 1 answers without ids for 2 questions"),
        (HUMAN, [HUMAN[0] | {"prediction": "1"}], r"said.json lacks the id 'a.png\\nWhich\?'"),
        ([{"imgname": "a"}], ["1"], r"gold.json: entry 0: label: Field required"),
        ([{"imgname": "a", "label": 3}], ["1"], r"gold.json: entry 0: label: Input should be a valid tuple"),
        (HUMAN, [{"x": 1}], r"said.json: entry 0 has none of the keys prediction"),
    ],
)
def test_wrong_files_are_refused(gold: Any, said: Any, message: str, tmp_path: Path) -> None:
    paths = write_json(tmp_path / "gold.json", gold), write_json(tmp_path / "said.json", said)
    with pytest.raises(DataError, match=message):
        score("chartqa", *paths)


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    gold = folder_of(tmp_path / "gold", HUMAN, AUGMENTED)
    write_json(gold / "old_human.json", HUMAN)
    with pytest.raises(DataError, match=r"gold has 3 files \*human\*.json and \*augmented\*.json; give one of each"):
        score("chartqa", gold, gold)
