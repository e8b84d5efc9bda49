"""MM-Vet's grades: the official program's figures, restated with numpy, and files as published."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation import scorers
from mminstruct.evaluation.scorers import Item, scorer

from .files import score, score_text, write_json, write_lines

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
GOLD = {
    "v1_0": {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1<AND>-5", "capability": ["ocr", "math"]},
    "v1_1": {"imagename": "v1_1.png", "question": "What is it?", "answer": "a cat", "capability": ["rec"]},
    "v1_2": {"imagename": "v1_1.png", "question": "Read it.", "answer": "cat", "capability": ["math", "ocr"]},
}
GRADES = {
    "v1_0": {"model": ["gpt-4-0613"] * 2, "content": ["0.5", "0.4"], "score": [0.5, 0.4]},
    "v1_1": {"model": ["gpt-4-0613"] * 2, "content": ["1.0", "1.0"], "score": [1.0, 1.0]},
    "v1_2": {"model": ["gpt-4-0613"] * 2, "content": ["0.0", "0.1"], "score": [0.0, 0.1]},
}


def test_files_as_published(tmp_path: Path) -> None:
    gold, grades = write_json(tmp_path / "mm-vet.json", GOLD), write_json(tmp_path / "grades.json", GRADES)
    found = score("mm-vet", gold, grades)
    # Runs: (0.5 + 1 + 0) / 3 and (0.4 + 1 + 0.1) / 3, both 0.5.
    assert found["score"] == pytest.approx(0.5) and found["n"] == 3 and found["unparsed"] == 0
    assert found["figures"] == {
        "math": pytest.approx((0.45 + 0.05) / 2),
        "ocr": pytest.approx((0.45 + 0.05) / 2),
        "rec": pytest.approx(1.0),
        "set math_ocr": pytest.approx(0.25),
        "set rec": pytest.approx(1.0),
        "std": pytest.approx(0.0),
        "run 1": pytest.approx(0.5),
        "run 2": pytest.approx(0.5),
    }


@pytest.mark.parametrize("entry", [lambda grades: grades, lambda grades: {"score": grades}])
def test_short_forms(entry: Any, tmp_path: Path) -> None:
    gold = write_json(tmp_path / "mm-vet.json", GOLD)
    grades = write_json(tmp_path / "grades.json", {name: entry([0.2]) for name in GOLD})
    found = score("mm-vet", gold, grades)
    assert found["score"] == pytest.approx(0.2) and "std" not in found["figures"]
    assert score("mm-vet", gold, write_json(tmp_path / "plain.json", dict.fromkeys(GOLD, 1)))["score"] == 1.0


def official(data: dict[str, Any], grades: dict[str, Any], runs: int) -> dict[str, float]:
    """mm-vet_evaluator.py's tables: sums by capability and by set, over counts of the whole set, unrounded."""
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for entry in data.values():
        names = [*set(entry["capability"]), "set " + "_".join(sorted(set(entry["capability"]))), "total"]
        for name in names:
            counts[name] = counts.get(name, 0) + 1
            sums.setdefault(name, np.zeros(runs))
    for key, entry in grades.items():
        held = data[key]["capability"]
        for name in [*set(held), "set " + "_".join(sorted(set(held))), "total"]:
            sums[name] = sums[name] + np.array(entry["score"])
    found = {name: float((sums[name] / counts[name]).mean()) for name in sums}
    found["std"] = float((sums["total"] / counts["total"]).std())
    return found


def test_random_grades_against_the_official_arithmetic(tmp_path: Path) -> None:
    draw = random.Random(0)
    for number in range(60):
        runs = draw.randrange(2, 6)
        data: dict[str, Any] = {}
        for index in range(draw.randrange(1, 30)):
            held = draw.sample(CAPABILITIES, draw.randrange(1, 5))
            data[f"v1_{index}"] = {"imagename": "a.png", "question": "q", "answer": "a", "capability": held}
        kept = [key for key in data if draw.random() < 0.9] or list(data)  # the others have no grade, and count 0
        grades = {key: {"score": [draw.randrange(11) / 10 for _ in range(runs)]} for key in kept}
        gold = write_json(tmp_path / f"gold{number}.json", data)
        path = write_json(tmp_path / f"grades{number}.json", grades)
        items, texts = scorers.read(scorers.metric("mm-vet"), gold, path)
        found = scorer("mm-vet").score(items, texts).figures
        expected = official(data, grades, runs)
        assert found["score"] == pytest.approx(expected.pop("total"), abs=1e-12)
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert texts.count(None) == len(data) - len(kept)


def test_what_has_no_grade_is_zero_left_out_or_failed(tmp_path: Path) -> None:
    items = [Item(id=str(n), kind="rec", facts={"capability": ["rec"]}) for n in range(3)]
    by_run = scorer("mm-vet").score(items, ["[0.5]", None, "[null]"])
    assert by_run.score == 0.25 and by_run.excluded == 1  # 0.5 and 0; the failed judgement is in no mean
    assert scorer("mm-vet.graded-only").score(items, ["[0.5]", None, "[null]"]).score == 0.5
    assert scorer("mm-vet").score(items, ["[0.5, null]", "[null, 1.0]", "[1.0, 0.0]"]).figures == {
        "score": pytest.approx(2 / 3),
        "rec": pytest.approx(2 / 3),
        "set rec": pytest.approx(2 / 3),
        "std": pytest.approx(0.125),
        "run 1": 0.75,
        "run 2": 0.5,
    }
    for text in ("a cat", "[]", "0.5", '["0.5"]', "[true]", "null", ""):
        assert scorer("mm-vet").score(items[:1], [text]).score is None


def test_a_runs_own_files_are_scored_again(tmp_path: Path) -> None:
    gold = [
        {"id": "1", "question": "q", "answers": ["a"], "prediction": "b", "kind": "rec",
         "facts": {"capability": ["rec"]}},
        {"id": "2", "question": "q", "answers": ["a"], "prediction": "b", "kind": "rec",
         "facts": {"capability": ["rec"]}},
    ]  # fmt: skip
    judged = [{"id": "1", "prediction": "[0.5]"}, {"id": "2", "prediction": "[null]"}]
    paths = write_lines(tmp_path / "predictions.jsonl", gold), write_lines(tmp_path / "judged.jsonl", judged)
    found = score("mm-vet", *paths)
    assert found["score"] == 0.5 and found["excluded"] == 1
    assert ", 1 excluded" in score_text("mm-vet", *paths)


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ({}, "holds no grades"),
        ({"v1_0": {"score": []}}, r"'v1_0' holds no grades"),
        ({"v1_0": {"content": ["1"]}}, r"grades.json: 'v1_0': score: Field required"),
        ({"v1_0": [0.1, "x"]}, r"'v1_0': score.1: Input should be a valid number"),
        ({"v1_0": [0.1], "v1_1": [0.1, 0.2]}, r"'v1_0' has 1 grades and 'v1_1' 2; finish all runs"),
        ({"v1_9": [0.1]}, "id 'v1_9', which the gold file lacks"),
        ([1], "not a JSON object"),
    ],
)
def test_wrong_grades_are_refused(grades: Any, message: str, tmp_path: Path) -> None:
    gold = write_json(tmp_path / "mm-vet.json", GOLD)
    with pytest.raises(DataError, match=message):
        score("mm-vet", gold, write_json(tmp_path / "grades.json", grades))


def test_wrong_gold_is_refused(tmp_path: Path) -> None:
    grades = write_json(tmp_path / "grades.json", GRADES)
    broken = json.loads(json.dumps(GOLD))
    del broken["v1_1"]["capability"]
    with pytest.raises(DataError, match=r"mm-vet.json: 'v1_1': capability: Field required"):
        score("mm-vet", write_json(tmp_path / "mm-vet.json", broken), grades)
