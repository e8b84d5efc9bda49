"""This project's own files of questions and answers: JSON lines that any metric reads.

    {"id": "1", "answers": ["red"], "kind": "color", ...}  gold: the fields of an `Item`; `id`, `answers` needed
    {"id": "1", "prediction": "Red."}                            predictions

The runner's `predictions.jsonl` holds both, so it serves for either. Other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_lines, records, unique, unique_items


class GoldLine(Official):
    """A line of a gold file."""

    id: str | int
    answers: tuple[str, ...] = Field(min_length=1)
    question: str = ""
    kind: str = ""
    detail: str = ""
    cluster: str = ""
    choices: tuple[str, ...] = ()
    group: str = ""
    after: tuple[str, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)


class PredictionLine(Official):
    """A line of a predictions file."""

    id: str | int
    prediction: str


def read_items(path: Path) -> list[Item]:
    """The questions of a gold file. Raises `DataError` with file and line."""
    lines = records(json_lines(path), GoldLine)
    return unique_items(
        (place, Item(**(line.model_dump() | {"id": str(line.id), "cluster": line.cluster or str(line.id)})))
        for place, line in lines
    )


def read_predictions(path: Path) -> dict[str, str]:
    """id -> text of a predictions file. Raises `DataError` with file and line."""
    lines = records(json_lines(path), PredictionLine)
    found = unique((place, str(line.id), line.prediction) for place, line in lines)
    if not found:
        raise DataError(f"{path} is empty; it must hold one JSON object per line")
    return found


def is_own(path: Path, key: str) -> bool:
    """Whether a file is of this kind: JSON lines of which the first is an object with `id` and `key`."""
    if not path.is_file():
        return False
    try:
        with path.open(encoding="utf-8-sig") as stream:
            first = json.loads(next((line for line in stream if line.strip()), "null"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        return False
    return isinstance(first, dict) and "id" in first and key in first


def item_line(item: Item) -> dict[str, Any]:
    """An item as a line of a gold file; what is empty is left out."""
    line: dict[str, Any] = {"id": item.id}
    if item.images:
        line |= {"image": str(item.images[0]), "images": _paths(item.images)}
    if item.videos:
        line["videos"] = _paths(item.videos)
    return line | gold_line(item)


def gold_line(item: Item) -> dict[str, Any]:
    """The same without its media, which lie elsewhere on other machines."""
    line = {"id": item.id, "question": item.question, "answers": list(item.answers)}
    rest = {
        "kind": item.kind,
        "detail": item.detail,
        "cluster": item.cluster,
        "choices": list(item.choices),
        "group": item.group,
        "after": list(item.after),
        "facts": dict(item.facts),
    }
    return line | {key: value for key, value in rest.items() if value}


def question_line(item: Item) -> dict[str, Any]:
    """What makes two questions the same: its `gold_line` without the cluster, which may be a path."""
    return {key: value for key, value in gold_line(item).items() if key != "cluster"}


def _paths(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]
