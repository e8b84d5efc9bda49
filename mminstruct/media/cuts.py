"""Where a video is cut, by how much each frame differs from the one before it.

    frames, RGB ──change──▶ one number a frame ──content_cuts | adaptive_cuts──▶ first frames of new scenes

The measure and both rules are those of PySceneDetect's `ContentDetector` and `AdaptiveDetector`, written anew in NumPy,
so that numbers and thresholds that people know from there mean the same here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WIDTH = 256  # wider frames are made about as narrow before they are compared

_SHIFT = 12
_LEVELS = np.maximum(np.arange(256), 1)
_SATURATION = np.where(np.arange(256) > 0, np.rint((255 << _SHIFT) / _LEVELS), 0).astype(np.int32)
_HUE = np.where(np.arange(256) > 0, np.rint((180 << _SHIFT) / (6.0 * _LEVELS)), 0).astype(np.int32)


def hsv(frame: np.ndarray) -> np.ndarray:
    """RGB `[H, W, 3]` of bytes to hue (0 to 179), saturation and value (0 to 255), int32, rounded as OpenCV does."""
    red, green, blue = (frame[..., channel].astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    half = 1 << (_SHIFT - 1)
    saturation = (spread * _SATURATION[value] + half) >> _SHIFT
    sector = np.where(
        value == red, green - blue, np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    hue = (sector * _HUE[spread] + half) >> _SHIFT
    return np.stack([np.where(hue < 0, hue + 180, hue), saturation, value], axis=-1)


def change(before: np.ndarray, after: np.ndarray) -> float:
    """The mean difference of two frames as `hsv` gives them: over all pixels and the three channels."""
    return float(np.abs(after - before).mean())


def content_cuts(changes: Sequence[float], threshold: float = 27.0, min_length: int = 15) -> list[int]:
    """The frames at which a new scene begins, rising, without the first.

    A frame that differs by `threshold` from the one before begins a scene. Such frames that lie nearer together than
    `min_length` (a flash, a quick series of cuts) are merged into one cut, at the last of them.

    Args:
        changes: of each frame against the one before; 0 for the first.
        min_length: frames of the shortest scene.
    """
    cuts: list[int] = []
    last = 0  # the last frame that differed enough
    merging: int | None = None  # the frame from which on cuts are merged
    for number, value in enumerate(changes):
        above = value >= threshold
        far = number - last >= min_length
        if above:
            last = number
        if merging is not None:
            if far and not above and last - merging >= min_length:
                cuts.append(last)
                merging = None
        elif above and far:
            cuts.append(number)
        elif above and cuts:
            merging = number
    return cuts


def adaptive_cuts(
    changes: Sequence[float],
    threshold: float = 3.0,
    min_length: int = 15,
    window: int = 2,
    least_change: float = 15.0,
) -> list[int]:
    """As `content_cuts`, for a camera that moves: a cut differs `threshold` times as much as the frames around it.

    Args:
        window: how many frames on each side a frame is compared with.
        least_change: what a cut differs by at least.
    """
    cuts: list[int] = []
    last = 0
    for number in range(window, len(changes) - window):
        around = [*changes[number - window : number], *changes[number + 1 : number + window + 1]]
        mean = sum(around) / len(around)
        stands_out = changes[number] >= threshold * mean if mean >= 1e-5 else True
        if stands_out and changes[number] >= least_change and number - last >= min_length:
            cuts.append(number)
            last = number
    return cuts
