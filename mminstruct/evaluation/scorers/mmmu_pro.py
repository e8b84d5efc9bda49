"""MMMU-Pro: questions of MMMU with four or ten options, or with the question in the picture (vision).

The rule of MMMU-Benchmark/MMMU, mmmu-pro/evaluate.py (`parsing/letters.py`, `mmmu_pro_letter`): what follows the last
"Answer:" if exactly one letter of the options stands in it, else a loose form of MMMU's parser, else a random option.
The script sets no seed, so its random options cannot be repeated; it writes what it read into the file (`pred_indexs`).

- `official` draws the random option by the question's id.
- `official-recorded` takes the letters that the script wrote, and so gives the accuracy that it printed.
- `no-guess` counts an unread response as wrong.

With ten options the letter I is one, and it is read out of refusals: "I'm sorry, I can't help" names I.
Figures: each subject and `Overall-DOMAIN`, as for MMMU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation.figures import mean_of_parts
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines_or_list, record, records, unique, unique_items
from mminstruct.evaluation.parquet import any_rows
from mminstruct.evaluation.parsing.letters import mmmu_pro_letter
from mminstruct.evaluation.scorers.metric import Metric, Variant, Verdict, each, only_predicted
from mminstruct.evaluation.scorers.mmmu import (
    MULTIPLE_CHOICE,
    by,
    listed,
    no_guess,
    seeded_guess,
    subject_of,
    subject_total_parts,
)

FOUR_OPTIONS = "Standard(4opts)"


class _Gold(Official):
    id: str
    options: str | list[str]
    answer: str
    subject: str = ""
    question: str = ""
    type: str = ""
    shuffled_options: list[str] = Field(default_factory=list)
    shuffled_options_answer: str = ""

    def asked(self) -> tuple[str | list[str], str]:
        """The options and the gold letter of what was asked: the first published files hold two settings in a line."""
        if self.shuffled_options and self.type != FOUR_OPTIONS:
            return self.shuffled_options, self.shuffled_options_answer
        return self.options, self.answer


class _Result(Official):
    id: str
    response: Any = None


class _Recorded(Official):
    id: str
    pred_indexs: str


def read_gold(path: Path) -> list[Item]:
    """JSON lines (or an array, or Parquet) of {id, options, answer, subject}: results, or the questions of a set.

    In the first published files (`type`, `shuffled_options`) options and answer are those of four options.
    """
    return unique_items((place, item) for place, item, _ in read_rows(path))


def read_rows(path: Path) -> Iterator[tuple[str, Item, Mapping[str, Any]]]:
    """(place, question, row) of each row; a row of Parquet holds the images."""
    for place, row in any_rows(path, "test"):
        line = record(place, row, _Gold)
        options, answer = line.asked()
        item = Item(
            id=line.id,
            question=line.question,
            answers=(answer,),
            kind=MULTIPLE_CHOICE,
            detail=line.subject or subject_of(line.id),
            cluster=line.id,
            choices=listed(place, "options", options),
        )
        yield place, item, row


def read_responses(path: Path) -> dict[str, str]:
    """id -> response of a file of results. A response that is no text (a failed request) is the empty text."""
    lines = records(json_lines_or_list(path), _Result)
    return unique((place, line.id, line.response if isinstance(line.response, str) else "") for place, line in lines)


def read_recorded(path: Path) -> dict[str, str]:
    """id -> the letter that evaluate.py wrote into a file of results."""
    found = []
    for place, value in json_lines_or_list(path):
        if isinstance(value, dict) and "pred_indexs" not in value:
            raise DataError(f"{place} has no pred_indexs; give the file as evaluate.py wrote it, or another variant")
        line = record(place, value, _Recorded)
        found.append((place, line.id, line.pred_indexs))
    return unique(found)


total = mean_of_parts(lambda item: subject_total_parts(item.detail))

METRIC = Metric(
    name="mmmu-pro",
    summary="Accuracy on MMMU-Pro: multiple choice of up to ten options, or with the question in the picture.",
    variants=(
        Variant(
            "official",
            "MMMU-Benchmark/MMMU, mmmu-pro/evaluate.py (56eede8); the random option is drawn by the question's id.",
            by(mmmu_pro_letter, seeded_guess),
            total,
        ),
        Variant(
            "official-recorded",
            "The letters that evaluate.py wrote into the results (pred_indexs), its random options among them.",
            each(lambda text, item: Verdict(float(text in item.answers), text)),
            total,
            predictions=read_recorded,
        ),
        Variant("no-guess", "As official, but an unread answer is wrong.", by(mmmu_pro_letter, no_guess), total),
    ),
    files="the results, JSON lines of {id, options, answer, subject, response}, for both",
    gold=read_gold,
    predictions=read_responses,
    pairing=only_predicted,
)
