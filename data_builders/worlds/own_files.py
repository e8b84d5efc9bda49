"""Pictures and clips of a folder of one's own, and clips as a vision model is shown them: as a few frames with times.

folder ──own_files──▶ OwnFile, ... ─┐
world of clips ──▶ Clip ────────────┴──watch──▶ Watched(the clip, frames as pictures, seconds)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from mminstruct.building import Job
from mminstruct.conversation import Media, Part, image, text
from mminstruct.data_builders.worlds.clips import RATE, Clip
from mminstruct.errors import DataError
from mminstruct.media import FrameSampling

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
CLIPS = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"})


@dataclass(frozen=True)
class OwnFile:
    """`id` is the path below the folder, with `/`."""

    id: str
    kind: Literal["image", "video"]
    path: Path


@dataclass(frozen=True)
class Watched:
    """A clip in the data set, and frames at the middles of equal stretches of it.

    Attributes:
        clip: with the frames' times.
        frames: their files, for questions to a model.
        pictures: the frames as they are, neither made smaller nor, of a world's, encoded.
        times: of the frames, in seconds.
    """

    clip: Media
    frames: list[Media]
    pictures: list[Image.Image]
    times: tuple[float, ...]


def watch(source: Clip | OwnFile, job: Job, frames: int, side: int) -> Watched:
    """
    Args:
        frames: how many are taken.
        side: pixels that no side of a frame's file exceeds.

    Raises:
        MediaError: the file is no video, or broken.
    """
    sampling = FrameSampling(method="midpoints", limit=frames)
    if isinstance(source, Clip):
        drawn = source.frames()
        clip = job.save_clip(drawn, source.id, RATE)
        taken = sampling.indices(len(drawn), RATE)
        pictures, times = [drawn[index] for index in taken], [index / RATE for index in taken]
    else:
        clip, video = job.copy_clip(source.path, source.id, sampling)
        pictures, times = list(video.frames), [round(time, 3) for time in video.timestamps]
    files = [
        job.save(_small(picture, side), f"{source.id}/frame-{number}")
        for number, picture in enumerate(pictures, start=1)
    ]
    return Watched(clip.model_copy(update={"timestamps": times}), files, pictures, tuple(times))


def own_files(folder: Path) -> Iterator[OwnFile]:
    """All pictures and clips below a folder, by name. Raises `DataError` where there are none."""
    found = False
    for path in sorted(folder.rglob("*")):
        suffix = path.suffix.lower()
        if suffix in PICTURES | CLIPS and path.is_file():
            found = True
            yield OwnFile(path.relative_to(folder).as_posix(), "image" if suffix in PICTURES else "video", path)
    if not found:
        raise DataError(
            f"{folder} holds no pictures and no videos; give a folder of {', '.join(sorted(PICTURES | CLIPS))}"
        )


def shown(times: Sequence[float]) -> list[Part]:
    """The frames of a clip with their times, as parts of a question; frame n is medium n."""
    return [part for number, time in enumerate(times) for part in (text(f"At {time:.1f} s:"), image(number))]


def _small(picture: Image.Image, side: int) -> Image.Image:
    """The picture, made smaller until no side is longer than `side` pixels."""
    share = side / max(picture.size)
    if share >= 1:
        return picture
    width, height = (max(1, round(edge * share)) for edge in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
