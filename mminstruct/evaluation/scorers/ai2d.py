"""AI2D: questions on diagrams of school books, with four options.

    text ── letter ──▶ the gold option's? ──▶ 0 or 1

The data set has no program of its own for generated answers; the rules in use are those of the harnesses:

- `lmms-eval`: tasks/ai2d (flexible-extract, then exact_match). A capital and a full stop at the start are the answer,
  else the whole text; upper case and punctuation do not count, blanks do.
- `lmms-eval-2024`: the same without the first step (commit 0312cf2), so "B. mouse" is wrong.
- `vlmevalkit`, `vlmevalkit-2025`, `vlmevalkit-2024`: `can_infer` without a judge, in its three states; see `mmbench`.

The set with the labels masked ("test") and the one without ("no mask") differ by many points and are asked in other
pictures, which no scorer sees: say which one it was.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation import option_tables
from mminstruct.evaluation.circular import judge_letters
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, record, unique_items
from mminstruct.evaluation.option_tables import known_and_predicted, read_predictions
from mminstruct.evaluation.parquet import any_rows
from mminstruct.evaluation.parsing.letters import vlmevalkit_letter, vlmevalkit_letter_2024, vlmevalkit_letter_2025
from mminstruct.evaluation.scorers.metric import Metric, Variant, Verdict, each

_FIRST = re.compile(r"\s*([A-Z])\.")
_NO_MARKS = str.maketrans("", "", string.punctuation)


def _exact(text: str, item: Item) -> Verdict:
    found = text.lower().translate(_NO_MARKS)
    letter = found.upper() if len(found) == 1 and found.upper() in string.ascii_uppercase else None
    right = any(found == answer.lower().translate(_NO_MARKS) for answer in item.answers)
    return Verdict(float(right), letter, parsed=letter is not None)


def _flexible(text: str, item: Item) -> Verdict:
    first = _FIRST.match(text)
    return _exact(first[1] if first else text, item)


class _Row(Official):
    options: list[str]
    answer: int | str
    question: str = ""
    index: int | str | None = None
    question_id: int | str | None = None


def read_gold(path: Path) -> list[Item]:
    """VLMEvalKit's TSV, or rows {question, options, answer} of the set `lmms-lab/ai2d` in Parquet or JSON.

    `answer` is the option's number from 0. A row without index and question_id is called by its place, from 0.
    """
    return unique_items((place, item) for place, item, _ in read_rows(path))


def read_rows(path: Path) -> Iterator[tuple[str, Item, Mapping[str, Any]]]:
    """(place, question, row) of each row; the row holds the image."""
    if path.suffix.lower() in (".tsv", ".csv"):
        yield from ((place, option_tables.item_of(place, row), row) for place, row in option_tables.rows(path))
        return
    for number, (place, row) in enumerate(any_rows(path, "test")):
        yield place, _item(place, number, record(place, row, _Row)), row


def _item(place: str, number: int, row: _Row) -> Item:
    answer = str(row.answer)
    if not answer.isdecimal() or int(answer) >= len(row.options):
        raise DataError(f"{place}: answer {answer!r} is no number of one of the {len(row.options)} options; mend it")
    name = next((name for name in (row.index, row.question_id) if name is not None), number)
    return Item(
        id=str(name),
        question=row.question,
        answers=(string.ascii_uppercase[int(answer)],),
        cluster=str(name),
        choices=tuple(row.options),
    )


METRIC = Metric(
    name="ai2d",
    summary="Accuracy on AI2D: multiple choice on diagrams.",
    variants=(
        Variant(
            "lmms-eval",
            "lmms-eval, tasks/ai2d, flexible-extract: a capital and a full stop at the start, else the whole text.",
            each(_flexible),
        ),
        Variant(
            "lmms-eval-2024",
            "lmms-eval, tasks/ai2d/ai2d.yaml (0312cf2): the whole text, upper case and punctuation aside.",
            each(_exact),
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, mcq_vanilla_eval with exact_matching and can_infer (2026).",
            judge_letters(vlmevalkit_letter),
        ),
        Variant(
            "vlmevalkit-2025",
            "The same with can_infer as it was before: without the letter after answer is.",
            judge_letters(vlmevalkit_letter_2025),
        ),
        Variant(
            "vlmevalkit-2024",
            "The same with can_infer as it was before that (commit 18fc37a).",
            judge_letters(vlmevalkit_letter_2024),
        ),
    ),
    files="a TSV (index, question, A..D, answer) or JSON of {options, answer}; a table with a column prediction",
    gold=read_gold,
    predictions=read_predictions,
    pairing=known_and_predicted,
)
