"""`mminstruct eval` and `mminstruct score`, through the real command line, with a real tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mminstruct.cli.app import app
from mminstruct.errors import ConfigError, DataError, MminstructError, RunError
from mminstruct.models.checkpoint import save

from .conftest import Pair

GOLD = [{"id": "a", "answers": ["red"] * 10}, {"id": "b", "answers": ["two"] * 9 + ["3"]}, {"id": 3, "answers": ["x"]}]
PREDICTED = [
    {"id": "b", "prediction": "2"},
    {"id": "a", "prediction": "Red."},
    {"id": "3", "prediction": "y", "more": 1},
]


@pytest.fixture(scope="module")
def checkpoint(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    save(folder, *pair)
    return folder


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, MminstructError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def write(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


# --- eval -------------------------------------------------------------------------------------------------------------


def test_eval_writes_everything(checkpoint: Path, questions_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(
        "eval", "vqa", f"file={questions_file}", "--model", checkpoint, "--out", out, "--json", "--device", "cpu"
    )
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == report
    numbers = report["benchmarks"]["vqa"]
    assert numbers["n"] == 10 and numbers["blank_image_accuracy"] is not None and numbers["by_type"]["what"]["n"] == 10
    assert report["model"]["folder"] == str(checkpoint) and set(report["seconds"]) == {"load", "vqa"}
    assert (out / "report.html").is_file() and (out / "vqa" / "predictions_blank.jsonl").is_file()
    predictions = out / "vqa" / "predictions.jsonl"
    again = call("score", "vqa.evalai", "--gold", predictions, "--predictions", predictions, "--json")
    assert json.loads(again.stdout)["score"] == pytest.approx(numbers["accuracy"])


def test_eval_several_benchmarks_beside_the_model(checkpoint: Path) -> None:
    done = call("eval", "easy-vqa", "--model", checkpoint, "--limit", 5, "--no-blank", "--batch-size", 4)
    out = checkpoint.with_name("model-eval-easy-vqa")
    assert "easy-vqa" in done.stdout and "not run" in done.stdout and str(out) in done.stdout.replace("\n", "")
    assert not (out / "easy_vqa" / "predictions_blank.jsonl").exists()
    with pytest.raises(RunError, match="already exists and is not empty"):
        call("eval", "easy-vqa", "--model", checkpoint, "--limit", 5)


def test_eval_list() -> None:
    assert "easy-vqa" in call("eval", "--list").stdout
    rows = json.loads(call("eval", "--list", "--json").stdout)
    assert {"name", "summary", "scorer"} == set(rows[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no benchmark given"),
        (("file=x",), "no benchmark given"),
        (("easy-vqa",), "no model given"),
        (("easy-vqb", "--model", "x"), "Did you mean 'easy-vqa'"),
        (("easy-vqa", "file=x", "--model", "x"), "options of easy-vqa: unknown key 'file'"),
        (("easy-vqa", "easy-vqa", "--model", "x"), "named twice"),
        (("easy-vqa", "--model", "nowhere"), "nowhere is not a folder"),
        (("easy-vqa", "--model", "x", "--device", "gpu"), "--device gpu cannot be used"),
    ],
)
def test_eval_refuses(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MminstructError, match=message):
        call("eval", *arguments)
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"


def test_eval_help_has_an_example() -> None:
    assert "Example:" in call("eval", "--help").stdout and "Example:" in call("score", "--help").stdout


# --- score ------------------------------------------------------------------------------------------------------------


def test_score(tmp_path: Path) -> None:
    gold, predicted = write(tmp_path / "gold.jsonl", GOLD), write(tmp_path / "predicted.jsonl", PREDICTED)
    found = json.loads(call("score", "vqa.evalai", "--gold", gold, "--predictions", predicted, "--json").stdout)
    assert found == {"metric": "vqa.evalai", "score": pytest.approx(2 / 3), "n": 3, "stderr": pytest.approx(1 / 3)}
    found = json.loads(call("score", "vqa.gtvl2021", "--gold", gold, "--predictions", predicted, "--json").stdout)
    assert found["score"] == pytest.approx(1 / 3)
    shown = call("score", "exact_match", "--gold", gold, "--predictions", predicted).stdout
    assert shown == "exact_match: 33.33 % ± 33.33 (standard error), n = 3\n"


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        (GOLD, PREDICTED[:1], r"predicted.jsonl lacks the ids '3', 'a' of .*gold.jsonl"),
        (GOLD[:1], PREDICTED, r"gold.jsonl lacks the ids '3', 'b' of .*predicted.jsonl"),
        (
            [{"id": str(number), "answers": ["x"]} for number in range(6)],
            [{"id": "0", "prediction": "x"}],
            r"lacks the ids '1', '2', '3' and 2 more of",
        ),
        ([GOLD[0], GOLD[0]], PREDICTED, r"gold.jsonl:2 has the id 'a', which an earlier line has too"),
        ([{"id": "a"}], PREDICTED, r"gold.jsonl:1 is not a JSON object with the keys 'id' and 'answers'"),
        ([{"id": "a", "answers": []}], PREDICTED, r"gold.jsonl:1: 'answers' must be a list of texts, at least one"),
        ([{"id": "a", "answers": "x"}], PREDICTED, r"gold.jsonl:1: 'answers' must be a list of texts"),
        (GOLD, [{"id": "a", "prediction": 2}], r"predicted.jsonl:1: 'prediction' must be a text"),
        (GOLD, [], r"predicted.jsonl is empty"),
    ],
)
def test_score_refuses(gold: list[object], predicted: list[object], message: str, tmp_path: Path) -> None:
    paths = write(tmp_path / "gold.jsonl", gold), write(tmp_path / "predicted.jsonl", predicted)
    with pytest.raises(DataError, match=message):
        call("score", "exact_match", "--gold", paths[0], "--predictions", paths[1])


def test_score_unknown_metric(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no metric is called 'exactmatch'. Did you mean 'exact_match'"):
        call("score", "exactmatch", "--gold", tmp_path / "a", "--predictions", tmp_path / "b")
