"""The numbers of a report, computed again by hand from the same answers; and the files that carry them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mminstruct.cli.eval import results_table
from mminstruct.conversation import Conversation
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.adapters.zoo import ZooAdapter
from mminstruct.evaluation.benchmark import Benchmark, Item, one_question
from mminstruct.evaluation.page import render
from mminstruct.evaluation.requests import Reply
from mminstruct.evaluation.results import BenchmarkResult, judge, run_benchmark, write_predictions
from mminstruct.evaluation.runner import Predictions, evaluate
from mminstruct.evaluation.statistics import standard_error

from .conftest import Mixed, Pair
from .test_runner import Echo

REPORT = {"model": {}, "checkpoint": {}, "code": {"version": "1", "commit": None}, "versions": {}}
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
    assert {name: found["score"] for name, found in numbers["scorers"].items()} == pytest.approx(
        {"exact-match": 0.6, "exact-match.strict": 0.4, "vqa.evalai": 0.6}
    )
    evalai = numbers["scorers"]["vqa.evalai"]
    assert (evalai["name"], evalai["unparsed"], evalai["best"]) == ("vqa.evalai", 0, 1.0) and evalai["source"]
    assert evalai["figures"]["perQuestionType color"] == 1.0
    assert numbers["score"] == numbers["accuracy"] == result.accuracy and numbers["score_stderr"] == numbers["stderr"]
    assert numbers["parse_rate"] == 1.0 and numbers["cut_off_share"] == 0.0
    assert numbers["mean_answer_characters"] == pytest.approx((4 + 3 + 3 + 4 + 0) / 5)
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


def test_controls_stand_in_tables_in_the_metrics_own_unit(pictures: list[Path]) -> None:
    """Of four questions in two rotations three are right in both; grey, half of all answers are and no question is."""

    class Circular(Mixed):
        primary_scorer = "mmbench"
        further_scorers = ()

    choices = ("a cat", "a dog", "a cow", "a fox")
    items = [
        Item(
            f"{number}{turn}", (Path(f"{number}.png"),), "What is it?", (gold,), "animals", choices=choices, group=name
        )
        for number in range(4)
        for turn, gold, name in (("", "A", f"{number}"), ("r", "B", f"{number}"))
    ]

    def answers(texts: Sequence[str]) -> Predictions:
        return Predictions(items, [Reply(text=text, tokens=1, finish="end") for text in texts], 8, 8, 1.0)

    benchmark, seen, grey = Circular(pictures), answers("ABABABAA"), answers("AAAAAAAA")
    result = BenchmarkResult(benchmark, seen, judge(benchmark, seen), grey, judge(benchmark, grey))
    numbers = result.numbers()
    for row in (numbers, numbers["by_type"]["animals"]):
        assert (row["score"], row["blank_image_score"], row["majority_score"]) == (0.75, 0.0, 0.0)
        assert (row["accuracy"], row["blank_image_accuracy"], row["majority_accuracy"]) == (7 / 8, 0.5, 0.5)
    assert numbers["majority_by_type_score"] == 0.0 and numbers["majority_by_type_accuracy"] == 0.5
    [shown] = {tuple(column.cells) for column in results_table(numbers).columns if column.header == "grey"}
    assert shown == ("0.00\N{NO-BREAK SPACE}%",) * 2
    page = render(
        "report.html.jinja", title="t", report=REPORT | {"benchmarks": {"c": numbers}}, plot=None, collections={}
    )
    assert (
        ">50.00\N{NO-BREAK SPACE}%<" not in page
        and "The mean score of single answers is 87.50\N{NO-BREAK SPACE}%, another" in page
    )
    assert "is worth +75.00 points." in page


def test_intervals_are_the_percentiles_of_drawn_clusters(result: BenchmarkResult) -> None:
    """Drawn here one cluster at a time, from the same seed: a x2 = (1, 0), b x2 = (1, 1), c = (0)."""
    clusters = [[1.0, 0.0], [1.0, 1.0], [0.0]]
    chosen = np.random.default_rng(0).integers(3, size=(1000, 3))
    means = [np.mean([score for number in drawn for score in clusters[number]]) for drawn in chosen]
    numbers = result.numbers()
    assert numbers["interval"] == pytest.approx(list(np.percentile(means, [2.5, 97.5])))
    assert numbers["by_type"]["color"]["interval"] is None, "one image says nothing of others"


def test_a_corpus_score_has_its_own_interval_and_error(pictures: list[Path]) -> None:
    """The mean over two sets of the F1 of yes; the mean of the questions' scores stands beside it."""

    class Polls(Mixed):
        primary_scorer = "pope"
        further_scorers = ()

    draw = random.Random(0)
    golds = [draw.choice(["yes", "no"]) for _ in range(80)]
    said = [gold if draw.random() < 0.7 else draw.choice(["yes", "no"]) for gold in golds]
    items = [
        Item(str(n), (Path(f"{n}.png"),), f"{n}?", (gold,), "first" if n % 2 else "second")
        for n, gold in enumerate(golds)
    ]
    seen = Predictions(items, [Reply(text=text, tokens=1, finish="end") for text in said], 80, 80, 1.0)
    benchmark = Polls(pictures)
    numbers = BenchmarkResult(benchmark, seen, judge(benchmark, seen), None, {}).numbers()

    def f1(places: list[int]) -> float:
        hit = sum(golds[p] == said[p] == "yes" for p in places)
        return 2 * hit / (sum(golds[p] == "yes" for p in places) + sum(said[p] == "yes" for p in places))

    def score(places: list[int]) -> float:
        sets = [[p for p in places if p % 2 == rest] for rest in (0, 1)]
        return float(np.mean([f1(some) for some in sets if some]))

    assert numbers["score"] == pytest.approx(score(list(range(80)))) and not numbers["score_is_mean"]
    assert numbers["accuracy"] == pytest.approx(sum(map(str.__eq__, golds, said)) / 80) != numbers["score"]
    assert numbers["by_type"]["first"]["score"] == pytest.approx(f1(list(range(1, 80, 2))))
    draws = [score(list(chosen)) for chosen in np.random.default_rng(0).integers(80, size=(300, 80))]
    assert numbers["interval"] == pytest.approx(list(np.percentile(draws, [2.5, 97.5])))
    assert numbers["score_stderr"] == pytest.approx(np.std(draws, ddof=1))


def test_hashes_name_what_was_asked_and_what_was_right(pair: Pair, mixed: Mixed, pictures: list[Path]) -> None:
    """Another prompt, picture or gold answer is another hash; another model is not."""

    def hashes(benchmark: Benchmark, adapter: Adapter) -> dict[str, str]:
        found = run_benchmark(adapter, benchmark, limit=9, blank=False)
        return dict(found.numbers()["hashes"])

    class Golden(Mixed):
        def items(self) -> Iterator[Item]:
            yield from (replace(item, answers=("blue",)) for item in super().items())

    class Prompted(Mixed):
        def conversation(self, item: Item) -> Conversation:
            return one_question(item, item.question + "?")

    first = hashes(mixed, Echo(None))
    assert hashes(mixed, ZooAdapter(*pair)) == first == hashes(mixed, Echo({"checkpoint": "b"}))
    golden, prompted = hashes(Golden(pictures), Echo(None)), hashes(Prompted(pictures), Echo(None))
    assert golden["prompts"] == first["prompts"] and golden["gold"] != first["gold"]
    assert prompted["prompts"] != first["prompts"] and prompted["gold"] == first["gold"]
    other = hashes(Mixed([pictures[1], pictures[0], *pictures[2:]]), Echo(None))
    assert other["prompts"] != first["prompts"] and other["gold"] == first["gold"]


def test_what_a_later_turn_asks_is_the_same_for_every_model(pictures: list[Path]) -> None:
    class Chats(Mixed):
        def items(self) -> Iterator[Item]:
            yield Item("1", (pictures[0],), "what is it?", ("x",))
            yield Item("2", (pictures[0],), "and why?", ("x",), after=("1",))

        def conversation_after(self, item: Item, replies: Sequence[str]) -> Conversation:
            return one_question(item, " / ".join([*replies, item.question]))

    benchmark = Chats(pictures)
    one, two = (evaluate(Echo(None, aside=aside), benchmark) for aside in ("", "!"))
    assert one.asked == two.asked and len(set(one.asked)) == 2


def test_timing_has_the_median_and_the_95th_percentile(result: BenchmarkResult) -> None:
    slow = replace(result.predictions, batches=tuple((float(n), 2) for n in range(1, 101)))
    timing = replace(result, predictions=slow).timing()["answers"]
    assert timing["batches"] == {"count": 100, "median": 50.5, "percentile_95": 95.0}
    assert timing["seconds_a_question"] == {"count": 200, "median": 25.25, "percentile_95": 47.5}
    assert result.timing()["answers"]["batches"] is None, "what was known before took no time"


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
        "finish": "end",
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


def test_without_a_judge_nothing_of_the_builders_is_loaded() -> None:
    """It would be a quarter of a second of every start."""
    code = (
        "import sys, mminstruct.evaluation.results; print([n for n in sys.modules if 'building' in n or 'judges' in n])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
