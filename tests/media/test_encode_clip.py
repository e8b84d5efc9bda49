"""Clips of one's own: the frames that were given, the same bytes each time, and nothing of when or where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mminstruct.errors import MediaError
from mminstruct.media import FrameSampling, encode_clip, open_video


def frames(count: int = 60) -> list[Image.Image]:
    """A red disc that moves over a smooth ground."""
    x = np.linspace(40, 220, 64)[None, :].repeat(48, 0)
    ground = Image.fromarray(np.stack([x, 255 - x, x / 2], axis=-1).astype(np.uint8))
    made = []
    for number in range(count):
        picture = ground.copy()
        ImageDraw.Draw(picture).ellipse((number, 10, number + 16, 26), fill=(200, 30, 30))
        made.append(picture)
    return made


def test_the_frames_come_back_in_order_and_at_their_times(tmp_path: Path) -> None:
    given = frames()
    (tmp_path / "a.mp4").write_bytes(encode_clip(given, 12))
    video = open_video(tmp_path / "a.mp4", FrameSampling(limit=100))
    assert video.timestamps == pytest.approx([number / 12 for number in range(60)])
    wanted = np.stack([np.asarray(frame) for frame in given]).astype(int)
    for number, found in enumerate(video.frames):
        away = np.abs(wanted - np.asarray(found)).mean(axis=(1, 2, 3))
        assert away.argmin() == number and away[number] < 3.5  # H.264 keeps colours for every second column and row


def test_the_same_frames_give_the_same_bytes_without_a_time_or_a_version_in_the_container() -> None:
    data = encode_clip(frames(), 12)
    assert data == encode_clip(frames(), 12)
    assert b"Lavf" not in data and b"Lavc" not in data
    times = data.index(b"mvhd") + 8
    assert data[times : times + 8] == bytes(8)  # created, changed


def test_there_are_frames_between_that_need_a_later_one(tmp_path: Path) -> None:
    """So what reads them is tested with the order that they are stored in."""
    import av

    (tmp_path / "a.mp4").write_bytes(encode_clip(frames(), 12))
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert shown != sorted(shown)


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ([], "a clip of no frames"),
        ([(8, 6), (8, 8)], "frames of 8 x 6 and 8 x 8 pixels; give one size"),
        ([(7, 6)], "7 x 6 pixels cannot be written; make width and height even"),
    ],
)
def test_frames_that_make_no_clip(sizes: list[tuple[int, int]], problem: str) -> None:
    with pytest.raises(MediaError, match=problem):
        encode_clip([Image.new("RGB", size) for size in sizes], 10)
