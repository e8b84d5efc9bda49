"""The numbers of a report, computed again by hand from the same answers; and the files that carry them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mminstruct.evaluation.adapters.zoo import ZooAdapter
from mminstruct.evaluation.benchmark import Item
from mminstruct.evaluation.requests import Reply
from mminstruct.evaluation.results import BenchmarkResult, judge, run_benchmark, write_predictions
from mminstruct.evaluation.runner import Predictions
from mminstruct.evaluation.statistics import standard_error

from .conftest import Mixed, Pair

ITEMS = [
    Item("1", (Path("a.png"),), "is it red?", ("yes",), "yes-no", "color", cluster="a"),
    Item("2", (Path("a.png"),), "is it round?", ("no",), "yes-no", "shape", cluster="a"),
    Item("3", (Path("b.png"),), "is it blue?", ("yes",), "yes-no", "color", cluster="b"),
    Item("4", (Path("b.png"),), "which color?", ("blue",), "color", cluster="b"),
    Item("5", (Path("c.png"), Path("d.png")), "same?", ("yes",), cluster="c"),
]


def predictions(*texts: str, blank: bool = False) -> Predictions:
    return Predictions(
        ITEMS,
        [Reply(text=text, tokens=len(text), finish="end") for text in texts],
        distinct=5,
        generated=5,
        seconds=2.0,
        blank_images=blank,
    )


@pytest.fixture
def result(pictures: list[Path]) -> BenchmarkResult:
    benchmark = Mixed(pictures)
    seen, unseen = (
        predictions("Yes.", "yes", "yes", "blue", ""),
        predictions("no", "no", "no", "red", "yes", blank=True),
    )
    return BenchmarkResult(benchmark, seen, judge(benchmark, seen), unseen, judge(benchmark, unseen))


def test_numbers_by_hand(result: BenchmarkResult) -> None:
    numbers = result.numbers()
    scores, clusters = [1.0, 0.0, 1.0, 1.0, 0.0], list("aabbc")
    assert numbers["accuracy"] == pytest.approx(0.6) and numbers["n"] == 5 and numbers["clusters"] == 3
    assert numbers["stderr"] == pytest.approx(standard_error(scores, clusters))
    assert numbers["scorers"] == pytest.approx({"exact-match": 0.6, "exact-match.strict": 0.4, "vqa.evalai": 0.6})
    assert numbers["blank_image_accuracy"] == pytest.approx(0.4)
    assert numbers["image_gain"] == pytest.approx(0.2)
    gains = [1.0, -1.0, 1.0, 1.0, -1.0]
    assert numbers["image_gain_stderr"] == pytest.approx(standard_error(gains, clusters))
    assert numbers["majority_answer"] == "yes" and numbers["majority_accuracy"] == pytest.approx(0.6)
    # Fine types: {yes, yes}, {no}, {blue}, and the item without a type {yes}: each type's best guess is always right.
    assert numbers["majority_by_type_accuracy"] == pytest.approx(1.0)
    assert numbers["empty_answers"] == 1
    assert numbers["mean_answer_tokens"] == pytest.approx(14 / 5) and numbers["cut_off_answers"] == 0
    assert result.timing()["answers"]["questions_per_second"] == pytest.approx(2.5)
    assert (numbers["scorer"], numbers["limit"]) == ("exact-match.forgiving", None)


def test_types_coarse_and_fine(result: BenchmarkResult) -> None:
    by_type = result.numbers()["by_type"]
    assert list(by_type) == ["color", "yes-no", "yes-no (color)", "yes-no (shape)"]
    assert {name: (row["accuracy"], row["n"]) for name, row in by_type.items()} == {
        "color": (1.0, 1),
        "yes-no": (pytest.approx(2 / 3), 3),
        "yes-no (color)": (1.0, 2),
        "yes-no (shape)": (0.0, 1),
    }
    assert by_type["color"]["stderr"] is None and by_type["yes-no"]["stderr"] is not None
    assert by_type["yes-no"]["majority_accuracy"] == pytest.approx(2 / 3)
    assert by_type["yes-no"]["blank_image_accuracy"] == pytest.approx(1 / 3)


def test_without_the_blank_control(pictures: list[Path]) -> None:
    benchmark, seen = Mixed(pictures), predictions("a", "b", "c", "d", "e")
    numbers = BenchmarkResult(benchmark, seen, judge(benchmark, seen), None, {}).numbers()
    assert numbers["blank_image_accuracy"] is None and numbers["image_gain"] is None
    assert numbers["by_type"]["color"]["blank_image_accuracy"] is None
    json.dumps(numbers, allow_nan=False)


def test_numbers_are_plain_json(result: BenchmarkResult) -> None:
    assert json.loads(json.dumps(result.numbers(), allow_nan=False)) == result.numbers()


def test_predictions_file(result: BenchmarkResult, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "predictions.jsonl"
    write_predictions(path, result.predictions, result.scores)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {
        "id": "1",
        "image": "a.png",
        "question": "is it red?",
        "answers": ["yes"],
        "images": ["a.png"],
        "prediction": "Yes.",
        "scores": {"exact-match": 1.0, "exact-match.strict": 0.0, "vqa.evalai": 1.0},
        "kind": "yes-no",
        "detail": "color",
        "cluster": "a",
    }
    assert lines[4]["images"] == ["c.png", "d.png"] and lines[4]["image"] == "c.png"
    assert [path.name for path in path.parent.iterdir()] == ["predictions.jsonl"], "no temporary file is left"


def test_run_benchmark(pair: Pair, mixed: Mixed, tmp_path: Path) -> None:
    phases: dict[str, tuple[int, int]] = {}

    def progress(phase: str, done: int, total: int) -> None:
        phases[phase] = (done, total)

    found = run_benchmark(ZooAdapter(*pair), mixed, limit=9, folder=tmp_path, progress=progress)
    assert phases == {"answers": (9, 9), "blank control": (9, 9)}
    assert found.limit == 9
    assert found.blank is not None and found.blank.blank_images and len(found.blank_scores["exact-match"].verdicts) == 9
    for name, kept in [("predictions", found.predictions), ("predictions_blank", found.blank)]:
        lines = (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["prediction"] for line in lines] == kept.texts

    alone = run_benchmark(ZooAdapter(*pair), mixed, limit=9, blank=False)
    assert alone.blank is None and alone.predictions.texts == found.predictions.texts
