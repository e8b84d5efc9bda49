"""The easy-vqa builder: the published counts, what a conversation looks like, and the same bytes each time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mminstruct import catalog, formats
from mminstruct.building import load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.errors import DataError
from mminstruct.evaluation.benchmark import load_benchmark
from mminstruct.files import sha256
from mminstruct.media import open_image

MODULE = catalog.module(catalog.BUILDER, "easy-vqa")
INSTRUCTION = "Answer the question about the picture with one word."


def build(out: Path, **options: Any) -> list[Conversation]:
    builder = load_builder("easy-vqa", [f"{key}={value}" for key, value in options.items()])
    manifest = run(builder, out)
    found = list(formats.read(out))
    assert manifest.conversations == len(found)
    assert builder.count() == len(list(builder.items()))
    return found


def turns(conversation: Conversation) -> list[tuple[str, str]]:
    """(question, answer) of each pair of turns."""
    texts = [message.text for message in conversation.messages]
    return list(zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize(
    ("split", "images", "count", "yes_no"), [("train", 4000, 38_575, 28_407), ("test", 1000, 9_673, 7_136)]
)
def test_the_published_counts(split: str, images: int, count: int, yes_no: int) -> None:
    found = list(MODULE.questions(split))
    assert len(found) == count
    assert sorted({question.image for question in found}) == list(range(images))
    assert Counter(question.task for question in found)["easy-vqa+yes-no"] == yes_no
    assert len(list((MODULE.data_folder() / split / "images").glob("*.png"))) == images


def test_the_answers_are_the_packages() -> None:
    answers = (MODULE.data_folder() / "answers.txt").read_text().split()
    assert sorted(answers) == sorted(answer for answers in MODULE.TASKS.values() for answer in answers)


def test_test_pictures_are_no_training_pictures() -> None:
    folder = MODULE.data_folder()
    train, test = ({sha256(file) for file in (folder / split / "images").glob("*.png")} for split in ("train", "test"))
    assert not train & test


def test_all_questions_of_a_picture_are_one_conversation(tmp_path: Path) -> None:
    first, second = build(tmp_path / "set", limit=2)
    assert (first.id, second.id) == ("easy-vqa/train/0", "easy-vqa/train/1")
    assert turns(first)[:3] == [
        (f"{INSTRUCTION}\n\nwhat is the blue shape?", "rectangle"),
        ("what color is the shape?", "blue"),
        ("does the image contain a rectangle?", "yes"),
    ]
    assert [message.role for message in first.messages] == ["user", "assistant"] * (len(first.messages) // 2)
    images = [type(p) is ImagePart for message in first.messages for p in message.content]
    assert images == [True] + [False] * (len(images) - 1)  # the image comes first, once
    assert first.task is None and first.extra is not None
    assert first.extra["tasks"][:3] == ["easy-vqa+shape", "easy-vqa+color", "easy-vqa+yes-no"]
    assert len(first.extra["tasks"]) == len(turns(first))
    assert first.provenance is not None
    assert (first.provenance.builder, first.provenance.licence) == ("easy-vqa", "MIT")
    assert first.provenance.parents == [f"easy-vqa=={importlib.metadata.version('easy-vqa')}"]


def test_the_licence_is_the_one_that_the_package_states() -> None:
    distribution = importlib.metadata.distribution("easy-vqa")
    assert "License :: OSI Approved :: MIT License" in (distribution.metadata.get_all("Classifier") or [])
    assert (distribution.read_text("LICENSE") or "").startswith("MIT License")


def test_pictures_are_copied_with_their_facts(tmp_path: Path) -> None:
    for conversation in build(tmp_path / "set", split="test", limit=3):
        (media,) = conversation.media
        name = conversation.id.rpartition("/")[2]
        assert media.path == f"images/test/{name}.png"
        copy = tmp_path / "set" / media.path
        assert media.sha256 == sha256(copy) == sha256(MODULE.data_folder() / "test/images" / f"{name}.png")
        assert open_image(copy).size == (media.width, media.height) == (64, 64)
    assert len(list((tmp_path / "set/images/test").iterdir())) == 3


def test_single_turns(tmp_path: Path) -> None:
    (whole,) = build(tmp_path / "all", limit=1)
    singles = build(tmp_path / "single", limit=1, turns="single")
    assert [c.id for c in singles] == [f"easy-vqa/train/0/q{index}" for index in range(len(singles))]
    assert whole.extra is not None and [c.task for c in singles] == whole.extra["tasks"]
    assert all(c.extra is None and c.media == whole.media for c in singles)
    questions = [pair for c in singles for pair in turns(c)]
    assert all(question.startswith(f"{INSTRUCTION}\n\n") for question, _ in questions)
    assert [(q.removeprefix(f"{INSTRUCTION}\n\n"), a) for q, a in questions[1:]] == turns(whole)[1:]


def test_some_turns_at_a_time(tmp_path: Path) -> None:
    (whole,) = build(tmp_path / "all", limit=1)
    parts = build(tmp_path / "three", limit=1, turns=3)
    assert [c.id for c in parts] == [f"easy-vqa/train/0/c{index}" for index in range(len(parts))]
    assert [len(turns(c)) for c in parts[:-1]] == [3] * (len(parts) - 1)
    assert sum(len(turns(c)) for c in parts) == len(turns(whole))
    assert all(c.messages[0].text.startswith(INSTRUCTION) for c in parts)


def test_shuffled_questions(tmp_path: Path) -> None:
    plain = build(tmp_path / "plain", limit=5, turns="single")
    shuffled = build(tmp_path / "shuffled", limit=5, turns="single", shuffle_seed=1)
    other = build(tmp_path / "other", limit=5, turns="single", shuffle_seed=2)
    assert [c.id for c in plain] != [c.id for c in shuffled] != [c.id for c in other]
    assert sorted(plain, key=lambda c: c.id) == sorted(shuffled, key=lambda c: c.id)  # an id is always one question
    assert [c.media for c in shuffled] == [c.media for c in plain]  # pictures keep their order


def test_the_instruction_can_be_changed_and_left_out(tmp_path: Path) -> None:
    (own,) = build(tmp_path / "own", limit=1, instruction="Regarde.")
    assert own.messages[0].text == "Regarde.\n\nwhat is the blue shape?"
    (none,) = build(tmp_path / "none", limit=1, instruction='""')
    assert none.messages[0].text == "what is the blue shape?"


def test_the_benchmark_asks_as_the_training_data_do(tmp_path: Path) -> None:
    benchmark = load_benchmark("easy-vqa")
    built = build(tmp_path / "set", split="test", turns="single", limit=2)
    for conversation, item in zip(built, itertools.islice(benchmark.items(), len(built)), strict=True):
        assert (conversation.id, conversation.messages[1].text) == (item.id, item.answers[0])
        assert conversation.messages[:1] == benchmark.conversation(item).messages


def test_captions_say_what_questions_and_answers_do(tmp_path: Path) -> None:
    first, *rest = build(tmp_path / "set", style="captions", limit=300)
    assert (first.id, first.task, first.extra) == ("easy-vqa/train/0/caption", "easy-vqa+caption", None)
    assert turns(first) == [("Describe the picture.", "a blue rectangle")]
    for conversation in rest:
        article, *color, shape = turns(conversation)[0][1].split()
        assert article == "a" and set(color) <= MODULE.COLORS and shape in MODULE.SHAPES | {"shape"}
        assert len(color) <= 1 and (color or shape != "shape")
    named = {Path(conversation.media[0].path).name for conversation in [first, *rest]}
    assert {file.name for file in (tmp_path / "set/images/train").iterdir()} == named  # none without a caption


def test_some_conversations_without_instruction(tmp_path: Path) -> None:
    found = build(tmp_path / "set", turns="single", limit=200, instruction_share=0.5)
    bare = [not turns(conversation)[0][0].startswith(MODULE.INSTRUCTION) for conversation in found]
    assert 0.4 < sum(bare) / len(bare) < 0.6


def test_some_questions_begin_with_a_capital_letter(tmp_path: Path) -> None:
    asked = [
        [question.removeprefix(f"{MODULE.INSTRUCTION}\n\n") for one in found for question, _ in turns(one)]
        for found in (build(tmp_path / "a", limit=100, capital_share=0.3), build(tmp_path / "b", limit=100))
    ]
    large = [question[0].isupper() for question in asked[0]]
    assert 0.2 < sum(large) / len(large) < 0.4
    assert [question[0].lower() + question[1:] for question in asked[0]] == asked[1]


def test_some_tasks_only(tmp_path: Path) -> None:
    (whole,) = build(tmp_path / "all", limit=1, turns="all")
    (part,) = build(tmp_path / "part", limit=1, tasks="[color,shape]")
    expected = [pair for pair in turns(whole) if pair[1] not in ("yes", "no")]
    assert turns(part) == expected and len(expected) >= 2


def folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    """In another process too, whose hash seed differs."""
    options = ["limit=20", "shuffle_seed=3"]
    build(tmp_path / "a", limit=20, shuffle_seed=3)
    command = [sys.executable, "-m", "mminstruct", "build", "easy-vqa", *options, "--out", str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # no progress bar where nobody looks
    assert folder_hash(tmp_path / "a") == folder_hash(tmp_path / "b")


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(DataError, match="easy-vqa is not installed; run: pip install easy-vqa"):
        run(load_builder("easy-vqa"), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('[["q?", "yes", 1], ["q?", "yes", 0]]', "not sorted by image"),
        ('[["q?", "maybe", 0]]', "'maybe' is an answer of no known task"),
        ('[["q?", "yes"]]', "an entry is not"),
    ],
)
def test_other_data_than_published_are_refused(
    content: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/questions.json").write_text(content)
    monkeypatch.setattr(MODULE, "data_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=cause):
        list(MODULE.questions("train"))


def test_the_package_is_found_where_this_file_shadows_it() -> None:
    """Where `python data_builders/easy_vqa.py` puts the file's folder first on the path, the package is still found."""
    code = (
        "import runpy, sys; folder, file = sys.argv[1:]; sys.path.insert(0, folder);"
        "assert len(list(runpy.run_path(file)['questions']('test'))) == 9673"
    )
    file = catalog.find(catalog.BUILDER, "easy-vqa")
    done = subprocess.run(
        [sys.executable, "-c", code, str(file.parent), str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_preferences_hold_a_right_and_a_wrong_answer_of_one_task(tmp_path: Path) -> None:
    singles = build(tmp_path / "single", limit=3, turns="single")
    pairs = build(tmp_path / "pairs", limit=3, style="preferences")
    assert len(pairs) == len(singles)
    for pair, single in zip(pairs, singles, strict=True):
        assert pair.messages == single.messages[:1] and pair.task == single.task
        assert pair.preference is not None and pair.preference.chosen == single.messages[1:]
        (wrong,) = pair.preference.rejected
        assert wrong.text in MODULE.TASKS[single.task] and wrong.text != single.messages[1].text
