"""Uploads: pictures and videos open through the gate, and the page has something to show of each."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from PIL import Image

from mminstruct.demo.uploads import MEDIA_TYPES, Uploads, frame_sheet, kind_of
from mminstruct.errors import MediaError
from mminstruct.media import FrameSampling, Gate, GateLimits, Video, encode_clip

FOUR = FrameSampling(limit=4)


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    folder = tmp_path / "uploads"
    folder.mkdir()
    return Uploads(folder)


def test_a_video_becomes_frames_and_is_shown_with_their_times(uploads: Uploads) -> None:
    clip = uploads.folder / "clip.mp4"
    frames = [Image.new("RGB", (64, 48), (20 * step, 0, 0)) for step in range(8)]
    clip.write_bytes(encode_clip(frames, 4))
    (video,), shown = uploads.open([clip], FOUR)
    assert isinstance(video, Video) and len(video.frames) == 4
    (medium,) = shown.media
    assert medium.kind == "video" and medium.file.read_bytes() == clip.read_bytes()
    assert medium.label == "video 1: its 4 frames at 0.0, 0.5, 1.0, 1.8 seconds"
    sheet = Image.open(medium.picture)
    # The frames stand in a row: each place is as red as its frame.
    reds = [sheet.getpixel((32 + 64 * place, 24))[0] for place in range(4)]
    assert reds == pytest.approx([0, 40, 80, 140], abs=5)
    folder = medium.file.parents[1]
    del shown, medium
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("size", [(4, 4), (3000, 20), (20, 3000)])
def test_frames_of_any_shape_have_a_sheet(size: tuple[int, int]) -> None:
    frame = Image.new("RGB", size)
    sheet = frame_sheet(Video((frame,) * 5, (0.0, 1.0, 2.0, 3.0, 4.0)))
    assert sheet.width <= 1024 + 4 and sheet.height > 0


def test_kinds_go_by_the_ending_and_others_are_refused(uploads: Uploads) -> None:
    assert [kind_of(Path(name)) for name in ("a.PNG", "b.webm")] == ["image", "video"]
    for name in ("a.svg", "a.html", "noending", "a.png.exe"):
        with pytest.raises(MediaError, match="no picture and no video"):
            kind_of(Path(name))
    assert len(set(MEDIA_TYPES)) == len(MEDIA_TYPES)


def test_a_broken_file_is_named_and_leaves_nothing(uploads: Uploads) -> None:
    good, broken = uploads.folder / "good.png", uploads.folder / "broken.mp4"
    Image.new("RGB", (8, 8)).save(good)
    broken.write_bytes(b"no video" * 20)
    with pytest.raises(MediaError, match=r"^the file broken\.mp4: ") as caught:
        uploads.open([good, broken], FOUR)
    assert str(uploads.folder) not in str(caught.value)
    del caught
    gc.collect()
    assert sorted(path.name for path in uploads.folder.iterdir()) == ["broken.mp4", "good.png"]


def test_limits_of_the_gate_hold_for_one_question(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, gate=Gate(GateLimits(max_media=1)))
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        Image.new("RGB", (8, 8)).save(file)
    uploads.open(files[:1], FOUR)
    with pytest.raises(MediaError, match="at most 1"):
        uploads.open(files, FOUR)


def test_who_leaves_takes_only_what_no_other_visitor_has_sent_or_uploaded_since(uploads: Uploads) -> None:
    """One content has one path, whoever uploads it."""
    files = [uploads.folder / name / "a.png" for name in ("mine", "shared", "again")]
    for file in files:
        file.parent.mkdir()
        Image.new("RGB", (8, 8)).save(file)
        os.utime(file, (1, 1))
    uploads.open(files, FOUR, "one")
    uploads.open(files[1:2], FOUR, "two")
    os.utime(files[2], (2, 2))  # a third visitor uploaded it and has not asked yet
    uploads.left("one")
    assert [file.exists() for file in files] == [False, True, True]
    assert not files[0].parent.exists()
    uploads.left("two")
    assert [file.exists() for file in files] == [False, False, True]
