"""Sources: random access to the conversations of a data set of any format, without all of them in memory.

    data set ──first use: formats.read──▶ spool ──seek, read──▶ source[i]: Conversation

A spool is a folder of a cache, named after the content of the data set:

    source.json          format, options and hash of what was read; how many conversations
    conversations.jsonl  one Conversation a line, as native shards have them
    images/              pictures that stood within the data set's files; then media paths start from the spool
    offsets.npy          [n + 1], where each line begins
    first.npy            [n], a number for the first medium of each, equal for equal ones; -1 where it has none
    media.jsonl          the different media of all conversations, each once
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from mminstruct import formats
from mminstruct.conversation import Conversation, Media
from mminstruct.data.seen import hashes
from mminstruct.errors import ConfigError, DataError
from mminstruct.files import atomic_file, made_once, read_json, sha256, write_array, write_json
from mminstruct.formats.items import dumps

VERSION = 2  # of the spool; another one is made anew


class Source:
    """The conversations of one spool. It can be pickled; each process opens the files for itself.

    Args:
        folder: the spool.
        name: what tables and reports call the source.
        media_root: the folder that relative media paths start from.

    Attributes:
        digest: SHA-256 of the data set's files, format and options.
        first: `[n]`, see the module.

    Raises:
        DataError: the spool is not whole.
    """

    def __init__(self, folder: Path, name: str, media_root: Path) -> None:
        self.folder, self.name, self.media_root = folder, name, media_root
        self.digest: str | None = read_json(folder / "source.json")["digest"]
        self._offsets = np.load(folder / "offsets.npy")
        self.first: np.ndarray = np.load(folder / "first.npy")
        self._stream: BinaryIO | None = None
        records = folder / "conversations.jsonl"
        if not records.is_file() or records.stat().st_size != self._offsets[-1]:
            raise DataError(f"{records} is not as long as it was written; remove the folder {folder}, it is made again")

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, (self.folder, self.name, self.media_root)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int, /) -> Conversation:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._stream is None:
            self._stream = (self.folder / "conversations.jsonl").open("rb")
        start, end = int(self._offsets[index]), int(self._offsets[index + 1])
        # Not seek and read: processes that were forked share the place in the file.
        line = os.pread(self._stream.fileno(), end - start, start)
        return Conversation.model_validate_json(line)

    def media(self) -> Iterator[Media]:
        """The different media of all conversations."""
        with (self.folder / "media.jsonl").open(encoding="utf-8") as stream:
            for line in stream:
                yield Media.model_validate_json(line)


def open_source(
    path: Path,
    cache: Path,
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
    media_root: Path | None = None,
    name: str | None = None,
) -> Source:
    """The source of a data set; on first use its conversations are written to a spool in `cache`.

    Args:
        path, format, options: as `formats.read` takes them.
        media_root: default: the data set's own, see `formats.media_root`.
        name: what tables and reports call the source; default: the path.

    Raises:
        DataError: the data set is empty or broken.
        ConfigError: the format or an option does not exist, or `media_root` is given and the pictures stand within the
            data set's files.
        RunError: the cache cannot be written.
    """
    chosen = formats.detect(path) if format is None else format
    options = dict(options or {})
    files = formats.files(path, chosen, options)
    unpacks = formats.embeds(path, chosen, options)
    if unpacks and media_root is not None:
        raise ConfigError(f"the pictures of {path} stand within its files; leave media_root out")
    found = hashes(files, cache) if unpacks else [sha256(file) for file in files]
    content = {
        "version": VERSION,
        "format": chosen,
        "options": options,
        "files": [[file.name, digest] for file, digest in zip(files, found, strict=True)],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def spool(folder: Path) -> None:
        conversations = formats.read(path, chosen, unpack=folder if unpacks else None, **options)
        count = _write(folder, conversations)
        write_json(folder / "source.json", {"digest": digest, "conversations": count, **content})

    folder = made_once(cache / f"source-{digest[:16]}", spool)
    return Source(folder, name or str(path), folder if unpacks else formats.media_root(path, media_root))


def _write(folder: Path, conversations: Iterator[Conversation]) -> int:
    offsets, first = array("q", [0]), array("i")
    known: set[bytes] = set()
    numbers: dict[bytes, int] = {}
    with atomic_file(folder / "conversations.jsonl") as records, atomic_file(folder / "media.jsonl") as media:
        for conversation in conversations:
            fields = conversation.model_dump(mode="json", exclude_none=True)
            line = dumps(fields, f"conversation {conversation.id!r}") + "\n"
            records.write(line)
            offsets.append(offsets[-1] + len(line.encode("utf-8")))
            for one in conversation.media:
                if _short(one.path) not in known:
                    known.add(_short(one.path))
                    media.write(one.model_dump_json(exclude_none=True) + "\n")
            first.append(_first(conversation, numbers))
    write_array(folder / "offsets.npy", np.asarray(offsets, np.int64))
    write_array(folder / "first.npy", np.asarray(first, np.int32))
    return len(first)


def _first(conversation: Conversation, numbers: dict[bytes, int]) -> int:
    if not conversation.media:
        return -1
    return numbers.setdefault(_short(conversation.media[0].sha256 or conversation.media[0].path), len(numbers))


def _short(text: str) -> bytes:
    """Sixteen bytes that stand for a text; a picture in a `data:` URI is a long one."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class Listed:
    """Conversations that are in memory, with what a `Source` knows of its own; nothing of it is kept on disk."""

    digest: str | None = None

    def __init__(self, conversations: Sequence[Conversation], media_root: Path, name: str = "list") -> None:
        self.conversations, self.media_root, self.name = conversations, media_root, name
        numbers: dict[bytes, int] = {}
        self.first: np.ndarray = np.array([_first(one, numbers) for one in conversations], np.int32)

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int, /) -> Conversation:
        return self.conversations[index]

    def media(self) -> Iterator[Media]:
        return iter({media.path: media for one in self.conversations for media in one.media}.values())


class Part(Protocol):
    """What a source is to those who read it; see `Source`."""

    name: str
    media_root: Path
    digest: str | None
    first: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Conversation: ...

    def media(self) -> Iterator[Media]: ...


class Joined:
    """Several sources as one, with global indices. Where they are more than one, media paths are made absolute.

    Attributes:
        starts: the global index that each part begins with.
        media_root: what the conversations' media paths start from.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.starts = [0, *itertools.accumulate(len(part) for part in parts)][:-1]
        self.media_root = self.parts[0].media_root

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int, /) -> Conversation:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self.starts, index) - 1
        part = self.parts[number]
        conversation = part[index - self.starts[number]]
        if len(self.parts) == 1 or not conversation.media:
            return conversation
        return conversation.model_copy(update={"media": [absolute(one, part.media_root) for one in conversation.media]})

    def part(self, index: int) -> Part:
        """The source that a global index belongs to."""
        return self.parts[bisect.bisect_right(self.starts, index) - 1]

    def start(self, index: int) -> int:
        """The global index that this source begins with."""
        return self.starts[bisect.bisect_right(self.starts, index) - 1]

    @property
    def first(self) -> np.ndarray:
        """`[n]`, as `Source.first`, over all parts; media of two parts are never taken for one."""
        found, used = [], 0
        for part in self.parts:
            found.append(np.where(part.first < 0, -1, part.first.astype(np.int64) + used))
            used += int(part.first.max(initial=-1)) + 1
        return np.concatenate(found)

    def media(self) -> Iterator[Media]:
        for part in self.parts:
            for one in part.media():
                yield one if len(self.parts) == 1 else absolute(one, part.media_root)


def absolute(media: Media, root: Path) -> Media:
    """The medium with a path that does not depend on a media root."""
    source = formats.media_source(media.path, root)
    return media if isinstance(source, str) else media.model_copy(update={"path": str(source.absolute())})
