"""Which files make up a MIMIC-IT data set, and a temporary database that its instructions wait in.

path ──▶ Files(instructions, train?, images)        instructions ──▶ Database ──▶ any of them by its id
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mminstruct.errors import ConfigError, DataError
from mminstruct.formats.items import dumps, read_members

_ROWS = 64  # of a table of pictures, read at once


@dataclass(frozen=True)
class Files:
    """`images` are none, one JSON file, or one or more Parquet files."""

    INSTRUCTIONS: ClassVar[str] = "_instructions.json"
    TRAIN: ClassVar[str] = "_train.json"
    PICTURES: ClassVar[str] = ".json"

    instructions: Path
    train: Path | None
    images: tuple[Path, ...]

    def all(self) -> list[Path]:
        return [self.instructions, *([self.train] if self.train else []), *self.images]


def locate(path: Path) -> Files:
    """The files of a data set: of a folder, or those beside a file of instructions.

    Pictures are `XX.json` or `XX.parquet` (a file or a folder of them); where there is neither, the only other file of
    such a name, since several sets of instructions share pictures.

    Raises:
        DataError: there are no instructions; ConfigError: several, or several files of pictures.
    """
    if path.is_dir():
        found = sorted(path.glob(f"*{Files.INSTRUCTIONS}"))
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise ConfigError(f"{path} has several files of instructions ({names}); give the path of one of them")
        path = found[0] if found else path / f"XX{Files.INSTRUCTIONS}"
    if not path.is_file() or not path.name.endswith(Files.INSTRUCTIONS):
        raise DataError(f"{path} is no file of instructions (XX{Files.INSTRUCTIONS}); check the path")
    short = path.name.removesuffix(Files.INSTRUCTIONS)
    train = path.with_name(f"{short}{Files.TRAIN}")
    own = [one for one in (path.with_name(f"{short}.json"), path.with_name(f"{short}.parquet")) if one.exists()]
    if not own:
        linked = (Files.INSTRUCTIONS, Files.TRAIN)
        others = [*path.parent.glob("*.json"), *path.parent.glob("*.parquet")]
        own = sorted(one for one in others if not one.name.endswith(linked))
    if len(own) > 1:
        names = ", ".join(one.name for one in own)
        raise ConfigError(f"{path.parent} has several files of pictures ({names}); leave one, or call it {short}.json")
    images = [part for one in own for part in (sorted(one.glob("*.parquet")) if one.is_dir() else [one])]
    return Files(path, train if train.is_file() else None, tuple(images))


def read_images(images: tuple[Path, ...]) -> Iterator[tuple[str, str, Any]]:
    """(where it stands, id, base64 text) of each picture."""
    for file in images:
        yield from read_members(file) if file.suffix == ".json" else _rows(file)


def _rows(file: Path) -> Iterator[tuple[str, str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ConfigError(f"{file} is read by pyarrow; install it: pip install 'mminstruct[tables]'") from None
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if "base64" not in names or len(names) != 2:
                raise DataError(f"{file} has the columns {', '.join(names)}; pictures are an index and 'base64'")
            index = next(name for name in names if name != "base64")
            for batch in table.iter_batches(batch_size=_ROWS):
                batch.validate(full=True)
                for row in batch.to_pylist():
                    yield f"{file}, {row[index]!r}", str(row[index]), row["base64"]
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file} is no table that can be read ({error}); fetch it again") from None


class Database:
    """Instructions and pictures by their ids, in a file of SQLite's that is gone when this is closed."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", check_same_thread=False)  # no name: a temporary file
        self._rows.executescript(
            "CREATE TABLE instruction (n INTEGER PRIMARY KEY, name TEXT UNIQUE, item TEXT);"
            "CREATE TABLE sample (n INTEGER PRIMARY KEY, name TEXT UNIQUE, related TEXT, more TEXT);"
            "CREATE TABLE picture (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
        )

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.close()

    def _value(self, query: str, name: str) -> Any:
        try:
            row = self._rows.execute(query, (name,)).fetchone()
        except UnicodeEncodeError:  # half a surrogate pair, so no name of anything
            return None
        return None if row is None else row[0]

    def add(self, name: str, item: dict[str, Any], where: str) -> None:
        """Raises `DataError` where the id is taken."""
        if self._value("SELECT 1 FROM instruction WHERE name = ?", name):
            raise DataError(f"{where} stands twice; give each instruction an id of its own")
        dumps(name, where)  # an id that is no text is told
        self._rows.execute("INSERT INTO instruction (name, item) VALUES (?, ?)", (name, dumps(item, where)))

    def put(self, name: str, item: dict[str, Any], where: str) -> None:
        """`add`, but for the same instruction again. Raises `DataError` where another one has the id."""
        known = self._value("SELECT item FROM instruction WHERE name = ?", name)
        if known is None:
            self.add(name, item, where)
        elif known != dumps(item, where):
            raise DataError(
                f"{where} has an instruction {name!r} that differs from the one of that id before it; examples of one "
                f"id (context_ids) are the same everywhere, mend them or leave context_ids out"
            )

    def sample(self, name: str, related: list[str], more: dict[str, Any], where: str) -> None:
        """Note that an instruction is trained on. Raises `DataError` where it is already."""
        if self._value("SELECT 1 FROM sample WHERE name = ?", name):
            raise DataError(f"{where} becomes the instruction {name!r}, as another conversation did; rename one")
        values = (name, json.dumps(related), dumps(more, where))
        self._rows.execute("INSERT INTO sample (name, related, more) VALUES (?, ?, ?)", values)

    def item(self, name: str, where: str) -> dict[str, Any]:
        text = self._value("SELECT item FROM instruction WHERE name = ?", name)
        if text is None:
            raise DataError(f"{where} needs the instruction {name!r}, which is not there; fetch the files again")
        found: dict[str, Any] = json.loads(text)
        return found

    def names(self) -> Iterator[str]:
        yield from (name for (name,) in self._rows.execute("SELECT name FROM instruction ORDER BY n"))

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, instruction) in the order in which they came, with all their keys."""
        query = "SELECT instruction.name, item, related, more FROM instruction LEFT JOIN sample USING (name)"
        for name, item, related, more in self._rows.execute(f"{query} ORDER BY instruction.n"):
            links = {"rel_ins_ids": json.loads(related or "[]")}
            yield name, json.loads(item) | links | json.loads(more or "{}")

    def samples(self) -> Iterator[tuple[str, list[str]]]:
        for name, related in self._rows.execute("SELECT name, related FROM sample ORDER BY n"):
            yield name, json.loads(related)

    def add_picture(self, name: str, path: str, where: str) -> None:
        """Raises `DataError` where the id is taken."""
        if self._value("SELECT 1 FROM picture WHERE name = ?", name):
            raise DataError(f"{where} stands twice; give each picture an id of its own")
        dumps(name, where)
        self._rows.execute("INSERT INTO picture VALUES (?, ?)", (name, path))

    def picture(self, name: str, where: str) -> str:
        path = self._value("SELECT value FROM picture WHERE name = ?", name)
        if path is None:
            raise DataError(f"{where} needs the picture {name!r}, which is not there; fetch the files again")
        return str(path)

    def is_new_picture(self, name: str, digest: str, where: str) -> bool:
        """Raises `DataError` where another picture has the id."""
        known = self._value("SELECT value FROM picture WHERE name = ?", name)
        if known is None:
            self._rows.execute("INSERT INTO picture VALUES (?, ?)", (name, digest))
        elif known != digest:
            raise DataError(
                f"{where} has a picture that becomes {name!r}, as another one did; ids are made of the files' names "
                f"without folder and ending, so rename one of the two files"
            )
        return known is None
