"""Tensors from files to files, one at a time: headers say what a folder holds, a plan what is written.

    Source(folder).tensors ─match names─▶ {target name: Planned} ─write─▶ model*.safetensors (and an index)

Memory holds the tensors of one output file, so `max_shard_size` bounds it whatever the size of the model.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mminstruct.errors import CheckpointError
from mminstruct.files import write_json
from mminstruct.models.scan import files_of_index

INDEX = "model.safetensors.index.json"
MAX_SHARD_SIZE = "5GB"

# Index file and single file of the two kinds of weights, the safe one first.
_FILES = ((INDEX, "model.safetensors"), ("pytorch_model.bin.index.json", "pytorch_model.bin"))
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,  # position ids, which old checkpoints hold as a buffer
}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, known from the file's header."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Planned:
    """A tensor that will be written: `read` makes it when its turn has come."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]


def joined(parts: Sequence[Planned]) -> Planned:
    """The rows of several tensors, one below the other, in the first one's precision."""
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    dtype = parts[0].dtype
    return Planned(shape, dtype, lambda: torch.cat([part.read().to(dtype) for part in parts]))


def part_of_rows(planned: Planned, number: int, of: int) -> Planned:
    """One of so many equal parts of a tensor's rows, counted from 0."""
    rows = planned.shape[0] // of

    def read_part() -> torch.Tensor:
        return planned.read()[number * rows : (number + 1) * rows].clone()

    return Planned((rows, *planned.shape[1:]), planned.dtype, read_part)


class Source:
    """The weights in a folder, safetensors or `.bin`.

    Attributes:
        tensors: what there is, by name; nothing of it is in memory.

    Raises:
        CheckpointError: no weights, a file of the index is missing or broken, or a pickle holds more than tensors.
    """

    def __init__(self, folder: Path, files: Sequence[Path] | None = None) -> None:
        """`files`: read these; default: the model's weights, as transformers names their files."""
        self.folder = folder
        self.tensors: dict[str, Stored] = {}
        self._pickle: tuple[Path, dict[str, torch.Tensor]] | None = None
        for file in weight_files(folder) if files is None else files:
            self.tensors.update(_header(file) if file.suffix == ".safetensors" else self._pickle_header(file))

    def read(self, name: str) -> torch.Tensor:
        """One tensor, in memory of its own, so that its file's pages can go."""
        file = self.tensors[name].file
        if file.suffix != ".safetensors":
            return self._open_pickle(file)[name].clone(memory_format=torch.contiguous_format)
        with safe_open(file, framework="pt") as tensors:
            tensor: torch.Tensor = tensors.get_tensor(name)
            return tensor.clone(memory_format=torch.contiguous_format)

    def planned(self, name: str) -> Planned:
        """The tensor as it is."""
        stored = self.tensors[name]
        return Planned(stored.shape, stored.dtype, lambda: self.read(name))

    def _pickle_header(self, file: Path) -> dict[str, Stored]:
        return {name: Stored(file, tuple(t.shape), t.dtype) for name, t in self._open_pickle(file).items()}

    def _open_pickle(self, file: Path) -> dict[str, torch.Tensor]:
        """The state dict in a file, its numbers left on disk; only the file used last is kept open."""
        if self._pickle is None or self._pickle[0] != file:
            self._pickle = (file, load_pickle(file))
        return self._pickle[1]


def load_pickle(file: Path) -> dict[str, torch.Tensor]:
    """A dictionary of tensors from a `.bin` file, memory-mapped. Raises `CheckpointError` for anything else in it."""
    try:
        found: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{file} is a pickle that holds more than tensors, and loading it could run code; "
            "ask its author for safetensors"
        ) from None
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); copy it again or convert it to safetensors") from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise CheckpointError(f"{file} is not a dictionary of tensors; give a folder with a model's state dict")
    return found


def write(folder: Path, plan: Mapping[str, Planned], max_shard_size: int | str = MAX_SHARD_SIZE) -> None:
    """Write the planned tensors as `model.safetensors`, or as numbered files with an index where they are many."""
    shapes = {name: torch.empty(one.shape, dtype=one.dtype, device="meta") for name, one in plan.items()}
    split = split_torch_state_dict_into_shards(shapes, max_shard_size=max_shard_size)
    for filename, names in split.filename_to_tensors.items():
        save_file({name: plan[name].read() for name in names}, folder / filename, metadata={"format": "pt"})
    if split.is_sharded:
        write_json(folder / INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})


def has_weights(folder: Path) -> bool:
    """Whether the folder holds a model's weights under one of the names that transformers gives them."""
    return any((folder / name).is_file() for pair in _FILES for name in pair)


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights. Raises `CheckpointError` where there are none or one is missing."""
    for index, single in _FILES:
        if (folder / index).is_file():
            files = files_of_index(folder / index)
            for file in files:
                if not file.is_file():
                    raise CheckpointError(f"{folder} holds no {file.name}, which its {index} names; copy it again")
            return files
        if (folder / single).is_file():
            return [folder / single]
    raise CheckpointError(f"{folder} holds no weights; expected one of {', '.join(n for pair in _FILES for n in pair)}")


def _header(file: Path) -> dict[str, Stored]:
    found = {}
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open has no iterator
                part = tensors.get_slice(name)
                if part.get_dtype() not in _DTYPES:
                    raise CheckpointError(
                        f"{file}: the tensor {name!r} is stored as {part.get_dtype()}; "
                        "give the model as it was before quantisation"
                    )
                found[name] = Stored(file, tuple(part.get_shape()), _DTYPES[part.get_dtype()])
    except SafetensorError as error:
        raise CheckpointError(f"{file} is not a whole safetensors file ({error}); copy it again") from None
    return found
