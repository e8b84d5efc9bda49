"""Pictures that builders show again and again: scenes are drawn, files copied under the name of their content."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from mminstruct.building import Job
from mminstruct.conversation import Media
from mminstruct.data_builders.worlds.scenes import SIZE, Scene
from mminstruct.errors import MediaError
from mminstruct.files import sha256_once
from mminstruct.media import encode_png

Source = Path | Scene


def keep(source: Source, job: Job, where: str) -> Media:
    """The picture as a file of the build.

    Raises:
        MediaError: a file that is not there, or is no picture; `where` says who names it.
    """
    if isinstance(source, Scene):
        return job.save_encoded(_png(source), source.id, (SIZE, SIZE))
    if not source.is_file():
        raise MediaError(f"{where} names the picture {source}, which is not there; check the path, or set media_root")
    # Two folders may have one name, and names come from anywhere; bytes tell pictures apart.
    try:
        return job.copy(source, f"{sha256_once(source)[:24]}{source.suffix.lower()}")
    except MediaError as error:
        raise MediaError(f"{where}: {error}") from None


@functools.lru_cache(maxsize=4096)
def _png(scene: Scene) -> bytes:
    """About 2 kB. The same scene stands in many conversations."""
    return encode_png(scene.draw())


def placed(media: Sequence[Media]) -> tuple[list[Media], list[int]]:
    """The different pictures, and which of them stands in each place."""
    numbers: dict[str, int] = {}
    places = [numbers.setdefault(one.path, len(numbers)) for one in media]
    return list({one.path: one for one in media}.values()), places
