"""One way to open a video: a file or bytes become a few upright RGB frames with their times, or a `MediaError`.

    file ──size limit──▶ child process (memory, time): packets counted ─▶ frames chosen ─▶ decoded ──▶ Video
                                                                       └▶ all of them compared ───▶ Changes

A broken file can crash a decoder in C, which nothing in Python catches, so decoding happens in a process of its own
(`mminstruct.media.decode`, started by `sandbox`); it is handed an open file and may open nothing else.
"""

from __future__ import annotations

import contextlib
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any

from PIL import Image
from pydantic import Field

from mminstruct.config import Config
from mminstruct.errors import MediaError
from mminstruct.media.image import open_image
from mminstruct.media.sampling import FrameSampling
from mminstruct.media.sandbox import decoder, take


@dataclass(frozen=True)
class Video:
    """Frames of one video.

    Attributes:
        frames: the pictures, of mode RGB and of one size.
        timestamps: of each frame, in seconds from the video's start.
    """

    frames: tuple[Image.Image, ...]
    timestamps: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as Pillow gives them."""
        return self.frames[0].size


@dataclass(frozen=True)
class Changes:
    """How much each frame of a video differs from the one before: what cuts are found by (`mminstruct.media.cuts`).

    Attributes:
        values: mean differences of hue, saturation and value, 0 for the first frame.
        timestamps: of each frame, in seconds from the video's start.
        rate: frames a second.
    """

    values: tuple[float, ...]
    timestamps: tuple[float, ...]
    rate: float


@dataclass(frozen=True)
class Extent:
    """How much of a video there is, taken or not: its frames, and the seconds from the first to the last."""

    frames: int
    seconds: float


@dataclass(frozen=True)
class VideoLimits:
    """The largest video that is opened, and what decoding it may take.

    Attributes:
        max_bytes: of the file.
        max_frames: that it holds; all of them are walked over, few are decoded.
        max_pixels: of one frame, whatever the file's header says.
        max_total_pixels: of all frames that are taken.
        max_duration: seconds from its first frame to its last.
        seconds: of decoding, by the clock.
        memory: bytes of address space of the decoding process.
    """

    max_bytes: int = 2 * 2**30
    max_frames: int = 500_000
    max_pixels: int = 16_000_000
    max_total_pixels: int = 2_000_000_000
    max_duration: float = 86_400.0
    seconds: float = 120.0
    memory: int = 4 * 2**30


DEFAULT_VIDEO_LIMITS = VideoLimits()
_HEAD, _ONE_FRAME = 2**16, 64  # bytes of the child's line: at least, and for each frame


class _Taken(Config):
    """What the child says of frames, before it writes them."""

    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    timestamps: Annotated[tuple[float, ...], Field(min_length=1)]
    frames: Annotated[int, Field(gt=0)]
    seconds: Annotated[float, Field(ge=0)]


class _Compared(Config):
    """What the child says of all frames' changes; nothing follows."""

    changes: tuple[float, ...]
    timestamps: tuple[float, ...]
    rate: float


def open_video(
    path: str | Path, sampling: FrameSampling | None = None, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
) -> Video:
    """The frames of a video file that `sampling` chooses (default: eight, uniformly).

    Raises:
        MediaError: the file is missing, empty, too large, holds no video, or cannot be decoded within the limits.
    """
    with _opened(path, limits) as stream:
        return _frames(stream, str(path), sampling or FrameSampling(), limits)[0]


def decode_video(
    data: bytes, where: str, sampling: FrameSampling, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
) -> tuple[Video, Extent]:
    """The frames of a video in encoded bytes, and how much of it there is; messages begin with `where`.

    The bytes reach the decoder in a file without a name, of which nothing is left afterwards.

    Raises:
        MediaError: as `open_video`.
    """
    _check_size(where, len(data), limits)
    with tempfile.TemporaryFile() as stream:
        stream.write(data)
        stream.seek(0)
        return _frames(stream, where, sampling, limits)


def video_changes(path: str | Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> Changes:
    """How much each frame of a video file differs from the one before. Raises `MediaError` as `open_video` does."""
    longest = _HEAD + _ONE_FRAME * limits.max_frames
    with (
        _opened(path, limits) as stream,
        decoder(stream, str(path), _order(None, limits), _Compared, limits.seconds, longest) as (found, _),
    ):
        return Changes(found.changes, found.timestamps, found.rate)


def open_medium(kind: str, source: str | Path | bytes, sampling: FrameSampling) -> Image.Image | Video:
    """A picture or the frames of a video, by the `kind` of a conversation's medium. Raises `MediaError`."""
    if kind == "image":
        return open_image(source)
    if isinstance(source, bytes) or str(source).startswith("data:"):
        raise MediaError("a video must be a file; a data URI can hold pictures only")
    return open_video(source, sampling)


def _frames(stream: IO[bytes], where: str, sampling: FrameSampling, limits: VideoLimits) -> tuple[Video, Extent]:
    longest = _HEAD + _ONE_FRAME * sampling.limit
    order = _order(sampling, limits)
    with decoder(stream, where, order, _Taken, limits.seconds, longest) as (found, output):
        width, height, count = found.width, found.height, len(found.timestamps)
        if count > sampling.limit or width * height * count > limits.max_total_pixels:
            raise MediaError(f"{where} crashed the video decoder; the file is broken")  # which minds both itself
        frames = [Image.frombytes("RGB", (width, height), take(output, 3 * width * height)) for _ in range(count)]
    return Video(tuple(frames), found.timestamps), Extent(found.frames, found.seconds)


def _order(sampling: FrameSampling | None, limits: VideoLimits) -> dict[str, Any]:
    return {"sampling": None if sampling is None else sampling.model_dump(), "limits": asdict(limits)}


@contextlib.contextmanager
def _opened(path: str | Path, limits: VideoLimits) -> Iterator[IO[bytes]]:
    """The file, open, if it is a regular one of a size within the limits."""
    where = str(path)
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise MediaError(f"{where} is not a regular file; give the path of a video")
        _check_size(where, found.st_size, limits)
        with Path(path).open("rb") as stream:
            yield stream
    except OSError as error:
        raise MediaError(f"{where} cannot be read ({error.strerror}); check the path") from None


def _check_size(where: str, size: int, limits: VideoLimits) -> None:
    if not 0 < size <= limits.max_bytes:
        raise MediaError(f"{where} has {size} bytes; a video may have 1 to {limits.max_bytes}")
