"""What a frozen vision encoder makes of each picture or video, `[T, P, D]`, kept on disk.

    FOLDER/lock                     held by who computes what is missing
    FOLDER/KEY/description.json     all that the features depend on but the files' bytes; KEY is its hash
    FOLDER/KEY/NAME.safetensors     a shard: a tensor for each medium, named by the SHA-256 of its file's bytes
    FOLDER/KEY/NAME.json            what is in that shard, written after it: of each medium frames, height, width, scale
                                    and a checksum

A shard without its table does not exist, and no file is ever changed, so any number of runs may read while one writes.
Tensors are memory-mapped: the system keeps in memory what is used and drops the rest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mminstruct import __version__
from mminstruct.config import Config, validate
from mminstruct.errors import ConfigError, DataError, RunError
from mminstruct.files import TEMPORARY, atomic_path, read_json, write_json
from mminstruct.models.adapters.folder import fingerprint
from mminstruct.models.config import FusedConfig
from mminstruct.models.image import Features
from mminstruct.models.layout import Medium
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel

FORMAT = 1  # of the files, and of what `Processor.prepare` makes of a picture; a new one finds no old features
DESCRIPTION = "description.json"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn}
_LIBRARIES = {"timm": "timm", "open_clip": "open_clip_torch", "transformers": "transformers"}


class FeatureCacheConfig(Config):
    """Where a stage keeps what its frozen vision encoder makes of each picture.

    Attributes:
        folder: one for all runs that may share; what belongs to other weights or settings has a sub-folder of its own.
        dtype: of the numbers on disk; `float8_e4m3fn` has a scale for each picture.
        pooled: keep what the connector's own pooling leaves, for connectors that begin with one (`average_pool`): less
            to keep, and of use to connectors of that grid only.
        limit_gb: how large the folder may become, all sub-folders together, in 10^9 bytes.
    """

    folder: Path
    dtype: Literal["float32", "bfloat16", "float8_e4m3fn"] = "bfloat16"
    pooled: bool = False
    limit_gb: float = Field(default=100.0, gt=0)

    @property
    def bytes_per_number(self) -> int:
        return _DTYPES[self.dtype].itemsize


class Entry(Config):
    """A medium in a shard's table: its `Medium`, what its numbers are multiplied by, and the checksum of it all."""

    medium: tuple[int, int, int]
    scale: float
    crc32: int


class Table(Config):
    """A shard's table, by SHA-256."""

    entries: dict[str, Entry]


def describe(
    model: VisionLanguageModel, processor: Processor, config: FeatureCacheConfig, precision: str
) -> dict[str, Any]:
    """All that a medium's features depend on but its bytes.

    Args:
        precision: what the encoder computes in, as recipes name it.
    """
    encoder = model.vision_encoder.config
    towers = encoder.towers if isinstance(encoder, FusedConfig) else (encoder,)
    libraries = sorted({_LIBRARIES[tower.source] for tower in towers})
    settings = processor.config
    pooled = {"pooled": model.config.connector["kind"]} if config.pooled else {}
    return pooled | {
        "format": FORMAT,
        "encoder": encoder.model_dump(mode="json"),
        "weights": fingerprint(model.vision_encoder),
        "image": settings.image.model_dump(mode="json"),
        "tiling": settings.tiling.model_dump(mode="json") if settings.tiling is not None else None,
        "frames": settings.video.sampling.model_dump(mode="json"),
        "shape": list(model.pooled_shape if config.pooled else model.feature_shape),
        "dtype": config.dtype,
        "precision": precision,
        "versions": {"mminstruct": __version__} | {name: importlib.metadata.version(name) for name in libraries},
    }


def sub_folder(folder: Path, description: Mapping[str, Any]) -> Path:
    """Where the features of a description are, or will be."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    return folder / digest[:16]


class FeatureCache:
    """The features of one description.

    Attributes:
        folder: its sub-folder, which need not exist yet.
        shape: P, D of every tile and frame.

    Args:
        folder: the one that all runs share.

    Raises:
        DataError: a shard's table is broken.
        ConfigError: the folder is another description's.
    """

    def __init__(self, folder: Path, description: Mapping[str, Any]) -> None:
        self.folder = sub_folder(folder, description)
        self.shape: tuple[int, int] = tuple(description["shape"])  # type: ignore[assignment]
        self._description = description
        self._dtype = _DTYPES[description["dtype"]]
        self._found: dict[str, tuple[str, Entry]] = {}  # of each medium the shard that holds it
        self._open: dict[str, Any] = {}
        there = self.folder / DESCRIPTION
        if there.is_file() and read_json(there) != description:
            raise ConfigError(f"{there} is not what the folder's name says; remove {self.folder}")
        for table in sorted(self.folder.glob("*.json")):
            if table.name != DESCRIPTION:
                self._read_table(table)

    def _read_table(self, path: Path) -> None:
        try:
            table = validate(Table, read_json(path), where=str(path))
        except (ConfigError, DataError) as error:
            raise DataError(f"{error}; {self._remedy(path.stem)}") from None
        self._found |= {key: (path.stem, entry) for key, entry in table.entries.items()}

    def _remedy(self, shard: str) -> str:
        return f"remove {self.folder / shard}.safetensors and .json, and what they held is computed again"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # a data loader's process opens the shards for itself

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def read(self, key: str) -> Features:
        """A medium by the SHA-256 of its bytes.

        Raises:
            DataError: its shard is missing or damaged, with what to remove.
        """
        shard, entry = self._found[key]
        path = self.folder / f"{shard}.safetensors"
        try:
            if shard not in self._open:
                self._open[shard] = safe_open(path, framework="pt")
            stored = self._open[shard].get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path} cannot be read ({error}); {self._remedy(shard)}") from None
        if _checksum(stored, entry.medium, entry.scale) != entry.crc32:
            raise DataError(f"{path} is damaged; {self._remedy(shard)}")
        features = stored.float() * entry.scale if self._dtype == torch.float8_e4m3fn else stored
        return Features(features, Medium(*entry.medium))

    def clear(self) -> None:
        """Remove what a run that was killed left half-written; only by who holds the lock."""
        for path in self.folder.glob("*"):
            orphan = path.suffix == ".safetensors" and not path.with_suffix(".json").exists()
            if orphan or path.name.endswith(TEMPORARY):
                path.unlink()

    def write(self, found: Mapping[str, Features]) -> None:
        """Add a shard; only by who holds the lock.

        Args:
            found: media by the SHA-256 of their bytes, their features in any precision.

        Raises:
            RunError: the disk is full or does not let us write.
        """
        stored, entries = {}, {}
        for key, one in found.items():
            numbers, scale = one.features.cpu(), 1.0
            if self._dtype == torch.float8_e4m3fn:
                largest = float(numbers.abs().max())
                scale = largest / torch.finfo(self._dtype).max or 1.0
                numbers = numbers.float() / scale
            stored[key] = numbers.to(self._dtype, copy=True).contiguous()
            entries[key] = Entry(medium=one.medium, scale=scale, crc32=_checksum(stored[key], one.medium, scale))
        name = uuid.uuid4().hex
        path = self.folder / f"{name}.safetensors"
        try:
            if not (self.folder / DESCRIPTION).exists():
                write_json(self.folder / DESCRIPTION, self._description)
            with atomic_path(path) as temporary:
                save_file(stored, temporary)
            write_json(path.with_suffix(".json"), Table(entries=entries).model_dump(mode="json"))
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} cannot be written ({error}); make room, and start again") from None
        self._found |= {key: (name, entry) for key, entry in entries.items()}


class CachedMedia:
    """The media of one data set in a cache.

    Args:
        keys: of each path in the data set's records the SHA-256 of its bytes.
    """

    def __init__(self, cache: FeatureCache, keys: Mapping[str, str]) -> None:
        self.cache, self.keys = cache, keys

    def read(self, path: str) -> Features:
        """As `FeatureCache.read`."""
        return self.cache.read(self.keys[path])

    def none(self) -> torch.Tensor:
        """`[0, P, D]`, for a batch without pictures: the encoder need not run for it either."""
        return torch.zeros(0, *self.cache.shape)


def _checksum(stored: torch.Tensor, medium: tuple[int, int, int], scale: float) -> int:
    """Of a medium's bytes on disk and of what its table says of it."""
    facts = json.dumps([list(stored.shape), list(medium), scale]).encode()
    return zlib.crc32(stored.reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(facts))
