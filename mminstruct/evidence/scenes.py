"""The scenes of a video: where one ends and the next begins.

video file ──video_changes──▶ one number a frame ──SceneDetector──▶ Scene(first frame, end, seconds), ...
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from mminstruct.config import Config
from mminstruct.media import Changes, VideoLimits, video_changes
from mminstruct.media.cuts import adaptive_cuts, content_cuts


@dataclass(frozen=True)
class Scene:
    """Frames from `first` up to, and without, `end`; `seconds` are from its start to its end."""

    first: int
    end: int
    seconds: tuple[float, float]


class SceneDetector(Config):
    """By which rule a video is divided; see `mminstruct.media.cuts`.

    Attributes:
        method: `content` for a camera that stands, `adaptive` for one that moves.
        threshold: of `content`: the mean difference of hue, saturation and value.
        ratio: of `adaptive`: how many times as much as the frames around it a cut differs.
        window: of `adaptive`: how many frames around, on each side.
        least_change: of `adaptive`: what a cut differs by at least.
        min_length: frames of the shortest scene.
    """

    method: Literal["content", "adaptive"] = "content"
    threshold: float = Field(default=27.0, gt=0)
    ratio: float = Field(default=3.0, gt=0)
    window: int = Field(default=2, ge=1)
    least_change: float = Field(default=15.0, ge=0)
    min_length: int = Field(default=15, ge=0)

    def cuts(self, changes: Sequence[float]) -> list[int]:
        """The first frames of all scenes but the first."""
        if self.method == "content":
            return content_cuts(changes, self.threshold, self.min_length)
        return adaptive_cuts(changes, self.ratio, self.min_length, self.window, self.least_change)

    def scenes(self, changes: Changes) -> list[Scene]:
        """One at least: a video without a cut is one scene."""
        bounds = [0, *self.cuts(changes.values), len(changes.values)]
        times = [*changes.timestamps, changes.timestamps[-1] + 1 / changes.rate]
        return [Scene(first, end, (times[first], times[end])) for first, end in itertools.pairwise(bounds)]


def scenes(path: str | Path, detector: SceneDetector | None = None, limits: VideoLimits | None = None) -> list[Scene]:
    """The scenes of a video file, in order, without a gap. Raises `MediaError` as `open_video` does."""
    return (detector or SceneDetector()).scenes(video_changes(path, limits or VideoLimits()))
