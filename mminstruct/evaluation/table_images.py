"""Questions of a table whose rows have their images within (VLMEvalKit's TSV of an official file).

items, in the rows' order ── with_images_within(items, FILE.tsv, cache) ──▶ items with an image file each
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mminstruct.config import Config
from mminstruct.evaluation.embedded_images import Embedded, Shared
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.local_files import TABLE, Pictures, found
from mminstruct.evaluation.official import table


class FileOrTable(Config):
    """The official file (or folder) of questions, and the folder of images.

    A table has its images within and needs no folder: they are written into `cache`, default `FILE.tsv.images`.
    """

    questions: Path
    images: Path | None = None
    cache: Path | None = None


def with_images(
    options: FileOrTable, data: str, read: Callable[[Path], list[Item]], names: Callable[[Item], Iterable[str]]
) -> Iterator[Item]:
    """The items of a gold reader, each with its image: out of the table, or the first of `names` in the folder.

    Raises:
        DataError: a file or an image is missing (the line says `data`) or not as described.
    """
    questions = found(options.questions, data, tables=True)
    if questions.suffix == TABLE:
        yield from with_images_within(read(questions), questions, options.cache)
        return
    pictures = Pictures(options.images, data)
    for item in read(questions):
        yield dataclasses.replace(item, images=(pictures.named(*dict.fromkeys(names(item))),))


def with_images_within(items: Iterable[Item], path: Path, cache: Path | None) -> Iterator[Item]:
    """The items that a gold reader made of a table's rows, each with the image of its row.

    Args:
        cache: where the images are written; None for `FILE.tsv.images`. Items without a cluster get their image's.

    Raises:
        DataError: a row has no image, or names one that is not there.
        ValueError: there are not as many items as rows.
    """
    images = Shared(Embedded(path, cache))
    for item, (place, row) in zip(items, table(path), strict=True):
        image = images.keep(row.get("index", ""), row.get("image", ""), place)
        yield dataclasses.replace(item, images=(image,), cluster=item.cluster or image.stem)
