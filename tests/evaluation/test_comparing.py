"""Two evaluations question by question: figures computed again by hand, what is refused, the page in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from mminstruct.errors import DataError
from mminstruct.evaluation.benchmark import Item, Protocol
from mminstruct.evaluation.comparing import compare_answers, read_run, require_same, write_comparison
from mminstruct.evaluation.report import write_report
from mminstruct.evaluation.requests import Reply
from mminstruct.evaluation.results import BenchmarkResult, judge, write_predictions
from mminstruct.evaluation.runner import Predictions
from mminstruct.models.checkpoint import save
from tests.command import call

from .conftest import Mixed, Pair

GOLDS = ["red", "blue", "green"] * 8
A = ["red" if number % 2 else GOLDS[number] for number in range(24)]
B = ["blue" if number % 5 == 0 else GOLDS[number] for number in range(24)]


class Pairs(Mixed):
    name = "pairs"
    further_scorers = ("exact-match.strict",)


def items(pictures: list[Path]) -> list[Item]:
    return [
        Item(
            f"q{number}",
            (pictures[number % 6],),
            f"what </script><b>{number}</b>?",
            (gold,),
            "odd" if number % 2 else "even",
            cluster=f"c{number % 6}",
        )
        for number, gold in enumerate(GOLDS)
    ]


def run(
    folder: Path,
    pictures: list[Path],
    texts: list[str],
    change: Callable[[list[Item]], list[Item]] = lambda found: found,
    benchmark: type[Mixed] = Pairs,
    asked: str = "",
) -> Path:
    """An evaluation as it lies on the disk."""
    found = change(items(pictures))
    replies = [Reply(text=text, tokens=1, finish="end") for text in texts[: len(found)]]
    hashes = tuple(f"{item.id} {asked}" for item in found)
    seen = Predictions(found, replies, len(found), len(found), 1.0, asked=hashes)
    made = benchmark(pictures)
    result = BenchmarkResult(made, seen, judge(made, seen), None, {})
    write_predictions(folder / made.key / "predictions.jsonl", seen, result.scores)
    write_report(folder, [result], model_facts={"folder": f"models/{folder.name}"})
    return folder


@pytest.fixture(scope="module")
def runs(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return run(folder / "first", pictures, A), run(folder / "second", pictures, B)


def test_differences_by_hand(runs: tuple[Path, Path]) -> None:
    found = compare_answers(*(read_run(folder).answers("pairs") for folder in runs))
    a = np.array([text == gold for text, gold in zip(A, GOLDS, strict=True)], dtype=float)
    b = np.array([text == gold for text, gold in zip(B, GOLDS, strict=True)], dtype=float)
    clusters = [np.arange(first, 24, 6) for first in range(6)]

    def check(row: dict[str, Any], kept: np.ndarray) -> None:
        x, y = a[kept], b[kept]
        assert (row["a"], row["b"]) == pytest.approx((x.mean(), y.mean()))
        assert row["difference"] == pytest.approx(y.mean() - x.mean()) and row["n"] == kept.sum()
        assert (row["wins"], row["losses"], row["ties"]) == ((y > x).sum(), (y < x).sum(), (y == x).sum())
        there = [places[kept[places]] for places in clusters if kept[places].any()]
        drawn = np.random.default_rng(0).integers(len(there), size=(1000, len(there)))
        gains = [(b - a)[np.concatenate([there[number] for number in one])].mean() for one in drawn]
        assert row["interval"] == pytest.approx(list(np.percentile(gains, [2.5, 97.5])))
        assert 0 < row["p"] <= 1

    everything, numbers = np.full(24, True), np.arange(24)
    check(found, everything)
    check(found["by_type"]["odd"], numbers % 2 == 1)
    check(found["by_type"]["even"], numbers % 2 == 0)
    assert found["wins"] > 0 and found["losses"] > 0 and found["scorer"] == "exact-match.forgiving"


def test_a_run_against_itself_is_no_difference(runs: tuple[Path, Path]) -> None:
    answers = read_run(runs[0]).answers("pairs")
    found = compare_answers(answers, answers)
    assert (found["difference"], found["interval"], found["p"], found["ties"]) == (0.0, [0.0, 0.0], 1.0, 24)


class Asked(Pairs):
    protocols = (Protocol("own", "this file", max_new_tokens=7),)


class Scored(Pairs):
    further_scorers = ("vqa.evalai",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": lambda found: found[:20]}, "other lacks ids 'q20', 'q21', 'q22' and 1 more"),
        ({"change": lambda found: [*found[:23], replace(found[23], id="x")]}, "other lacks id 'q23'"),
        (
            {"change": lambda found: [*found[:3], replace(found[3], question="?"), *found[4:]]},
            "questions under id 'q3'",
        ),
        (
            {"change": lambda found: [replace(found[0], answers=("x",)), *found[1:]]},
            "different gold answers under id 'q0'",
        ),
        ({"change": lambda found: [found[1], found[0], *found[2:]]}, "another order, first 'q0' and 'q1'"),
        ({"asked": "otherwise"}, "different prompts or media under ids 'q0', 'q1', 'q2' and 21 more"),
        ({"benchmark": Asked}, "different protocols (max_new_tokens: 6 and 7)"),
        (
            {"benchmark": Scored},
            "different scorers (exact-match.forgiving, exact-match.strict; exact-match.forgiving, vqa",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    runs: tuple[Path, Path], pictures: list[Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    other = run(tmp_path / "other", pictures, B, **options)
    with pytest.raises(DataError) as caught:
        require_same(read_run(runs[0]).answers("pairs"), read_run(other).answers("pairs"))
    assert message in str(caught.value) and "first and other" in str(caught.value)


def test_the_same_comparison_is_the_same_bytes(runs: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = map(read_run, runs)
    for name in ("one", "two"):
        write_comparison(tmp_path / name, a, b, ["pairs"], page_items=7)
    for file in ("comparison.json", "comparison.html"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_command_compares_two_folders(runs: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = call("eval", "--compare", runs[0], "--compare", runs[1])
    made = runs[1].with_name("second-against-first")
    assert code == 0 and "second (B) against first (A)" in out and (made / "comparison.html").is_file()
    code, out, _ = call("eval", "--compare", runs[0], "--compare", runs[1], "--out", tmp_path / "c", "--json")
    assert json.loads(out) == json.loads((tmp_path / "c/comparison.json").read_text())
    for arguments, message in (
        (["--compare", runs[0]], "two evaluations are compared"),
        (["--compare", runs[0], "--compare", tmp_path], "holds no evaluation (report.json is missing)"),
        (["--compare", runs[0], "--compare", runs[1]], "already exists and is not empty"),
        (["--compare", runs[0], "--compare", runs[1], "--model", "x"], "no benchmark given"),
        (["easy-vqa", "--model", "x", "--compare", runs[0], "--compare", runs[1]], "give --compare once"),
    ):
        code, _, error = call("eval", *arguments)
        assert code == 2 and message in error, error


def test_a_new_evaluation_is_compared_with_an_earlier_one(pair: Pair, questions_file: Path, tmp_path: Path) -> None:
    """And refused before anything is answered where it would ask something else."""
    save(tmp_path / "model", *pair)
    asked = ["eval", "vqa", f"file={questions_file}", "--model", tmp_path / "model", "--device", "cpu", "--no-blank"]
    asked += ["--answers", tmp_path / "answers.sqlite"]
    assert call(*asked, "--out", tmp_path / "one")[0] == 0
    code, out, error = call(*asked, "--out", tmp_path / "two", "--compare", tmp_path / "one", "--json")
    assert code == 0, error
    comparison = json.loads((tmp_path / "two/comparison.json").read_text())
    assert json.loads(out)["comparison"] == comparison and comparison["benchmarks"]["vqa"]["ties"] == 10
    for more, message in (
        (["--limit", 3], "have different questions: the run to come lacks ids '3', '4', '5' and 4 more"),
        (['prompt="{question} Say it."'], "different prompts or media under ids '0', '1', '2' and 7 more"),
    ):
        code, _, error = call(*asked, *more, "--out", tmp_path / "three", "--compare", tmp_path / "one")
        assert code == 2 and message in error and not (tmp_path / "three").exists()


def test_both_answers_stand_side_by_side_in_a_browser(runs: tuple[Path, Path], chrome: Browser, tmp_path: Path) -> None:
    write_comparison(tmp_path, *map(read_run, runs), ["pairs"], page_items=400)
    context = chrome.new_context(viewport={"width": 390, "height": 800})
    tab = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda note: complaints.append(note.text))
    address = (tmp_path / "comparison.html").as_uri()
    tab.goto(address)
    cards = tab.locator(".browse > .cards > .card")
    assert cards.first.locator(".head").inner_text() == "✓ model B better: A 0, B 1", "wins first"
    number = int(cards.first.locator(".tags").inner_text().rpartition("q")[2])
    said = cards.first.locator("dd").all_inner_texts()
    assert said == [GOLDS[number], A[number], B[number]] and cards.first.locator("img").count() == 1
    right = [(x == gold, y == gold) for x, y, gold in zip(A, B, GOLDS, strict=True)]
    expected = {
        "only A right": right.count((True, False)),
        "only B right": right.count((False, True)),
        "both wrong": right.count((False, False)),
        "answers differ": sum(x != y for x, y in zip(A, B, strict=True)),
    }
    for tag, count in expected.items():
        tab.get_by_role("combobox", name="show").select_option(tag)
        assert count and tab.get_by_role("status").inner_text().endswith(f"of {count}"), tag
    width, inner = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= inner and complaints == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    context.close()


def test_a_picture_that_is_gone_is_left_out(pictures: list[Path], tmp_path: Path) -> None:
    folders = [
        run(tmp_path / name, pictures, texts, lambda found: [replace(found[0], images=()), *found[1:]])
        for name, texts in (("a", A), ("b", B))
    ]
    for folder in folders:
        path = folder / "pairs" / "predictions.jsonl"
        path.write_text(path.read_text().replace(str(pictures[1]), str(tmp_path / "gone.png")))
    write_comparison(tmp_path / "c", *map(read_run, folders), ["pairs"], page_items=400)
    assert (tmp_path / "c/comparison.html").read_text().count("data:image/png;base64") == 5
