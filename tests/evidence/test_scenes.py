"""Scenes: the cuts that were made on purpose, and the rules' own corner cases worked out by hand."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest

from mminstruct.data_builders.worlds.clips import clip
from mminstruct.errors import MediaError
from mminstruct.evidence.scenes import Scene, SceneDetector, scenes
from mminstruct.media import encode_clip
from mminstruct.media.cuts import adaptive_cuts, change, content_cuts, hsv


def row(length: int, high: dict[int, float], low: float = 1.0) -> list[float]:
    return [high.get(number, low if number else 0.0) for number in range(length)]


def test_hue_saturation_and_value_are_the_textbooks() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (1, 500, 3), dtype=np.uint8)
    colors[0, :4] = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 1]]
    for (red, green, blue), found in zip(colors[0] / 255, hsv(colors)[0], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        assert abs((found[0] - 180 * hue + 90) % 180 - 90) <= 0.55
        assert abs(found[1] - 255 * saturation) <= 0.55 and found[2] == round(255 * value)
    assert hsv(colors).max(axis=(0, 1))[0] < 180


def test_the_change_is_the_mean_over_pixels_and_channels() -> None:
    before, after = np.zeros((2, 2, 3), dtype=np.int32), np.zeros((2, 2, 3), dtype=np.int32)
    after[0, 0] = [120, 0, 60]
    assert change(before, after) == change(after, before) == 180 / 12


@pytest.mark.parametrize(
    ("changes", "cuts"),
    [
        (row(100, {}), []),
        (row(100, {30: 27.0, 60: 90.0}), [30, 60]),
        (row(100, {30: 26.9}), []),
        (row(100, {5: 90.0}), []),  # too near to the beginning
        (row(100, {15: 90.0}), [15]),
        (row(100, {30: 90.0, 33: 90.0}), [30]),  # a flash: merged, and too short to be a scene of its own
        (row(100, {30: 90.0, **dict.fromkeys(range(40, 60, 4), 90.0)}), [30, 56]),  # a quick series: one cut at its end
    ],
)
def test_cuts_by_content(changes: list[float], cuts: list[int]) -> None:
    assert content_cuts(changes) == cuts


@pytest.mark.parametrize(
    ("changes", "cuts"),
    [
        (row(100, {30: 60.0}), [30]),
        (row(100, {30: 60.0}, low=25.0), []),  # a camera that moves: it stands out too little
        (row(100, {30: 80.0}, low=25.0), [30]),
        (row(100, {30: 14.0}), []),  # stands out, of next to nothing
        (row(100, {30: 60.0, 40: 60.0, 50: 60.0}), [30, 50]),
        (row(100, {98: 60.0}), []),  # no two frames behind it
        (row(40, {20: 16.0}, low=0.0), [20]),
    ],
)
def test_cuts_of_a_moving_camera(changes: list[float], cuts: list[int]) -> None:
    assert adaptive_cuts(changes) == cuts


def test_scenes_of_clips_are_their_shots(tmp_path: Path) -> None:
    for number in range(1, 4):
        made = clip(0, number)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(encode_clip(made.frames(), 10))
        shots = [(shot.first, shot.first + shot.length) for shot in made.shots]
        found = scenes(path, SceneDetector(method="adaptive" if number % 2 else "content"))
        assert [(scene.first, scene.end) for scene in found] == shots
        assert [scene.seconds for scene in found] == [pytest.approx((a / 10, b / 10)) for a, b in shots]
    assert len({len(clip(0, number).shots) for number in range(1, 4)}) > 1


def test_a_clip_without_a_cut_is_one_scene_and_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    made = next(one for one in map(lambda number: clip(0, number), range(20)) if len(one.shots) == 1)
    (tmp_path / "a.mp4").write_bytes(encode_clip(made.frames(), 10))
    (only,) = scenes(tmp_path / "a.mp4")
    assert only == Scene(0, made.length, (0.0, pytest.approx(made.seconds)))
    (tmp_path / "b.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match=r"b\.mp4 has 0 bytes"):
        scenes(tmp_path / "b.mp4")
