"""Which frames of a video are looked at: `(number of frames, frames a second) -> indices`, rising, none twice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from mminstruct.config import Config


class FrameSampling(Config):
    """How many frames of a video are taken, and which.

    Attributes:
        method: `uniform` spreads `limit` frames from the first to the last (LLaVA-NeXT's and Otter's linspace);
            `midpoints` takes the middle of each of `limit` equal stretches (TSN; InternVL, VideoSAVi); `fps` takes
            `fps` frames a second, and `limit` spread uniformly where that would be more (LLaVA-NeXT's frames_upbound;
            Convert-It's dense captions have 1); `stride` takes every so many-th frame, from the middle of the first
            stride on (Convert-It's TV captions); `keyframes` takes those that the file stores whole; `scenes` takes
            `per_scene` frames of each scene, at the middles of equal stretches of it (see `mminstruct.media.cuts`).
            Of keyframes and scenes' frames beyond `limit` those are taken that lie uniformly in their row.
        limit: the most frames that are taken; a shorter video gives all it has.
        fps: frames a second, for the method `fps`.
        per_scene: frames of a scene, for the method `scenes`.
    """

    method: Literal["uniform", "midpoints", "fps", "stride", "keyframes", "scenes"] = "uniform"
    limit: int = Field(default=8, gt=0, le=512)
    fps: float = Field(default=1.0, gt=0)
    per_scene: int = Field(default=1, gt=0, le=512)

    def indices(self, frames: int, rate: float, keyframes: Sequence[int] = (0,), cuts: Sequence[int] = ()) -> list[int]:
        """The frames that are taken.

        Args:
            frames: how many the video has, one at least.
            rate: its frames a second.
            keyframes: which of them are stored whole, rising; used by `keyframes` only.
            cuts: which of them begin a new scene, rising, without the first; used by `scenes` only.
        """
        if self.method == "fps":
            taken = list(range(0, frames, max(1, round(rate / self.fps))))
            return taken if len(taken) <= self.limit else _spread(frames, self.limit)
        if self.method == "keyframes":
            return self._of_row(keyframes)
        if self.method == "scenes":
            bounds = [0, *cuts, frames]
            scenes = itertools.pairwise(bounds)
            return self._of_row([index for start, end in scenes for index in _middles(start, end, self.per_scene)])
        if frames <= self.limit:
            return list(range(frames))
        if self.method == "uniform":
            return _spread(frames, self.limit)
        if self.method == "stride":
            every = frames // self.limit
            return list(range(every // 2, frames, every))[: self.limit]
        return _middles(0, frames, self.limit)

    def _of_row(self, row: Sequence[int]) -> list[int]:
        return list(row) if len(row) <= self.limit else [row[place] for place in _spread(len(row), self.limit)]


def _spread(frames: int, count: int) -> list[int]:
    return [int(index) for index in np.linspace(0, frames - 1, count)]


def _middles(start: int, end: int, count: int) -> list[int]:
    """The middle frame of each of `count` equal stretches; all frames where there are no more."""
    if end - start <= count:
        return list(range(start, end))
    stretch = (end - start) / count
    return [start + int(stretch * (number + 0.5)) for number in range(count)]
