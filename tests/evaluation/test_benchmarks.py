"""Each file of `eval/` keeps the contract; what `easy-vqa` and `vqa` read and ask, and what they refuse."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from mminstruct import catalog, formats
from mminstruct.building import run
from mminstruct.conversation import ImagePart
from mminstruct.data_builders.easy_vqa import BUILDER, INSTRUCTION
from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.benchmark import Benchmark, Item, benchmark_class, load_benchmark, one_question
from mminstruct.evaluation.scorers import scorer

NAMES = catalog.names(catalog.BENCHMARK)


def needs_options(found: type[Benchmark]) -> bool:
    try:
        found.Options()
    except ValidationError:
        return True
    return False


# --- the contract, for every file of eval/ ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_keeps_the_contract(name: str) -> None:
    found = benchmark_class(name)
    assert found.name == name and found.summary and "\n" not in found.summary and found.summary.endswith(".")
    assert all(scorer(each).variant for each in (found.primary_scorer, *found.further_scorers))
    assert all(protocol.source and 0 < protocol.max_new_tokens <= 4096 for protocol in found.protocols)
    assert "run_in_place(__file__)" in catalog.find(catalog.BENCHMARK, name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in NAMES if not needs_options(benchmark_class(name))])
def test_prompts_ask_and_do_not_tell(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where some draw what they ask
    benchmark = load_benchmark(name)
    for item in benchmark.questions(limit=50):
        conversation = benchmark.conversation(item)
        assert [message.role for message in conversation.messages] == ["user"]
        assert item.question in conversation.messages[0].text
        assert all(Path(media.path).is_absolute() and Path(media.path).is_file() for media in conversation.media)


def test_unknown_benchmarks_and_options() -> None:
    with pytest.raises(ConfigError, match=r"no benchmark is called 'easy-vqb'.*'easy-vqa'"):
        load_benchmark("easy-vqb")
    with pytest.raises(ConfigError, match=r"options of vqa: unknown key 'promt'\. Did you mean 'prompt'"):
        load_benchmark("vqa", ["file=x", "promt=y"])
    with pytest.raises(ConfigError, match="options of vqa: the key 'file' is missing"):
        load_benchmark("vqa")
    with pytest.raises(ConfigError, match=r"no place \{question\}"):
        load_benchmark("vqa", ["file=x", "prompt=What?"])


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol\n"
        "class Mine(Benchmark):\n"
        "    name, summary, primary_scorer = 'mine', 'Mine.', 'exact-match'\n"
        "    protocols = (Protocol('own', 'this file', max_new_tokens=4),)\n"
        "    def items(self): yield Item('1', (), 'two?', ('2',))\n"
        "BENCHMARK = Mine\n",
        encoding="utf-8",
    )
    assert load_benchmark(str(path)).questions()[0].question == "two?"
    path.with_name("none.py").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"none\.py has no BENCHMARK"):
        load_benchmark(str(path.with_name("none.py")))


def test_one_question() -> None:
    item = Item("1", (Path("/a.png"), Path("/b.png")), "same?", ("yes",), kind="yes-no")
    content = one_question(item, "Are they the same?").messages[0].content
    assert [part.index for part in content[:2] if isinstance(part, ImagePart)] == [0, 1]
    assert one_question(item, "Are they the same?").messages[0].text == "Are they the same?"
    assert one_question(Item("2", (), "why?", ("x",)), "why?").media == []


# --- easy-vqa ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def easy_items() -> list[Item]:
    return load_benchmark("easy-vqa").questions()


def test_easy_vqa_is_whole(easy_items: list[Item]) -> None:
    assert len(easy_items) == 9673
    assert len({item.cluster for item in easy_items}) == len({item.images for item in easy_items}) == 1000
    assert len({answer for item in easy_items for answer in item.answers}) == 13
    assert Counter(item.types[-1] for item in easy_items) == {
        "shape": 1257,
        "color": 1280,
        "yes-no (shape)": 1935,
        "yes-no (color)": 5201,
    }
    for item in easy_items:
        if item.detail:
            assert ("circle" in item.question or "angle" in item.question) == (item.detail == "shape"), item.question


def test_easy_vqa_asks_as_the_builder_does(easy_items: list[Item], tmp_path: Path) -> None:
    """Same text, same place of the image, same ids, same golds as the builder's single-turn conversations."""
    benchmark = load_benchmark("easy-vqa")
    builder = BUILDER(BUILDER.Options(split="test", turns="single", limit=3))
    run(builder, tmp_path / "set")
    built = list(formats.read(tmp_path / "set"))
    assert len(built) == sum(int(item.cluster) < 3 for item in easy_items)
    for conversation, item in zip(built, easy_items, strict=False):
        asked = benchmark.conversation(item)
        assert asked.messages == conversation.messages[:-1]
        assert conversation.messages[-1].text == item.answers[0] and asked.id == conversation.id
        assert Path(asked.media[0].path).read_bytes() == (tmp_path / "set" / conversation.media[0].path).read_bytes()
    assert benchmark.conversation(easy_items[0]).messages[0].text == f"{INSTRUCTION}\n\nwhat is the red shape?"


# --- vqa --------------------------------------------------------------------------------------------------------------


def test_vqa_reads_a_file(questions_file: Path) -> None:
    benchmark = load_benchmark("vqa", [f"file={questions_file}"])
    items = benchmark.questions()
    assert [item.id for item in items] == [str(number) for number in range(10)]
    assert items[0].answers == ("blue",) and len(items[1].answers) == 10 and items[0].kind == "what"
    assert items[0].images[0].parent == questions_file.parent and items[0].cluster == str(items[0].images[0])
    # LLaVA-1.5: "<image>\n{question}\nAnswer the question using a single word or phrase."
    content = benchmark.conversation(items[0]).messages[0].content
    assert isinstance(content[0], ImagePart) and len(content) == 2
    expected = "\nWhat is 0?\nAnswer the question using a single word or phrase."
    assert benchmark.conversation(items[0]).messages[0].text == expected


def test_vqa_prompt_option(questions_file: Path) -> None:
    overrides = [f"file={questions_file}", 'prompt="Q: {question} {braces} A:"']
    benchmark = load_benchmark("vqa", overrides)
    assert benchmark.conversation(benchmark.questions()[0]).messages[0].text == "\nQ: What is 0? {braces} A:"


def line(**changes: Any) -> dict[str, Any]:
    return {"id": "1", "image": "a.png", "question": "what?", "answers": ["x"]} | changes


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "questions.jsonl is empty"),
        (["{"], "questions.jsonl:1 is not JSON"),
        ([line(), "[]"], "questions.jsonl:2: the line: Input should be a valid dictionary"),
        ([line(id="0"), line(), line()], "questions.jsonl:3 has the id '1' of line 2"),
        ([line(id=1), line(id="1")], "questions.jsonl:2 has the id '1' of line 1"),
        ([line(image="b.png")], "questions.jsonl:1 names the image .*b.png, which does not exist"),
        ([line(image="")], "questions.jsonl:1: image: String should have at least 1 character"),
        ([line(answers=[])], "questions.jsonl:1: answers: List should have at least 1 item"),
        ([line(answers="x")], "questions.jsonl:1: answers: Input should be a valid list"),
        ([line(answers=[1])], "questions.jsonl:1: answers.0: Input should be a valid string"),
        ([line(question="")], "questions.jsonl:1: question: String should have at least 1 character"),
        ([line(typ="x")], "questions.jsonl:1: typ: Extra inputs are not permitted; a line holds id, image, question"),
        ([{"id": "1"}], "questions.jsonl:1: image: Field required"),
    ],
)
def test_vqa_refuses_with_file_and_line(tmp_path: Path, lines: list[Any], message: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    path = tmp_path / "questions.jsonl"
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_benchmark("vqa", [f"file={path}"]).questions()


def test_vqa_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl does not exist"):
        load_benchmark("vqa", [f"file={tmp_path / 'nothing.jsonl'}"]).questions()


NO_MODEL = "error: no model given; add --model with a checkpoint folder\n"


def test_file_runs_in_place(tmp_path: Path) -> None:
    """`python eval/x.py` is the command, and its errors are one line."""
    command = [sys.executable, str(catalog.find(catalog.BENCHMARK, "vqa"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (2, NO_MODEL)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_runs_in_place(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(catalog.find(catalog.BENCHMARK, name))
    monkeypatch.setattr(sys, "argv", [path])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(path, run_name="__main__")
    assert left.value.code == 2 and capsys.readouterr().err == NO_MODEL
