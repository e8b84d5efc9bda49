"""WebDataset shards, read only: uncompressed tar files whose members of one base name are a sample.

    00000.tar: 17.jpg 17.json, 18.0.png 18.1.png 18.json, 19.jpg 19.txt, ...

A `.json` is an item of LLaVA, of messages or of the Cauldron, and its pictures are the sample's, in the order of the
numbers in their endings; a `.txt` is the caption of the sample's picture. Other members are not read. A shard is read
from its beginning to its end, one sample in memory; names of members are names and never paths to write to.
"""

from __future__ import annotations

import functools
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.formats.embedded import LIMIT, TURNS, Pictures, caption, from_item, without_videos
from mminstruct.formats.items import Duplicates, Each, id_of, unique

_IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
_READ = (*_IMAGES, "json", "txt")


def is_one(path: Path) -> bool:
    """Whether a path is a shard, or a folder of shards."""
    return path.suffix == ".tar" if path.is_file() else any(path.glob("*.tar"))


def files(path: Path) -> list[Path]:
    """The shards, in order."""
    found = [path] if path.is_file() else sorted(path.glob("*.tar"))
    if not found:
        raise DataError(f"{path} holds no shards (.tar); check the path")
    return found


def read(path: Path, *, unpack: Path | None = None, duplicate_ids: Duplicates = "error") -> Iterator[Conversation]:
    """The conversations of shards.

    Args:
        unpack: the folder that pictures are written to; None: only their names are made.
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: a shard that is not whole, or a sample that is not as described, with its name.
    """
    return unique((make() for _, make in each(path, unpack=unpack)), path, duplicate_ids)


def each(path: Path, *, unpack: Path | None = None) -> Iterator[Each]:
    """The samples of shards, each to be made by itself."""
    pictures = Pictures(unpack)
    for file in files(path):
        for key, members in _samples(file):
            yield f"{file}, sample {key!r}", functools.partial(_conversation, file, key, members, pictures)


def _conversation(file: Path, key: str, members: dict[str, bytes], pictures: Pictures) -> Conversation:
    where = f"{file}, sample {key!r}"
    endings = sorted((one for one in members if one.rpartition(".")[2] in _IMAGES), key=_number)
    paths = [pictures.keep(members[ending], where) for ending in endings]
    item = _json(members.get("json", b"{}"), where)
    name = id_of(item, key, file, where)
    if any(turns in item for turns in TURNS):
        return without_videos(from_item(item, paths, name, where), where)
    if "txt" in members:
        return caption(item, _text(members["txt"], where), paths, name, where)
    raise DataError(f"{where} has neither turns ({', '.join(TURNS)} in a .json) nor a caption (.txt); drop it")


def _number(ending: str) -> int:
    """18.10.jpg comes behind 18.2.jpg."""
    digits = re.search(r"\d+", ending)
    return int(digits.group()) if digits else 0


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        item = json.loads(_text(data, where))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where} has a .json that is not JSON ({error}); mend or drop it") from None
    if not isinstance(item, dict):
        raise DataError(f"{where} has a .json that is a {type(item).__name__}; an item is an object")
    return item


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} has a text that is not UTF-8 ({error.reason}); save it as UTF-8") from None


def _samples(file: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(base name, member by ending) of each sample; neighbours of one base name are one."""
    key, members = "", dict[str, bytes]()
    for name, data in _members(file):
        folder, _, own = name.rpartition("/")
        base, _, ending = own.partition(".")
        base = f"{folder}/{base}" if folder else base
        if base != key and members:
            yield key, members
            members = {}
        key = base
        if ending.lower() in members:
            raise DataError(f"{file} has the member {name!r} twice; write the shard again")
        members[ending.lower()] = data
    if members:
        yield key, members


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the members that are read."""
    try:
        with tarfile.open(file, "r|") as shard:  # a stream: nothing is looked up, and nothing kept
            for member in shard:
                shard.members = []  # type: ignore[attr-defined]  # tarfile lists all that it has seen
                if member.isdir() or member.name.rpartition(".")[2].lower() not in _READ:
                    continue
                where = f"{file}, member {member.name!r},"
                if not member.isreg():
                    raise DataError(f"{where} is a link or a device; write the shard with the files themselves")
                if member.size > LIMIT:
                    raise DataError(f"{where} has {member.size:,} bytes, more than the limit of {LIMIT:,}; drop it")
                content = shard.extractfile(member)
                assert content is not None  # a regular file has one
                yield member.name, content.read()
            if not _ended(file):
                raise tarfile.ReadError("it has no end")
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{file} is not a whole, uncompressed tar file ({error}); fetch it again") from None


def _ended(file: Path) -> bool:
    """Whether the two empty blocks are there that a tar file ends with; one that was cut between members lacks them."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 1024))
        return stream.read() == bytes(1024)
