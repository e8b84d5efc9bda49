"""MM-Vet (Yu et al., arXiv 2308.02490): 218 open questions on 200 pictures, graded from 0 to 1 by a language model.

    mm-vet.json {id: {imagename, question, answer, capability}} + images/ ─▶ Item ─▶ answer ─ judge, N times ─▶ grades

The judge sees no picture: it completes the last cell of a table of question, ground truth, prediction and correctness
(`prompts/mm_vet.yaml`, the official text), at temperature 0 and with three tokens at most, as the official program asks
it. The paper took the mean of five runs by gpt-4-0613 (`repeats=5`); another judge gives other scores. Where a grade
cannot be read, the official program asks five times and then writes 0.0; here the answer is left out and counted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from mminstruct.building.request import Parameters
from mminstruct.config import Config
from mminstruct.conversation import Conversation, Message
from mminstruct.errors import DataError, ReplyError
from mminstruct.evaluation.benchmark import Item, Protocol, one_question
from mminstruct.evaluation.judges import Judge, JudgedBenchmark, JudgePrompt, read_told
from mminstruct.evaluation.official import Official, json_object, record
from mminstruct.evaluation.scorers.mm_vet import read_gold

TOLD = read_told(Path(__file__).parent / "prompts" / "mm_vet.yaml")


@dataclass(frozen=True)
class Answered:
    """What the judge is shown."""

    question: str
    answer: str
    prediction: str


class Grade(JudgePrompt[Answered, float]):
    name = "mm-vet/grade"
    version = TOLD.version
    parameters = Parameters(temperature=0, max_tokens=3)
    may_be_cut = True  # "0.5" may be three tokens

    def messages(self, facts: Answered) -> list[Message]:
        answer = facts.answer.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
        return TOLD.messages(question=facts.question, answer=answer, prediction=facts.prediction)

    def parse(self, reply: str, facts: Answered) -> float:
        first = reply.split(" ")[0].strip()
        try:
            grade = float(first)
        except ValueError:
            raise ReplyError("it does not begin with a number; give the correctness, 0.0 to 1.0") from None
        if not 0 <= grade <= 1:
            raise ReplyError("the correctness must be from 0.0 to 1.0")
        return grade


class _Picture(Official):
    imagename: str


class MmVet(JudgedBenchmark):
    name = "mm-vet"
    summary = "218 open questions that need several skills at once, graded by a language model."
    primary_scorer = "mm-vet"
    protocols = (
        Protocol(
            name="llava-1.5",
            source="haotian-liu/LLaVA scripts/v1_5/eval/mmvet.sh: model_vqa with the bare question behind the image, "
            "vicuna_v1, temperature 0, 1,024 tokens",
            max_new_tokens=1024,
            prompt="\n{question}",
        ),
    )
    licence = "CC BY-NC 4.0 (LICENSE_DATASET of the official repository)"
    data = "mm-vet.zip of the project MM-Vet: mm-vet.json and images/"

    class Options(Config):
        """`images` is the folder of the pictures, by default `images` beside the file."""

        file: Path
        images: Path | None = None
        repeats: int = Field(default=1, ge=1)

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where the file is not as published, or a picture is missing."""
        path = self.options.file
        folder = (self.options.images or path.parent / "images").absolute()
        names = {name: record(place, value, _Picture).imagename for name, place, value in json_object(path)}
        for item in read_gold(path):
            picture = folder / names[item.id]
            if not picture.is_file():
                raise DataError(f"{path}: {item.id!r} needs {picture}, which does not exist; unpack {self.data}")
            yield dataclasses.replace(item, images=(picture,))

    def conversation(self, item: Item) -> Conversation:
        return one_question(item, self.protocol.text(item))

    def grade(self, judge: Judge, items: Sequence[Item], answers: Sequence[str]) -> list[str]:
        facts = [Answered(item.question, item.answers[0], said) for item, said in zip(items, answers, strict=True)]
        runs = [judge.ask(Grade(), facts, draw) for draw in range(self.options.repeats)]
        return [json.dumps(list(grades)) for grades in zip(*runs, strict=True)]


BENCHMARK = MmVet

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
