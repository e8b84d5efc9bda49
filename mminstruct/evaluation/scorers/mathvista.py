"""MathVista: mathematics in pictures, with options or with a whole number, a decimal or a list as the answer.

    extraction ── normalise by question and answer type ──▶ text ── equal to the gold text? ──▶ 0 or 1

The rule of lupantech/MathVista, evaluation/calculate_score.py. It scores an *extraction*, which a language model took
out of the response beforehand (`extraction` in the official files):

- options: the first letter in parentheses, else the extraction itself if it is a letter, else the option at the least
  edit distance, so an empty or senseless extraction gets an option too, and a chance to be right.
- whole numbers are cut, not rounded; decimals are rounded to the question's precision; lists are compared as text.

The published result files were scored by an earlier state of the file, which read whole numbers by `int(extraction)`:
there "1.5" and "5.0" are no answer, where the current code reads 1 and 5 (`official-2023`).

`quick-extract` has no language model: it takes the response itself, by the rules of evaluation/extract_answer.py with
--quick_extract, and the empty text where that program would ask one.

Figures: `average` is the score; `KEY/VALUE` for the keys of the official scores file (task, source, skills, ...).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation import parquet
from mminstruct.evaluation.figures import mean_by
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_object, record, unique, unique_items
from mminstruct.evaluation.parsing.letters import lettered, vlmevalkit_letter
from mminstruct.evaluation.scorers.metric import Metric, Variant, Verdict, each, only_predicted
from mminstruct.evidence.measures import edit_distance

KEYS = (
    "question_type",
    "answer_type",
    "language",
    "source",
    "category",
    "task",
    "context",
    "grade",
    "skills",
)
MULTI_CHOICE = "multi_choice"
_LETTER = re.compile(r"\(([a-zA-Z])\)")
_QUOTED = re.compile(r'The answer is "(.*)"\.')


class Facts(Official):
    """What the rule needs to know of a question, `Item.facts`."""

    question_type: str
    answer_type: str
    precision: float | None = None


def whole_number_cut(extraction: str) -> int:
    """The current code: what stands behind the point is cut off."""
    return int(float(extraction))


def normalise(
    extraction: str, choices: Sequence[str], facts: Facts, whole: Callable[[str], int] = whole_number_cut
) -> str | None:
    """`normalize_extracted_answer`: the extraction in the form of the gold answers; None where it cannot be read."""
    if facts.question_type == MULTI_CHOICE:
        return _choice(extraction.strip(), choices)
    try:
        if facts.answer_type == "integer":
            return str(whole(extraction))
        if facts.answer_type == "float":
            return None if facts.precision is None else str(round(float(extraction), int(facts.precision)))
    except (ValueError, OverflowError):
        return None
    return extraction


def _choice(extraction: str, choices: Sequence[str]) -> str:
    in_parentheses = _LETTER.search(extraction)
    if in_parentheses:
        extraction = in_parentheses[1].upper()
    options = lettered(choices)
    if extraction in options:
        return options[extraction]
    return min(choices, key=lambda choice: edit_distance(extraction, choice))


def quick_extraction(response: str, choices: Sequence[str], facts: Facts) -> str:
    """`extract_answer` with quick_extract, without its language model."""
    if facts.question_type == MULTI_CHOICE and response in choices:
        return response
    try:
        if facts.answer_type == "integer":
            return str(int(response))
        if facts.answer_type == "float":
            return str(float(response))
    except ValueError:
        pass
    quoted = _QUOTED.search(response)
    return quoted[1] if quoted else ""


def _judge(whole: Callable[[str], int]) -> Callable[[str, Item], Verdict]:
    def judge(text: str, item: Item) -> Verdict:
        answer = normalise(text, item.choices, facts_of(item), whole)
        return Verdict(float(answer in item.answers), answer, parsed=answer is not None)

    return judge


def _quick(text: str, item: Item) -> Verdict:
    facts = facts_of(item)
    extraction = quick_extraction(text, item.choices, facts)
    answer = normalise(extraction, item.choices, facts)
    return Verdict(float(answer in item.answers), answer, parsed=extraction != "")


def _vlmevalkit(text: str, item: Item) -> Verdict:
    """`post_check`: letters for options, numbers for numbers without rounding, and lists never right."""
    facts = facts_of(item)
    if facts.question_type == MULTI_CHOICE:
        letter = vlmevalkit_letter(text, lettered(item.choices))
        right = letter is not None and lettered(item.choices).get(letter) in item.answers
        return Verdict(float(right), letter, parsed=letter is not None)
    kinds: dict[str, Callable[[str], float]] = {"integer": int, "float": float}
    if facts.answer_type not in kinds:
        return Verdict(0.0, text)
    read = kinds[facts.answer_type]
    try:
        found = read(text)
        return Verdict(float(found == read(item.answers[0])), str(found))
    except ValueError:
        return Verdict(0.0, parsed=False)


def facts_of(item: Item) -> Facts:
    """The item's facts. Raises `DataError` where they are missing or options are."""
    facts = record(f"question {item.id!r}", dict(item.facts), Facts)
    if facts.question_type == MULTI_CHOICE and not item.choices:
        raise DataError(f"question {item.id!r} is multi_choice and has no choices; give the official file")
    return facts


# --- official files ---------------------------------------------------------------------------------------------------


class _Problem(Official):
    answer: str
    question_type: str
    answer_type: str
    choices: list[str] | None = None
    precision: float | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    question: str = ""
    image: str = ""
    unit: str | None = None
    query: str = ""


def read_gold(path: Path) -> list[Item]:
    """testmini.json, or a file of results that has the answers too: `{pid: {answer, choices, metadata, ...}}`.

    Also the Parquet files of the set `AI4Math/MathVista`. Images are paths within the folder of the file.
    """
    return unique_items((place, item) for place, item, _ in read_rows(path))


def read_rows(path: Path) -> Iterator[tuple[str, Item, Mapping[str, Any]]]:
    """(place, question, row) of each question; a row of Parquet holds the image."""
    if parquet.is_one(path):
        yield from (
            (place, _item(str(row.get("pid")), place, row), row) for place, row in parquet.rows(path, "testmini")
        )
    else:
        yield from ((place, _item(pid, place, value), value) for pid, place, value in json_object(path))


def _item(pid: str, place: str, value: Any) -> Item:
    if isinstance(value, dict) and not value.get("answer"):
        raise DataError(f"{place} has no answer; give testmini.json (the answers of the test split are not public)")
    line = record(place, value, _Problem)
    own = {"question_type": line.question_type, "answer_type": line.answer_type, "precision": line.precision}
    own |= {key: value for key, value in (("unit", line.unit), ("query", line.query)) if value}
    return Item(
        id=pid,
        images=(Path(line.image),) if line.image else (),
        question=line.question,
        answers=(line.answer,),
        kind=line.question_type,
        detail=line.answer_type,
        cluster=pid,
        choices=tuple(line.choices or ()),
        facts={key: line.metadata[key] for key in KEYS if key in line.metadata} | own,
    )


def read_extractions(path: Path) -> dict[str, str]:
    """pid -> extraction of a file of results, or of an object {pid: extraction}."""
    return _field(path, "extraction", "run the extraction first, or use the variant quick-extract")


def read_responses(path: Path) -> dict[str, str]:
    """pid -> response of a file of results, or of an object {pid: response}."""
    return _field(path, "response", "give the official file of results")


def _field(path: Path, key: str, advice: str) -> dict[str, str]:
    found = []
    for pid, place, value in json_object(path):
        if isinstance(value, dict):
            if key not in value:
                raise DataError(f"{place} has no {key}; {advice}")
            value = value[key]
        found.append((place, pid, value if isinstance(value, str) else str(value)))
    return unique(found)


total = mean_by(*KEYS)

METRIC = Metric(
    name="mathvista",
    summary="Accuracy on MathVista: options, whole numbers, decimals and lists, from extracted answers.",
    variants=(
        Variant(
            "official",
            "lupantech/MathVista, evaluation/calculate_score.py (e999481): whole numbers are int(float(extraction)).",
            each(_judge(whole_number_cut)),
            total,
        ),
        Variant(
            "official-2023",
            "The state that made the published result files: whole numbers are int(extraction), so 5.0 is no answer.",
            each(_judge(int)),
            total,
        ),
        Variant(
            "quick-extract",
            "extract_answer.py --quick_extract on the response, without its language model, then official.",
            each(_quick),
            total,
            predictions=read_responses,
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, dataset/utils/mathvista.py, post_check: option letters, int() and float() without rounding, "
            "lists never right.",
            each(_vlmevalkit),
            total,
        ),
    ),
    files="testmini.json or a file of results with answers; a file of results {pid: {response, extraction, ...}}",
    gold=read_gold,
    predictions=read_extractions,
    pairing=only_predicted,
)
