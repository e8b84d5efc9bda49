"""`mminstruct eval`, through the real command line, with a real tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mminstruct.cli.app import app
from mminstruct.errors import MminstructError, RunError
from mminstruct.models.checkpoint import save

from .conftest import Pair


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
    assert report["model"]["folder"] == str(checkpoint) and "seconds" not in report
    assert set(report["checkpoint"]) == {"weights", "processor"} and report["code"]["version"]
    low, high = numbers["interval"]
    assert low <= numbers["score"] <= high and len(numbers["hashes"]["prompts"]) == 64
    assert (out / "report.html").is_file() and (out / "vqa" / "predictions_blank.jsonl").is_file()
    predictions = out / "vqa" / "predictions.jsonl"
    again = call("score", "vqa.evalai", "--gold", predictions, "--predictions", predictions, "--json")
    assert json.loads(again.stdout)["score"] == pytest.approx(numbers["accuracy"])


def test_eval_several_benchmarks_beside_the_model(checkpoint: Path) -> None:
    done = call("eval", "easy-vqa", "--model", checkpoint, "--limit", 5, "--no-blank", "--batch-tokens", 400)
    out = checkpoint.with_name("model-eval-easy-vqa")
    assert "easy-vqa" in done.stdout and "not run" in done.stdout and str(out) in done.stdout.replace("\n", "")
    assert not (out / "easy_vqa" / "predictions_blank.jsonl").exists()
    with pytest.raises(RunError, match="already exists and is not empty"):
        call("eval", "easy-vqa", "--model", checkpoint, "--limit", 5)


def test_a_page_holds_as_many_questions_as_it_is_told(checkpoint: Path, questions_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call("eval", "vqa", f"file={questions_file}", "--model", checkpoint, "--out", out, "--no-blank", "--page-items", 4)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "4 of 10 questions: a random sample." in page and page.count('"head":') == 4
    assert len((out / "vqa" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 10


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
