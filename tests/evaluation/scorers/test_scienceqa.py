"""ScienceQA: the rules of its own script, LLaVA's and the harnesses', and the files that each of them writes."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer

from ..texts import texts
from .files import score, write_json, write_lines

TWO = Item("7", answers=("B",), choices=("cat", "dog"))
THREE = Item("8", answers=("C",), choices=("cat", "dog", "cow"))


@pytest.mark.parametrize(
    ("text", "official", "llava", "lmms_eval"),
    [
        ("C", None, "C", "C"),
        ("c", None, None, "C"),
        ("C.", None, None, "C"),
        ("C. cow", None, "C", "C"),
        ("C.cow", None, None, "C"),
        ("c. cow", None, None, None),  # a capital only, before a full stop
        (" C", None, None, "C"),
        ("C)", None, None, None),
        ("The answer is C.", "C", "C", None),
        ("The answer is C", None, None, None),  # a character must follow
        ("The answer is C,", "C", "C", None),  # any character
        ("The answer is C\n", None, None, None),  # but a line end
        ("The answer is C. The answer is B.", None, None, None),
        ("The answer is D.", None, None, None),  # no such option
        ("D", None, None, None),
        ("", None, None, None),
    ],
)
def test_the_rules_by_hand(text: str, official: str | None, llava: str | None, lmms_eval: str | None) -> None:
    for name, expected in (("llava", llava), ("lmms-eval", lmms_eval)):
        verdict = scorer(f"scienceqa.{name}").score([THREE], [text]).verdicts[0]
        assert (verdict.answer, verdict.score) == (expected, float(expected == "C")), name
    for name in ("official", "official-sequence"):
        verdict = scorer(f"scienceqa.{name}").score([THREE], [text]).verdicts[0]
        assert verdict.parsed == (official is not None)
        assert verdict.answer == official if verdict.parsed else verdict.answer in ("A", "B", "C")


def slow_llava(text: str, choices: int) -> int:
    """eval_science_qa.py: the option's number, or -1."""
    letters = ["A", "B", "C", "D", "E"]
    if text in letters:
        found = text
    elif len(text) >= 3 and text[0] in letters and text[1:3] == ". ":
        found = text[0]
    else:
        said = re.compile("The answer is ([A-Z]).").findall(text)
        found = said[0] if len(said) == 1 else "FAILED"
    return letters.index(found) if found in letters[:choices] else -1


def test_llava_equals_a_slow_restatement() -> None:
    read = set()
    for number, text in enumerate(texts("scienceqa", 2000)):
        choices = 2 + number % 4
        item = Item("1", answers=("B",), choices=tuple("abcde"[:choices]))
        verdict = scorer("scienceqa.llava").score([item], [text]).verdicts[0]
        expected = slow_llava(text, choices)
        assert verdict.score == float(expected == 1) and verdict.parsed == (expected >= 0), text
        read.add(expected)
    assert read >= {-1, 0, 1, 2, 3}


def test_the_random_sequence_is_that_of_the_official_program() -> None:
    items = [Item(str(number), answers=("A",), choices=("x",) * (2 + number % 4)) for number in range(200)]
    said = ["The answer is A." if number % 3 == 0 else "no" for number in range(200)]
    random.seed(3)
    random.sample([str(number) for number in range(12_726)], 2)
    expected = [0 if number % 3 == 0 else random.choice(range(len(item.choices))) for number, item in enumerate(items)]
    found = scorer("scienceqa.official-sequence").score(items, said)
    assert [verdict.score for verdict in found.verdicts] == [float(number == 0) for number in expected]
    assert scorer("scienceqa.official").score(items, said).unparsed == found.unparsed == sum(s == "no" for s in said)


def test_the_random_sequence_gives_the_options_that_the_published_results_hold() -> None:
    """From results/gpt3/final_test_QCM-ALE_2_seed_3.json: the first nine questions with an empty output, and `results`.

    Taken to have two options each: the file does not say how many there are.
    """
    published = {"15": 0, "22": 1, "26": 1, "126": 0, "142": 0, "145": 1, "183": 1, "184": 0, "196": 0}
    items = [Item(pid, answers=("A",), choices=("x", "y")) for pid in published]
    verdicts = scorer("scienceqa.official-sequence").score(items, [""] * len(items)).verdicts
    assert [verdict.answer for verdict in verdicts] == ["AB"[number] for number in published.values()]


def problem(answer: int, choices: int = 3, **further: Any) -> dict[str, Any]:
    return {
        "question": "?",
        "choices": [f"option {number}" for number in range(choices)],
        "answer": answer,
        "hint": "",
        "image": None,
        "subject": "natural science",
        "grade": "grade3",
        "split": "test",
    } | further


PROBLEMS = {
    "10": problem(0, image="image.png"),
    "11": problem(1, hint="A hint.", subject="social science", grade="grade8"),
    "2": problem(2, image="image.png", hint="A hint.", subject="language science", grade="grade12"),
    "3": problem(1, choices=2),
    "4": problem(0, split="train"),
}
TEXTS = {"10": "A. option", "11": "The answer is B.", "2": "A", "3": "b"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "problems.json", PROBLEMS)
    write_json(tmp_path / "pid_splits.json", {"train": ["4"], "test": ["2", "3", "10", "11"]})
    return tmp_path


def test_llavas_answers_with_one_missing(folder: Path) -> None:
    lines = [{"question_id": pid, "prompt": "?", "text": text, "more": 1} for pid, text in TEXTS.items() if pid != "3"]
    predicted = write_lines(folder / "answers.jsonl", lines)
    for gold in (folder, folder / "problems.json"):
        found = score("scienceqa.llava", gold, predicted)
        assert (found["n"], found["missing"], found["score"]) == (4, 1, 0.5)
    assert found["figures"] == {
        "IMG-Accuracy": 0.5,
        "acc_grade_1_6": 0.5,
        "acc_grade_7_12": 0.5,
        "acc_has_image": 0.5,
        "acc_has_text": 0.5,
        "acc_language": 0.0,
        "acc_natural": 0.5,
        "acc_no_context": 0.0,
        "acc_social": 1.0,
    }
    assert score("scienceqa.lmms-eval", folder, predicted)["score"] == 0.25


def test_a_file_of_results_has_texts_and_numbers(folder: Path) -> None:
    value = {"acc": 75.0, "correct": 3, "count": 4, "results": {"10": 0, "11": 1, "2": 2, "3": 0}, "outputs": TEXTS}
    predicted = write_json(folder / "final_test_QCM-ALE_2_seed_3.json", value)
    assert score("scienceqa.official-recorded", folder, predicted)["score"] == 0.75
    assert score("scienceqa.llava", folder, predicted)["score"] == 0.5
    value["results"]["3"] = -1  # LLaVA's scripts write it for what they cannot read
    found = score("scienceqa.official-recorded", folder, write_json(predicted, value))
    assert found["score"] == 0.75 and found["unparsed"] == 1
    del value["results"]
    with pytest.raises(DataError, match=r"has no object 'results'; give a file of results"):
        score("scienceqa.official-recorded", folder, write_json(predicted, value))


def test_without_a_test_split_all_questions_count(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "problems.json", {"4": PROBLEMS["4"]})
    predicted = write_lines(tmp_path / "answers.jsonl", [{"question_id": 4, "text": "A"}])
    assert score("scienceqa.llava", gold, predicted)["score"] == 1
    with pytest.raises(DataError, match=r"jsonl is no file of results"):
        score("scienceqa.official-recorded", gold, predicted)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"problems.json is not a JSON object"),
        ({"1": problem(3)}, r"'1': answer 3 is none of the 3 choices"),
        ({"1": {"answer": 1}}, r"'1': choices: Field required"),
        ({}, r"the gold file holds no questions"),
    ],
)
def test_wrong_files(value: Any, message: str, tmp_path: Path) -> None:
    gold = write_json(tmp_path / "problems.json", value)
    predicted = write_lines(tmp_path / "answers.jsonl", [{"question_id": "1", "text": "A"}])
    with pytest.raises(DataError, match=message):
        score("scienceqa.llava", gold, predicted)
    with pytest.raises(DataError, match=r"answers.jsonl:1: text: Field required"):
        write_json(tmp_path / "problems.json", PROBLEMS)
        score("scienceqa.llava", gold, write_lines(predicted, [{"question_id": "1"}]))


def test_the_output_file_of_llavas_script(tmp_path: Path) -> None:
    """haotian-liu/LLaVA, eval/scienceqa/answers/llava-v1.5-13b_output.jsonl: its keys, questions 47, 93 and 95."""
    problems = {
        "47": {
            "choices": ["one of the longest", "the first of two", "the death of millions", "over quickly"],
            "answer": 3,
        },
        "93": {"choices": ["acquired", "inherited"], "answer": 0},
        "95": {"choices": ["Maine", "South Carolina", "Kansas", "Delaware"], "answer": 0, "image": "image.png"},
    }
    common = {"parsed_ans": "D", "ground_truth": "D", "question": "?", "is_multimodal": False}
    right = [common | {"question_id": "47", "pred": "D. The war would be over quickly."}]
    right += [common | {"question_id": "93", "pred": "A. acquired"}]
    both = {"correct": right, "incorrect": [common | {"question_id": "95", "pred": "C"}]}
    gold, output = write_json(tmp_path / "problems.json", problems), tmp_path / "llava_output.jsonl"
    output.write_text(json.dumps(both, indent=2))
    found = score("scienceqa.llava", gold, output)
    assert found["score"] == pytest.approx(2 / 3) and found["figures"]["IMG-Accuracy"] == 0
    both["incorrect"][0].pop("pred")
    output.write_text(json.dumps(both))
    with pytest.raises(DataError, match=r"entry 0: pred: Field required"):
        score("scienceqa.llava", gold, output)
