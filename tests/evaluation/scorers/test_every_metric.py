"""What holds for every metric, whatever it measures: names, sources, purity, missing predictions, its own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mminstruct.cli.app import app
from mminstruct.errors import ConfigError, DataError, MminstructError
from mminstruct.evaluation import scorers
from mminstruct.evaluation.scorers import Item

from .files import score, score_text, write_lines

NAMES = scorers.names()
ITEMS = [Item(id="1", answers=("red",)), Item(id="2", answers=("Two", "2")), Item(id="3", answers=("no",) * 10)]
GOLD = [{"id": "a", "answers": ["red"] * 10}, {"id": "b", "answers": ["two"] * 9 + ["3"]}, {"id": 3, "answers": ["x"]}]
PREDICTED = [
    {"id": "b", "prediction": "2"},
    {"id": "a", "prediction": "Red."},
    {"id": "3", "prediction": "y", "more": 1},
]


@pytest.mark.parametrize("name", NAMES)
def test_metric_keeps_the_contract(name: str) -> None:
    found = scorers.metric(name)
    assert found.name == name and found.summary.endswith(".") and "\n" not in found.summary and found.files
    variants = [variant.name for variant in found.variants]
    assert variants and len(set(variants)) == len(variants)
    for variant in found.variants:
        assert variant.source.strip().endswith("."), "a variant says whose behaviour it is"
        assert variant.name == variant.name.lower() and " " not in variant.name and "." not in variant.name
    assert found.variant(None) is found.variants[0]
    with pytest.raises(ConfigError, match=f"{name} has no variant 'x'"):
        found.variant("x")


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    found, nowhere = scorers.metric(name), tmp_path / "nowhere.json"
    with pytest.raises(DataError, match=r"nowhere\.json"):
        found.gold(nowhere)
    with pytest.raises(DataError, match=r"nowhere\.json"):
        found.predictions(nowhere)


def test_names_are_forgiving_of_underscores_and_suggest_the_nearest() -> None:
    assert scorers.metric("exact_match") is scorers.metric("exact-match")
    assert scorers.scorer("vqa").name == "vqa.official-2021" and scorers.scorer("vqa.evalai").name == "vqa.evalai"
    with pytest.raises(ConfigError, match=r"no metric is called 'exactmatch'. Did you mean 'exact-match'"):
        scorers.metric("exactmatch")
    with pytest.raises(ConfigError, match=r"vqa has no variant 'eval_ai'. Did you mean 'evalai'"):
        scorers.scorer("vqa.eval_ai")


def test_as_many_predictions_as_items() -> None:
    with pytest.raises(ValueError, match="3 items and 1 predictions"):
        scorers.scorer("vqa").score(ITEMS, ["red"])


def test_a_missing_prediction_is_wrong_and_unparsed() -> None:
    found = scorers.scorer("exact-match").score(ITEMS, ["red", None, "no"])
    assert found.score == pytest.approx(2 / 3) and found.unparsed == 1


# --- the command ------------------------------------------------------------------------------------------------------


def test_score(tmp_path: Path) -> None:
    gold, predicted = write_lines(tmp_path / "gold.jsonl", GOLD), write_lines(tmp_path / "predicted.jsonl", PREDICTED)
    assert score("vqa.evalai", gold, predicted) == {
        "metric": "vqa",
        "variant": "evalai",
        "score": pytest.approx(2 / 3),
        "n": 3,
        "unparsed": 0,
        "missing": 0,
        "stderr": pytest.approx(1 / 3),
        "figures": {},
    }
    assert score("vqa", gold, predicted, "--variant", "official-2021")["score"] == pytest.approx(1 / 3)
    shown = score_text("exact-match", gold, predicted)
    assert shown == "exact-match.forgiving: 33.33 % ± 33.33 (standard error), n = 3\n"
    rows = score("vqa", gold, predicted, "--compare-variants")
    assert [row["variant"] for row in rows] == [variant.name for variant in scorers.metric("vqa").variants]
    with pytest.raises(ConfigError, match="named twice"):
        score("vqa.evalai", gold, predicted, "--variant", "evalai")


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        (GOLD, PREDICTED[:1], r"predicted.jsonl lacks the ids 'a', '3' of the gold file"),
        (GOLD[:1], PREDICTED, r"predicted.jsonl has the ids 'b', '3', which the gold file lacks"),
        (
            [{"id": str(number), "answers": ["x"]} for number in range(6)],
            [{"id": "0", "prediction": "x"}],
            r"lacks the ids '1', '2', '3' and 2 more of",
        ),
        ([GOLD[0], GOLD[0]], PREDICTED, r"gold.jsonl:2 has the id 'a', which an earlier one has too"),
        ([GOLD[0], {"id": "b"}], PREDICTED, r"gold.jsonl:2: answers: Field required"),
        ([{"id": "a", "answers": []}], PREDICTED, r"gold.jsonl:1: answers: Tuple should have at least 1 item"),
        ([{"id": "a", "answers": "x"}], PREDICTED, r"gold.jsonl:1: answers: Input should be a valid tuple"),
        (GOLD, [{"id": "a", "prediction": 2}], r"predicted.jsonl:1: prediction: Input should be a valid string"),
    ],
)
def test_score_refuses(gold: list[object], predicted: list[object], message: str, tmp_path: Path) -> None:
    paths = write_lines(tmp_path / "gold.jsonl", gold), write_lines(tmp_path / "predicted.jsonl", predicted)
    with pytest.raises(DataError, match=message):
        score("exact-match", *paths)


ODD = {
    "empty": b"",
    "list": b"[]",
    "object": b"{}",
    "null": b"null",
    "text": b'"x"',
    "number": b"3",
    "numbers": b"[1, 2]",
    "lists": b"[[1]]",
    "of objects": b'{"a": {"b": 1}}',
    "of lists": b'{"a": [1, 2]}',
    "of nothing": b'{"data": 3, "annotations": "x", "questions": 5, "images": {}, "results": 3, "outputs": []}',
    "lines": b'{"question_id": 1.5, "text": 3, "answer": null}\n',
    "table": b"a\tb\n1\t2\n",
    "zip": b"PK\x03\x04\xff\xfe",
}


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_given_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    metric = scorers.metric(name)
    own = [variant.predictions for variant in metric.variants if variant.predictions is not None]
    paths = [tmp_path, tmp_path / "missing.json"]
    for suffix in (".json", ".jsonl", ".tsv", ".csv", ".txt", ".xlsx", ""):
        for called, content in ODD.items():
            paths.append(tmp_path / f"{called}{suffix}")
            paths[-1].write_bytes(content)
    for read in (metric.gold, metric.predictions, *own):
        for path in paths:
            try:
                read(path)
            except MminstructError as error:
                assert "\n" not in str(error) and len(str(error)) < 600, path


def test_score_needs_both_files() -> None:
    result = CliRunner().invoke(app, ["score", "vqa"])
    assert isinstance(result.exception, ConfigError) and "needs --gold and --predictions" in str(result.exception)


def test_score_list() -> None:
    shown = CliRunner().invoke(app, ["score", "list", "--json"])
    assert [row["name"] for row in json.loads(shown.stdout)] == list(NAMES)
    assert "official-2021" in CliRunner().invoke(app, ["score", "list"]).stdout
