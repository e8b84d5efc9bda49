"""OCRBench: how many of 1,000 answers hold the gold text; by type of text, and their sum.

    OCRBench.json [{dataset_name, type, question, image_path, answers, ...}]       gold
    the same with "predict" in the records, as the official example.py writes it   answers; it serves for both options

- `official`: OCRBench/example.py of Yuliang-Liu/MultimodalOCR. Right is an answer that contains a gold answer; both in
  lower case, without outer blanks, line ends as blanks. Formulas (dataset HME100k) keep their case and lose all blanks.
  So "10" is right for "1", and everything is for an empty gold. A question without a prediction counts as wrong.
  The script goes by place; here the records' `id`s are used where each has its own, and else their places.
- `lmms-eval`: tasks/ocrbench/utils.py (0.7.3): the official rule, where letters, figures and marks of full width are
  those of half width, but in formulas. It gives the sum over 1,000.
- `lmms-eval-2024`: the same before (46a88d8): predictions are put into lower case first, for formulas too, whose golds
  keep their case: a formula with a capital letter is never met; full width is another text.
- `vlmevalkit`: image_vqa.py: the official rule, where formulas are told by the type; its "Final Score Norm" is the sum
  over ten.

`score` is the number of right answers (of 1,000: the "Final Score"); each type's number and that of the six types of
`Text Recognition` together stand beside it, and `accuracy`, their share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from mminstruct.errors import DataError
from mminstruct.evaluation.answer_files import TEXTS, answers
from mminstruct.evaluation.by_order import BY_ORDER
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
HALF_WIDTH = {0xFF00 + number: 0x20 + number for number in range(1, 0x5F)} | {0x3000: 0x20}


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
    names = _names([line.id for _, line in lines])
    return unique_items(
        (
            place,
            Item(
                id=name.removeprefix(BY_ORDER),
                question=line.question,
                answers=line.answers,
                kind=line.type,
                detail=line.dataset_name,
                cluster=line.image_path,
            ),
        )
        for name, (place, line) in zip(names, lines, strict=True)
    )


def _names(ids: Sequence[object]) -> list[str]:
    """The records' ids where each has one of its own, else their places."""
    found = [str(each) for each in ids if each is not None]
    return found if len(set(found)) == len(ids) else [f"{BY_ORDER}{number}" for number in range(len(ids))]


def read_answers(path: Path) -> dict[str, str]:
    """Answers by id or by place. Records without a prediction are passed over, as the official script does."""
    if path.suffix == ".tsv":
        return {line.id: line.text for line in answers(path, ("index",), ("prediction",))}
    entries = list(json_list(path))
    for place, value in entries:
        if not isinstance(value, dict):
            raise DataError(f"{place} is no object; give a result file of OCRBench")
    found: dict[str, str] = {}
    for name, (place, value) in zip(_names([value.get("id") for _, value in entries]), entries, strict=True):
        key = next((key for key in TEXTS if key in value), None)
        if key is None or value[key] == 0:
            continue
        if not isinstance(value[key], str):
            raise DataError(f"{place}: {key}: Input should be a valid string, and is {value[key]!r:.40}")
        found[name] = value[key]
    if not found:
        raise DataError(f"{path} holds no predictions; give a file with the key 'predict'")
    return found


def pairing(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """As `missing_is_wrong`; answers that are named by their place go with the items in their order."""
    placed = {f"{BY_ORDER}{number}": item.id for number, item in enumerate(items)}
    return missing_is_wrong(items, {placed.get(name, name): text for name, text in found.items()}, path)


def _holds(text: str, golds: Sequence[str], is_formula: bool, half_width: bool = False) -> bool:
    def clean(each: str) -> str:
        if is_formula:
            return each.strip().replace("\n", " ").replace(" ", "")
        return (each.translate(HALF_WIDTH) if half_width else each).lower().strip().replace("\n", " ")

    return any(clean(gold) in clean(text) for gold in golds)


def is_formula(item: Item) -> bool:
    """By the data set, as the official script tells it, or by the type where no data set is named."""
    return item.detail == FORMULA_DATA if item.detail else item.kind == FORMULAS


def _variant(
    name: str,
    source: str,
    formula: Callable[[Item], bool],
    *,
    prepare: Callable[[str], str] = str,
    half_width: bool = False,
) -> Variant:
    def judge(text: str, item: Item) -> Verdict:
        found = _holds(prepare(text), item.answers, formula(item), half_width)
        return Verdict(float(found), answer=text)

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
            "lmms-eval, tasks/ocrbench (0.7.3): the official rule; full width counts as half width, not in formulas.",
            is_formula,
            prepare=str.strip,
            half_width=True,
        ),
        _variant(
            "lmms-eval-2024",
            "The same before: predictions in lower case for formulas too, whose golds keep theirs.",
            is_formula,
            prepare=str.lower,
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
    pairing=pairing,
    best=1000.0,
)
