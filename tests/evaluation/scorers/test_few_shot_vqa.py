"""Few-shot answers are cut as OpenFlamingo cuts them, and scored as VQA accuracy."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mminstruct.evaluation.benchmark import benchmark_class
from mminstruct.evaluation.scorers.few_shot_vqa import first_answer, first_answer_with_commas

from .files import score, write_json

ANNOTATIONS = {
    "annotations": [
        {
            "question_id": 1,
            "image_id": 7,
            "answers": [{"answer": "red" if number < 3 else "blue", "answer_id": number} for number in range(10)],
            "answer_type": "other",
        }
    ]
}


@pytest.mark.parametrize(
    ("text", "expected", "first"),
    [
        ("red Question: what", "red ", "red "),
        ("red, blue", "red", "red, blue"),
        ("1,000", "1,000", "1,000"),
        ("Shorts", "", "Shorts"),
        ("an Answer, x", "an ", "an "),
        ("question answer short", "question answer short", "question answer short"),
        ("", "", ""),
    ],
)
def test_cuts(text: str, expected: str, first: str) -> None:
    assert first_answer(text) == expected and first_answer_with_commas(text) == first


def test_cuts_equal_the_slow_ones() -> None:
    draw = random.Random(1)
    pieces = ["red", " ", ",", ", ", "Question", "Answer", "Short", "short", "1", "é", "\n"]
    for _ in range(1000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 8)))
        ends = [text.find(mark) for mark in ("Question", "Answer", "Short", ", ") if mark in text]
        assert first_answer(text) == text[: min(ends, default=len(text))]


def test_accuracy_after_the_cut(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "annotations.json", ANNOTATIONS)
    given = write_json(tmp_path / "answers.json", [{"question_id": 1, "answer": "red, Question: who"}])
    assert score("few-shot-vqa", gold, given)["score"] == pytest.approx(0.9)
    # "red," is normalised to "red" as well.
    assert score("few-shot-vqa", gold, given, "--variant", "open-flamingo-1")["score"] == pytest.approx(0.9)
    given = write_json(tmp_path / "answers.json", [{"question_id": 1, "answer": "red, blue"}])
    assert score("few-shot-vqa", gold, given)["score"] == pytest.approx(0.9)
    assert score("few-shot-vqa", gold, given, "--variant", "open-flamingo-1")["score"] == 0.0


def test_accuracy_is_that_of_the_benchmark(tmp_path: Path) -> None:
    """Golds that all agree are normalised too, as OpenFlamingo's file does it and the official one does not."""
    answers = [{"answer": "A dog", "answer_id": number} for number in range(10)]
    gold = write_json(
        tmp_path / "annotations.json", {"annotations": [{"question_id": 1, "image_id": 7, "answers": answers}]}
    )
    given = write_json(tmp_path / "answers.json", [{"question_id": 1, "answer": "dog, Question: who"}])
    cut = write_json(tmp_path / "cut.json", [{"question_id": 1, "answer": "dog"}])
    rule = benchmark_class("few-shot-vqa").primary_scorer
    assert score("few-shot-vqa", gold, given)["score"] == score(rule, gold, cut)["score"] == pytest.approx(1.0)
    assert score("vqa.official-2021", gold, cut)["score"] == 0.0
