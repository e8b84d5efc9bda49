"""The project's own data sets: a folder of JSON lines in shards, a manifest, and media beside them.

    DIR/manifest.json        format and version, counts, each shard's count and SHA-256, what built it
    DIR/shard-00000.jsonl    one Conversation a line
    DIR/images/...           media; paths in records are relative to DIR

A writer holds one record (and the ids) in memory, and DIR appears only when it is whole. A reader goes shard by shard
and checks each against the manifest before it gives a record of it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mminstruct.conversation import Conversation, Record
from mminstruct.errors import DataError
from mminstruct.files import atomic_file, each_jsonl, new_folder, read_json, read_jsonl, sha256, write_json
from mminstruct.formats.items import Each, dumps, record, unique

MANIFEST = "manifest.json"
VERSION: Literal[1] = 1


class Shard(Record):
    file: str = Field(pattern=r"^shard-\d{5,}\.jsonl$")
    conversations: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Record):
    """What a data set holds. `images` and `videos` count the media entries of all records."""

    format: Literal["mminstruct"] = "mminstruct"
    format_version: Literal[1] = VERSION
    conversations: int
    images: int
    videos: int
    shards: list[Shard] = Field(min_length=1)
    builder: dict[str, Any] | None = None


def write(
    conversations: Iterable[Conversation], path: Path, *, builder: dict[str, Any] | None = None, per_shard: int = 10_000
) -> Manifest:
    """A new data set folder.

    Args:
        builder: what to note in the manifest about how the set was made.
        per_shard: conversations in each shard but the last.

    Raises:
        RunError: `path` exists and is not an empty folder.
        DataError: no conversations, or two of one id. Nothing is left behind.
    """
    with new_folder(path) as folder:
        return write_into(folder, conversations, where=path, builder=builder, per_shard=per_shard)


def write_into(
    folder: Path,
    conversations: Iterable[Conversation],
    *,
    where: Path,
    builder: dict[str, Any] | None = None,
    per_shard: int = 10_000,
) -> Manifest:
    """Shards and manifest in a folder that its owner makes appear as `where`; see `write`."""
    kinds: Counter[str] = Counter()
    shards: list[Shard] = []
    rest = unique(conversations, where)

    def lines(some: Iterable[Conversation]) -> Iterator[str]:
        for one in some:
            kinds.update(media.kind for media in one.media)
            yield line(one)

    for first in rest:
        some = itertools.chain([first], itertools.islice(rest, per_shard - 1))
        shards.append(write_shard(folder, len(shards), lines(some)))
    return write_manifest(folder, shards, kinds, where, builder)


def line(conversation: Conversation) -> str:
    """The record's line in a shard. Raises `DataError` where JSON cannot hold it."""
    fields = conversation.model_dump(mode="json", exclude_none=True)
    return dumps(fields, f"conversation {conversation.id!r}") + "\n"


def write_shard(folder: Path, number: int, lines: Iterable[str]) -> Shard:
    """A shard of these lines, on the disk under its name when this returns."""
    name = f"shard-{number:05d}.jsonl"
    digest = hashlib.sha256()
    count = 0
    with atomic_file(folder / name) as stream:
        for one in lines:
            stream.write(one)
            digest.update(one.encode("utf-8"))
            count += 1
    return Shard(file=name, conversations=count, sha256=digest.hexdigest())


def write_manifest(
    folder: Path, shards: Sequence[Shard], kinds: Mapping[str, int], where: Path, builder: dict[str, Any] | None
) -> Manifest:
    """The manifest of shards that are written; `kinds` counts their media. Raises `DataError` where there are none."""
    if not shards:
        raise DataError(f"there are no conversations to write to {where}; check the source and its filters")
    manifest = Manifest(
        conversations=sum(shard.conversations for shard in shards),
        images=kinds.get("image", 0),
        videos=kinds.get("video", 0),
        shards=list(shards),
        builder=builder,
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def read_manifest(path: Path) -> Manifest:
    """The manifest of a data set folder. Raises `DataError` where there is none or it is not one."""
    file = path / MANIFEST
    if not file.is_file():
        raise DataError(f"{path} has no {MANIFEST}; it is not a data set of mminstruct, or only half of one")
    value = read_json(file)
    version = value.get("format_version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise DataError(f"{file} is of format version {version} and this is version {VERSION}; upgrade mminstruct")
    try:
        manifest = Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{file} is not a manifest ({key}: {first['msg']}); write the data set again") from None
    if manifest.conversations != sum(shard.conversations for shard in manifest.shards):
        raise DataError(f"{file} counts {manifest.conversations} conversations, its shards another number; write again")
    return manifest


def files(path: Path) -> list[Path]:
    """The manifest and the shards of a data set folder."""
    return [path / MANIFEST, *(path / shard.file for shard in read_manifest(path).shards)]


def read(path: Path) -> Iterator[Conversation]:
    """The conversations of a data set folder, in order.

    Raises:
        DataError: the manifest or a shard is missing, or a shard is not the one that was written.
    """
    for shard in read_manifest(path).shards:
        yield from read_shard(path, shard)


def each(path: Path) -> Iterator[Each]:
    """The records of a data set folder, each by itself; that shards are those of the manifest is not looked at."""
    for shard in read_manifest(path).shards:
        if (path / shard.file).is_file():
            for number, value in each_jsonl(path / shard.file):
                where = f"{path / shard.file}:{number}"
                yield where, functools.partial(_made, value, where)


def _made(value: Any, where: str) -> Conversation:
    if isinstance(value, DataError):
        raise value
    return record(value, where)


def read_shard(path: Path, shard: Shard) -> Iterator[Conversation]:
    """The conversations of one shard of a data set folder. Raises `DataError` where it is not the one described."""
    file = path / shard.file
    if not file.is_file():
        raise DataError(f"{file} is missing; the manifest names it, so copy the data set again")
    if sha256(file) != shard.sha256:
        raise DataError(
            f"{file} was changed after it was written (its SHA-256 is not the manifest's); "
            f"copy or build the data set again"
        )
    count = 0
    for number, value in read_jsonl(file):
        yield record(value, f"{file}:{number}")
        count += 1
    if count != shard.conversations:
        raise DataError(f"{file} has {count} conversations, the manifest says {shard.conversations}; build it again")
