"""Writing files so that a reader never sees half of one: write under a temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mminstruct.errors import DataError, RunError

if TYPE_CHECKING:
    import numpy as np

TEMPORARY = ".tmp"  # how names of files end that are not whole


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """A text file that appears at `path` only when the block ends without an error."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        yield stream


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """The name of an empty file to write to, which appears at `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        fsync(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """A file that appears whole, with as few calls of the system as that takes; sure to last only after `sync`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{TEMPORARY}")
    try:
        stream = temporary.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = temporary.open("wb")
    try:
        with stream:
            stream.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    with atomic_file(path) as stream:
        stream.write(content)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_array(path: Path, values: np.ndarray) -> None:
    """A NumPy array as `.npy`, to be read with `numpy.load`."""
    import numpy as np

    with path.open("wb") as stream:
        np.save(stream, values, allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def as_text(path: Path) -> Iterator[None]:
    """A block that reads a file as UTF-8 text. Raises `DataError` where it is missing, a folder or something else."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give the file in it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises `DataError` where the file is missing or is not JSON."""
    try:
        with as_text(path):
            return json.loads(path.read_text(encoding="utf-8-sig"))  # a byte order mark is no part of the value
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno} is not JSON ({error.msg}); mend or rewrite the file") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply; mend or rewrite the file") from None


def read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, value) of each non-empty line. Raises `DataError` with the line number where one is not JSON."""
    for number, value in each_jsonl(path):
        if isinstance(value, DataError):
            raise value
        yield number, value


class JsonLines:
    """A file of JSON lines that are read when they are asked for: 16 bytes of memory a line, whatever it holds.

    Iterating reads from the start, as `each_jsonl` does, and notes where lines begin, so it comes before the first
    `[number]`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("q")
        self._lines = array("q")

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        starts, lines, at = array("q"), array("q"), 0
        if self.path.is_file():
            with self.path.open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip():
                        starts.append(at)
                        lines.append(number)
                    at += len(line)
        self._starts, self._lines = starts, lines
        yield from each_jsonl(self.path)

    def __getitem__(self, number: int) -> tuple[int, Any]:
        """(line number, value)."""
        with self.path.open("rb") as stream:
            stream.seek(self._starts[number])
            return self._lines[number], json.loads(stream.readline())


def each_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """As `read_jsonl`, but a line that is not JSON is given, as a `DataError`, and not raised, so others follow."""
    with as_text(path), path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                value = DataError(f"{path}:{number} is not JSON ({error.msg}); mend or drop the line")
            except RecursionError:
                value = DataError(f"{path}:{number} is nested too deeply; mend or drop the line")
            yield number, value


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


FileState = tuple[int, int, int]  # as long as it stays, so does what is known of the file's content


def file_state(path: Path) -> FileState | None:
    """Bytes, nanoseconds of the last change, and the file's number on its disk; None where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def sha256_once(path: Path) -> str:
    """The hash of a file that comes again and again; read again only where it has changed."""
    return _sha256_of(path, file_state(path))


@functools.lru_cache(maxsize=4096)
def _sha256_of(path: Path, state: FileState | None) -> str:
    return sha256(path)


def bytes_sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears at `path` only when the block ends without an error.

    Raises `RunError` when `path` already exists and is not an empty folder: nothing is ever overwritten.
    """
    require_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY))
    try:
        yield temporary
        temporary.chmod(0o755)
        publish(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path, path: Path) -> None:
    """Give a whole folder its name, once all that is in it is on the disk; `path` may be an empty folder."""
    sync([*temporary.rglob("*"), temporary])
    if path.is_dir():
        path.rmdir()
    temporary.replace(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Let the disk have a file, or the names in a folder, before this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync(paths: Sequence[Path]) -> None:
    """`fsync` for many: beyond a few, all that the system has not written yet at once, which is quicker."""
    if len(paths) > 16:
        os.sync()
        return
    for path in paths:
        fsync(path)


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder of a cache: `make` fills it on first use, under a temporary name; later it is found.

    Raises `RunError` where it cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        with new_folder(folder) as temporary:
            make(temporary)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster and has made the same
            raise RunError(
                f"{folder} cannot be written ({error.strerror}); make room, or let data_cache name another folder"
            ) from None
    return folder


def require_new(path: Path) -> None:
    """Raises `RunError` unless `path` does not exist or is an empty folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise RunError(f"{path} already exists and is not empty; give another folder or remove that one")
