"""What can be measured of any picture or clip: what templates say of files of which nobody has said anything.

frames, seconds ──▶ Known(question, answer, wrong, evidence), ...
picture ──────────▶ "A wide picture of 640 x 480 pixels, rather dark, brighter at the top than at the bottom."
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mminstruct.data_builders.worlds.known import Known

PLAIN = 4.0  # levels of 255 by which two means have to differ to be told apart


def clip_known(frames: Sequence[Image.Image], times: Sequence[float]) -> list[Known]:
    """Questions on size, on where it is bright, and on when it changes."""
    greys = [np.asarray(frame.convert("L"), dtype=np.float32) for frame in frames]
    width, height = frames[0].size
    shape = _shape(width, height)
    found = [
        Known(
            "spatial",
            "Is the picture wide, high or square?",
            f"It is {shape}.",
            f"It is {'high' if shape != 'high' else 'wide'}.",
            f"Its width is to its height as {width} to {height}.",
        )
    ]
    middle = np.mean(greys, axis=0)
    for one, other, axis in (("left", "right", 1), ("top", "bottom", 0)):
        first, second = (float(half.mean()) for half in np.array_split(middle, 2, axis=axis))
        if abs(first - second) >= PLAIN:
            bright, dark = (one, other) if first > second else (other, one)
            found.append(
                Known(
                    "spatial",
                    f"Is it brighter at the {one} or at the {other}?",
                    f"It is brighter at the {bright}.",
                    f"It is brighter at the {dark}.",
                    f"The mean brightness is {first:.0f} in the {one} half and {second:.0f} in the {other} half.",
                )
            )
    if len(frames) < 2:
        return found
    before, after = float(greys[0].mean()), float(greys[-1].mean())
    grows = "brighter" if after - before >= PLAIN else "darker" if before - after >= PLAIN else "neither"
    told = {"brighter": "It becomes brighter.", "darker": "It becomes darker.", "neither": "It stays about as bright."}
    found.append(
        Known(
            "temporal",
            "Does it become brighter or darker from the beginning to the end?",
            told[grows],
            told["darker" if grows != "darker" else "brighter"],
            f"The mean brightness is {before:.0f} at first and {after:.0f} in the end.",
        )
    )
    steps = [float(np.abs(two - one).mean()) for one, two in itertools.pairwise(greys)]
    if len(steps) > 1 and max(steps) - min(steps) > 0.5:
        most, least = int(np.argmax(steps)), int(np.argmin(steps))
        for word, right, wrong in (("most", most, least), ("least", least, most)):
            found.append(
                Known(
                    "temporal",
                    f"When does the picture change {word}?",
                    f"Between {times[right]:.1f} and {times[right + 1]:.1f} seconds.",
                    f"Between {times[wrong]:.1f} and {times[wrong + 1]:.1f} seconds.",
                    f"From {times[right]:.1f} to {times[right + 1]:.1f} seconds the brightness of a pixel changes by "
                    f"{steps[right]:.1f} levels in the mean; from {times[wrong]:.1f} to {times[wrong + 1]:.1f} seconds "
                    f"by {steps[wrong]:.1f}.",
                )
            )
    return found


def picture_told(picture: Image.Image) -> str:
    """A true sentence on a picture of which nothing is known."""
    grey = np.asarray(picture.convert("L"), dtype=np.float32)
    mean = float(grey.mean())
    light = "rather dark" if mean < 85 else "rather bright" if mean > 170 else "of medium brightness"
    top, bottom = (float(half.mean()) for half in np.array_split(grey, 2, axis=0))
    where = ""
    if abs(top - bottom) >= PLAIN:
        bright, dark = ("top", "bottom") if top > bottom else ("bottom", "top")
        where = f", brighter at the {bright} than at the {dark}"
    return f"A {_shape(*picture.size)} picture of {picture.width} x {picture.height} pixels, {light}{where}."


def _shape(width: int, height: int) -> str:
    return "wide" if width > height else "high" if height > width else "square"
