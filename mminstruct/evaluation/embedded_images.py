"""Images that stand within a benchmark's files: written once under the hash of their bytes, and read as files.

    cell (base64 text, bytes, {"bytes", "path"}) ── Embedded.keep ──▶ FOLDER/ab/abcd....jpg

The folder is `FILE.images` beside the file that holds them, unless the option `cache` says another. What an image holds
is looked at by `mminstruct.media` when a model is shown it; what does not begin as an image is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError, MediaError
from mminstruct.files import bytes_sha256, write_bytes
from mminstruct.media import ImageLimits, decode_base64, image_suffix

_LIMIT = ImageLimits().max_bytes
_LONGEST_INDEX = 12  # digits; no image is that small


class Embedded:
    """The folder that images within a file are written to.

    Args:
        source: the file that holds them, or the folder of such files.
        cache: the folder, None for `SOURCE.images`.
    """

    def __init__(self, source: Path, cache: Path | None) -> None:
        source = source.absolute()
        self.folder = cache.absolute() if cache is not None else source.with_name(f"{source.name}.images")

    def keep(self, cell: Any, place: str) -> Path:
        """The file of an image. It is written where it is not there yet, and appears whole.

        Args:
            cell: bytes, a base64 text, or a struct of `bytes` and `path` as Hugging Face's tables have it.
            place: where the cell is, for errors.

        Raises:
            DataError: the cell is empty, too large, or not an image.
        """
        data = _bytes_of(cell, place)
        suffix = image_suffix(data)
        if not suffix or len(data) > _LIMIT:
            what = f"is larger than {_LIMIT:,} bytes" if suffix else "begins as no image of a known format"
            raise DataError(f"{place}: what stands as its image ({len(data):,} bytes) {what}; give the official file")
        name = bytes_sha256(data)
        path = self.folder / name[:2] / f"{name}{suffix}"
        if not path.is_file():
            write_bytes(path, data)
        return path


class Shared:
    """Images of a table in which a cell may hold the index of the row that has the image."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded
        self._known: dict[str, Path] = {}

    def keep(self, index: str, cell: Any, place: str) -> Path:
        """As `Embedded.keep`. Raises `DataError` also where the row that a cell names does not come before it."""
        if isinstance(cell, str) and cell.isdecimal() and len(cell) <= _LONGEST_INDEX:
            if cell not in self._known:
                raise DataError(f"{place}: its image is that of row {cell}, which comes later or not at all; mend it")
            self._known[index] = self._known[cell]
        else:
            self._known[index] = self._embedded.keep(cell, place)
        return self._known[index]


def _bytes_of(cell: Any, place: str) -> bytes:
    value = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if isinstance(value, str) and value:
        text = value.partition(",")[2] if value.startswith("data:") else value
        try:
            return decode_base64("".join(text.split()))
        except MediaError as error:
            raise DataError(f"{place}: its image is no base64 text ({error})") from None
    if not isinstance(value, bytes) or not value:
        raise DataError(f"{place} holds no image; give the official file, whose rows have their images within")
    return value
