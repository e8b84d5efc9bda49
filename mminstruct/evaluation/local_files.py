"""A benchmark's official files on this machine: what is missing is named, with where it comes from.

    found(path, data) ─▶ path        Pictures(folder, data).named("a.jpg", "b.jpg") ─▶ the first of them that is there

Names of images come out of downloaded files, so one that leads out of its folder is refused.
"""

from __future__ import annotations

from pathlib import Path

from mminstruct.errors import DataError

TABLE = ".tsv"


def found(path: Path, data: str, tables: bool = False) -> Path:
    """The path of a file or folder that is there.

    Args:
        tables: whether the benchmark reads tables with the images within, as VLMEvalKit makes them.

    Raises:
        DataError: it is not, or it is such a table and the benchmark reads none; what is needed is said
            (`Benchmark.data`).
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; needed is: {data}")
    if path.suffix == TABLE and not tables:
        raise DataError(f"{path} is a table, which is scored (mminstruct score) but not asked; needed is: {data}")
    return path


class Pictures:
    """A folder of images, or of videos.

    Args:
        folder: where they are; None where the user gave none.
        data: what is needed and where to get it, for errors.
        kind: "image" or "video", for errors.

    Raises:
        DataError: there is no such folder, or none is given.
    """

    def __init__(self, folder: Path | None, data: str, kind: str = "image") -> None:
        if folder is None:
            raise DataError(f"no folder of {kind}s is given; give it as {kind}s=; needed is: {data}")
        if not found(folder, data).is_dir():
            raise DataError(f"{folder} is a file; give the folder of {kind}s; needed is: {data}")
        self._folder, self._data, self._kind = folder.absolute(), data, kind
        self._known: dict[str, Path] = {}

    def named(self, *names: str) -> Path:
        """The absolute path of the first of these names, relative to the folder, that is a file.

        Raises:
            DataError: none of them is there, or a name leads out of the folder.
        """
        for name in names:
            if name not in self._known:
                relative = Path(name)
                if not name or relative.is_absolute() or ".." in relative.parts:
                    raise DataError(
                        f"the {self._kind}'s name {name!r} leads out of {self._folder}; give the official file"
                    )
                if not (self._folder / relative).is_file():
                    continue
                self._known[name] = self._folder / relative
            return self._known[name]
        raise DataError(f"the {self._kind} {' or '.join(names)} is not in {self._folder}; needed is: {self._data}")
