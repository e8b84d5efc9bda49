"""MMMU: college questions of 30 subjects with four options or so, and a few with open answers.

    response ── official parser ──▶ letter, or for open questions {texts, numbers} ── equal to the gold? ──▶ 0 or 1

The rules of MMMU-Benchmark/MMMU, eval/eval_utils.py (`parse_multi_choice_response`: `parsing/letters.py`;
`parse_open_response`, `eval_open`: `parsing/mmmu_open.py`). A response that names no option gets a random one there,
from one sequence that `random.seed(42)` begins at import, so a published score depends on the order of the questions:

- `official` draws the random option by the question's id, so the order does not matter.
- `official-sequence` repeats the authors' sequence over the questions in the order of the files (subjects in the order
  of `CAT_SHORT2LONG`, as main_parse_and_eval.py goes).
- `no-guess` counts such a response as wrong.
- `eval-only` is main_eval_only.py: the letter is compared as it stands in the file; open answers are still parsed.
- `lmms-eval`, `lmms-eval-2025`, `vlmevalkit`: see each one's source.

Only questions with a prediction count, as in the official scripts. Figures: each subject and `Overall-DOMAIN`.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from mminstruct.errors import DataError
from mminstruct.evaluation import parquet
from mminstruct.evaluation.figures import mean_of_parts
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import (
    Official,
    json_list,
    json_object,
    record,
    records,
    unique,
    unique_items,
)
from mminstruct.evaluation.parsing.letters import (
    lettered,
    mmmu_letter,
    mmmu_letter_loose,
    random_letter,
    vlmevalkit_letter,
)
from mminstruct.evaluation.parsing.mmmu_open import candidates, matches
from mminstruct.evaluation.scorers.metric import (
    JudgeAll,
    Metric,
    Predictions,
    Variant,
    Verdict,
    each,
    only_predicted,
)
from mminstruct.files import read_json

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
_DOMAIN_OF = {subject: domain for domain, subjects in DOMAINS.items() for subject in subjects}
SUBJECTS = tuple(sorted(_DOMAIN_OF))  # the order of CAT_SHORT2LONG
MULTIPLE_CHOICE = "multiple-choice"
OPEN = "open"
SEED = 42
FILES = ("output.json", "parsed_output.json")


def subject_total_parts(subject: str) -> list[str]:
    """The figures in which a question of a subject counts."""
    domain = _DOMAIN_OF.get(subject)
    return ([f"Overall-{domain}"] if domain else []) + ([subject] if subject else [])


Guess = Callable[[Item, Sequence[str]], str | None]
Letter = Callable[[str, Mapping[str, str]], str | None]


def judge(text: str, item: Item, read: Letter, guess: Guess) -> Verdict:
    """One answer by a reader of letters and a way to guess; open answers by `mmmu_open`."""
    if not is_choice(item):
        return _open(text, item)
    options = options_of(item)
    found = read(text, options)
    answer = guess(item, list(options)) if found is None else found
    return Verdict(float(answer in item.answers), answer, parsed=found is not None)


def no_guess(item: Item, letters: Sequence[str]) -> None:
    """No random option: what names none is wrong."""


def seeded_guess(item: Item, letters: Sequence[str]) -> str:
    """A random option that depends on the question's id alone."""
    return random_letter(item.id, letters)


def by(read: Letter, guess: Guess) -> JudgeAll:
    """`judge_all` of a reader of letters and a way to guess that does not depend on the order."""
    return each(lambda text, item: judge(text, item, read, guess))


def _sequence(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
    chance = random.Random(SEED)
    draw = by(mmmu_letter, lambda item, letters: chance.choice(letters))
    return draw(items, predictions)


def _as_stored(text: str, item: Item) -> Verdict:
    return Verdict(float(text in item.answers), text) if is_choice(item) else _open(text, item)


def _lmms_eval_2025(text: str, item: Item) -> Verdict:
    return judge(text, item, mmmu_letter_loose, seeded_guess) if is_choice(item) else Verdict(0.0, parsed=False)


def _vlmevalkit(text: str, item: Item) -> Verdict:
    if is_choice(item):
        return judge(text, item, vlmevalkit_letter, no_guess)
    gold = item.answers[0] if len(item.answers) == 1 else str(list(item.answers))
    found = vlmevalkit_letter(text, {"A": gold, "B": "Other Answers"})
    return Verdict(float(found == "A"), found, parsed=found is not None)


def _open(text: str, item: Item) -> Verdict:
    found = candidates(text)
    return Verdict(float(matches(found, item.answers)), " | ".join(sorted(str(value) for value in found)))


def is_choice(item: Item) -> bool:
    """Whether it is a multiple choice question; items of one's own without a type are where they have options."""
    return item.kind == MULTIPLE_CHOICE if item.kind else bool(item.choices)


def options_of(item: Item) -> dict[str, str]:
    """The options by letter. Raises `DataError` where the gold file has none, as answer_dict_val.json."""
    if not item.choices:
        raise DataError(
            f"question {item.id!r} has no options in the gold file, and this rule reads them; "
            "give the folder of output.json files as gold, or use the variant eval-only"
        )
    return lettered(item.choices)


# --- official files ---------------------------------------------------------------------------------------------------


class _Gold(Official):
    question_type: str
    ground_truth: str | list[str] = Field(min_length=1)


class _Output(Official):
    id: str = Field(validation_alias=AliasChoices("id", "No"))  # No: the first published outputs
    question_type: str
    answer: str | list[str] = Field(min_length=1)
    index2ans: dict[str, str] | None = None


class _Response(Official):
    id: str = Field(validation_alias=AliasChoices("id", "No"))
    question_type: str = OPEN
    response: str | int | float | None = None
    parsed_pred: Any = None


class _Row(Official):
    id: str
    question: str
    options: str | list[str] = "[]"
    answer: str | list[str] = Field(min_length=1)
    question_type: str


def read_gold(path: Path) -> list[Item]:
    """answer_dict_val.json, `{id: {question_type, ground_truth}}`, or output.json (one, or a folder, one a subject).

    The data set's own files, as `read_rows` takes them, serve too.
    """
    if parquet.is_one(path) or any(parquet.is_one(folder) for folder in subject_folders(path)):
        return unique_items((place, item) for place, item, _ in read_rows(path))
    if path.is_dir() or isinstance(read_json(path), list):
        return unique_items((place, _item(place, line)) for place, line in records(_outputs(path, FILES), _Output))
    return unique_items(
        (place, _dict_item(name, record(place, value, _Gold))) for name, place, value in json_object(path)
    )


def read_rows(path: Path, split: str = "") -> Iterator[tuple[str, Item, Mapping[str, Any]]]:
    """(place, question, row) of the data set's rows {id, question, options, answer, question_type, image_1 ...}.

    Args:
        path: a Parquet file, a folder of such, the folder with one folder a subject, or the rows as JSON.
        split: "validation" or "dev", where a folder holds several.
    """
    for part in subject_folders(path) or [path]:
        for place, row in parquet.any_rows(part, split):
            line = record(place, row, _Row)
            answer = line.answer
            if line.question_type != MULTIPLE_CHOICE and isinstance(answer, str) and answer.startswith("["):
                answer = list(listed(place, "answer", answer))
            choices = listed(place, "options", line.options)
            item = _new_item(line.id, line.question_type, answer, choices)
            yield place, replace(item, question=line.question), row


def subject_folders(path: Path) -> list[Path]:
    """The folders of subjects within a folder, in the official order."""
    return [path / subject for subject in SUBJECTS if (path / subject).is_dir()]


def listed(place: str, key: str, value: str | list[str]) -> tuple[str, ...]:
    """The texts of a list; the published files hold it as Python writes it, in a text."""
    found: Any = value
    if isinstance(found, str):
        try:
            found = ast.literal_eval(found)
        except (ValueError, SyntaxError):
            raise DataError(f"{place}: {key} is no list ({found[:40]!r}); give the official file") from None
    if not isinstance(found, list):
        raise DataError(f"{place}: {key} is no list ({str(found)[:40]!r}); give the official file")
    return tuple(str(one) for one in found)


def _item(place: str, line: _Output) -> Item:
    options = line.index2ans or {}
    if options != lettered(list(options.values())):
        raise DataError(f"{place}: index2ans has the letters {', '.join(options)} and not A, B, C, ...; mend them")
    return _new_item(line.id, line.question_type, line.answer, tuple(options.values()))


def _dict_item(name: str, line: _Gold) -> Item:
    return _new_item(name, line.question_type, line.ground_truth, ())


def _new_item(name: str, kind: str, answer: str | list[str], choices: tuple[str, ...]) -> Item:
    return Item(
        id=name,
        answers=(answer,) if isinstance(answer, str) else tuple(answer),
        kind=MULTIPLE_CHOICE if kind == MULTIPLE_CHOICE else OPEN,
        detail=subject_of(name),
        cluster=name,
        choices=choices,
    )


def subject_of(name: str) -> str:
    """The subject in an id: "validation_Art_Theory_7" -> "Art_Theory"."""
    return "_".join(name.split("_")[1:-1])


def read_responses(path: Path) -> dict[str, str]:
    """id -> response of output.json (one, or a folder with one a subject), or of an object {id: answer}."""
    return _read(path, FILES, lambda place, line: line.response)


def read_parsed(path: Path) -> dict[str, str]:
    """id -> letter of parsed_output.json or of an object {id: answer}; for open questions the response, read again."""

    def stored(place: str, line: _Response) -> str | int | float | None:
        if line.question_type != MULTIPLE_CHOICE:
            return line.response  # parsing is a pure function, so this gives what stands in parsed_pred
        if not isinstance(line.parsed_pred, str):
            raise DataError(f"{place}: parsed_pred is no letter; give the parsed_output.json that the script wrote")
        return line.parsed_pred

    return _read(path, FILES[::-1], stored)


def _read(
    path: Path, files: Sequence[str], text: Callable[[str, _Response], str | int | float | None]
) -> dict[str, str]:
    if path.is_dir() or isinstance(read_json(path), list):
        lines = records(_outputs(path, files), _Response)
        return unique((place, line.id, _text(place, text(place, line))) for place, line in lines)
    return unique((place, name, _text(place, value)) for name, place, value in json_object(path))


def _text(place: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{place}: the answer is no text; give {{id: answer}}, or entries with `response`")
    return str(value)


def _outputs(path: Path, files: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The entries of a file, or of the first of `files` in each subject's folder, subjects in the official order."""
    if not path.is_dir():
        yield from json_list(path)
        return
    folders = subject_folders(path)
    if not folders and any((path / name).is_file() for name in files):
        folders = [path]  # one subject's
    if not folders:
        raise DataError(f"{path} has no folder of a subject (Accounting, ...); give the folder of one model's outputs")
    for folder in folders:
        found = next((folder / name for name in files if (folder / name).is_file()), None)
        if found is None:
            raise DataError(f"{folder} has neither {' nor '.join(files)}; give the folder of one model's outputs")
        yield from json_list(found)


total = mean_of_parts(lambda item: subject_total_parts(item.detail))

METRIC = Metric(
    name="mmmu",
    summary="Accuracy on MMMU: multiple choice and open questions of 30 college subjects.",
    variants=(
        Variant(
            "official",
            "MMMU-Benchmark/MMMU, eval_utils.py; the random option of an unread answer is drawn by the question's id.",
            by(mmmu_letter, seeded_guess),
            total,
        ),
        Variant(
            "official-sequence",
            "The same with random options from random.seed(42) in the order of the files, as main_parse_and_eval.py.",
            _sequence,
            total,
        ),
        Variant(
            "eval-only",
            "MMMU-Benchmark/MMMU, main_eval_only.py: letters as they stand in the file, open answers parsed.",
            each(_as_stored),
            total,
            predictions=read_parsed,
        ),
        Variant("no-guess", "As official, but an unread answer is wrong.", by(mmmu_letter, no_guess), total),
        Variant(
            "lmms-eval",
            'lmms-eval, tasks/mmmu/utils.py: reads "A." and letters without a blank before ("DNA is" -> A); open as '
            "official.",
            by(mmmu_letter_loose, seeded_guess),
            total,
        ),
        Variant(
            "lmms-eval-2025",
            "lmms-eval before its PR #1471 (August 2026): but every open question scores 0 (issue #1436).",
            each(_lmms_eval_2025),
            total,
        ),
        Variant(
            "vlmevalkit",
            "VLMEvalKit, MMMU_preproc and can_infer without a judge: an open question becomes A: gold, B: other.",
            each(_vlmevalkit),
            total,
        ),
    ),
    files="answer_dict_val.json or output.json; output.json, parsed_output.json or {id: answer}; or folders of such",
    gold=read_gold,
    predictions=read_responses,
    pairing=only_predicted,
)
