"""A random tiny model, a folder of images, and a benchmark over them with prompts of all lengths."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import mminstruct
from mminstruct.conversation import Conversation
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel

Pair = tuple[VisionLanguageModel, Processor]
WORDS = ("what", "is", "the", "color", "of", "shape", "triangle", "in", "this", "image?")


@pytest.fixture(scope="session")
def pair() -> Pair:
    torch.manual_seed(0)
    return mminstruct.create("nano")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six noise images of different sizes."""
    folder, draw = tmp_path_factory.mktemp("pictures"), random.Random(0)
    paths = []
    for number in range(6):
        width, height = draw.randrange(20, 90), draw.randrange(20, 90)
        picture = Image.frombytes("RGB", (width, height), draw.randbytes(3 * width * height))
        paths.append(folder / f"{number}.png")
        picture.save(paths[-1])
    return paths


class Mixed(Benchmark):
    """Questions of 1 to 40 words on one image, on two, and on none; some are asked twice."""

    name = "mixed-bag"
    summary = "Questions of all lengths."
    primary_scorer = "exact-match"
    further_scorers = ("exact-match.strict", "vqa.evalai")
    protocols = (Protocol("own", "this file", max_new_tokens=6),)

    def __init__(self, pictures: list[Path], count: int = 23) -> None:
        super().__init__()
        self.pictures, self.count = pictures, count

    def items(self) -> Iterator[Item]:
        draw = random.Random(1)
        for number in range(self.count):
            first = self.pictures[number % len(self.pictures)]
            second = self.pictures[(number + 1) % len(self.pictures)]
            images = {0: (first, second), 1: ()}.get(number % 7, (first,))
            question = " ".join(draw.choices(WORDS, k=draw.randrange(1, 40)))
            kind, detail = ("yes-no", draw.choice(["shape", "color"])) if number % 2 else ("color", "")
            yield Item(f"q{number}", images, question, ("red",), kind, detail, cluster=str(first))
        yield Item("again", (self.pictures[0],), "what is it?", ("red",), "color", cluster=str(self.pictures[0]))
        yield Item("and again", (self.pictures[0],), "what is it?", ("blue",), "color", cluster=str(self.pictures[0]))

    def conversation(self, item: Item) -> Conversation:
        return one_question(item, item.question)


@pytest.fixture
def mixed(pictures: list[Path]) -> Mixed:
    return Mixed(pictures)


@pytest.fixture
def questions_file(tmp_path: Path, pictures: list[Path]) -> Path:
    """A file for the benchmark `vqa`: ten questions on the pictures, which lie beside it."""
    lines = []
    for number in range(10):
        name = pictures[number % len(pictures)].name
        (tmp_path / name).write_bytes(pictures[number % len(pictures)].read_bytes())
        answers = ["red"] * 10 if number % 2 else ["blue"]
        lines.append(
            {"id": number, "image": name, "question": f"What is {number}?", "answers": answers, "type": "what"}
        )
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def worlds_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of the benchmark `worlds` draw what they ask, each kind once."""
    return tmp_path_factory.mktemp("worlds")
