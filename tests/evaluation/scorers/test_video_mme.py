"""Video-MME: what is left out and what is wrong, by the official file of results in miniature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer

from ..parsing.test_letters import slow_lmms_eval, slow_vlmevalkit
from ..texts import options, texts
from .files import score, write_json, write_lines

CHOICES = ["A. Inkstone.", "B. Niche.", "C. Jade.", "D. Sacrificial table."]


def question(name: str, answer: str, response: str, task: str = "Object Recognition") -> dict[str, Any]:
    texts = {"question": "?", "choices": CHOICES, "answer": answer, "response": response}
    return {"question_id": name, "task_type": task} | texts


def video(name: str, duration: str, *questions: dict[str, Any], **further: Any) -> dict[str, Any]:
    return {
        "video_id": name,
        "duration_category": duration,
        "video_category": "Knowledge",
        "video_subcategory": "Astronomy",
        "questions": list(questions),
    } | further


VIDEOS = [
    video("001", "short", question("001-1", "C", "Best answer: C"), question("001-2", "A", "it is jade")),
    video("002", "short", question("002-1", "B", "The answer is B.", "OCR Problems")),
    video("601", "long", question("601-1", "D", "Answer: D", "OCR Problems"), video_category="Multilingual"),
]


def test_the_official_file_of_results(tmp_path: Path) -> None:
    path = write_json(tmp_path / "output_test_template.json", VIDEOS)
    found = score("video-mme", path, path)
    # "Best answer: C" is B, "it is jade" has no letter and is left out, "Answer: D" is A.
    assert found["score"] == pytest.approx(1 / 3) and found["n"] == 4 and found["unparsed"] == 1
    assert found["figures"] == {
        "domain/Knowledge": 0.5,
        "domain/Multilingual": 0.0,
        "long": 0.0,
        "long/Multilingual": 0.0,
        "short": 0.5,
        "short/Knowledge": 0.5,
        "sub_category/Astronomy": pytest.approx(1 / 3),
        "task_type/OCR Problems": 0.5,
        "task_type/Object Recognition": 0.0,
    }
    assert score("video-mme.corrected", path, path)["score"] == pytest.approx(2 / 3)
    assert score("video-mme.lmms-eval-2024", path, path)["score"] == pytest.approx(1 / 4)
    assert score("video-mme.vlmevalkit", path, path)["score"] == pytest.approx(2 / 4)
    assert score("video-mme.lmms-eval", path, path)["score"] == pytest.approx(3 / 4)


def test_names_of_the_data_set_and_videos_that_are_missing(tmp_path: Path) -> None:
    named = {"duration": "medium", "domain": "Knowledge", "sub_category": "Law", "video_id": "301"}
    entry = named | {"questions": [question("301-1", "A", "A")], "missing": False}
    lost = named | {"video_id": "302", "questions": [question("302-1", "A", "B")], "missing": True}
    path = write_json(tmp_path / "results.json", [entry, lost])
    found = score("video-mme", path, path)
    assert found["n"] == 1 and found["score"] == 1 and found["figures"]["medium/Knowledge"] == 1
    flat = named | {"question_id": "301-1", "task_type": "x", "options": CHOICES, "answer": "A"}
    gold = write_lines(tmp_path / "rows.jsonl", [flat])
    predicted = write_lines(tmp_path / "p.jsonl", [{"question_id": "301-1", "prediction": "A"}])
    assert score("video-mme", gold, predicted)["figures"]["sub_category/Law"] == 1


def test_an_option_is_read_by_its_text_in_vlmevalkit_alone() -> None:
    item = Item("1", answers=("C",), choices=("Inkstone.", "Niche.", "Jade.", "Table."))
    assert scorer("video-mme.vlmevalkit").score([item], ["it is jade"]).score == 1
    assert scorer("video-mme.official").score([item], ["it is jade"]).figures["score"] is None  # 0 of 0


def test_the_other_readings_equal_slow_restatements() -> None:
    for text, choices in zip(texts("videos", 1000), options("videos", 1000, 4, 4), strict=True):
        item = Item("1", answers=("C",), choices=tuple(choices.values()))
        found = scorer("video-mme.lmms-eval").score([item], [text]).verdicts[0]
        assert found.answer == slow_lmms_eval(text, "ABCD"), text
        deleted = text.strip()
        for phrase in (
            "The best answer is",
            "The correct answer is",
            "The answer is",
            "The answer",
            "Answer:",
            "Option:",
        ):
            deleted = deleted.replace(phrase, "")
        first = [character for character in deleted if character in "ABCD"]
        expected = first[0] if first else slow_vlmevalkit(text, choices, now=True)
        assert scorer("video-mme.vlmevalkit").score([item], [text]).verdicts[0].answer == expected, text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([video("1", "short", {"question_id": "1-1"})], r"entry 0: question 0: answer: Field required"),
        ([{"questions": []}], r"entry 0: video_id: Field required"),
        ([video("1", "short", question("1", "A", "A"), question("1", "A", "A"))], r"has the id '1', which an earlier"),
        ([], r"the gold file holds no questions"),
    ],
)
def test_wrong_files(value: Any, message: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "x.json", value)
    with pytest.raises(DataError, match=message):
        score("video-mme", path, path)
    lacking = question("1", "A", "A")
    del lacking["response"]
    path = write_json(tmp_path / "y.json", [video("1", "short", lacking)])
    with pytest.raises(DataError, match=r"entry 0: question 0 has no response"):
        score("video-mme", path, path)
