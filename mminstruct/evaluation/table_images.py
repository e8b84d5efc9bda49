"""Questions of a table whose rows have their images within (VLMEvalKit's TSV of an official file).

items, in the rows' order ── with_images_within(items, FILE.tsv, cache) ──▶ items with an image file each
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from mminstruct.evaluation.embedded_images import Embedded, Shared
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import table


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
