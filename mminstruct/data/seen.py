"""What was found out about files and is remembered as long as they look the same: of the same size, last changed at the
same time.

    cache/seen/NAME.json  SHA-256 of the tables or shards of a data set, which hold its pictures and take long to read
    cache/seen/NAME.npz   which pictures of a source cannot be opened, and why

What is lost or cannot be trusted is found out again. A file that is changed and given its old time is not noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mminstruct.errors import RunError
from mminstruct.files import atomic_path, read_json, sha256, write_json

# A file that was changed so many seconds ago may be changed again at what its file system calls the same time.
_SETTLED = 2.0


def _place(cache: Path, ending: str, names: Sequence[str]) -> Path:
    return cache / "seen" / (hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16] + ending)


def _look(path: Path) -> tuple[int, int]:
    """Size and time of a file; -1 as size where it does not exist or may still change, which is not remembered."""
    try:
        found = path.stat()
    except OSError:
        return -1, 0
    return (found.st_size, found.st_mtime_ns) if time.time() - found.st_mtime > _SETTLED else (-1, 0)


@contextlib.contextmanager
def _written(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{place} cannot be written ({error.strerror}); make room, or let data_cache name another folder"
        ) from None


def hashes(files: Sequence[Path], cache: Path) -> list[str]:
    """The SHA-256 of each file."""
    names = [str(file.absolute()) for file in files]
    place = _place(cache, ".json", names)
    known: dict[str, Any] = read_json(place) if place.is_file() else {}
    found: dict[str, Any] = {}
    for file, name in zip(files, names, strict=True):
        size, changed = _look(file)
        old = known.get(name)
        same = old is not None and size >= 0 and (old["size"], old["changed"]) == (size, changed)
        found[name] = old if same else {"size": size, "changed": changed, "sha256": sha256(file)}
    if found != known:
        with _written(place):
            write_json(place, found)
    return [found[name]["sha256"] for name in names]


class Problems:
    """Why media of a source cannot be opened, asked for one after the other in the source's order.

    Args:
        digest: of the source; it says which media these are.
        root: the folder that their paths start from.
    """

    def __init__(self, cache: Path, digest: str, root: Path) -> None:
        self.place = _place(cache, ".npz", [digest, str(root.absolute())])
        self._old, self._old_whys = np.zeros((0, 2), np.int64), dict[int, str]()
        if self.place.is_file():
            with np.load(self.place) as known:
                self._old = known["looks"]
                self._old_whys = dict(zip(known["broken"].tolist(), known["whys"].tolist(), strict=True))
        self._looks = array("q")
        self._whys: dict[int, str] = {}
        self._learnt = False

    def next(self, source: str | Path, check: Callable[[], str | None]) -> str | None:
        """What is wrong with the next medium; `check` is called where that is not known.

        Args:
            source: its file, or a `data:` URI, which stays what it is.
        """
        number = len(self._looks) // 2
        look = _look(source) if isinstance(source, Path) else (0, 0)
        self._looks.extend(look)
        if look[0] >= 0 and number < len(self._old) and tuple(self._old[number].tolist()) == look:
            why = self._old_whys.get(number)
        else:
            why, self._learnt = check(), True
        if why is not None:
            self._whys[number] = why
        return why

    def save(self) -> None:
        """Remember what was found out, once all media were asked for."""
        if not self._learnt:
            return
        with _written(self.place), atomic_path(self.place) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                looks=np.asarray(self._looks, np.int64).reshape(-1, 2),
                broken=np.array(list(self._whys), np.int64),
                whys=np.array(list(self._whys.values()), np.str_),
            )
