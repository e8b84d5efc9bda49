"""COCO's annotation files: captions, objects with boxes, and files in their form that hold referring expressions."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mminstruct.building.builder import BadItem
from mminstruct.data_builders.sources.files import Files, Row, listed_at, picture_of, row_or_problem
from mminstruct.errors import DataError
from mminstruct.files import read_json

Box = tuple[float, float, float, float]  # left, top, right, bottom in shares of the picture
Objects = dict[str, list[Box]]
_MOST_LISTED = 12


class CocoRows(Files):
    """One row a picture (`kind: expressions`: one an expression), with the fields that its kind gives.

    Attributes:
        kind: captions: `captions`. count: `category`, `answer`. presence: `category`, `answer`. locate: `category`,
            `answer`. largest, kinds, detect: `answer`. expressions: `expression`, `box`, of a file in which each
            picture stands once for each expression, its `caption`, with one box (the form that MDETR published).
    """

    needs = ("file", "images")

    reader: Literal["coco"]
    file: str
    images: str
    kind: Literal["captions", "count", "presence", "locate", "largest", "kinds", "detect", "expressions"]

    def rows(self, root: Path, split: str) -> Iterator[Row | BadItem]:
        path = root / self.file.format(split=split)
        value = read_json(path)
        annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for one in listed_at(value, "annotations", path):
            annotations[one.get("image_id")].append(one)
        categories: dict[Any, str] = {}
        if self.kind not in ("captions", "expressions"):
            categories = {one.get("id"): str(one.get("name")) for one in listed_at(value, "categories", path)}
        for number, picture in enumerate(listed_at(value, "images", path)):
            where = f"{path}, image {number}"
            found = annotations.get(picture.get("id"), [])
            yield from row_or_problem(where, partial(self._row, picture, found, categories, where, split))

    def _row(
        self,
        picture: dict[str, Any],
        annotations: list[dict[str, Any]],
        categories: dict[Any, str],
        where: str,
        split: str,
    ) -> Row | None:
        try:
            fields = self._fields(picture, annotations, categories)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise DataError(f"{where} is not as COCO has it ({error!r}); the data set has another layout") from None
        if fields is None:
            return None
        fields = {**picture, **fields, "split": split}
        return Row(picture_of(self.images, fields, where), str(picture["id"]), fields, where)

    def _fields(
        self, picture: dict[str, Any], annotations: list[dict[str, Any]], categories: dict[Any, str]
    ) -> dict[str, Any] | None:
        if self.kind == "captions":
            captions = [" ".join(one["caption"].split()) for one in annotations]
            return {"captions": captions} if captions else None
        width, height = float(picture["width"]), float(picture["height"])
        if self.kind == "expressions":
            if len(annotations) != 1:
                raise ValueError(f"{len(annotations)} boxes for one expression")
            return {"expression": picture["caption"].strip(), "box": _text(_box(annotations[0]["bbox"], width, height))}
        objects: Objects = defaultdict(list)
        crowded = {categories[one["category_id"]] for one in annotations if one.get("iscrowd")}
        for one in annotations:
            name = categories[one["category_id"]]
            if name not in crowded:  # a crowd is one box around many: nothing is counted there
                objects[name].append(_box(one["bbox"], width, height))
        chance = random.Random(f"coco/{self.kind}/{picture['id']}")
        return _QUESTIONS[self.kind](dict(objects), crowded, sorted(categories.values()), chance)


def _box(box: list[float], width: float, height: float) -> Box:
    left, top, wide, high = (float(edge) for edge in box)
    return left / width, top / height, (left + wide) / width, (top + high) / height


def _text(box: Box) -> str:
    return f"[{', '.join(f'{edge:.2f}' for edge in box)}]"


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _count(objects: Objects, crowded: set[str], known: list[str], chance: random.Random) -> dict[str, Any] | None:
    if not objects:
        return None
    name = chance.choice(sorted(objects))
    return {"category": name, "answer": str(len(objects[name]))}


def _presence(objects: Objects, crowded: set[str], known: list[str], chance: random.Random) -> dict[str, Any] | None:
    """As often yes as no; what is not there is drawn from all other categories."""
    there = sorted({*objects, *crowded})
    absent = [name for name in known if name not in there]
    if not there or not absent:
        return None
    if chance.random() < 0.5:
        return {"category": chance.choice(there), "answer": "yes"}
    return {"category": chance.choice(absent), "answer": "no"}


def _locate(objects: Objects, crowded: set[str], known: list[str], chance: random.Random) -> dict[str, Any] | None:
    """Where something is of which there is one."""
    alone = sorted(name for name, boxes in objects.items() if len(boxes) == 1)
    if not alone:
        return None
    name = chance.choice(alone)
    return {"category": name, "answer": _text(objects[name][0])}


def _largest(objects: Objects, crowded: set[str], known: list[str], chance: random.Random) -> dict[str, Any] | None:
    """Of which category the largest box is, where it is a fifth larger than that of any other category."""
    if crowded or len(objects) < 2:
        return None
    sizes = sorted(((max(map(_area, boxes)), name) for name, boxes in objects.items()), reverse=True)
    if sizes[0][0] < 1.2 * sizes[1][0]:
        return None
    names = sorted(objects)
    return {"answer": sizes[0][1], "names": chance.sample(names, len(names))}


def _kinds(objects: Objects, crowded: set[str], known: list[str], chance: random.Random) -> dict[str, Any] | None:
    names = sorted({*objects, *crowded})
    return {"answer": ", ".join(names)} if names else None


def _detect(objects: Objects, crowded: set[str], known: list[str], chance: random.Random) -> dict[str, Any] | None:
    """All boxes from left to right, where there are not too many to list."""
    boxes = sorted((box, name) for name, found in objects.items() for box in found)
    if crowded or not 0 < len(boxes) <= _MOST_LISTED:
        return None
    return {"answer": "\n".join(f"{name}: {_text(box)}" for box, name in boxes)}


_QUESTIONS: dict[str, Callable[[Objects, set[str], list[str], random.Random], dict[str, Any] | None]] = {
    "count": _count,
    "presence": _presence,
    "locate": _locate,
    "largest": _largest,
    "kinds": _kinds,
    "detect": _detect,
}
