"""Tables of multiple choice questions as MMBench publishes them and VLMEvalKit reads and writes them.

    index  question  A  B  C  D  answer  category  l2-category  split      gold: TSV, CSV
    index  ... the same, and prediction                                   predictions: TSV, CSV; or JSON lines

For CircularEval a question stands in the table once for each rotation of its options, at index, index + 1,000,000 and
so on; `Item.group` is the index of the first. An empty cell is no option, and neither is one that says "nan", "NA",
"None" and the like: the programs read tables with pandas, which takes these words for empty cells. Where options
follow, it stands as an empty text in `Item.choices`, so that these keep their letters.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, records, table, unique, unique_items

ROUND = 1_000_000
"""Added to the index for each rotation of the options."""
_EMPTY_WORDS = "#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null"
_EMPTY = frozenset(["", "#N/A N/A", *_EMPTY_WORDS.split()])
FACTS = ("category", "l2-category", "split", "hint")


def read_questions(path: Path) -> list[Item]:
    """The questions of a TSV or CSV file. Raises `DataError` with file and line."""
    return unique_items((place, item_of(place, row)) for place, row in rows(path))


def item_of(place: str, row: Mapping[str, str], prefix: str = "") -> Item:
    """The question of a row; `prefix` is put before its index to make the id."""
    index = index_of(place, row)
    options = options_of(row)
    answer = row.get("answer", "").strip()
    if len(answer) != 1 or answer not in string.ascii_uppercase or not row.get(answer):
        raise DataError(
            f"{place}: answer {answer!r} is none of the options {', '.join(options) or '(none)'}; "
            "give the table of a split whose answers are public"
        )
    group = f"{prefix}{index % ROUND}"
    return Item(
        id=f"{prefix}{index}",
        question=row.get("question", ""),
        answers=(answer,),
        kind=row.get("category", ""),
        cluster=group,
        choices=tuple(options.get(letter, "") for letter in string.ascii_uppercase[: _last(options)]),
        group=group,
        facts={name: row[name] for name in FACTS if not is_empty(row.get(name, ""))},
    )


def read_predictions(path: Path) -> dict[str, str]:
    """index -> text of a table with a column `prediction`, or of JSON {index or question_id, prediction or text}."""
    return unique(predictions_of(path))


def predictions_of(path: Path, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(place, id, text) of each row of a file of predictions."""
    if path.suffix.lower() in (".json", ".jsonl"):
        for place, line in records(json_lines_or_list(path), _Answer):
            yield place, prefix + line.name(place), line.words(place)
        return
    for place, row in rows(path):
        if "prediction" not in row:
            raise DataError(f"{path} has no column 'prediction' but {', '.join(row)}; give the table of predictions")
        yield place, f"{prefix}{index_of(place, row)}", row["prediction"]


class _Answer(Official):
    index: int | str | None = None
    question_id: int | str | None = None
    round_id: int = 0
    prediction: str | None = None
    text: str | None = None

    def name(self, place: str) -> str:
        if self.round_id:
            raise DataError(
                f"{place} answers rotated options (round_id {self.round_id}), whose letters are not those of the "
                "table; give the first round alone"
            )
        name = self.index if self.index is not None else self.question_id
        if name is None:
            raise DataError(f"{place} has neither index nor question_id; give one of them")
        return str(name)

    def words(self, place: str) -> str:
        words = self.prediction if self.prediction is not None else self.text
        if words is None:
            raise DataError(f"{place} has neither prediction nor text; give one of them")
        return words


def all_rounds(items: Iterable[Item]) -> list[Item]:
    """The questions in every rotation of their options, those of one question together.

    A table that has rows of later rounds is taken as it is; else the rounds are made: in each, the first option of the
    round before comes last.
    """
    found = list(items)
    groups: dict[str, list[Item]] = {}
    for item in found:
        groups.setdefault(item.group, []).append(item)
    if all(len(group) == 1 for group in groups.values()):
        return [rotated for item in found for rotated in _rotations(item)]
    return [item for group in groups.values() for item in group]


def first_rounds(items: Iterable[Item]) -> list[Item]:
    """The questions with their options in the first order."""
    return [item for item in items if item.id == item.group]


def _rotations(item: Item) -> Iterator[Item]:
    prefix, slash, index = item.id.rpartition("/")
    choices = [choice for choice in item.choices if choice]
    right = sum(bool(choice) for choice in item.choices[: string.ascii_uppercase.index(item.answers[0])])
    for number in range(len(choices)):
        turned = tuple(choices[number:] + choices[:number])
        answer = string.ascii_uppercase[(right - number) % len(choices)]
        name = f"{prefix}{slash}{int(index) + ROUND * number}"
        yield replace(item, id=name, choices=turned, answers=(answer,))


def known_and_predicted(
    items: Sequence[Item], found: Mapping[str, str], path: Path
) -> tuple[list[Item], list[str | None]]:
    """The questions with a prediction; predictions of other questions are left out, as VLMEvalKit does.

    Raises `DataError` where none is left.
    """
    kept = [item for item in items if item.id in found]
    if not kept:
        raise DataError(f"{path} answers no question of the gold file; both must be of one data set")
    return kept, [found[item.id] for item in kept]


def rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, row) of a TSV or CSV file, told apart by the file's ending."""
    suffix = path.suffix.lower()
    if suffix in (".xlsx", ".xls", ".pkl"):
        raise DataError(f"{path} is no table in text; save it as TSV or CSV")
    yield from table(path, "," if suffix == ".csv" else "\t")


def index_of(place: str, row: Mapping[str, str]) -> int:
    """The index of a row; "241.0" is 241, as spreadsheets write it."""
    value: Any = row.get("index")
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{place}: index is {value!r} and not a whole number; give the official table") from None


def options_of(row: Mapping[str, str]) -> dict[str, str]:
    """The options by letter, without empty ones."""
    return {letter: row[letter] for letter in string.ascii_uppercase if not is_empty(row.get(letter, ""))}


def _last(options: Mapping[str, str]) -> int:
    return max((string.ascii_uppercase.index(letter) + 1 for letter in options), default=0)


def is_empty(cell: str) -> bool:
    """Whether pandas takes a cell for an empty one."""
    return cell in _EMPTY
