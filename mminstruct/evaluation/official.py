"""Reading other people's files of questions and answers, with an error that names the file and the place.

    JSON array, JSON lines, TSV ── records(path, values, Model) ──▶ [Model]   one pydantic model per official layout

A model lists the keys that are needed; further keys are ignored, as published files have many.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.files import as_text, read_json, read_jsonl

M = TypeVar("M", bound=BaseModel)


class Official(BaseModel):
    """A record of an official file: the keys that are needed, in their types; numbers are not taken for texts."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def json_list(path: Path, key: str | None = None) -> Iterator[tuple[str, Any]]:
    """(place, value) of each entry of a JSON array, or of the array under `key` of a JSON object.

    Raises:
        DataError: the file is missing, no JSON, or not of this shape.
    """
    value = read_json(path)
    if key is not None:
        if not isinstance(value, dict) or key not in value:
            raise DataError(f"{path} is not a JSON object with the key {key!r}; give the official file")
        value = value[key]
    if not isinstance(value, list):
        where = "its" if key is None else f"the {key!r} of"
        raise DataError(f"{path}: {where} content is {_named(value)} and not an array; give the official file")
    for number, entry in enumerate(value):
        yield f"{path}: entry {number}", entry


def json_object(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(key, place, value) of each entry of a JSON object. Raises `DataError` where the file holds something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {_named(value)} and not a JSON object; give the official file")
    for key, entry in value.items():
        yield key, f"{path}: {key!r}", entry


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of each line of a JSON lines file."""
    for number, value in read_jsonl(path):
        yield f"{path}:{number}", value


def json_lines_or_list(path: Path) -> Iterator[tuple[str, Any]]:
    """As `json_list` where the file begins with `[`, else as `json_lines`: some sets are published in both ways."""
    with as_text(path), path.open(encoding="utf-8-sig") as stream:
        first = stream.read(1024).lstrip()[:1]
    return json_list(path) if first == "[" else json_lines(path)


def table(path: Path, delimiter: str = "\t") -> Iterator[tuple[str, dict[str, str]]]:
    """(place, row by column name) of each row of a TSV or CSV file with a header.

    Raises:
        DataError: the file is missing, not UTF-8, or has a row with more cells than the header.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # base64 images stand in cells
    try:
        with as_text(path), path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
            for row in reader:
                if None in row:
                    raise DataError(f"{path}:{reader.line_num} has more cells than the header; mend the line")
                yield f"{path}:{reader.line_num}", {name: value or "" for name, value in row.items()}
    except csv.Error as error:
        raise DataError(f"{path} is no table ({error}); give the official file") from None


def record(place: str, value: Any, model: type[M]) -> M:
    """One entry as a model. Raises `DataError` that names the place, the key and what is wrong with it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the entry"
        raise DataError(f"{place}: {key}: {first['msg']}; needed are {', '.join(model.model_fields)}") from None


def records(entries: Iterable[tuple[str, Any]], model: type[M]) -> Iterator[tuple[str, M]]:
    """(place, model) of each entry."""
    for place, value in entries:
        yield place, record(place, value, model)


def unique(entries: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """id -> text of (place, id, text). Raises `DataError` where an id comes twice."""
    found: dict[str, str] = {}
    for place, name, text in entries:
        if name in found:
            raise DataError(f"{place} has the id {name!r}, which an earlier one has too; keep one of them")
        found[name] = text
    return found


def unique_items(entries: Iterable[tuple[str, Item]]) -> list[Item]:
    """The items of (place, item). Raises `DataError` where an id comes twice, or there are none."""
    found: dict[str, Item] = {}
    for place, item in entries:
        if item.id in found:
            raise DataError(f"{place} has the id {item.id!r}, which an earlier one has too; keep one of them")
        found[item.id] = item
    if not found:
        raise DataError("the gold file holds no questions; give the official file")
    return list(found.values())


def _named(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a text", type(None): "null"}.get(type(value), "a number")
