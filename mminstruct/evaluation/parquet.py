"""Official tables in Parquet: one file, or a folder with the files of a split.

validation-00000-of-00001.parquet ── rows ──▶ (place, {column: value}), images as {"bytes", "path"}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.official import json_lines_or_list
from mminstruct.formats import tables

SUFFIX = ".parquet"


def rows(path: Path, split: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a file, or of the files `SPLIT-*.parquet` of a folder or of its `data` folder, in order.

    Raises:
        DataError: there is no such file, or one is broken.
    """
    for file in files(path, split):
        columns = tables.some_schema(file).names
        for number, row in enumerate(tables.rows(file, columns)):
            yield f"{file}, row {number}", row


def files(path: Path, split: str = "") -> list[Path]:
    """The Parquet files of a split, a file being its own. Raises `DataError` where there are none."""
    if path.is_file():
        return [path]
    pattern = f"{split}-*{SUFFIX}" if split else f"*{SUFFIX}"
    found = sorted(path.glob(pattern)) or sorted((path / "data").glob(pattern))
    if not found:
        raise DataError(f"{path} has no file {pattern}; give the official folder, or one of its files")
    return found


def is_one(path: Path) -> bool:
    """Whether a path is a Parquet file, or a folder that holds some."""
    return path.suffix == SUFFIX or any(path.glob(f"*{SUFFIX}")) or any(path.glob(f"data/*{SUFFIX}"))


def any_rows(path: Path, split: str = "") -> Iterator[tuple[str, Any]]:
    """(place, row) of a folder's Parquet files, of a Parquet file, JSON lines or a JSON array."""
    if path.is_dir() or path.suffix == SUFFIX:
        return rows(path, split)
    return json_lines_or_list(path)
