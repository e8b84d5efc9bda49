"""Writing a video's frames as they are: `Video -> bytes of an MP4`, no pixel changed, each frame at its time."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

from mminstruct.errors import ConfigError
from mminstruct.media.video import Video

_TICK = Fraction(1, 1000)  # times are kept to the millisecond
_LOSSLESS = {"qp": "0", "preset": "veryfast", "bf": "0"}


def encode_frames(video: Video) -> bytes:
    """The bytes of an MP4 (H.264, lossless RGB) of the frames; the first one's time becomes 0.

    Raises:
        ConfigError: PyAV is missing.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise ConfigError("writing video needs PyAV; install it with: pip install 'mminstruct[video]'") from None
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        track: Any = container.add_stream("libx264rgb", options=_LOSSLESS)
        (track.width, track.height), track.pix_fmt = video.size, "rgb24"
        track.codec_context.time_base = _TICK
        last = -1
        for frame, seconds in zip(video.frames, video.timestamps, strict=True):
            picture = av.VideoFrame.from_image(frame.convert("RGB"))
            last = max(last + 1, round((seconds - video.timestamps[0]) / _TICK))  # times of a file have to rise
            picture.pts, picture.time_base = last, _TICK
            container.mux(track.encode(picture))
        container.mux(track.encode())
    return stream.getvalue()
