"""The process that decodes a video: `python -m mminstruct.media.decode ORDER < FILE`, run by `media/video.py` only.

An order names a sampling, and frames come out on stdout (a line of JSON, then RGB bytes); or it names none, and what
comes out is how much each frame differs from the one before (a line of JSON). An error is one line on stderr with exit
code 3. PyAV reads the file through a Python object, may open nothing else, and knows only the containers listed here.
"""

from __future__ import annotations

import bisect
import json
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from mminstruct.errors import ConfigError, MediaError
from mminstruct.media.cuts import WIDTH, change, content_cuts, hsv
from mminstruct.media.sampling import FrameSampling

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,gif"
_BREAKS_OFF = "it breaks off before its last frame; copy or record it again"


def decode(stream: BinaryIO, order: dict[str, Any], out: BinaryIO) -> None:
    """Write the frames of the video in `stream` that `order["sampling"]` chooses, or all frames' changes.

    Raises:
        MediaError: no video in the file, one too large, or one that breaks off.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise ConfigError("reading video needs PyAV; install it with: pip install 'mminstruct[video]'") from None
    try:
        # An empty list of protocols: a playlist inside the file can name other files and addresses, but open none.
        options = {"protocol_whitelist": "", "format_whitelist": _CONTAINERS}
        with av.open(stream, options=options, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise MediaError("the file holds no video stream; give a video")
            video = container.streams.video[0]
            if video.width * video.height > order["max_pixels"]:
                raise MediaError(
                    f"its frames have {video.width} x {video.height} pixels; at most {order['max_pixels']} are decoded"
                )
            times, keyframes = _packets(container, video, order["max_frames"])
            rate = float(video.average_rate or video.guessed_rate or 1)
            tick = float(video.time_base or 0)
            if order["sampling"] is None:
                seconds = [(time - times[0]) * tick for time in times]
                changes = _changes(container, video, times)
                out.write(json.dumps({"changes": changes, "timestamps": seconds, "rate": rate}).encode())
                return
            sampling = FrameSampling.model_validate(order["sampling"])
            cuts = content_cuts(_changes(container, video, times)) if sampling.method == "scenes" else []
            whole = [bisect.bisect_left(times, time) for time in keyframes]
            wanted = sampling.indices(len(times), rate, whole, cuts)
            frames = list(_frames(container, video, [times[index] for index in wanted], keyframes))
            seconds = [(times[index] - times[0]) * tick for index in wanted]
    except av.FFmpegError as error:
        raise MediaError(f"it cannot be decoded ({error.strerror}); the file is broken or of another kind") from None
    height, width = frames[0].shape[:2]
    out.write(json.dumps({"width": width, "height": height, "timestamps": seconds}).encode() + b"\n")
    for frame in frames:
        out.write(np.ascontiguousarray(frame).tobytes())


def _packets(container: Any, video: Any, limit: int) -> tuple[list[int], list[int]]:
    """The presentation times of all frames, sorted, and those of the keyframes; nothing is decoded."""
    times, keyframes = [], []
    for packet in container.demux(video):
        if packet.pts is None or packet.size == 0:
            continue
        times.append(packet.pts)
        if packet.is_keyframe:
            keyframes.append(packet.pts)
        if len(times) > limit:
            raise MediaError(f"it has more than {limit} frames; cut it shorter")
    if not times:
        raise MediaError("it holds no frames; the file is broken or of another kind")
    return sorted(times), sorted(keyframes)


def _frames(container: Any, video: Any, wanted: list[int], keyframes: list[int]) -> Iterator[np.ndarray]:
    """The frames of these times, `[H, W, 3]` each: forward from the last keyframe before, or from where we are."""
    reached: int | None = None
    frames: Iterator[Any] = iter(())
    for time in wanted:
        before = bisect.bisect_right(keyframes, time) - 1
        if reached is None or (before >= 0 and keyframes[before] > reached):
            container.seek(time, stream=video, backward=True)
            frames = container.decode(video)
        for frame in frames:
            reached = frame.pts
            if frame.pts >= time:
                # 90 degrees counter-clockwise each, as the file says how it wants to be shown
                yield np.rot90(frame.to_ndarray(format="rgb24"), k=frame.rotation // 90)
                break
        else:
            raise MediaError(_BREAKS_OFF)


def _changes(container: Any, video: Any, times: list[int]) -> list[float]:
    """How much the frame of each time differs from the one before, 0 for the first; all frames are decoded."""
    changes = [0.0] * len(times)
    narrower = max(1.0, video.width / WIDTH)
    size = {"width": round(video.width / narrower), "height": max(1, round(video.height / narrower))}
    before: np.ndarray | None = None
    place = -1
    container.seek(times[0], stream=video, backward=True)
    for frame in container.decode(video):
        if frame.pts is None or frame.pts < times[0]:
            continue
        place = bisect.bisect_right(times, frame.pts) - 1
        now = hsv(frame.reformat(**size, format="rgb24", interpolation="BILINEAR").to_ndarray())
        if before is not None:
            changes[place] = change(before, now)
        before = now
    if place < len(times) - 1:
        raise MediaError(_BREAKS_OFF)
    return changes


def _limit_memory(limit: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    order = json.loads(sys.argv[1])
    _limit_memory(order["memory"])
    try:
        decode(sys.stdin.buffer, order, sys.stdout.buffer)
    except (ConfigError, MediaError) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except MemoryError:
        sys.stderr.write(f"it needs more than {order['memory']} bytes of memory to decode; make it smaller\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
