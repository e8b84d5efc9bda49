"""What a miniature of a benchmark is, and how its files are written."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

LETTER = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Miniature:
    """A benchmark in small, and what must come of it.

    Attributes:
        options: `key=value` as the command takes them.
        items: ids of all questions, in order.
        prompts: by protocol the id of a question and its prompt to the character, with `<image>` and `<video>` at the
            places of media. Every protocol of the benchmark is here.
        perfect: the replies that are right, by id.
        best, empty: the primary score of these replies, and of empty ones.
        needed: by file or folder, relative, what is said where it is missing.
        more: options that a protocol needs beside `options`.
    """

    options: Sequence[str]
    items: Sequence[str]
    prompts: Mapping[str, tuple[str, str]]
    perfect: Mapping[str, str]
    needed: Mapping[str, str]
    best: float = 1.0
    empty: float = 0.0
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)


def png(number: int = 0) -> bytes:
    """A picture of 8 x 8 pixels, another for each number."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 37 % 256, number * 91 % 256, 9)).save(stream, "PNG")
    return stream.getvalue()


def base64_png(number: int = 0) -> str:
    return base64.b64encode(png(number)).decode()


def write_pictures(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))


def write_videos(folder: Path, *names: str) -> None:
    """Files in the place of videos; nothing opens them, as the adapter that answers looks at no picture."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"video {name}".encode())


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def write_lines(path: Path, *values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = "\t") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def struct(number: int = 0) -> dict[str, Any]:
    """A picture as Hugging Face's tables have it."""
    return {"bytes": png(number), "path": f"{number}.png"}
