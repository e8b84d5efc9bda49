"""The card of any data set that is there: one pass over its conversations, its manifest, dead letters and log.

Of a data set of `mminstruct build` it is the README.md that the build wrote, to the byte.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mminstruct import formats
from mminstruct.building.card import card
from mminstruct.building.figures import Figures
from mminstruct.building.limits import Price
from mminstruct.building.unfinished import CALLS, DEAD_LETTERS, NOTES, DeadLetter, read_parts
from mminstruct.building.usage import counted
from mminstruct.files import read_jsonl
from mminstruct.formats import native


def card_of(
    source: Path,
    format: str | None = None,
    options: dict[str, Any] | None = None,
    *,
    calls: Path | None = None,
    price: Price | None = None,
) -> str:
    """The card's text.

    Args:
        format, options: as `formats.read` takes them.
        calls: the log of replies; default: the data set's own, where it has one.
        price: of the model, to say what its replies cost.

    Raises:
        DataError: the data set or its log cannot be read.
    """
    chosen = format or formats.detect(source)
    figures = Figures()
    for conversation in formats.read(source, chosen, **(options or {})):
        figures.add(conversation)
    builder, failures = None, Counter[str]()
    if chosen == "native":
        builder = native.read_manifest(source).builder
        if (source / DEAD_LETTERS).is_file():
            letters = [DeadLetter.model_validate(value) for _, value in read_jsonl(source / DEAD_LETTERS)]
            failures.update(letter.reason for letter in letters)
        for part in read_parts(source)[1] if (source / NOTES).is_file() else []:
            figures.called(part.unnamed())
    log = calls or (source / CALLS if (source / CALLS).is_file() else None)
    return card(
        figures,
        builder=builder,
        failures=failures,
        usage=None if log is None else counted(log, figures.calls(), price),
        price=price,
        title=source.stem,
        shards=chosen == "native",
    )
