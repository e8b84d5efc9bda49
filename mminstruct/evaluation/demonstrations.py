"""Choosing solved examples to show in front of a question: at random, by the picture, or by the words.

    pool [Item] ── at_random(pool, item, count, seed) ──────────▶ [Item]
                ── Nearest(pool, features).choose(item, count) ─▶ [Item], the nearest first

Features of pictures come from a vision encoder of the zoo, or, without any model, from colours and where they are
(`building/retrieval.py`). Examples about the question's own image (`Item.cluster`) are never shown: its answer may be
among theirs. Equal similarities go by the pool's order, so a choice depends on nothing but what is given.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mminstruct.building.retrieval import Array, nearest, picture_features
from mminstruct.building.words import text_features
from mminstruct.errors import ConfigError, DataError
from mminstruct.evaluation.item import Item
from mminstruct.files import atomic_path, bytes_sha256, write_array
from mminstruct.media import open_image

BATCH = 16


def at_random(pool: Sequence[Item], item: Item, count: int, seed: int) -> list[Item]:
    """`count` examples, drawn for this item alone: neither its place nor other items matter.

    Raises:
        DataError: there are not so many.
    """
    allowed = [one for one in pool if one.cluster != item.cluster]
    return random.Random(f"{seed}/{item.id}").sample(_enough(allowed, count), count)


class Nearest:
    """Chooses the examples whose features have the greatest product with the item's.

    Args:
        pool: the examples.
        features: those of items, [N, D], each of length 1.
    """

    def __init__(self, pool: Sequence[Item], features: Callable[[Sequence[Item]], Array]) -> None:
        self._pool, self._of = list(pool), features
        self._features = features(self._pool)
        self._about: dict[str, list[int]] = {}
        for number, one in enumerate(self._pool):
            self._about.setdefault(one.cluster, []).append(number)

    def choose(self, item: Item, count: int) -> list[Item]:
        """The `count` nearest, the nearest first. Raises `DataError` where there are not so many."""
        own = self._about.get(item.cluster, [])
        if len(self._pool) - len(own) < count:
            _enough([one for one in self._pool if one.cluster != item.cluster], count)
        chosen = nearest(self._of([item])[0], self._features, count, leave_out=own)
        return [self._pool[number] for number in chosen]


def _enough(allowed: list[Item], count: int) -> list[Item]:
    if len(allowed) < count:
        raise DataError(f"{count} examples are to be shown and {len(allowed)} are about other images; give more")
    return allowed


def of_questions(items: Sequence[Item]) -> Array:
    """The words of the questions, [N, 1024]."""
    return np.stack([text_features(item.question) for item in items])


class OfPictures:
    """Features of the items' first images, [N, D]; each image is seen once.

    Args:
        encoder: a vision encoder of the zoo, by name or by the path of its file; None for colours, without a model.
        cache: a folder where features of many images are kept under a hash of their paths, sizes and the encoder.

    Raises:
        ConfigError: no such encoder, or one that has no weights.
    """

    def __init__(self, encoder: str | None = None, cache: Path | None = None) -> None:
        self._encoder = encoder
        self._cache = cache
        self._see = _colours if encoder is None else _by_encoder(encoder)
        self._known: dict[Path, Array] = {}

    def __call__(self, items: Sequence[Item]) -> Array:
        """Raises `MediaError` where an image cannot be opened."""
        paths = [item.images[0] for item in items]
        new = [path for path in dict.fromkeys(paths) if path not in self._known]
        self._known |= zip(new, self._seen(new), strict=True)
        return np.stack([self._known[path] for path in paths])

    def _seen(self, paths: Sequence[Path]) -> Sequence[Array]:
        if self._cache is None or len(paths) <= BATCH:
            return self._see(paths)
        seen = "\n".join([str(self._encoder), *(f"{path} {path.stat().st_size}" for path in paths)])
        file = self._cache / f"{bytes_sha256(seen.encode())[:24]}.npy"
        if not file.is_file():
            with atomic_path(file) as temporary:
                write_array(temporary, np.stack(self._see(paths)))
        kept: Array = np.load(file, allow_pickle=False)
        return list(kept)


def _colours(paths: Sequence[Path]) -> list[Array]:
    return [picture_features(open_image(path)) for path in paths]


def _by_encoder(name: str) -> Callable[[Sequence[Path]], list[Array]]:
    """The mean over a picture's patches of what an encoder makes of them, at length 1."""
    import torch
    from pydantic import TypeAdapter

    from mminstruct.models import encoders
    from mminstruct.models.compose import encoder_part
    from mminstruct.models.config import EncoderConfig, FusedConfig
    from mminstruct.models.image import to_pixels

    config = TypeAdapter[EncoderConfig](EncoderConfig).validate_python(encoder_part(name).vision_encoder)
    if isinstance(config, FusedConfig) or not config.weights:
        raise ConfigError(f"the vision encoder {name} is no single one with weights; name one that has them")
    encoder = encoders.build(config, pretrained=True).eval()

    def see(paths: Sequence[Path]) -> list[Array]:
        found: list[Array] = []
        for start in range(0, len(paths), BATCH):
            pictures = [to_pixels(open_image(path), config.image) for path in paths[start : start + BATCH]]
            with torch.inference_mode():
                means = encoder(torch.stack(pictures)).float().mean(1)
            found += list(torch.nn.functional.normalize(means, dim=-1).cpu().numpy())
        return found

    return see
