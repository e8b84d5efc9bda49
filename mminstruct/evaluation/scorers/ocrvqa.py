"""OCR-VQA: share of questions about book covers whose answer is met exactly.

    dataset.json {id: {questions: [...], answers: [...], split: 3, title, ...}}   gold; split 3 is the test set
    [{"question_id": "ID_0", "answer"}] | [{"image": "ID", "question", "answer"}]  answers
    [{"answer": text, "annotation": gold}]                                         both, as Qwen-VL writes them

- `vlmevalkit`: vqa_eval.py, method `accuracy`: outer blanks and upper case do not count; a final full stop does.
  Qwen-VL's eval_mm/evaluate_vqa.py has the same rule.
- `strict`: character for character. The paper (Mishra et al., ICDAR 2019) reports accuracy and published no script.

A question is named by its book and its number on it, from 0: "0310252717_0".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pydantic import Field, field_validator

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import Answer, answers
from mminstruct.evaluation.by_order import BY_ORDER
from mminstruct.evaluation.by_order import pairing as by_order
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import (
    Official,
    json_list,
    json_object,
    record,
    records,
    table,
    unique,
    unique_items,
)
from mminstruct.evaluation.parsing.lists import listed
from mminstruct.evaluation.scorers.metric import Metric, Variant, by_answers
from mminstruct.files import read_json

TEST = 3
_BY_QUESTION = "\t"  # begins the name of an answer that says book and question


class _Book(Official):
    questions: tuple[str, ...] = Field(min_length=1)
    answers: tuple[str, ...]
    imageURL: str = ""  # noqa: N815 - the official name
    split: int = TEST


class _Annotated(Official):
    annotation: tuple[str, ...] = Field(min_length=1)

    @field_validator("annotation", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


def vlmevalkit(prediction: str, golds: Sequence[str]) -> float:
    """Outer blanks and upper case do not count."""
    return float(any(gold.strip().lower() == prediction.strip().lower() for gold in golds))


def strict(prediction: str, golds: Sequence[str]) -> float:
    """Character for character."""
    return float(prediction in golds)


def read_questions(path: Path) -> list[Item]:
    """The test questions of `dataset.json`, those of Qwen-VL's file of both sides, or those of VLMEvalKit's table.

    Images are named as the official script names them, by the book and the ending of `imageURL`.
    """
    if path.suffix == ".tsv":
        return unique_items(
            (
                place,
                Item(
                    id=row.get("index", ""),
                    question=row.get("question", ""),
                    answers=tuple(listed(row.get("answer", ""))),
                ),
            )
            for place, row in table(path)
        )
    if isinstance(read_json(path), list):
        both = enumerate(records(json_list(path), _Annotated))
        return unique_items((place, Item(id=str(number), answers=line.annotation)) for number, (place, line) in both)
    found = []
    for name, place, value in json_object(path):
        book = record(place, value, _Book)
        if len(book.questions) != len(book.answers):
            raise DataError(f"{place} has {len(book.questions)} questions and {len(book.answers)} answers; mend it")
        if book.split == TEST:
            images = (Path(name + PurePosixPath(book.imageURL).suffix),)
            found += [
                (place, Item(id=f"{name}_{number}", images=images, question=question, answers=(answer,), cluster=name))
                for number, (question, answer) in enumerate(zip(book.questions, book.answers, strict=True))
            ]
    return unique_items(found)


def read_answers(path: Path) -> dict[str, str]:
    """Answers by id, by book and question, or by order."""
    found = answers(path)
    return unique((line.place, _name(line, number), line.text) for number, line in enumerate(found))


def _name(line: Answer, number: int) -> str:
    book, question = line.record.get("image", line.record.get("image_id")), line.record.get("question")
    if not line.id and isinstance(book, str) and isinstance(question, str):
        return f"{_BY_QUESTION}{book.rpartition('/')[2].partition('.')[0]}\n{question}"
    return line.id or f"{BY_ORDER}{number}"


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """By id, by book and question, or by order."""
    ids = {f"{_BY_QUESTION}{item.cluster}\n{item.question}": item.id for item in items}
    return by_order(items, {ids.get(name, name): text for name, text in found.items()}, path)


METRIC = Metric(
    name="ocrvqa",
    summary="OCR-VQA: share of answers that equal the gold answer.",
    variants=(
        Variant(
            "vlmevalkit",
            "VLMEvalKit, vqa_eval.py, accuracy: outer blanks and upper case do not count, full stops do.",
            by_answers(vlmevalkit),
        ),
        Variant(
            "strict",
            "The paper (Mishra et al., ICDAR 2019) has no script: character for character.",
            by_answers(strict),
        ),
    ),
    files="dataset.json; answers [{question_id, answer}] or [{image, question, answer}]",
    gold=read_questions,
    predictions=read_answers,
    pairing=pairing,
)
