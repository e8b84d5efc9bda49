"""One way to open a video: a file becomes a few upright RGB frames with their times, or a `MediaError`.

    file ──size limit──▶ child process (memory, time): packets counted ─▶ frames chosen ─▶ decoded ──▶ Video
                                                                       └▶ all of them compared ───▶ Changes

A broken file can crash a decoder in C, which nothing in Python catches, so decoding happens in a process of its own
(`mminstruct.media.decode`); it is handed an open file and may open nothing else.
"""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mminstruct.errors import MediaError
from mminstruct.media.image import open_image
from mminstruct.media.sampling import FrameSampling


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
class VideoLimits:
    """The largest video that is opened: bytes of the file, frames it holds, pixels of a frame, seconds and bytes of
    memory for decoding."""

    max_bytes: int = 2 * 2**30
    max_frames: int = 500_000
    max_pixels: int = 16_000_000
    seconds: float = 120.0
    memory: int = 4 * 2**30


DEFAULT_VIDEO_LIMITS = VideoLimits()


def open_video(
    path: str | Path, sampling: FrameSampling | None = None, limits: VideoLimits = DEFAULT_VIDEO_LIMITS
) -> Video:
    """The frames of a video file that `sampling` chooses (default: eight, uniformly).

    Raises:
        MediaError: the file is missing, empty, too large, holds no video, or cannot be decoded within the limits.
    """
    return _unpack(_decoded(path, (sampling or FrameSampling()).model_dump(), limits))


def video_changes(path: str | Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> Changes:
    """How much each frame of a video file differs from the one before. Raises `MediaError` as `open_video` does."""
    facts = json.loads(_decoded(path, None, limits))
    return Changes(tuple(facts["changes"]), tuple(facts["timestamps"]), facts["rate"])


def _decoded(path: str | Path, sampling: dict[str, Any] | None, limits: VideoLimits) -> bytes:
    """What the decoding process writes of a file: frames, or without a sampling the changes."""
    where = str(path)
    try:
        found = Path(path).stat()
    except OSError as error:
        raise MediaError(f"{where} cannot be read ({error.strerror}); check the path") from None
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(f"{where} is not a regular file; give the path of a video")
    if not 0 < found.st_size <= limits.max_bytes:
        raise MediaError(f"{where} has {found.st_size} bytes; a video may have 1 to {limits.max_bytes}")
    order = {
        "sampling": sampling,
        "max_frames": limits.max_frames,
        "max_pixels": limits.max_pixels,
        "memory": limits.memory,
    }
    with Path(path).open("rb") as stream:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "mminstruct.media.decode", json.dumps(order)],
                stdin=stream,
                capture_output=True,
                timeout=limits.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MediaError(
                f"{where} could not be decoded within {limits.seconds:g} seconds; cut it shorter"
            ) from None
    if done.returncode < 0:
        raise MediaError(f"{where} crashed the video decoder (signal {-done.returncode}); the file is broken")
    if done.returncode != 0:
        # The child's own words, of which there is one line; a decoder's own messages stand in front of it.
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise MediaError(f"{where}: {reason[-1]}")
    return done.stdout


def open_medium(kind: str, source: str | Path | bytes, sampling: FrameSampling) -> Image.Image | Video:
    """A picture or the frames of a video, by the `kind` of a conversation's medium. Raises `MediaError`."""
    if kind == "image":
        return open_image(source)
    if isinstance(source, bytes) or str(source).startswith("data:"):
        raise MediaError("a video must be a file; a data URI can hold pictures only")
    return open_video(source, sampling)


def _unpack(output: bytes) -> Video:
    """The decoder's output: one line of JSON, then the frames' bytes, RGB, row by row."""
    head, _, body = output.partition(b"\n")
    facts = json.loads(head)
    width, height = facts["width"], facts["height"]
    one = 3 * width * height
    frames = [Image.frombytes("RGB", (width, height), body[at : at + one]) for at in range(0, len(body), one)]
    return Video(tuple(frames), tuple(facts["timestamps"]))
