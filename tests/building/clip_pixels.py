"""What a written clip shows, by its pixels alone: where each colour is in each frame, and whether an answer is true.

Nothing of the world that drew the clip is used but its palette. A colour that two things of a clip have, or that
something turns into, cannot be followed; answers on such things are not judged.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import av
import numpy as np

from mminstruct.data_builders.worlds.clips import GROUNDS
from mminstruct.data_builders.worlds.scenes import COLORS, NUMBERS

RATE = 10
NAME = r"(\w+) (?:circle|square|triangle|diamond)"
SLACK = 2  # frames: of what comes in, the first sliver is one pixel wide


class Pixels:
    """
    Args:
        path: of the clip.
        told: any text that names all things of the clip, and what they turn into.
    """

    def __init__(self, path: Path, told: str) -> None:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        self.frames = np.stack(frames).astype(np.int16)
        self._tracks: dict[str, dict[int, tuple[float, float, int]]] = {}
        names = {match[0] for match in re.finditer(NAME, told.lower())}
        used = Counter([name.split()[0] for name in names] + re.findall(r"turns (\w+)", told))
        self.single = {color for color, count in used.items() if count == 1}
        corners = self.frames[:, 1, 1]
        grounds = {name: np.abs(corners - np.array(color)).max(axis=1) for name, color in GROUNDS.items()}
        self.grounds = [min(grounds, key=lambda name: grounds[name][frame]) for frame in range(len(frames))]
        changes = [frame for frame in range(1, len(frames)) if self.grounds[frame] != self.grounds[frame - 1]]
        self.scenes = [*zip([0, *changes], [*changes, len(frames)], strict=True)]

    def track(self, color: str) -> dict[int, tuple[float, float, int]]:
        """(x, y, pixels) of a colour in each frame that shows it."""
        if color in self._tracks:
            return self._tracks[color]
        masks = np.ones(self.frames.shape[:3], dtype=bool)
        for channel, level in enumerate(COLORS[color]):
            masks &= np.abs(self.frames[..., channel] - np.int16(level)) <= 26
        found = self._tracks[color] = {}
        for frame in np.flatnonzero(masks.sum(axis=(1, 2)) >= 16):  # fewer are mixed colours of an edge
            rows, columns = np.nonzero(masks[frame])
            found[int(frame)] = float(columns.mean()), float(rows.mean()), len(rows)
        return found

    def moments(self, clause: str) -> list[int] | None:
        """At which frames something may be said to happen; None where that cannot be told."""
        match = re.fullmatch(rf"the {NAME} (.+)", clause)
        if match is None or match[1] not in self.single:
            return None
        track, deed = self.track(match[1]), match[2]
        first, last = min(track), max(track)
        scene = next(scene for scene in self.scenes if scene[0] <= first < scene[1])
        if deed.startswith("comes in from"):
            return [first] if first > scene[0] else []
        if deed.startswith("disappears"):
            return [last + 1] if last + 1 < scene[1] else []
        if deed == "stops":
            moved = [frame for frame in range(first + 1, last + 1) if abs(_step(track, frame)) > 0.8]
            return [max(moved)]
        if deed.startswith("turns"):
            return [last + 1]
        return None

    def true(self, question: str, answer: str) -> bool | None:
        """Whether the answer agrees with the pixels; None where they do not say."""
        for pattern, judge in (
            (r"How many scenes does the clip have\?", self._scenes),
            (r"Which colour is the background in the (first|second|third) scene\?", self._ground),
            (rf"When does the {NAME} (appear|disappear|stop|change its colour)\?", self._when),
            (rf"From which side does the {NAME} come in\?", self._side),
            (rf"Is the {NAME} (above or below|to the left of or to the right of) the {NAME}\?", self._beside),
            (r"What happens first: (.+), or (.+)\?", self._order),
        ):
            if match := re.fullmatch(pattern, question):
                return judge(match, answer)
        return None

    def _scenes(self, match: re.Match[str], answer: str) -> bool:
        return answer.split()[2] == NUMBERS[len(self.scenes)]

    def _ground(self, match: re.Match[str], answer: str) -> bool:
        start, _ = self.scenes[("first", "second", "third").index(match[1])]
        return answer == f"It is {self.grounds[start]}."

    def _when(self, match: re.Match[str], answer: str) -> bool | None:
        deeds = {"appear": "comes in from", "disappear": "disappears", "stop": "stops", "change its colour": "turns"}
        name = match[0].removeprefix("When does ").split(f" {match[2]}")[0]
        moments = self.moments(f"{name} {deeds[match[2]]}")
        if not moments:
            return None if moments is None else False
        return abs(float(answer.split()[1]) * RATE - moments[0]) <= SLACK

    def _side(self, match: re.Match[str], answer: str) -> bool | None:
        if match[1] not in self.single:
            return None
        track = self.track(match[1])
        x, y, _ = track[min(track)]
        away = {"left": x, "right": 159 - x, "top": y, "bottom": 119 - y}
        return answer.rstrip(".").split()[-1] == min(away, key=lambda side: away[side])

    def _beside(self, match: re.Match[str], answer: str) -> bool | None:
        if not {match[1], match[3]} <= self.single:
            return None
        one, other = self.track(match[1]), self.track(match[3])
        axis = 1 if "above" in match[2] else 0
        before = np.mean([place[axis] for place in one.values()]) < np.mean([place[axis] for place in other.values()])
        return (" above " in answer or " left " in answer) == bool(before)

    def _order(self, match: re.Match[str], answer: str) -> bool | None:
        first, second = self.moments(match[1]), self.moments(match[2])
        if not first or not second:
            return None
        early, late = (match[1], match[2]) if first[0] < second[0] else (match[2], match[1])
        return answer == f"First {early}, and after that {late}."


def _step(track: dict[int, tuple[float, float, int]], frame: int) -> float:
    if frame not in track or frame - 1 not in track:
        return 0.0
    (x, y, _), (u, v, _) = track[frame], track[frame - 1]
    return abs(x - u) + abs(y - v)
