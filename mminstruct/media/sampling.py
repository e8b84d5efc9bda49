"""Which frames of a video are looked at: `(number of frames, frames a second) -> indices`, rising, none twice."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from mminstruct.config import Config


class FrameSampling(Config):
    """How many frames of a video are taken, and which.

    Attributes:
        method: `uniform` spreads `limit` frames from the first to the last (LLaVA-NeXT's and Otter's linspace);
            `midpoints` takes the middle of each of `limit` equal stretches (TSN; InternVL, VideoSAVi); `fps` takes
            `fps` frames a second, and `limit` spread uniformly where that would be more (LLaVA-NeXT's frames_upbound).
        limit: the most frames that are taken; a shorter video gives all it has.
        fps: frames a second, for the method `fps`.
    """

    method: Literal["uniform", "midpoints", "fps"] = "uniform"
    limit: int = Field(default=8, gt=0, le=512)
    fps: float = Field(default=1.0, gt=0)

    def indices(self, frames: int, rate: float) -> list[int]:
        """The frames that are taken.

        Args:
            frames: how many the video has, one at least.
            rate: its frames a second.
        """
        if self.method == "fps":
            every = max(1, round(rate / self.fps))
            taken = list(range(0, frames, every))
            return taken if len(taken) <= self.limit else _spread(frames, self.limit)
        if frames <= self.limit:
            return list(range(frames))
        if self.method == "uniform":
            return _spread(frames, self.limit)
        stretch = frames / self.limit
        return [int(stretch * (number + 0.5)) for number in range(self.limit)]


def _spread(frames: int, count: int) -> list[int]:
    return [int(index) for index in np.linspace(0, frames - 1, count)]
