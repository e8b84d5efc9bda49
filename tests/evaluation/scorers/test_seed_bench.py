"""SEED-Bench: the three readings, and the official files with missing answers and ids of either kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer

from ..texts import texts
from .files import score, write_json, write_lines

ITEM = Item("1", answers=("B",), choices=("a cat", "a dog", "a cow", "an ant"))


@pytest.mark.parametrize(
    ("text", "llava", "lmms_eval", "vlmevalkit"),
    [
        ("B", 1, 1, 1),
        ("B.", 0, 1, 1),
        (" B", 0, 1, 1),
        ("b", 0, 1, 0),
        ("birds", 0, 1, 0),
        ("Because of the cat and the dog", 0, 1, 0),
        ("(B)", 0, 0, 1),
        ("a dog", 0, 0, 1),
        ("A", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_the_rules_by_hand(text: str, llava: int, lmms_eval: int, vlmevalkit: int) -> None:
    for name, expected in (("llava", llava), ("lmms-eval", lmms_eval), ("vlmevalkit", vlmevalkit)):
        assert scorer(f"seed-bench.{name}").score([ITEM], [text]).score == expected, name


def test_the_rules_on_random_texts() -> None:
    for text in texts("seed", 1000):
        assert scorer("seed-bench.llava").score([ITEM], [text]).score == float(text == "B")
        shown = text.strip()
        first = shown[0] if len(shown) > 1 else shown
        assert scorer("seed-bench.lmms-eval").score([ITEM], [text]).score == float(first.lower() == "b")


def question(name: str | int, answer: str, kind: int, data: str) -> dict[str, Any]:
    choices = {f"choice_{letter}": f"option {letter}" for letter in "abcd"}
    facts = {"question": "?", "answer": answer, "data_id": "1454426_2591111986", "question_type_id": kind}
    return {"question_id": name, "data_type": data} | facts | choices


GOLD = {
    "questions": [
        question("101669", "B", 1, "image"),
        question("101670", "A", 1, "image"),
        question("v2", "D", 10, "video"),
        question("v3", "C", 10, "video"),
    ],
    "question_type": {"Scene Understanding": 1, "Action Recognition": 10},
}


def test_official_files(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "SEED-Bench.json", GOLD)
    lines = [
        {"question_id": 101669, "text": "B"},
        {"question_id": 101670, "text": "A."},
        {"question_id": "v2", "text": "D"},
    ]
    found = score("seed-bench", gold, write_lines(tmp_path / "answers.jsonl", lines))
    assert (found["n"], found["missing"], found["score"]) == (4, 1, 0.5)
    assert found["figures"] == {
        "Action Recognition": 0.5,
        "Scene Understanding": 0.5,
        "image accuracy": 0.5,
        "video accuracy": 0.5,
    }
    submission = [{"question_id": line["question_id"], "prediction": line["text"]} for line in lines]
    assert score("seed-bench.lmms-eval", gold, write_lines(tmp_path / "upload.jsonl", submission))["score"] == 0.75
    with pytest.raises(DataError, match=r"jsonl:1 has neither text nor prediction"):
        score("seed-bench", gold, write_lines(tmp_path / "x.jsonl", [{"question_id": 1}]))
    with pytest.raises(DataError, match=r"is not a JSON object with a list 'questions'"):
        score("seed-bench", write_json(tmp_path / "x.json", []), tmp_path / "answers.jsonl")
    with pytest.raises(DataError, match=r"entry 0: choice_a: Field required"):
        score("seed-bench", write_json(tmp_path / "x.json", {"questions": [{"question_id": 1}]}), tmp_path)


def test_the_authors_results_hold_the_gold_answers_too(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    lines = [(1, "A", "A", 1), (2, "C", "C", 1), (3, "B", "A", 2)]
    judged = [{"q_id": q, "prediction": p, "gt": gt, "q_type_id": kind} for q, p, gt, kind in lines]
    found = score("seed-bench", write_lines(path, judged), path)
    assert found["score"] == pytest.approx(2 / 3) and found["figures"] == {"Data type 1": 1.0, "Data type 2": 0.0}
    # GPT-4V.json of the repository is neither JSON nor JSON lines: a comma ends each line.
    gpt = "".join(f'{{"question_id": "{q}", "prediction": "{p}", "gt_answer": "{gt}"}},\n' for q, p, gt, _ in lines)
    path.write_text(gpt, encoding="utf-8")
    found = score("seed-bench", path, path)
    assert found["score"] == pytest.approx(2 / 3) and found["figures"] == {}
    path.write_text(gpt + "{oops", encoding="utf-8")
    with pytest.raises(DataError, match=r"results.json:4 is not JSON"):
        score("seed-bench", path, path)
