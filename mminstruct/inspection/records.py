"""Random access to a data set's records for those who look through it, in memory only where each begins.

    native: shards ──offsets of lines──▶ records[i]        others: read once into a folder for the time (`data.source`)

What is looked for is found by going on from a place, so that a set of any size needs no second index.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mminstruct import formats
from mminstruct.conversation import Conversation
from mminstruct.data.source import open_source
from mminstruct.errors import DataError
from mminstruct.formats import native
from mminstruct.formats.items import record

AT_ONCE = 50_000  # records that one search goes through before it gives back what it has


class Records(Protocol):
    """`media_root` is the folder that relative media paths start from."""

    media_root: Path

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Conversation: ...


class NativeRecords:
    """Those of a native data set; a line is only read, and only then found broken, when it is looked at.

    Raises:
        DataError: the manifest or a shard is missing.
    """

    def __init__(self, path: Path) -> None:
        self.media_root = path
        self._files: list[Path] = []
        self._offsets: list[array[int]] = []
        self._streams: list[BinaryIO] = []
        for file in native.files(path)[1:]:
            if not file.is_file():
                raise DataError(f"{file} is missing; the manifest names it, so copy the data set again")
            stream = file.open("rb")
            # Every line counts, so that numbers are those of the file.
            self._offsets.append(array("q", itertools.accumulate((len(line) for line in stream), initial=0)))
            self._files.append(file)
            self._streams.append(stream)
        self._starts = [0, *itertools.accumulate(len(offsets) - 1 for offsets in self._offsets)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int, /) -> Conversation:
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect.bisect_right(self._starts, index) - 1
        number = index - self._starts[shard]
        start, end = self._offsets[shard][number], self._offsets[shard][number + 1]
        where = f"{self._files[shard]}:{number + 1}"
        try:
            # Not seek and read: threads share the place in the file.
            value = json.loads(os.pread(self._streams[shard].fileno(), end - start, start))
        except ValueError:
            raise DataError(f"{where} is not JSON; mend or drop the line") from None
        return record(value, where)


def open_records(
    path: Path,
    cache: Path,
    format: str | None = None,
    options: dict[str, Any] | None = None,
    media_root: Path | None = None,
) -> Records:
    """The records of a data set.

    Args:
        cache: a folder for what is read of formats that cannot be read at random.

    Raises:
        DataError: the data set is missing, empty or broken.
    """
    chosen = format or formats.detect(path)
    return NativeRecords(path) if chosen == "native" else open_source(path, cache, chosen, options, media_root)


@dataclass(frozen=True)
class Wanted:
    """What a reader looks for; parts of texts, capital letters aside. Empty ones ask for nothing."""

    task: str = ""
    text: str = ""
    id: str = ""

    @property
    def anything(self) -> bool:
        return bool(self.task or self.text or self.id)

    def fits(self, conversation: Conversation) -> bool:
        sides = conversation.preference
        turns = [*conversation.messages, *(sides.chosen if sides else ()), *(sides.rejected if sides else ())]
        return (
            self.task.casefold() in (conversation.task or "").casefold()
            and self.id.casefold() in conversation.id.casefold()
            and (not self.text or any(self.text.casefold() in one.text.casefold() for one in turns))
        )


@dataclass(frozen=True)
class Found:
    """
    Attributes:
        shown: number and conversation of each record, or why it cannot be read.
        ended_at: the number of the last record that was looked at.
    """

    shown: list[tuple[int, Conversation | DataError]]
    ended_at: int


def find(records: Records, wanted: Wanted, start: int, count: int, *, backwards: bool = False) -> Found:
    """Up to `count` records that fit, from `start` on, in the data set's order; broken ones fit where all do."""
    found: list[tuple[int, Conversation | DataError]] = []
    at = start
    for at in _numbers(start, len(records), backwards):
        try:
            conversation: Conversation | DataError = records[at]
        except DataError as error:
            conversation = error
        fits = not wanted.anything if isinstance(conversation, DataError) else wanted.fits(conversation)
        if fits:
            found.append((at, conversation))
        if len(found) == count:
            break
    return Found(found[::-1] if backwards else found, at)


def _numbers(start: int, length: int, backwards: bool) -> Iterator[int]:
    if backwards:
        return iter(range(min(start, length - 1), max(-1, start - AT_ONCE), -1))
    return iter(range(max(0, start), min(length, start + AT_ONCE)))
