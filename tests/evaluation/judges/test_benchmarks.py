"""The judged benchmarks on miniatures of their official files: prompts to the character, figures by hand, failures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mminstruct.conversation import ImagePart
from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.benchmark import load_benchmark
from mminstruct.evaluation.requests import Reply, Request
from mminstruct.evaluation.results import run_benchmark
from tests.building.chat_server import serving
from tests.command import call
from tests.conftest import picture

from ..scorers.files import score, write_json, write_lines
from .test_judge import judging


class Table(Adapter):
    """Answers from a table, by the question's text."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers

    @property
    def identity(self) -> None:
        return None

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        for place, request in enumerate(requests):
            text = self.answers[request.conversation.messages[0].text.strip()]
            yield [(place, Reply(text=text, tokens=1, finish="end"))]

    def facts(self) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-judge")


# --- MM-Vet -----------------------------------------------------------------------------------------------------------

VET = {
    "v1_0": {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1<AND>-5", "imagesource": "",
             "capability": ["ocr", "math"]},
    "v1_1": {"imagename": "v1_1.png", "question": "What is it?", "answer": "a cat", "imagesource": "",
             "capability": ["rec"]},
    "v1_2": {"imagename": "v1_1.png", "question": "Who?", "answer": "Tom<OR>Felix", "imagesource": "",
             "capability": ["rec", "know"]},
}  # fmt: skip
SAID = {"What is x?": "x = -1", "What is it?": "a dog", "Who?": "Tom"}


@pytest.fixture
def vet(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("v1_0.png", "v1_1.png"):
        picture(len(name)).save(tmp_path / "images" / name)
    return write_json(tmp_path / "mm-vet.json", VET)


def grades(body: dict[str, Any]) -> str:
    last = body["messages"][0]["content"].splitlines()[-1]
    return {"x": "0.5", "a": "0.0", "T": "1.0"}[last.split(" | ")[2][0]]


def test_mm_vet_asks_the_bare_question_and_is_graded_by_the_official_table(vet: Path, tmp_path: Path) -> None:
    benchmark = load_benchmark("mm-vet", [f"file={vet}"])
    first = benchmark.questions()[0]
    content = benchmark.conversation(first).messages[0].content
    assert isinstance(content[0], ImagePart) and benchmark.conversation(first).messages[0].text == "\nWhat is x?"
    with serving(grades) as server, judging(server.url, tmp_path / "log") as judge:
        result = run_benchmark(Table(SAID), benchmark, blank=False, folder=tmp_path / "out", grader=judge)
    numbers = result.numbers()
    assert numbers["score"] == pytest.approx(0.5) and numbers["n"] == 3 and numbers["majority_accuracy"] is None
    assert numbers["figures"]["rec"] == 0.5 and numbers["figures"]["math"] == 0.5 and numbers["figures"]["know"] == 1
    assert numbers["judge"]["replies"] == 3 and numbers["judge_failed"] == 0
    body = next(body for body in server.requests if "x = -1 | \n" in body["messages"][0]["content"] + "\n")
    assert {key: value for key, value in body.items() if key != "messages"} == {
        "model": "wise",
        "temperature": 0,
        "max_tokens": 3,
    }
    (message,) = body["messages"]
    lines = message["content"].split("\n")
    assert lines[0].startswith("Compare the ground truth and prediction from AI models, to give a correctness score")
    assert lines[0].endswith("Just complete the last space of the correctness score.")
    assert lines[1:4] == ["", "Question | Ground truth | Prediction | Correctness", "--- | --- | --- | ---"]
    assert lines[4] == "What is x in the equation? | -1 <AND> -5 | x = 3 | 0.0"
    assert len(lines) == 13 and lines[11:] == ["", "What is x? | -1 <AND> -5 | x = -1 | "]
    again = score("mm-vet", vet, tmp_path / "out" / "judged.jsonl")
    assert {"score": again["score"], **again["figures"]} == numbers["figures"]


def test_mm_vet_draws_several_times_and_reads_grades_that_are_cut_off(vet: Path, tmp_path: Path) -> None:
    benchmark = load_benchmark("mm-vet", [f"file={vet}", "repeats=3"])
    with serving(grades, lambda number: "cut") as server, judging(server.url, tmp_path / "log") as judge:
        result = run_benchmark(Table(SAID), benchmark, blank=False, grader=judge)
        assert len(server.requests) == 9
    assert result.numbers()["figures"]["std"] == 0 and result.numbers()["figures"]["run 3"] == pytest.approx(0.5)


def test_a_failed_judgement_is_in_no_figure(vet: Path, tmp_path: Path) -> None:
    def sulks(body: dict[str, Any]) -> str:
        return "1.7" if "x = -1" in body["messages"][0]["content"].splitlines()[-1] else grades(body)

    benchmark = load_benchmark("mm-vet", [f"file={vet}"])
    with serving(sulks) as server, judging(server.url, tmp_path / "log") as judge:
        numbers = run_benchmark(Table(SAID), benchmark, blank=True, folder=tmp_path / "out", grader=judge).numbers()
    assert numbers["judge_failed"] == 1 and numbers["n"] == 2 and numbers["score"] == numbers["accuracy"] == 0.5
    assert "math" not in numbers["figures"] and numbers["by_type"]["math_ocr"]["accuracy"] is None
    assert numbers["judge"]["failures"] == {"reply": 2}  # of the real pictures and of the grey ones
    judged = [json.loads(line) for line in (tmp_path / "out" / "judged.jsonl").read_text().splitlines()]
    assert judged[0] == {"id": "v1_0", "prediction": "[null]"}


def test_mm_vet_refuses_what_is_missing(vet: Path) -> None:
    with pytest.raises(ConfigError, match="mm-vet is graded by a language model; add --judge-url"):
        run_benchmark(Table(SAID), load_benchmark("mm-vet", [f"file={vet}"]), blank=False)
    (vet.parent / "images" / "v1_1.png").unlink()
    with pytest.raises(DataError, match=r"'v1_1' needs .*v1_1.png, which does not exist; unpack mm-vet.zip"):
        load_benchmark("mm-vet", [f"file={vet}"]).questions()


# --- LLaVA-Bench ------------------------------------------------------------------------------------------------------

QUESTIONS = [
    {"question_id": 0, "image": "001.jpg", "text": "Where?", "category": "conv"},
    {"question_id": 1, "image": "001.jpg", "text": "Describe it.", "category": "detail"},
]
BENCH = {"Where?": "Hawaii, I think", "Describe it.": "A hill"}


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    folder = tmp_path / "bench"
    (folder / "images").mkdir(parents=True)
    picture(3).save(folder / "images" / "001.jpg")
    write_lines(folder / "questions.jsonl", QUESTIONS)
    write_lines(folder / "context.jsonl", [{"id": "001", "image": "001.jpg", "caption": "A hill."}])
    answers = [{"question_id": n, "answer_id": f"a{n}", "model_id": "gpt-4", "text": "It is Oahu."} for n in range(2)]
    write_lines(folder / "answers_gpt4.jsonl", answers)
    return folder


def test_llava_bench_asks_the_judge_as_the_official_script_does(bench: Path, tmp_path: Path) -> None:
    benchmark = load_benchmark("llava-bench", [f"folder={bench}"])
    assert benchmark.conversation(benchmark.questions()[0]).messages[0].text == "\nWhere?"

    def answer(body: dict[str, Any]) -> str:
        return "8, 6\nWell." if "Where?" in body["messages"][1]["content"] else "10 9"

    with serving(answer) as server, judging(server.url, tmp_path / "log") as judge:
        numbers = run_benchmark(Table(BENCH), benchmark, blank=False, grader=judge).numbers()
    assert numbers["score"] == pytest.approx(15 / 18)
    assert numbers["figures"]["llava_bench_conv"] == 0.75 and numbers["figures"]["llava_bench_detail"] == 0.9
    body = next(body for body in server.requests if "Where?" in body["messages"][1]["content"])
    assert body["temperature"] == 0.2 and body["max_tokens"] == 1024
    system, user = (message["content"] for message in body["messages"])
    assert system == "You are a helpful and precise assistant for checking the quality of the answer."
    assert user.startswith(
        "[Context]\nA\n \nh\ni\nl\nl\n.\n\n[Question]\nWhere?\n\n"
        "[Assistant 1]\nIt is Oahu.\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\nHawaii, I think\n\n[End of Assistant 2]\n\n"
        "[System]\nWe would like to request your feedback on the performance of two AI assistants in response to"
    )
    assert user.endswith("the order in which the responses were presented does not affect your judgment.\n\n")
    plain = load_benchmark("llava-bench", [f"folder={bench}", "context=plain"])
    assert plain.questions()[0].facts["context"] == "A hill."


def test_llava_bench_in_both_orders(bench: Path, tmp_path: Path) -> None:
    """A judge that gives the first place 9 and the second 5 says nothing of the answers."""
    benchmark = load_benchmark("llava-bench", [f"folder={bench}", "orders=both"])
    with serving(lambda body: "9 5") as server, judging(server.url, tmp_path / "log") as judge:
        numbers = run_benchmark(Table(BENCH), benchmark, blank=False, grader=judge).numbers()
        assert len(server.requests) == 4
    assert numbers["score"] == 1.0 and numbers["figures"]["disagreed"] == numbers["figures"]["tied"] == 1.0


@pytest.mark.parametrize("reply", ["8", "8 7 6", "0 5", "11 5", "eight seven", "Assistant 1: 8\n8 7", ""])
def test_llava_bench_leaves_out_what_it_cannot_read(reply: str, bench: Path, tmp_path: Path) -> None:
    benchmark = load_benchmark("llava-bench", [f"folder={bench}"])

    def answer(body: dict[str, Any]) -> str:
        return reply if "Where?" in body["messages"][1]["content"] else "10 9"

    with serving(answer) as server, judging(server.url, tmp_path / "log") as judge:
        numbers = run_benchmark(Table(BENCH), benchmark, blank=False, grader=judge).numbers()
    assert numbers["score"] == 0.9 and numbers["judge_failed"] == 1
    assert numbers["scorers"]["llava-bench.llava"]["score"] == pytest.approx((9 - 1) / (10 - 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("context.jsonl", r"a line of context.jsonl on '001.jpg'"),
        ("answers_gpt4.jsonl", r"question 0 needs a line of answers_gpt4.jsonl"),
    ],
)
def test_llava_bench_says_what_is_missing(name: str, message: str, bench: Path) -> None:
    lines = [{"question_id": 7, "image": "007.jpg", "caption": "x", "text": "y"}]
    write_lines(bench / name, lines)
    with pytest.raises(DataError, match=message):
        load_benchmark("llava-bench", [f"folder={bench}"]).questions()
    (bench / name).unlink()
    with pytest.raises(DataError, match=f"{name} does not exist"):
        load_benchmark("llava-bench", [f"folder={bench}"]).questions()


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_judges_and_says_what_it_took(vet: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("date: '2026-01-31'\nsource: a page\nmodels:\n  wise: {read: 1000000, written: 0}\n")
    answers = ["--answers", tmp_path / "answers.sqlite", "--judge-calls", tmp_path / "calls.sqlite"]

    def eyes(body: dict[str, Any]) -> str:
        return next(said for question, said in SAID.items() if question in str(body["messages"]))

    with serving(eyes) as model, serving(grades) as judge:
        base = ["eval", "mm-vet", f"file={vet}", "--base-url", model.url, "--model", "eyes", "--no-blank", *answers]
        code, _, error = call(*base, "--out", tmp_path / "none")
        assert code == 2 and "mm-vet is graded by a language model" in error and not model.requests
        code, _, error = call(*base, "--judge-model", "wise", "--out", tmp_path / "none")
        assert code == 2 and "a judge needs both --judge-url and --judge-model" in error
        asked = [*base, "--judge-url", judge.url, "--judge-model", "wise", "--judge-prices", prices]
        code, out, error = call(*asked, "--out", tmp_path / "out")
        assert code == 0, error
        told = " ".join(out.split())
        assert "judged by wise: 3 replies, 30 tokens read and 15 written, $30.00" in told
        code, out, error = call(*asked, "--out", tmp_path / "again", "--json")
        assert code == 0 and len(judge.requests) == 3 and len(model.requests) == 3
    assert json.loads(out)["benchmarks"]["mm_vet"]["score"] == pytest.approx(0.5)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Judged by wise, mm-vet/grade@1" in " ".join(page.split()) and "always “" not in page
    reports = [(tmp_path / name / "report.json").read_bytes() for name in ("out", "again")]
    assert reports[0] == reports[1]
