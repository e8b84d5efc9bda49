"""Unpacking archives that may be hostile: `zip or tar (plain, .gz, .bz2, .xz) -> folder`, whole or not at all.

    archive ──first bytes say the kind──▶ members, one by one: plain file or folder, name inside, none twice
            ──bytes as they are written, counted──▶ folder under a temporary name ──▶ its name

What headers say of sizes is not believed; links and devices are refused; rights and times are not taken over.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from mminstruct.errors import DataError
from mminstruct.files import new_folder


@dataclass(frozen=True)
class ArchiveLimits:
    """The largest archive that is unpacked.

    Attributes:
        max_members: files and folders.
        max_bytes: of all that is unpacked.
        max_ratio: bytes unpacked for each byte of the archive; the first megabyte is free.
        max_depth: folders within each other.
    """

    max_members: int = 100_000
    max_bytes: int = 16 * 2**30
    max_ratio: int = 200
    max_depth: int = 32

    def most(self, size: int) -> int:
        """Bytes that an archive of this size may unpack to."""
        return min(self.max_bytes, _FREE + self.max_ratio * size)


DEFAULT_ARCHIVE_LIMITS = ArchiveLimits()

_FREE = 2**20
_PIECE = 2**15
_LONGEST_PART = 255  # bytes, on most file systems
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_ENTRY = 256  # bytes that a member takes in a zip's directory, on average at most
_ZIP_END = 2**17  # bytes at a zip's end that are searched for that directory
_TAR_HEADER = 2**15  # bytes; its reader takes quadratic time for longer ones
_COMPRESSED: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
_OUTSIDE = re.compile(r"/|[A-Za-z]:|(.*/)?\.\.(/|$)", re.DOTALL)
_ODD = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_AGAIN = "fetch it again, or unpack by hand what you trust"
# What the readers of archives raise on broken bytes, beside an `OSError` without a number.
_READER_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
)


def extract(archive: Path, folder: Path, limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS) -> list[Path]:
    """Unpack an archive into a new folder, and return its files in the archive's order.

    Raises:
        DataError: the archive is missing, broken, beyond the limits, or has a member that is no plain file or folder
            within it. Nothing has been unpacked then.
        RunError: `folder` exists and is not empty.
    """
    try:
        with archive.open("rb") as stream, new_folder(folder) as temporary:
            writer = _Writer(temporary, str(archive), limits, limits.most(archive.stat().st_size))
            for name, content in _members(stream, str(archive), limits):
                writer.write(name, content)
    except OSError as error:
        if error.errno is None:  # a reader's
            raise _broken(archive) from None
        raise DataError(f"{archive} cannot be unpacked ({error.strerror}); check the path and the disk") from None
    except _READER_ERRORS:
        raise _broken(archive) from None
    return [folder / path for path in writer.files]


def _broken(archive: Path) -> DataError:
    return DataError(f"{archive} is no whole zip or tar file, or has a password; {_AGAIN}")


class _Writer:
    """Writes members below a folder, and refuses what does not belong there."""

    def __init__(self, root: Path, where: str, limits: ArchiveLimits, most: int) -> None:
        self.files: list[PurePosixPath] = []
        self._root = root
        self._where = where
        self._limits = limits
        self._most = most
        self._written = 0
        self._members = 0
        self._taken: dict[str, bool] = {"": False}  # whether there is a file, by names that ignore case

    def write(self, name: str, content: IO[bytes] | None) -> None:
        """A file, or without a content a folder."""
        self._members += 1
        if self._members > self._limits.max_members:
            raise DataError(f"{self._where} has more than {self._limits.max_members:,} members; {_AGAIN}")
        path = self._place(name, is_file=content is not None)
        target = self._root / path
        (target if content is None else target.parent).mkdir(parents=True, exist_ok=True)
        if content is None:
            return
        with target.open("xb") as stream:
            while piece := content.read(_PIECE):
                self._written += len(piece)
                if self._written > self._most:
                    raise _too_much(self._where, self._most)
                stream.write(piece)
        self.files.append(path)

    def _place(self, name: str, *, is_file: bool) -> PurePosixPath:
        """Where a member belongs, relative to the folder."""
        what = f"{self._where} has a member {name[:100]!r}"
        path = PurePosixPath(name)
        if _OUTSIDE.match(name) or _ODD.search(name):
            raise DataError(f"{what} whose name leads out of it, on some system at least; {_AGAIN}")
        if len(path.parts) > self._limits.max_depth or any(len(part.encode()) > _LONGEST_PART for part in path.parts):
            raise DataError(f"{what} whose name is too long or too deep; {_AGAIN}")
        *above, own = [_key(part) for part in (path, *path.parents)][::-1]
        if any(self._taken.setdefault(key, False) for key in above) or self._taken.get(own, is_file) != is_file:
            raise DataError(f"{what} that is a file and a folder; {_AGAIN}")
        if is_file and own in self._taken:
            raise DataError(f"{what} twice, or one that differs in capitals only; {_AGAIN}")
        self._taken[own] = is_file
        return path


def _key(path: PurePosixPath) -> str:
    """What the least careful file system takes for the same name."""
    return "" if path == PurePosixPath() else unicodedata.normalize("NFC", str(path).casefold())


def _too_much(where: str, most: int) -> DataError:
    return DataError(f"{where} unpacks to more than {most:,} bytes, too many at all or for its size; {_AGAIN}")


class _Guarded:
    """A stream that is only read forwards, in pieces that fit into memory, and not without end."""

    def __init__(self, stream: IO[bytes], where: str, longest: int, most: int | None = None) -> None:
        self._stream = stream
        self._where = where
        self._longest = longest
        self._most = most
        self._passed = 0
        self.last = b""  # what was read last

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._longest + 1) if size >= 0 else self._longest + 1)
        if len(data) > self._longest:
            raise DataError(f"{self._where} has a header that is too long; {_AGAIN}")
        self._pass(len(data))
        self.last = data
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        if (
            self._most is not None
        ):  # of a compressed stream: going forwards unpacks it, backwards does so from its start
            if whence != 0 or place < self._stream.tell():
                raise ValueError
            self._pass(place - self._stream.tell())
        return self._stream.seek(place, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def _pass(self, size: int) -> None:
        self._passed += size
        if self._most is not None and self._passed > self._most:
            raise _too_much(self._where, self._most)


def _members(stream: IO[bytes], where: str, limits: ArchiveLimits) -> Iterator[tuple[str, IO[bytes] | None]]:
    """(name, content of a file or None of a folder) of each member."""
    beginning = stream.read(6)
    size = stream.seek(0, 2)
    stream.seek(0)
    if beginning.startswith(_ZIP):
        # The directory is read in one piece.
        guarded = _Guarded(stream, where, _ZIP_ENTRY * limits.max_members + _ZIP_END)
        yield from _of_zip(cast(IO[bytes], guarded), where)
        return
    opener = next((opener for magic, opener in _COMPRESSED.items() if beginning.startswith(magic)), None)
    plain = contextlib.nullcontext(stream) if opener is None else opener(stream, "rb")
    with plain as unpacked:
        yield from _of_tar(_Guarded(unpacked, where, _TAR_HEADER, limits.most(size)), where)


def _of_zip(stream: IO[bytes], where: str) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(stream) as shut:
        for info in shut.infolist():
            name = info.orig_filename  # `filename` is without what stands behind a zero
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _link(where, name)
            if name.endswith("/"):
                yield name, None
                continue
            with shut.open(info) as content:
                yield name, content


def _of_tar(stream: _Guarded, where: str) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as shut:
        for member in shut:
            shut.members = []  # type: ignore[attr-defined]  # tarfile lists all that it has seen
            if member.isdir():
                yield member.name, None
                continue
            if not member.isreg() or member.issparse():
                raise _link(where, member.name)
            content = shut.extractfile(member)
            assert content is not None  # a regular file has one
            yield member.name, content
        if not stream.last or stream.last.strip(
            b"\0"
        ):  # an empty block ends it; one that was cut between members has none
            raise EOFError
        while stream.read(_PIECE):  # to where a compressed stream has its checksum
            pass


def _link(where: str, name: str) -> DataError:
    return DataError(f"{where} has a member {name[:100]!r} that is a link, a device or has holes; {_AGAIN}")
