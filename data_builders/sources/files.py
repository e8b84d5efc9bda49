"""Readers of local copies of public data sets, in the layouts in which they are published.

json     one JSON file (an array or a mapping of rows, at any depth), or JSON lines: most sets
vqa      questions and annotations in two files: VQA v2 and its relatives
classes  a folder of pictures for each class: ImageFolder
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from pydantic import Field

from mminstruct.building.builder import BadItem
from mminstruct.config import Config
from mminstruct.errors import DataError
from mminstruct.files import each_jsonl, read_json

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


@dataclass(frozen=True)
class Row:
    """One labelled instance.

    Attributes:
        picture: relative to the data set's folder.
        key: unique among those of one source.
        fields: as the data set names them.
        where: file and place, for errors.
    """

    picture: str
    key: str
    fields: dict[str, Any]
    where: str


class Files(Config, abc.ABC):
    """A source of files. `folder` is the name under which `folders` of a builder says where the local copy lies.

    `{split}` in names of files stands for the split that is read; `images` takes any field of a row.
    """

    needs: ClassVar[tuple[str, ...]]

    folder: str

    @abc.abstractmethod
    def rows(self, root: Path, split: str) -> Iterator[Row | BadItem]:
        """Those of a split, in the order of the files; what is wrong with a row stands in its place.

        Raises:
            DataError: a file is missing, or is as a whole not as published.
        """

    def layout(self, split: str) -> str:
        """The files that are wanted, for people."""
        return ", ".join(getattr(self, name).replace("{split}", split) for name in self.needs)


class JsonRows(Files):
    """
    Attributes:
        rows_at: where the rows are within a JSON file, keys joined by dots; empty where the file is the rows.
        images: the picture of a row, of its fields; of rows in a mapping `{row}` is the key, else the number.
        key: the field that tells rows apart; left out, `row`.
        where: fields and the values that they may have; other rows are left out.
        present: fields without which a row is left out.
    """

    needs = ("file", "images")

    reader: Literal["json"]
    file: str
    rows_at: str = ""
    images: str
    key: str = "row"
    where: dict[str, list[str | int | bool]] = Field(default_factory=dict)
    present: list[str] = Field(default_factory=list)

    def rows(self, root: Path, split: str) -> Iterator[Row | BadItem]:
        path = root / self.file.format(split=split)
        for name, value in self._values(path):
            where = f"{path}, row {name}"
            yield from row_or_problem(where, partial(self._row, name, value, where, split))

    def _row(self, name: str, fields: Any, where: str, split: str) -> Row | None:
        if isinstance(fields, DataError):  # a line that is no JSON
            raise fields
        if not isinstance(fields, dict):
            raise DataError(f"{where} is no mapping of fields; the data set has another layout")
        if any(fields.get(field) not in allowed for field, allowed in self.where.items()):
            return None
        if any(fields.get(field) in (None, "", []) for field in self.present):
            return None
        fields = {**fields, "row": name, "split": split}
        return Row(picture_of(self.images, fields, where), filled(f"{{{self.key}}}", fields, where), fields, where)

    def _values(self, path: Path) -> Iterator[tuple[str, Any]]:
        if path.suffix == ".jsonl":
            yield from ((str(number), value) for number, value in each_jsonl(path))
            return
        value = read_json(path)
        for step in filter(None, self.rows_at.split(".")):
            if not isinstance(value, dict) or step not in value:
                raise DataError(f"{path} has no {self.rows_at!r}; the data set has another layout")
            value = value[step]
        if isinstance(value, dict):
            yield from value.items()
        elif isinstance(value, list):
            yield from ((str(number), one) for number, one in enumerate(value))
        else:
            raise DataError(f"{path} holds no rows; the data set has another layout")


class VqaRows(Files):
    """VQA's two files, joined by `question_id`; the answers of all annotators are in `answers`."""

    needs = ("questions", "annotations", "images")

    reader: Literal["vqa"]
    questions: str
    annotations: str
    images: str
    where: dict[str, list[str | int | bool]] = Field(default_factory=dict)

    def rows(self, root: Path, split: str) -> Iterator[Row | BadItem]:
        path, second = root / self.questions.format(split=split), root / self.annotations.format(split=split)
        annotations = {one.get("question_id"): one for one in listed_at(read_json(second), "annotations", second)}
        for number, asked in enumerate(listed_at(read_json(path), "questions", path)):
            where = f"{path}, question {number}"
            annotation = annotations.get(asked.get("question_id"))
            yield from row_or_problem(where, partial(self._row, asked, annotation, where, split, second))

    def _row(
        self, asked: dict[str, Any], annotation: dict[str, Any] | None, where: str, split: str, second: Path
    ) -> Row | None:
        if annotation is None:
            raise DataError(f"{where} has no annotation in {second}; the two files are not of one set")
        fields = {**annotation, **asked, "split": split}
        if any(fields.get(field) not in allowed for field, allowed in self.where.items()):
            return None
        return Row(picture_of(self.images, fields, where), str(fields["question_id"]), fields, where)


class ClassRows(Files):
    """`FOLDER/CLASS/PICTURE`: each row has `class`, in words, and `classes`, all of them."""

    needs = ("root",)

    reader: Literal["classes"]
    root: str = "{split}"

    def rows(self, root: Path, split: str) -> Iterator[Row | BadItem]:
        inside = self.root.format(split=split)
        folders = sorted(path for path in (root / inside).glob("*") if path.is_dir())
        if len(folders) < 2:
            raise DataError(f"{root / inside} has {len(folders)} folders; each class of pictures wants one")
        classes = [_words(path.name) for path in folders]
        for folder, name in zip(folders, classes, strict=True):
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in PICTURES:
                    place = path.relative_to(root).as_posix()
                    yield Row(place, place, {"class": name, "classes": classes, "split": split}, str(path))


def listed_at(value: Any, key: str, path: Path) -> list[dict[str, Any]]:
    """The list of mappings at a key of a JSON file. Raises `DataError` where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{path} has no list {key!r} of mappings; the data set has another layout")
    return found


def filled(pattern: str, fields: dict[str, Any], where: str) -> str:
    """A pattern with its slots filled. Raises `DataError` where a field is missing or is of another type."""
    try:
        return pattern.format_map(fields)
    except KeyError as error:
        raise DataError(f"{where} has no field {error}; it has {', '.join(sorted(map(str, fields)))}") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{where} does not fit the pattern {pattern!r}: {error}") from None


def picture_of(pattern: str, fields: dict[str, Any], where: str) -> str:
    """A row's picture, which must not lead out of the data set's folder. Raises `DataError`."""
    picture = filled(pattern, fields, where)
    path = PurePosixPath(picture)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where} names the picture {picture!r}, which is not in the data set's folder; mend the row")
    return picture


def row_or_problem(where: str, make: Callable[[], Row | None]) -> Iterator[Row | BadItem]:
    """The row that `make` makes, nothing where it makes none, or what is wrong with it."""
    try:
        row = make()
    except DataError as error:
        yield BadItem(where, error)
        return
    if row is not None:
        yield row


def _words(name: str) -> str:
    return name.replace("_", " ").strip()
