"""Images within files are written once, under their hashes; prompts with images at their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from mminstruct.conversation import TextPart
from mminstruct.errors import DataError
from mminstruct.evaluation.embedded_images import Embedded, Shared
from mminstruct.evaluation.interleaved import interleaved
from mminstruct.evaluation.item import Item
from mminstruct.files import bytes_sha256
from mminstruct.media import open_image
from tests.evaluation.miniatures.miniature import base64_png, png, struct


def test_the_same_image_is_one_file_whatever_it_stands_in(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path / "set.tsv", None)
    cells = [png(3), base64_png(3), f"data:image/png;base64,{base64_png(3)}", struct(3)]
    paths = {embedded.keep(cell, "row 1") for cell in cells}
    digest = bytes_sha256(png(3))
    assert paths == {tmp_path / "set.tsv.images" / digest[:2] / f"{digest}.png"}
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{digest}.png"]
    assert open_image(paths.pop()).size == (8, 8)


def test_an_image_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path / "set.tsv", tmp_path / "cache")
    path = embedded.keep(png(1), "row 1")
    before = path.stat().st_mtime_ns
    assert embedded.keep(png(1), "row 2") == path and path.stat().st_mtime_ns == before
    assert path.is_relative_to(tmp_path / "cache")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, r"f\.tsv:2 holds no image"),
        ("", r"f\.tsv:2 holds no image"),
        ({"bytes": None, "path": "a.png"}, r"f\.tsv:2 holds no image"),
        ("no base64!", r"f\.tsv:2: its image is no base64 text"),
        (b"#!/bin/sh", r"f\.tsv:2: what stands as its image \(9 bytes\) begins as no image of a known format"),
    ],
)
def test_what_is_no_image_is_refused_and_not_written(cell: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        Embedded(tmp_path / "f.tsv", None).keep(cell, "f.tsv:2")
    assert list(tmp_path.rglob("*")) == []


def test_a_row_may_have_the_image_of_an_earlier_one(tmp_path: Path) -> None:
    shared = Shared(Embedded(tmp_path / "f.tsv", None))
    assert shared.keep("5", base64_png(1), "f.tsv:2") == shared.keep("6", "5", "f.tsv:3") == shared.keep("7", "6", "4")
    with pytest.raises(DataError, match=r"f\.tsv:5: its image is that of row 9, which comes later or not at all"):
        shared.keep("8", "9", "f.tsv:5")


def item(count: int) -> Item:
    return Item("q", tuple(Path(f"/{number}.png") for number in range(1, count + 1)))


def test_images_stand_at_their_marks_and_others_are_left_out() -> None:
    conversation = interleaved(item(3), "<image 3>a <image 1>b<image 3>")
    parts = [part.text if isinstance(part, TextPart) else part.type for part in conversation.messages[0].content]
    assert parts == ["image", "a ", "image", "b", "image"]
    order = [conversation.media[part.index].path for part in conversation.messages[0].content if part.type == "image"]
    assert order == ["/3.png", "/1.png", "/3.png"] and len(conversation.media) == 2


@pytest.mark.parametrize("mark", ["<image 0>", "<image 3>"])
def test_a_mark_without_an_image_is_refused(mark: str) -> None:
    with pytest.raises(DataError, match=f"question 'q' has the mark {mark} and 2 images"):
        interleaved(item(2), f"See {mark}.")
