"""Which frames are taken, by the rules that papers and loaders have; and the same pixels as another decoder gives."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mminstruct.errors import MediaError
from mminstruct.media import FrameSampling, encode_clip, open_video, video_changes
from tests.media.test_encode_clip import frames
from tests.media.test_open_video import write


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames with B-frames and a keyframe every seven."""
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", 40)


def test_every_method_by_hand() -> None:
    def taken(frames: int, **settings: object) -> list[int]:
        return FrameSampling.model_validate(settings).indices(frames, 10, keyframes=[0, 4, 8, 12, 16], cuts=[6, 16])

    assert taken(20, method="uniform", limit=3) == [0, 9, 19]
    assert taken(20, method="midpoints", limit=4) == [2, 7, 12, 17]
    assert taken(20, method="fps", fps=2) == [0, 5, 10, 15]
    assert taken(20, method="fps", fps=5, limit=3) == [0, 9, 19]
    # 3 frames a second of half a minute, and 16 of them: every fifth from the third on
    assert taken(90, method="stride", limit=16) == [2 + 5 * number for number in range(16)]
    assert taken(20, method="stride", limit=16) == list(range(16))
    assert taken(10, method="stride", limit=16) == list(range(10))
    assert taken(20, method="keyframes") == [0, 4, 8, 12, 16]
    assert taken(20, method="keyframes", limit=3) == [0, 8, 16]
    assert taken(20, method="scenes") == [3, 11, 18]
    assert taken(20, method="scenes", per_scene=2) == [1, 4, 8, 13, 17, 19]
    assert taken(20, method="scenes", per_scene=9, limit=4) == [0, 6, 13, 19]


def test_keyframes_are_those_that_the_file_marks(clip: Path) -> None:
    video = open_video(clip, FrameSampling(method="keyframes", limit=100))
    with av.open(str(clip)) as container:
        marked = [
            float(frame.time) for frame in container.decode(video=0) if frame.key_frame and frame.time is not None
        ]
    assert video.timestamps == pytest.approx(marked) and 6 <= len(marked) < 40


def test_scenes_give_frames_of_each(tmp_path: Path) -> None:
    colors = [(240, 240, 60)] * 20 + [(30, 120, 30)] * 30 + [(250, 250, 255)] * 16
    (tmp_path / "a.mp4").write_bytes(encode_clip([Image.new("RGB", (64, 48), color) for color in colors], 10))
    video = open_video(tmp_path / "a.mp4", FrameSampling(method="scenes", per_scene=2))
    assert video.timestamps == pytest.approx([0.5, 1.5, 2.7, 4.2, 5.4, 6.2])
    assert [round(np.asarray(frame)[0, 0, 1] / 120) for frame in video.frames] == [2, 2, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "sampling",
    [
        FrameSampling(method="midpoints", limit=5),
        FrameSampling(method="fps", fps=3, limit=30),
        FrameSampling(method="stride", limit=6),
        FrameSampling(method="keyframes"),
    ],
    ids=lambda sampling: sampling.method,
)
def test_the_frames_are_those_of_decord(clip: Path, sampling: FrameSampling) -> None:
    if sys.platform != "linux":
        pytest.skip("decord has wheels for Linux on x86 only")
    decord = pytest.importorskip("decord", reason="decord is not installed; it has wheels for Linux on x86 only")
    reader = decord.VideoReader(str(clip), num_threads=1)
    assert len(reader) == 40 and reader.get_avg_fps() == 10
    chosen = sampling.indices(40, 10, keyframes=reader.get_key_indices())
    theirs = reader.get_batch(chosen).asnumpy()
    ours = np.stack([np.asarray(frame) for frame in open_video(clip, sampling).frames])
    assert ours.shape == theirs.shape
    # To the pixel in brightness; decord's build turns YUV into RGB with another rounding.
    assert np.abs(ours.astype(int) - theirs).max() <= 3
    neighbours = np.abs(ours.astype(int) - reader.get_batch([max(0, index - 1) for index in chosen]).asnumpy())
    assert all(away.max() > 60 for away, index in zip(neighbours, chosen, strict=True) if index)


def test_broken_clips_are_refused_whatever_is_asked_of_them(tmp_path: Path) -> None:
    whole = encode_clip(frames(), 12)
    transport = write(tmp_path / "a.ts", 40).read_bytes()
    samples = whole.index(b"mdat")
    broken = {
        "empty.mp4": b"",
        "cut.mp4": whole[: len(whole) // 2],
        "first frame.mp4": whole[: samples + 40],
        "first frame.ts": transport[: 188 * 4],
    }
    for number, (name, data) in enumerate(broken.items()):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError) as caught:
            video_changes(tmp_path / name) if number % 2 else open_video(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)
