"""easy-VQA (Victor Zhou, 2019): pictures of one coloured shape with questions of one-word answers, all templated.

    easy-vqa's data/<split>/{images/N.png, questions.json} ─▶ easy-vqa/<split>/N, images/<split>/N.png

The data come with the Python package easy-vqa: 4,000 pictures with 38,575 questions for training and 1,000 others with
9,673 for testing, of three types: shape, color and yes-no. A conversation opens with the image, then, as in Vision-Flan
(Xu et al., arXiv 2402.11690), the task's instruction, a blank line and the question.

With `style=captions` a picture has one turn instead, for the stage that aligns vision and language: a caption ("a blue
rectangle") made of what its shape and color questions and their answers say. Pictures that none of them describes are
left out.

With `style=preferences` each question is a conversation of its own, with its answer as the better of two continuations
and another answer of the same task as the worse one.

The package's files are located and never imported: this file has the package's name, so where it is run in place
`import easy_vqa` would find this file.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from mminstruct.building import Builder, Job
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Message, Preference, image, text
from mminstruct.errors import DataError
from mminstruct.files import read_json

PACKAGE = "easy-vqa"
INSTRUCTION = "Answer the question about the picture with one word."
CAPTION_INSTRUCTION = "Describe the picture."
SHAPES = frozenset({"circle", "rectangle", "triangle"})
COLORS = frozenset({"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"})
TASKS = {
    "easy-vqa+shape": SHAPES,
    "easy-vqa+color": COLORS,
    "easy-vqa+yes-no": frozenset({"yes", "no"}),
}

Split = Literal["train", "test"]

_REMEDY = f"run: pip install --force-reinstall {PACKAGE}==1.0"


@dataclass(frozen=True)
class Question:
    """One question; `index` is its place among those of its image."""

    image: int
    index: int
    text: str
    answer: str
    task: str


@dataclass(frozen=True)
class Picture:
    """A picture's file, of `parent`, and its questions in the order that they are asked in."""

    id: str
    file: Path
    parent: str
    asked: list[Question]


class EasyVqa(Builder[Picture]):
    name = "easy-vqa"
    version = "3"
    summary = "easy-VQA: 4,000 + 1,000 pictures of one shape, 48,248 questions of three types (pip install easy-vqa)."
    licence = "MIT"

    class Options(Config):
        """What is built.

        Args:
            style: the questions as they are, a caption made of them, or each with a right and a wrong answer.
            split: the pictures to train on, or the others to test with.
            turns: `all` questions of a picture in one conversation, a `single` one, or so many at most.
            shuffle_seed: shuffles each picture's questions; without it they keep their order.
            tasks: only questions of these tasks (shape, color, yes-no); pictures without one are left out.
            limit: only the first so many pictures.
            instruction: what stands before the first question of a conversation; empty for none.
            instruction_share: the share of conversations that have it; below 1 a model learns to do without, too.
            capital_share: the share of questions that begin with a capital letter, as people type them.
        """

        style: Literal["questions", "captions", "preferences"] = "questions"
        split: Split = "train"
        turns: int | Literal["all", "single"] = "all"
        shuffle_seed: int | None = None
        tasks: list[Literal["shape", "color", "yes-no"]] = Field(default=["shape", "color", "yes-no"], min_length=1)
        limit: int | None = Field(default=None, ge=1)
        instruction: str = INSTRUCTION
        instruction_share: float = Field(default=1.0, ge=0, le=1)
        capital_share: float = Field(default=0.0, ge=0, le=1)

        @field_validator("turns", mode="before")
        @classmethod
        def _turns_are_named_or_counted(cls, value: Any) -> Any:
            if value in ("all", "single") or (type(value) is int and value >= 1):
                return value
            raise ValueError("give all, single, or a whole number from 1 on")

    options: Options

    def items(self) -> Iterator[Picture]:
        """Raises `DataError` where the package is missing or its data are not as described above."""
        pictures = data_folder() / self.options.split / "images"
        parent = f"{PACKAGE}=={importlib.metadata.version(PACKAGE)}"
        for number, asked in self._by_image():
            yield Picture(f"{self.name}/{self.options.split}/{number}", pictures / f"{number}.png", parent, asked)

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        conversations = list(self._conversations(item))
        if not conversations:
            job.drop("no question describes the picture")
            return
        media = job.copy(item.file, f"{self.options.split}/{item.file.name}")
        for conversation, tasks, messages, preference in conversations:
            yield Conversation(
                id=conversation,
                messages=messages,
                preference=preference,
                media=[media],
                task=tasks[0] if len(tasks) == 1 else None,
                extra=None if len(tasks) == 1 else {"tasks": tasks},
                provenance=job.provenance([item.parent]),
            )

    def count(self) -> int:
        return sum(1 for _ in self._by_image())

    def _by_image(self) -> Iterator[tuple[int, list[Question]]]:
        """(image, its questions in the order that they are asked in)."""
        tasks = {f"{self.name}+{task}" for task in self.options.tasks}
        wanted = (question for question in questions(self.options.split) if question.task in tasks)
        by_image = itertools.groupby(wanted, key=lambda question: question.image)
        for number, found in itertools.islice(by_image, self.options.limit):
            asked = list(found)
            if self.options.shuffle_seed is not None:
                random.Random(f"{self.options.shuffle_seed}/{self.options.split}/{number}").shuffle(asked)
            yield number, asked

    def _groups(self, prefix: str, asked: list[Question]) -> list[tuple[str, Sequence[Question]]]:
        """(id, questions) of each conversation about one image."""
        if self.options.turns == "all":
            return [(prefix, asked)]
        if self.options.turns == "single":
            return [(f"{prefix}/q{question.index}", [question]) for question in asked]
        starts = range(0, len(asked), self.options.turns)
        return [
            (f"{prefix}/c{number}", asked[start : start + self.options.turns]) for number, start in enumerate(starts)
        ]

    def _conversations(self, item: Picture) -> Iterator[tuple[str, list[str], list[Message], Preference | None]]:
        """(id, tasks, messages, preference) of each conversation about one image."""
        prefix, asked = item.id, item.asked
        if self.options.style == "captions":
            if described := caption(asked):
                messages = [
                    Message(role="user", content=[image(), text(CAPTION_INSTRUCTION)]),
                    Message(role="assistant", content=[text(described)]),
                ]
                yield f"{prefix}/caption", [f"{self.name}+caption"], messages, None
        elif self.options.style == "preferences":
            for question in asked:
                name = f"{prefix}/p{question.index}"
                asking, answer = self._messages(name, [question])
                yield name, [question.task], [asking], preference(answer, question)
        else:
            for name, group in self._groups(prefix, asked):
                yield name, [question.task for question in group], self._messages(name, group), None

    def _messages(self, name: str, group: Sequence[Question]) -> list[Message]:
        instructed = _drawn(f"instruction/{name}", self.options.instruction_share)
        messages = []
        for turn, question in enumerate(group):
            typed = question.text
            if _drawn(f"capital/{name}/{turn}", self.options.capital_share):
                typed = typed[:1].upper() + typed[1:]
            if turn == 0:
                first = text(prompt(typed, self.options.instruction if instructed else ""))
                messages.append(Message(role="user", content=[image(), first]))
            else:
                messages.append(Message(role="user", content=[text(typed)]))
            messages.append(Message(role="assistant", content=[text(question.answer)]))
        return messages


def _drawn(name: str, share: float) -> bool:
    """Whether this one is among those of a share; the same everywhere."""
    return share > 0 and random.Random(name).random() < share


def prompt(question: str, instruction: str = INSTRUCTION) -> str:
    """The text of a first turn, after the image."""
    return f"{instruction}\n\n{question}" if instruction else question


def caption(asked: Sequence[Question]) -> str:
    """What shape and color questions of a picture say: "a blue rectangle", "a rectangle", "a blue shape" or nothing."""
    told = [question for question in asked if question.task != "easy-vqa+yes-no"]
    words = {word for question in told for word in [*question.text.rstrip("?").split(), question.answer]}
    colors, shapes = sorted(words & COLORS), sorted(words & SHAPES)
    return " ".join(["a", *colors, *(shapes or ["shape"])]) if colors or shapes else ""


def preference(answer: Message, question: Question) -> Preference:
    """The answer, and as the worse continuation another one of the same task, drawn by the question's place."""
    others = sorted(TASKS[question.task] - {question.answer})
    wrong = random.Random(f"wrong/{question.image}/{question.index}").choice(others)
    return Preference(chosen=[answer], rejected=[Message(role="assistant", content=[text(wrong)])])


def data_folder() -> Path:
    """The folder with `train` and `test` of the installed package. Raises `DataError` where it is not installed."""
    try:
        folder = Path(str(importlib.metadata.distribution(PACKAGE).locate_file("easy_vqa/data")))
    except importlib.metadata.PackageNotFoundError:
        raise DataError(f"the Python package {PACKAGE} is not installed; run: pip install {PACKAGE}") from None
    if not folder.is_dir():
        raise DataError(f"{folder} of the package {PACKAGE} is missing; {_REMEDY}")
    return folder


def questions(split: Split) -> Iterator[Question]:
    """The questions of a split, by image, in the package's order.

    Raises:
        DataError: the package is missing, or its file is not a list of [question, answer, image] sorted by image.
    """
    path = data_folder() / split / "questions.json"
    tasks = {answer: task for task, answers in TASKS.items() for answer in answers}
    image, index = -1, -1
    for entry in read_json(path):
        asked, answer, number = _entry(entry, path)
        if number < image:
            raise DataError(f"{path}: the questions are not sorted by image; {_REMEDY}")
        if answer not in tasks:
            raise DataError(f"{path}: {answer!r} is an answer of no known task; {_REMEDY}")
        image, index = number, index + 1 if number == image else 0
        yield Question(image, index, asked, answer, tasks[answer])


def _entry(entry: Any, path: Path) -> tuple[str, str, int]:
    match entry:
        case [str(asked), str(answer), int(number)]:
            return asked, answer, number
    raise DataError(f"{path}: an entry is not [question, answer, image]; {_REMEDY}")


BUILDER = EasyVqa
