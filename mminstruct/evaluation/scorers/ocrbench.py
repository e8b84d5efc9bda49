"""OCRBench: how many of 1,000 answers hold the gold text; by type of text, and their sum.

    OCRBench.json [{dataset_name, type, question, image_path, answers, ...}]       gold
    the same with "predict" in the records, as the official example.py writes it   answers; it serves for both options

- `official`: OCRBench/example.py of Yuliang-Liu/MultimodalOCR. Right is an answer that contains a gold answer; both in
  lower case, without outer blanks, line ends as blanks. Formulas (dataset HME100k) keep their case and lose all blanks.
  So "10" is right for "1", and everything is for an empty gold. A question without a prediction counts as wrong.
- `lmms-eval`: tasks/ocrbench/utils.py: predictions are put into lower case before, for formulas too, whose golds keep
  their case: a formula with a capital letter is never met. It gives the sum over 1,000.
- `vlmevalkit`: image_vqa.py: the official rule, where formulas are told by the type; its "Final Score Norm" is the sum
  over ten.

`score` is the number of right answers (of 1,000: the "Final Score"); each type's number and that of the six types of
`Text Recognition` together stand beside it, and `accuracy`, their share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import TEXTS, answers
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_list, records, table, unique_items
from mminstruct.evaluation.parsing.lists import listed
from mminstruct.evaluation.scorers.metric import Figures, Metric, Variant, Verdict, each, missing_is_wrong

RECOGNITION = (
    "Regular Text Recognition",
    "Irregular Text Recognition",
    "Artistic Text Recognition",
    "Handwriting Recognition",
    "Digit String Recognition",
    "Non-Semantic Text Recognition",
)
FORMULAS = "Handwritten Mathematical Expression Recognition"
FORMULA_DATA = "HME100k"


class _Question(Official):
    id: int | str | None = None
    dataset_name: str = ""
    type: str = ""
    question: str = ""
    image_path: str = ""
    answers: tuple[str, ...] = Field(min_length=1)

    @field_validator("answers", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


def read_questions(path: Path) -> list[Item]:
    """The items of `OCRBench.json`, of a result file, or of VLMEvalKit's table; by id or by place."""
    if path.suffix == ".tsv":
        entries = [
            (
                place,
                {
                    "id": row["index"],
                    "type": row.get("category", ""),
                    "question": row.get("question", ""),
                    "answers": listed(row.get("answer", "")),
                },
            )
            for place, row in table(path)
            if "index" in row
        ]
    else:
        entries = list(json_list(path))
    lines = list(records(entries, _Question))
    return unique_items(
        (
            place,
            Item(
                id=str(number) if line.id is None else str(line.id),
                question=line.question,
                answers=line.answers,
                kind=line.type,
                detail=line.dataset_name,
                cluster=line.image_path,
            ),
        )
        for number, (place, line) in enumerate(lines)
    )


def read_answers(path: Path) -> dict[str, str]:
    """Answers by id or by place. Records without a prediction are passed over, as the official script does."""
    if path.suffix == ".tsv":
        return {line.id: line.text for line in answers(path, ("index",), ("prediction",))}
    found: dict[str, str] = {}
    for number, (place, value) in enumerate(json_list(path)):
        if not isinstance(value, dict):
            raise DataError(f"{place} is no object; give a result file of OCRBench")
        key = next((key for key in TEXTS if key in value), None)
        if key is None or value[key] == 0:
            continue
        if not isinstance(value[key], str):
            raise DataError(f"{place}: {key}: Input should be a valid string, and is {value[key]!r:.40}")
        name = str(number if value.get("id") is None else value["id"])
        if name in found:
            raise DataError(f"{place} has the id {name!r}, which an earlier one has too; keep one of them")
        found[name] = value[key]
    if not found:
        raise DataError(f"{path} holds no predictions; give a file with the key 'predict'")
    return found


def _holds(text: str, golds: Sequence[str], is_formula: bool) -> bool:
    def clean(each: str) -> str:
        if is_formula:
            return each.strip().replace("\n", " ").replace(" ", "")
        return each.lower().strip().replace("\n", " ")

    return any(clean(gold) in clean(text) for gold in golds)


def is_formula(item: Item) -> bool:
    """By the data set, as the official script tells it, or by the type where no data set is named."""
    return item.detail == FORMULA_DATA if item.detail else item.kind == FORMULAS


def _variant(name: str, source: str, formula: Callable[[Item], bool], lower: bool = False) -> Variant:
    def judge(text: str, item: Item) -> Verdict:
        return Verdict(float(_holds(text.lower() if lower else text, item.answers, formula(item))), answer=text)

    return Variant(name, source, each(judge), total)


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """The numbers of right answers: all, by type, and the six kinds of recognition together; and their share."""
    right: Counter[str] = Counter({item.kind: 0 for item in items if item.kind})
    for item, verdict in zip(items, verdicts, strict=True):
        if item.kind:
            right[item.kind] += int(verdict.score)
    score = float(sum(verdict.score for verdict in verdicts))
    figures: Figures = {"score": score if verdicts else None, "accuracy": score / len(verdicts) if verdicts else None}
    if set(right) & set(RECOGNITION):
        figures["Text Recognition"] = float(sum(right[name] for name in RECOGNITION))
    return figures | {name: float(right[name]) for name in sorted(right)}


METRIC = Metric(
    name="ocrbench",
    summary="OCRBench: the number of answers, of 1,000, that contain a gold text.",
    variants=(
        _variant(
            "official", "Yuliang-Liu/MultimodalOCR, OCRBench/example.py: the gold is a part of the answer.", is_formula
        ),
        _variant(
            "lmms-eval",
            "lmms-eval, tasks/ocrbench: predictions in lower case for formulas too, whose golds keep theirs.",
            is_formula,
            lower=True,
        ),
        _variant(
            "vlmevalkit",
            "VLMEvalKit, image_vqa.py: the official rule; formulas are told by their type.",
            lambda item: item.kind == FORMULAS,
        ),
    ),
    files="OCRBench.json and a result file with predict in its records, which serves for both",
    gold=read_questions,
    predictions=read_answers,
    pairing=missing_is_wrong,
    best=1000.0,
)
