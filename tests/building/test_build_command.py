"""`mminstruct build` with a model: a budget, going on, a log alone, what had failed; and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.building.unfinished import unfinished
from tests.building.chat_server import serving
from tests.building.test_engine import answer, contents
from tests.command import call

GREYS = Path(__file__).parent / "asking_builder.py"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")


def test_from_a_budget_to_a_log(tmp_path: Path) -> None:
    out, calls = tmp_path / "set", tmp_path / "calls.sqlite"
    with serving(answer) as server:
        asking = ("build", GREYS, "--backend", "openai", "--model", "m", "--base-url", server.url)
        code, printed, error = call(*asking, "--out", out, "--max-requests", 7)
        assert (code, printed) == (2, "") and "error: the budget of 7 requests is spent" in error
        assert unfinished(out).is_dir() and not out.exists()
        code, _, error = call(*asking, "--out", out)
        assert code == 2 and "is a build that did not end; add --resume" in error
        code, printed, _ = call(*asking, "--out", out, "--resume", "--workers", 3)
        assert (code, printed) == (0, f"{out}: 9 conversations, 9 images\n") and len(server.requests) == 18
    (out / "calls.sqlite").rename(calls)
    code, printed, _ = call("build", GREYS, "--backend", "replay", "--calls", calls, "--out", tmp_path / "again")
    assert code == 0 and contents(tmp_path / "again") == contents(out)


def test_what_had_failed_is_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "set"
    mute = {"grey/2"}

    def sometimes(body: dict[str, Any]) -> str:
        return "no" if any(name in json.dumps(body["messages"][0]) for name in mute) else answer(body)

    with serving(sometimes) as server:
        asking = ("build", GREYS, "--backend", "openai", "--model", "m", "--base-url", server.url, "--out", out)
        code, printed, _ = call(*asking, "--on-error", "skip", "--json")
        assert code == 0 and json.loads(printed)["builder"]["failed"] == 1
        mute.clear()
        code, printed, _ = call(*asking, "--on-error", "skip", "--retry-failed")
        assert (code, printed) == (0, f"{out}: 9 conversations, 9 images\n")
        assert [one.id for one in formats.read(out)] == [f"grey/{n}" for n in range(10) if n != 6]
        code, _, error = call(*asking, "--retry-failed")
        assert code == 2 and f"no item of {out} had failed" in error
        shutil.rmtree(out)
        code, _, error = call(*asking, "--retry-failed")
        assert code == 2 and "has no build.jsonl" in error


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--backend", "openai", "--model", "m"], "--backend openai needs --model NAME and --base-url ADDRESS"),
        (["--model", "m"], "templates take neither --model nor --base-url; add --backend openai"),
        (["--backend", "replay"], "--backend replay needs the log to answer from; add --calls FILE"),
        (["--backend", "replay", "--calls", "none"], "none does not exist; give the calls.sqlite of an earlier build"),
        (["--backend", "openai", "--model", "m", "--base-url", "x", "--key-variable", "NO_KEY"], "NO_KEY is not set"),
        (["--max-cost", "1"], "a limit in money needs the model's price"),
        (["--top-p", "2"], "the model's options: top_p: Input should be less than or equal to 1 (found 2.0)"),
        (["--requests-per-minute", "0"], "requests and tokens: requests: Input should be greater than 0"),
    ],
)
def test_what_is_refused(options: list[str], cause: str, tmp_path: Path) -> None:
    code, printed, error = call("build", GREYS, "--out", tmp_path / "out", *options)
    assert (code, printed) == (2, "") and cause in error
    assert error.startswith("error: ") and error.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_builder_that_asks_nobody_takes_no_server(tmp_path: Path) -> None:
    options = ("--backend", "openai", "--model", "m", "--base-url", "x")
    code, _, error = call("build", "easy-vqa", "--out", tmp_path / "out", *options)
    assert code == 2 and "easy-vqa asks no model; leave --backend out" in error


@pytest.mark.parametrize(
    ("status", "cause"),
    [(401, "refuses with status 401"), (404, "refuses with status 404"), (400, "answered with status 400")],
)
def test_a_server_that_will_not_answer_is_not_asked_again(status: int, cause: str, tmp_path: Path) -> None:
    """401 and 404 stop the build even where items may be left out; 400 is about one question."""
    with serving(answer, lambda number: str(status)) as server:  # type: ignore[return-value, arg-type]
        asking = ("build", GREYS, "count=2", "--backend", "openai", "--model", "m", "--base-url", server.url)
        code, _, error = call(*asking, "--out", tmp_path / "out", "--on-error", "skip")
        assert code == 2 and cause in error
        assert len(server.requests) == (2 if status == 400 else 1)
        if status == 400:
            assert "none of 2 items could be used, the first, grey/0, for this" in error
            server.fault = lambda number: None
            code, printed, _ = call(*asking, "--out", tmp_path / "out", "--retry-failed")
            assert code == 0 and "2 conversations" in printed


def test_a_file_that_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("no database at all, and long enough to be looked at")
    code, _, error = call("build", GREYS, "--out", tmp_path / "out", "--calls", tmp_path / "log")
    assert code == 2 and "is no log of calls" in error and not (tmp_path / "out").exists()
