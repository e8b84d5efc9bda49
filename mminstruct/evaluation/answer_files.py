"""Files of a model's answers as people have them, whichever program wrote them.

    JSON array | JSON lines | TSV ── answers(path, ids, texts) ──▶ [Answer(place, id, text)]

The official submissions, the answer files of LLaVA's scripts ({"question_id", "prompt", "text", ...}) and VLMEvalKit's
tables (`index`, `prediction`) differ in the names of two keys only, so a metric says which names it knows. A record
without any of the id's names has an empty id: its place in the file is then all there is to go by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.official import json_lines_or_list, table, unique

IDS = ("question_id", "questionId", "id", "index")
# In this order: files that hold gold and prediction call the former "answer", and POPE's "text" is the question.
TEXTS = ("prediction", "predict", "pred", "response", "answer", "text")


@dataclass(frozen=True)
class Answer:
    """One answer of a file: where it stands, whose it is ("" where the file does not say), its text, its record."""

    place: str
    id: str
    text: str
    record: Mapping[str, Any] = field(default_factory=dict)


def answers(path: Path, ids: Sequence[str] = IDS, texts: Sequence[str] = TEXTS) -> list[Answer]:
    """The answers of a file, in its order. `ids` and `texts` are names of keys; the first that a record has counts.

    Raises:
        DataError: the file is missing or empty, or a record has no text or an id that is neither number nor text.
    """
    found = [_answer(place, value, ids, texts) for place, value in _entries(path)]
    if not found:
        raise DataError(f"{path} holds no answers; give the file of the model's answers")
    return found


def texts_by_id(path: Path, ids: Sequence[str] = IDS, texts: Sequence[str] = TEXTS) -> dict[str, str]:
    """id -> text of a file of answers. Raises `DataError` also where a record has no id, or two have the same."""
    return unique((each.place, _named(each, ids), each.text) for each in answers(path, ids, texts))


def texts_by_place(path: Path, texts: Sequence[str] = TEXTS) -> dict[str, str]:
    """ "0", "1", ... -> text of a file of answers that stand in the order of the gold file."""
    return {str(number): each.text for number, each in enumerate(answers(path, (), texts))}


def _named(answer: Answer, ids: Sequence[str]) -> str:
    if not answer.id:
        raise DataError(f"{answer.place} has none of the keys {', '.join(ids)}; say which question it answers")
    return answer.id


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    return table(path) if path.suffix == ".tsv" else json_lines_or_list(path)


def _answer(place: str, value: Any, ids: Sequence[str], texts: Sequence[str]) -> Answer:
    if isinstance(value, str):
        return Answer(place, "", value)
    if not isinstance(value, Mapping):
        raise DataError(f"{place} is no object; it must hold the model's text and the question's id")
    name = next((value[key] for key in ids if key in value), "")
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise DataError(f"{place}: the id is {name!r}; give a number or a text")
    key = next((key for key in texts if key in value), None)
    if key is None:
        raise DataError(f"{place} has none of the keys {', '.join(texts)}; one must hold the model's text")
    if not isinstance(value[key], str):
        raise DataError(f"{place}: {key}: Input should be a valid string, and is {value[key]!r:.40}")
    return Answer(place, str(name), value[key], value)
