"""Rows of users' files as items, and what is wrong with a row in the place of its item.

    file ──▶ (where, row) ──model──▶ make(where, checked row) ──▶ item
                   └── no JSON, or refused by the model or by `make` ──▶ BadItem

The engine turns a `BadItem` into a dead letter, or into the error that stops the build. No broken line stops another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mminstruct import formats
from mminstruct.building.builder import BadItem
from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.formats.items import each_value

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def checked(model: type[M], value: Any, where: str) -> M:
    """The row as the model has it. Raises `DataError` with its place and the first thing that is wrong with it."""
    if isinstance(value, DataError):  # a line that is no JSON
        raise value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where}: {f'{key}: ' if key else ''}{first['msg']}; mend or drop it") from None


def rows(path: Path, model: type[M], make: Callable[[str, M], T]) -> Iterator[T | BadItem]:
    """What `make` makes of (where it stands, row), for each of a file of JSON lines or of a JSON list.

    Args:
        make: may refuse a row by a `DataError`.

    Raises:
        DataError: the file is missing or no UTF-8, or a list that is no JSON from some place on.
    """
    for where, value in each_value(path):
        made: T | BadItem
        try:
            made = make(where, checked(model, value, where))
        except DataError as error:
            made = BadItem(where, error)
        yield made


def records(path: Path, format: str | None = None, **options: Any) -> Iterator[tuple[str, Conversation] | BadItem]:
    """(where it stands, conversation) of each record of a data set of any format.

    Raises:
        DataError: as `formats.read`, where the format can only be read as a whole, and in a native data set, whose
            shards are those of its manifest or it is another one.
    """
    chosen = format or formats.detect(path)
    if chosen == "native":
        yield from ((str(path), record) for record in formats.read(path, chosen, **options))
        return
    seen: set[str] = set()
    for where, read in formats.each(path, chosen, **options):
        try:
            record = read()
            if record.id in seen:
                raise DataError(f"{where}: an earlier conversation has the id {record.id!r}, too; give each its own")
        except DataError as error:
            yield BadItem(where, error)
            continue
        seen.add(record.id)
        yield where, record
