"""Any visual question answering set of one's own: a JSONL file with images beside it, scored as VQA.

    {"id": "1", "image": "images/1.jpg", "question": "What color is it?", "answers": ["red", ...], "type": "color"}

`image` is relative to the folder of the file, `type` may be left out, and `answers` are the votes of annotators: ten of
them give the official VQA accuracy as EvalAI computes it, one a plain match of the normalised answers.

The default prompt is LLaVA-1.5's for short answers (Liu et al., arXiv 2310.03744, and `scripts/v1_5/eval` of LLaVA):
the image, a line end, the question, and its "single word or phrase" line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from mminstruct.config import Config
from mminstruct.conversation import Conversation, Record
from mminstruct.errors import DataError
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol, one_question
from mminstruct.files import read_jsonl

SHORT_ANSWER = "{question}\nAnswer the question using a single word or phrase."
AFTER_IMAGE = "\n"  # LLaVA: qs = "<image>" + "\n" + qs (llava/eval/model_vqa_loader.py)
LLAVA_TOKENS = 128  # the longest answer, there
LMMS_EVAL_TOKENS = 1024  # lmms-eval, models/llava.py, where a task sets no limit


class Line(Record):
    """One line of the file."""

    id: str | int
    image: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answers: list[str] = Field(min_length=1)
    type: str = ""


class Vqa(Benchmark):
    name = "vqa"
    summary = "Your own questions: a JSONL file of images, questions and answers (option file=PATH)."
    primary_scorer = "vqa.evalai"
    further_scorers = ("vqa.official-2021", "exact-match")
    protocols = (
        Protocol(
            name="llava-1.5",
            source="LLaVA-1.5's short answers (arXiv 2310.03744; scripts/v1_5/eval), or the option `prompt`",
            max_new_tokens=32,
        ),
    )
    data = "a JSON lines file of one's own"

    class Options(Config):
        """Where the questions are, and how they are put.

        `prompt` stands after the image and a line end and holds the place `{question}`. On the command line it needs
        quotes inside the quotes, since values are YAML: `'prompt="{question} Be brief."'`.
        """

        file: Path
        prompt: str = SHORT_ANSWER

        @field_validator("prompt")
        @classmethod
        def _has_a_place_for_the_question(cls, value: str) -> str:
            if "{question}" not in value:
                raise ValueError("the prompt has no place {question}; write it where the question should stand")
            return value

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` with file and line where a line is not as described above or its image is missing."""
        path = self.options.file
        lines: dict[str, int] = {}
        for number, value in read_jsonl(path):
            line = _line(path, number, value)
            name, picture = str(line.id), (path.parent / line.image).absolute()
            if name in lines:
                raise DataError(f"{path}:{number} has the id {name!r} of line {lines[name]}; give each its own id")
            if not picture.is_file():
                raise DataError(f"{path}:{number} names the image {picture}, which does not exist; check `image`")
            lines[name] = number
            yield Item(
                id=name,
                images=(picture,),
                question=line.question,
                answers=tuple(line.answers),
                kind=line.type,
                cluster=str(picture),
            )
        if not lines:
            raise DataError(f"{path} is empty; write one question per line")

    def conversation(self, item: Item) -> Conversation:
        return one_question(item, AFTER_IMAGE + self.options.prompt.replace("{question}", item.question))


def _line(path: Path, number: int, value: Any) -> Line:
    try:
        return Line.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the line"
        known = ", ".join(Line.model_fields)
        raise DataError(f"{path}:{number}: {key}: {first['msg']}; a line holds {known}") from None


BENCHMARK = Vqa

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
