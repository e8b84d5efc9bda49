"""The process that decodes the video on stdin, as the order in its last argument says; `media/sandbox.py` starts it.

An order names a sampling, and frames come out on stdout (a line of JSON, then RGB bytes); or it names none, and what
comes out is how much each frame differs from the one before (a line of JSON). A video that is refused gives a line with
the reason, in words and numbers of this file only. PyAV reads the file through a Python object and knows only the
containers listed here; before it does, the process gives up the right to open or write any file.
"""

from __future__ import annotations

import bisect
import importlib
import json
import math
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mminstruct.errors import MediaError
from mminstruct.media.cuts import WIDTH, change, content_cuts, hsv
from mminstruct.media.sampling import FrameSampling

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,gif"
_STREAMS = 3  # stdin, stdout and stderr
_BREAKS_OFF = "it breaks off before its last frame; copy or record it again"


def decode(stream: BinaryIO, order: dict[str, Any], out: BinaryIO) -> None:
    """Write the frames of the video in `stream` that `order["sampling"]` chooses, or all frames' changes.

    Raises:
        MediaError: no video in the file, one too large, or one that breaks off.
    """
    import av

    limits = order["limits"]
    try:
        # An empty list of protocols: a playlist inside the file can name other files and addresses, but open none.
        options = {"protocol_whitelist": "", "format_whitelist": _CONTAINERS}
        with av.open(stream, options=options, metadata_errors="ignore") as container:
            if not container.streams.video:
                raise MediaError("the file holds no video stream; give a video")
            video = container.streams.video[0]
            if video.codec_context is None:
                raise MediaError("its frames are encoded in a way that is not known here; convert it to H.264")
            _check_pixels(video.width, video.height, limits["max_pixels"])
            times, keyframes = _packets(container, video, limits["max_frames"])
            rate = float(video.average_rate or video.guessed_rate or 1)
            tick = float(video.time_base or 0)
            duration = (times[-1] - times[0]) * tick
            if duration > limits["max_duration"]:
                raise MediaError(f"it lasts more than {limits['max_duration']:g} seconds; cut it shorter")
            if order["sampling"] is None:
                seconds = [(time - times[0]) * tick for time in times]
                changes = _changes(container, video, times, limits["max_pixels"])
                _line(out, {"changes": changes, "timestamps": seconds, "rate": rate})
                return
            sampling = FrameSampling.model_validate(order["sampling"])
            by_scene = sampling.method == "scenes"
            cuts = content_cuts(_changes(container, video, times, limits["max_pixels"])) if by_scene else []
            whole = [bisect.bisect_left(times, time) for time in keyframes]
            wanted = sampling.indices(len(times), rate, whole, cuts)
            if not wanted:
                raise MediaError("it marks no frame as a keyframe; take its frames by another method")
            most = limits["max_total_pixels"] // len(wanted)
            frames = list(_frames(container, video, [times[index] for index in wanted], keyframes, limits, most))
            seconds = [(times[index] - times[0]) * tick for index in wanted]
    except (av.FFmpegError, OSError):  # the second where a file sends its reader to a place that no file has
        raise MediaError("it cannot be decoded; the file is broken or of another kind") from None
    height, width = frames[0].shape[:2]
    if any(frame.shape != frames[0].shape for frame in frames):
        raise MediaError("its frames change their size on the way; record it in one size")
    _line(out, {"width": width, "height": height, "timestamps": seconds, "frames": len(times), "seconds": duration})
    for frame in frames:
        out.write(frame.tobytes())


def _line(out: BinaryIO, facts: dict[str, Any]) -> None:
    out.write(json.dumps(facts).encode() + b"\n")


def _check_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise MediaError(f"its frames have {width} x {height} pixels; at most {limit} are decoded")


def _packets(container: Any, video: Any, limit: int) -> tuple[list[int], list[int]]:
    """The presentation times of all frames, sorted, and those of the keyframes; nothing is decoded."""
    times, keyframes = [], []
    for walked, packet in enumerate(container.demux(video)):
        if walked > limit:
            raise MediaError(f"it has more than {limit} frames; cut it shorter")
        if packet.pts is None or packet.size == 0:
            continue
        times.append(packet.pts)
        if packet.is_keyframe:
            keyframes.append(packet.pts)
    if not times:
        raise MediaError("it holds no frames; the file is broken or of another kind")
    return sorted(times), sorted(keyframes)


def _frames(
    container: Any, video: Any, wanted: list[int], keyframes: list[int], limits: dict[str, Any], most: int
) -> Iterator[np.ndarray]:
    """The frames of these times, `[H, W, 3]` each: forward from the last keyframe before, or from where we are.

    `most` is how many pixels each may have for all of them to be within the limit.
    """
    reached: int | None = None
    frames: Iterator[Any] = iter(())
    for time in wanted:
        before = bisect.bisect_right(keyframes, time) - 1
        if reached is None or (before >= 0 and keyframes[before] > reached):
            container.seek(time, stream=video, backward=True)
            frames = container.decode(video)
        for frame in frames:
            if frame.pts is None:
                continue
            reached = frame.pts
            if frame.pts >= time:
                _check_pixels(frame.width, frame.height, limits["max_pixels"])  # the header may have said less
                if frame.width * frame.height > most:
                    raise MediaError(
                        f"{len(wanted)} of its frames have more than {limits['max_total_pixels']} pixels in all; "
                        f"make it smaller or ask for fewer"
                    )
                # 90 degrees counter-clockwise each, as the file says how it wants to be shown
                yield np.rot90(frame.to_ndarray(format="rgb24"), k=frame.rotation // 90)
                break
        else:
            raise MediaError(_BREAKS_OFF)


def _changes(container: Any, video: Any, times: list[int], most: int) -> list[float]:
    """How much the frame of each time differs from the one before, 0 for the first; all frames are decoded."""
    changes = [0.0] * len(times)
    narrower = max(1.0, video.width / WIDTH)
    size = {"width": max(1, round(video.width / narrower)), "height": max(1, round(video.height / narrower))}
    before: np.ndarray | None = None
    place = -1
    container.seek(times[0], stream=video, backward=True)
    for frame in container.decode(video):
        if frame.pts is None or frame.pts < times[0]:
            continue
        _check_pixels(frame.width, frame.height, most)
        place = bisect.bisect_right(times, frame.pts) - 1
        now = hsv(frame.reformat(**size, format="rgb24", interpolation="BILINEAR").to_ndarray())
        if before is not None:
            changes[place] = change(before, now)
        before = now
    if place < len(times) - 1:
        raise MediaError(_BREAKS_OFF)
    return changes


def load_decoder() -> None:
    """Import all of PyAV, some of which it would load when it is needed, while files may still be opened."""
    import av

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name != "av.__main__":
            importlib.import_module(module.name)


def give_up_rights(memory: int, seconds: float) -> None:
    """From here on this process opens and writes no file, and ends when it takes more memory or time than allowed."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, math.ceil(seconds) + 1),  # on all processors; the parent minds the clock
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _STREAMS),
    ):
        resource.setrlimit(what, (limit, limit))


def main() -> None:
    order = json.loads(sys.argv[-1])
    out = sys.stdout.buffer
    try:
        load_decoder()
    except ModuleNotFoundError:
        _line(out, {"refused": "reading video needs PyAV; install it with: pip install 'mminstruct[video]'"})
        return
    give_up_rights(order["limits"]["memory"], order["limits"]["seconds"])
    try:
        decode(sys.stdin.buffer, order, out)
    except MediaError as error:
        _line(out, {"refused": str(error)})
    except MemoryError:
        memory = order["limits"]["memory"]
        _line(out, {"refused": f"it needs more than {memory} bytes of memory to decode; make it smaller"})
    except Exception as error:  # noqa: BLE001 - said to the parent, which has no other way to know
        last = traceback.extract_tb(error.__traceback__)[-1]
        _line(out, {"crashed": f"{type(error).__name__} in line {last.lineno} of {Path(last.filename).name}"})
        sys.stderr.write(traceback.format_exc())
