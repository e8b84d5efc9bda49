"""Computing what a feature cache lacks: how much that is and whether it fits first, then shard by shard.

    media ─bytes─▶ SHA-256 ─not in the cache─▶ open, prepare [t, 3, S, S] ─encoder─▶ [t, P, D] ─▶ shards

One process at a time computes; each part of the work is a generator that gives a turn now and then, so that who waits
for it can be told that it is still alive.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch.utils.data import DataLoader, Dataset

from mminstruct.conversation import Media
from mminstruct.data.feature_cache import FeatureCache, FeatureCacheConfig
from mminstruct.errors import MediaError, RunError
from mminstruct.files import sha256
from mminstruct.formats import media_source
from mminstruct.media import open_medium
from mminstruct.models.encoders import VisionEncoder
from mminstruct.models.image import Features, Prepared
from mminstruct.models.layout import Medium
from mminstruct.models.processor import Processor

log = logging.getLogger(__name__)

SHARD_BYTES = 256 * 2**20  # what a run that is killed computes again at most
_TILES = 32  # tiles and frames that the encoder sees at once
_TABLE_BYTES = 400  # a medium's places in the shard's header and table
_SPOKEN = 30.0  # seconds between two lines of the log


def hash_media(media: Iterable[Media], root: Path) -> Generator[None, None, dict[str, str]]:
    """Returns the SHA-256 of each medium's bytes, by the path in its record.

    Raises:
        MediaError: a file cannot be read.
    """
    keys: dict[str, str] = {}
    for one in media:
        if one.path not in keys:
            keys[one.path] = _hash(media_source(one.path, root))
            yield
    return keys


def _hash(source: str | Path) -> str:
    if isinstance(source, str):  # a data URI
        return hashlib.sha256(source.encode()).hexdigest()
    try:
        return sha256(source)
    except OSError as error:
        raise MediaError(f"{source} cannot be read ({error.strerror}); check the path") from None


def estimate(media: Sequence[Media], processor: Processor, config: FeatureCacheConfig, shape: tuple[int, int]) -> int:
    """Bytes that the features of media take; at most, where a record does not say how large its picture is."""
    layout, total = processor.layout, 0
    for one in media:
        if one.kind == "video":
            tiles = processor.frame_sampling.limit
        elif one.height is None or one.width is None:
            tiles = layout.most_tiles()
        else:
            tiles = layout.tiles(Medium(0, one.height, one.width))
        total += tiles * shape[0] * shape[1] * config.bytes_per_number + _TABLE_BYTES
    return total


def require_room(needed: int, config: FeatureCacheConfig) -> None:
    """Raises `RunError` where so many more bytes do not fit below the limit or on the disk; writes nothing."""
    used = sum(path.stat().st_size for path in config.folder.rglob("*") if path.is_file())
    if used + needed > config.limit_gb * 1e9:
        raise RunError(
            f"feature_cache.folder {config.folder} holds {size(used)} and would take {size(needed)} more, above its "
            f"limit_gb of {config.limit_gb:g}; raise it, remove sub-folders that no run uses, or choose a smaller dtype"
        )
    there = next(path for path in (config.folder.absolute(), *config.folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise RunError(
            f"feature_cache.folder {config.folder} would take {size(needed)} more, and its disk has {size(free)} free; "
            "make room, choose another folder or a smaller dtype, or take feature_cache out"
        )


def locked(folder: Path, stream: IO[str]) -> Iterator[None]:
    """Waits until no other process holds the folder's lock, of which `stream` is the open file.

    The system lets go of it when the file is closed or the process ends, however it ends.
    """
    told = False
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                log.info("feature cache %s: waiting for another run that fills it", folder)
                told = True
            yield
            time.sleep(0.5)
        else:
            return


class _Missing(Dataset[tuple[str, Prepared]]):
    """Media with their keys, opened and prepared where the data loader's processes run."""

    def __init__(self, media: Sequence[tuple[str, Media]], root: Path, processor: Processor) -> None:
        self.media, self.root, self.processor = media, root, processor

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> tuple[str, Prepared]:
        key, one = self.media[index]
        opened = open_medium(one.kind, media_source(one.path, self.root), self.processor.frame_sampling)
        prepared = self.processor.prepare(opened)
        assert isinstance(prepared, Prepared)
        return key, prepared


def _itself(made: Any) -> Any:
    return made


def fill(
    cache: FeatureCache,
    media: Sequence[tuple[str, Media]],
    root: Path,
    processor: Processor,
    encoder: VisionEncoder,
    device: torch.device,
    bfloat16: bool = False,
    workers: int = 0,
    pool: Callable[[torch.Tensor], torch.Tensor] = _itself,
) -> Iterator[None]:
    """Compute media, each with its key, and add them to the cache.

    Args:
        encoder: on `device`.
        bfloat16: compute as training in bfloat16 does.
        workers: processes that open and prepare media.
        pool: what is kept of the features `[t, P, D]`.

    Raises:
        MediaError: a medium cannot be opened.
        RunError: the disk is full.
    """
    loader = DataLoader(
        _Missing(media, root, processor),
        batch_size=None,
        num_workers=workers,
        collate_fn=_itself,
        generator=torch.Generator(),  # its own, so that training draws what it draws without a cache
    )
    encoder.eval()
    dtype = next(encoder.parameters()).dtype
    begun = spoken = time.monotonic()
    waiting: list[tuple[str, Prepared]] = []
    seen: dict[str, Features] = {}
    tiles = held = 0

    for number, made in enumerate(loader, start=1):
        waiting.append(made)
        tiles += len(made[1].pixels)
        last = number == len(media)
        if tiles >= _TILES or last:
            pixels = torch.cat([one.pixels for _, one in waiting])
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                features = torch.cat([pool(encoder(part.to(device, dtype))).cpu() for part in pixels.split(_TILES)])
            counts = [len(one.pixels) for _, one in waiting]
            for (key, one), found in zip(waiting, features.split(counts), strict=True):
                seen[key] = Features(found, one.medium)
            waiting, tiles, held = [], 0, held + features.nbytes
            if held >= SHARD_BYTES or last:
                cache.write(seen)
                seen, held = {}, 0
        if time.monotonic() - spoken > _SPOKEN:
            spoken = time.monotonic()
            left = (spoken - begun) / number * (len(media) - number)
            log.info("feature cache: %d of %d computed, %.0f s left", number, len(media), left)
        yield
    log.info("feature cache: %d computed in %.1f s", len(media), time.monotonic() - begun)


def size(count: int) -> str:
    """Bytes for a person."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
