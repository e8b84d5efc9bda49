"""Writing a clip of frames of one's own: `[picture of mode RGB, ...] -> bytes of an MP4 (H.264)`, the same everywhere.

A fixed quantizer, because x264's rate control reckons in floating point, and not alike on all processors; one thread,
because with several its output depends on how many; no times, versions or names in the container.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from mminstruct.errors import ConfigError, MediaError

_CODEC = {"qp": "16", "preset": "medium", "g": "25", "bf": "2"}
_CONTAINER = {"fflags": "+bitexact"}


def encode_clip(frames: Sequence[Image.Image], rate: int) -> bytes:
    """The bytes of an MP4 of these frames, `rate` a second, with a keyframe every 25 frames and B-frames between.

    Raises:
        MediaError: no frame, frames of several sizes, or an odd width or height (H.264 stores colours for two by two).
        ConfigError: PyAV is missing.
    """
    if not frames:
        raise MediaError("a clip of no frames cannot be written; give one at least")
    width, height = frames[0].size
    other = next((frame.size for frame in frames if frame.size != (width, height)), None)
    if other is not None:
        raise MediaError(f"a clip has frames of {width} x {height} and {other[0]} x {other[1]} pixels; give one size")
    if width % 2 or height % 2:
        raise MediaError(f"a clip of {width} x {height} pixels cannot be written; make width and height even")
    try:
        import av
    except ModuleNotFoundError:
        raise ConfigError("writing video needs PyAV; install it with: pip install 'mminstruct[video]'") from None
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4", options=_CONTAINER) as container:
        video: Any = container.add_stream("libx264", rate=rate, options=_CODEC)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_image(frame.convert("RGB"))))
        container.mux(video.encode())
    return stream.getvalue()
