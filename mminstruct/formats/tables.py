"""Tables of Hugging Face datasets, read only: Parquet as the hub has it, and what `datasets.save_to_disk` wrote.

    DIR/[data/]train-00000-of-00003.parquet     the hub's; what stands before the first `-` of a name is the split
    DIR/state.json, data-00000-of-00002.arrow   `Dataset.save_to_disk`
    DIR/dataset_dict.json, train/state.json     `DatasetDict.save_to_disk`

Each row is an item of LLaVA (`conversations`), of messages (`messages`) or of the Cauldron (`texts`), with its pictures
under `image` or `images`: an `Image()` feature, stored as a struct of `bytes` and `path`, bytes, or the path as a text.
Rows are read in batches, so a table of any size needs the memory of some rows.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mminstruct.conversation import Conversation
from mminstruct.errors import ConfigError, DataError, did_you_mean
from mminstruct.files import read_json
from mminstruct.formats.embedded import TURNS, Pictures, from_item, without_videos
from mminstruct.formats.items import Duplicates, Each, id_of, unique

if TYPE_CHECKING:
    import pyarrow

STATE, SPLITS = "state.json", "dataset_dict.json"  # of `save_to_disk`
_PICTURES = ("image", "images")
_ROWS = 32  # read at once


def is_one(path: Path) -> bool:
    """Whether a path is a table, or a folder of tables."""
    if path.is_file():
        return path.suffix in (".parquet", ".arrow")
    return (path / STATE).is_file() or (path / SPLITS).is_file() or bool(_parquet(path))


def files(path: Path, split: str | None = None) -> list[Path]:
    """The files of a split, in order.

    Args:
        split: needed where there are several.

    Raises:
        DataError: there are none; ConfigError: no split of that name, or several and none is named.
    """
    found = _splits(path)
    if not found:
        raise DataError(f"{path} holds no table (.parquet, or what datasets' save_to_disk wrote); check the path")
    if split is None:
        if len(found) > 1:
            raise ConfigError(f"{path} has the splits {', '.join(sorted(found))}; say which with the option split")
        return next(iter(found.values()))
    if split not in found:
        raise ConfigError(f"{path} has no split {split!r}.{did_you_mean(split, filter(None, found))}")
    return found[split]


def _splits(path: Path) -> dict[str, list[Path]]:
    """The files of each split; a split without a name is the only one."""
    if path.is_file():
        return {"": [path]}
    if (path / SPLITS).is_file():
        return {name: _saved(path / name) for name in _listed(path / SPLITS, "splits")}
    if (path / STATE).is_file():
        return {"": _saved(path)}
    found: dict[str, list[Path]] = {}
    for file in _parquet(path):
        found.setdefault(file.stem.partition("-")[0], []).append(file)
    return found


def some_schema(path: Path) -> pyarrow.Schema:
    """The schema of one of the files of a path that `is_one`. Raises `DataError` where it cannot be read."""
    first = next((file for part in _splits(path).values() for file in part), None)
    if first is None:
        raise DataError(f"{path} lists no files; save or fetch the data set again")
    return _schema(first)


def embeds(path: Path, split: str | None = None) -> bool:
    """Whether the pictures stand in the table; otherwise it has their paths."""
    return any(_columns(files(path, split)[0]).values())


def read(
    path: Path, *, split: str | None = None, unpack: Path | None = None, duplicate_ids: Duplicates = "error"
) -> Iterator[Conversation]:
    """The conversations of a table. Other columns are kept in `extra`, but for those that hold bytes.

    Args:
        split: which one, where there are several.
        unpack: the folder that pictures are written to; None: only their names are made.
        duplicate_ids: see `mminstruct.formats.items.unique`.

    Raises:
        DataError: a row that is not as described, with its place and id.
    """
    return unique((make() for _, make in each(path, split=split, unpack=unpack)), path, duplicate_ids)


def each(path: Path, *, split: str | None = None, unpack: Path | None = None) -> Iterator[Each]:
    """The rows of a table, each to be made by itself."""
    pictures = Pictures(unpack)
    for file in files(path, split):
        columns = _columns(file)
        within = any(columns.values())
        for number, row in enumerate(rows(file, list(columns))):
            yield f"{file}, row {number}", functools.partial(_conversation, row, pictures, number, file, within)


def _conversation(row: dict[str, Any], pictures: Pictures, number: int, file: Path, within: bool) -> Conversation:
    where = f"{file}, row {number}"
    item = _plain(row, pictures, where)
    made = from_item(item, _paths(item, where), id_of(item, number, file, where), where)
    return without_videos(made, where) if within else made


def _parquet(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) or sorted((path / "data").glob("*.parquet"))


def _saved(folder: Path) -> list[Path]:
    """The files that `save_to_disk` lists of a split."""
    return [folder / name["filename"] for name in _listed(folder / STATE, "_data_files")]


def _listed(file: Path, key: str) -> list[Any]:
    value = read_json(file)
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise DataError(f"{file} is not what datasets' save_to_disk writes ({key!r} is missing); save it again")
    found: list[Any] = value[key]
    return found


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turns what goes wrong when a file is read into errors of ours."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise ConfigError(f"{file} is read by pyarrow; install it: pip install 'mminstruct[tables]'") from None
    if not file.is_file():
        raise DataError(f"{file} does not exist; check the path, or copy the data set again")
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file} is no table that can be read ({error}); fetch it again") from None


def _schema(file: Path) -> pyarrow.Schema:
    with _readable(file):
        import pyarrow.parquet

        if file.suffix == ".parquet":
            schema = pyarrow.parquet.read_schema(file)
        else:
            with pyarrow.memory_map(str(file)) as stream, pyarrow.ipc.open_stream(stream) as reader:
                schema = reader.schema
        _names(schema)  # decoded only now, and in a broken file they may be no text
        return schema


def _names(fields: Iterable[pyarrow.Field]) -> list[str]:
    """The names of all fields and of those within them. Raises `ValueError` where one is no text."""
    found = []
    for one in fields:
        found += [one.name, *_names(one.type.field(number) for number in range(one.type.num_fields))]
    return found


def _columns(file: Path) -> dict[str, bool]:
    """The columns that are read, and whether bytes stand in them."""
    found = {field.name: _holds_bytes(field.type) for field in _schema(file)}
    return {name: holds for name, holds in found.items() if name in (*_PICTURES, *TURNS) or not holds}


def rows(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a file, these columns of them. Raises `DataError` where it is broken."""
    with _readable(file):
        for batch in _batches(file):
            batch.validate(full=True)  # what is broken in it would crash who reads it
            yield from batch.select(list(columns)).to_pylist()


def _batches(file: Path) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow.parquet

    if file.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(file) as table:
            yield from table.iter_batches(batch_size=_ROWS)
        return
    with pyarrow.memory_map(str(file)) as stream, pyarrow.ipc.open_stream(stream) as reader:
        for batch in reader:
            for start in range(0, len(batch), _ROWS):
                yield batch.slice(start, _ROWS)


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as types

    if types.is_binary(kind) or types.is_large_binary(kind):
        return True
    return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))


def _plain(value: Any, pictures: Pictures, where: str) -> Any:
    """A row as JSON has it: paths for pictures, and no keys that are empty, which a table has for all its structs."""
    if isinstance(value, bytes):
        return pictures.keep(value, where)
    if isinstance(value, list):
        return [_plain(one, pictures, where) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"bytes", "path"}:
        if value["bytes"] is None:
            raise DataError(f"{where} has a picture without its bytes; save the data set with its pictures in it")
        return pictures.keep(value["bytes"], where)
    return {key: _plain(one, pictures, where) for key, one in value.items() if one is not None}


def _paths(item: dict[str, Any], where: str) -> list[str]:
    given = [one for name in _PICTURES for one in _listing(item.get(name))]
    if not all(isinstance(one, str) and one for one in given):
        raise DataError(f"{where} has an 'image' or 'images' that are neither pictures nor paths; mend or drop it")
    return given


def _listing(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
