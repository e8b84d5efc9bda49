"""One way to open a video: the frames that a plain full decode gives, within limits, and errors that say why."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mminstruct.errors import MediaError
from mminstruct.media import FrameSampling, Video, VideoLimits, open_medium, open_video


def write(path: Path, frames: int, codec: str = "libx264", gop: int = 7, rotate: int = 0) -> Path:
    """A clip of moving stripes with B-frames, a keyframe every `gop` frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"g": str(gop), "bf": "2"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.zeros((48, 64, 3), dtype=np.uint8)
            pixels[:, (3 * number) % 64 :, 0] = 200
            pixels[(2 * number) % 48 :, :, 2] = 90
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def all_frames(path: Path) -> list[np.ndarray]:
    """The slow, obvious way."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", 40)


@pytest.mark.parametrize(
    "sampling",
    [
        FrameSampling(),
        FrameSampling(method="midpoints", limit=5),
        FrameSampling(method="fps", fps=2, limit=30),
        FrameSampling(limit=100),
    ],
)
def test_frames_are_those_of_a_full_decode(clip, sampling):
    frames = all_frames(clip)
    assert len(frames) == 40
    chosen = sampling.indices(40, 10)
    video = open_video(clip, sampling)
    assert video.timestamps == pytest.approx([index / 10 for index in chosen])
    assert video.size == (64, 48)
    for found, index in zip(video.frames, chosen, strict=True):
        assert np.array_equal(np.array(found), frames[index])


def test_other_containers_and_codecs(tmp_path):
    for name, codec in (("a.avi", "mpeg4"), ("b.webm", "libvpx-vp9"), ("c.mkv", "libx264")):
        path = write(tmp_path / name, 12, codec)
        video = open_video(path, FrameSampling(limit=4))
        assert [np.array(frame).shape for frame in video.frames] == [(48, 64, 3)] * 4
        frames = all_frames(path)
        assert np.array_equal(np.array(video.frames[-1]), frames[-1])


def test_a_clip_recorded_upright_stands_upright(clip, tmp_path):
    """The matrix that phones write into the track's header (ISO 14496-12, tkhd): turn by 90 degrees, clockwise."""
    data = bytearray(clip.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    turn = [0, 0x10000, 0, -0x10000, 0, 0, 48 << 16, 0, 0x40000000]
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turn)
    (tmp_path / "turned.mp4").write_bytes(data)
    video = open_video(tmp_path / "turned.mp4", FrameSampling(limit=2))
    assert video.size == (48, 64)
    assert np.array_equal(np.array(video.frames[1]), np.rot90(all_frames(clip)[-1], k=-1))


def broken(tmp_path: Path, clip: Path) -> dict[str, Path]:
    whole = clip.read_bytes()
    playlist = "#EXTM3U\n#EXTINF:1,\n" + str(clip) + "\n#EXT-X-ENDLIST\n"
    files = {
        "empty.mp4": b"",
        "text.mp4": b"no video at all, but long enough to be looked at" * 20,
        "cut.mp4": whole[: len(whole) // 2],
        "list.m3u8": playlist.encode(),
        "list.ffconcat": f"ffconcat version 1.0\nfile '{clip}'\n".encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    return {name: tmp_path / name for name in (*files, "picture.png", "missing.mp4")} | {"folder": tmp_path}


def test_files_that_are_no_video_are_refused(tmp_path, clip):
    """A playlist that names a good video too: nothing but the file itself is ever opened."""
    for name, path in broken(tmp_path, clip).items():
        with pytest.raises(MediaError, match=f"^{path}.*;"):
            open_video(path)
        assert name


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (VideoLimits(max_bytes=100), "bytes; a video may have 1 to 100"),
        (VideoLimits(max_frames=39), "more than 39 frames"),
        (VideoLimits(max_pixels=64 * 48 - 1), "64 x 48 pixels; at most 3071"),
        (VideoLimits(seconds=0.01), "in 0.01 seconds"),
    ],
)
def test_limits(clip, limits, message):
    with pytest.raises(MediaError, match=message):
        open_video(clip, limits=limits)


def test_a_medium_is_opened_by_its_kind(clip, tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    assert isinstance(open_medium("video", clip, FrameSampling(limit=2)), Video)
    assert open_medium("image", tmp_path / "a.png", FrameSampling()).size == (8, 6)
    with pytest.raises(MediaError, match="a data URI can hold pictures only"):
        open_medium("video", "data:video/mp4;base64,AAAA", FrameSampling())
