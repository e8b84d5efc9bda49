"""The one gate through which bytes from outside pass: `(kind, URL or bytes) -> picture or video`, or a `MediaError`.

    gate = Gate()
    with gate.request() as request:              # counts what this one request brings
        picture = request.open("image", "data:image/png;base64,...")
        video = request.open_bytes("video", uploaded, FrameSampling(limit=4))

Only decoded pixels leave it, never the bytes, so nothing that hides beside a picture in its file goes any further.
Messages have words and numbers of this package only: no path, no decoder's text, nothing of what was sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from PIL import Image

from mminstruct.errors import BusyError, ConfigError, MediaError
from mminstruct.media.data_uri import SCHEME, decode_base64, least_size, split_data_uri
from mminstruct.media.image import ImageLimits, decode_image, image_suffix
from mminstruct.media.sampling import FrameSampling
from mminstruct.media.video import Video, VideoLimits, decode_video

if TYPE_CHECKING:  # it loads TLS, which the gate needs only where it is given one
    from mminstruct.media.fetch import Fetcher

Kind = Literal["image", "video"]

# Not TIFF: no browser shows it, and its decoder is the one with the longest list of holes.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


@dataclass(frozen=True)
class GateLimits:
    """What one request may bring at most, all its media together unless another thing is said.

    Attributes:
        max_media: pictures and videos.
        max_bytes: encoded.
        max_pixels: of one picture or frame, as its header states them.
        max_pixels_slow: of one picture in another format than JPEG, which takes two to four times as long to decode.
        max_total_pixels: of all pictures, and of the frames that are taken of videos.
        max_frames: taken of videos.
        max_walked: that the videos hold, taken or not.
        max_duration: seconds that the videos last.
        seconds: of decoding videos, by the clock, and as many of fetching from the web.
        memory: bytes of address space of the process that decodes a video.
        decoders: videos that are decoded at one time, of all requests; others wait for as long as they may be decoded.
    """

    max_media: int = 32
    max_bytes: int = 64 * 2**20
    max_pixels: int = 64_000_000
    max_pixels_slow: int = 25_000_000
    max_total_pixels: int = 128_000_000
    max_frames: int = 128
    max_walked: int = 36_000
    max_duration: float = 1200.0
    seconds: float = 30.0
    memory: int = 2 * 2**30
    decoders: int = 2

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 0:
                raise ConfigError(f"GateLimits.{field.name} is below zero; give zero (none) or more")

    def lowered(self, other: GateLimits) -> GateLimits:
        """The lower of both, limit by limit."""
        names = [field.name for field in dataclasses.fields(self)]
        return GateLimits(**{name: min(getattr(self, name), getattr(other, name)) for name in names})


DEFAULT_GATE_LIMITS = GateLimits()


class Gate:
    """Opens media that came from outside.

    Args:
        limits: of each request.
        fetch: opens http and https URLs; without one they are refused.
    """

    def __init__(self, limits: GateLimits = DEFAULT_GATE_LIMITS, fetch: Fetcher | None = None) -> None:
        self.limits = limits
        self.fetch = fetch
        self._decoders = threading.Semaphore(limits.decoders)

    @contextlib.contextmanager
    def request(self, limits: GateLimits | None = None) -> Iterator[GateRequest]:
        """A count of what one request brings. Its own `limits` can lower those of the gate, and raise none."""
        yield GateRequest(self, self.limits if limits is None else self.limits.lowered(limits))

    @contextlib.contextmanager
    def decoding(self, seconds: float) -> Iterator[None]:
        """A place among the videos that are decoded. Raises `BusyError` where none gets free within the seconds."""
        if not self._decoders.acquire(timeout=max(0.0, seconds)):
            raise BusyError("too many videos are being decoded; send this one again later")
        try:
            yield
        finally:
            self._decoders.release()


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """A block whose `MediaError`s say which medium they are about."""
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{where}: {error}") from None


class GateRequest:
    """Opens the media of one request, one after another; made by `Gate.request`."""

    def __init__(self, gate: Gate, limits: GateLimits) -> None:
        self.limits = limits
        self._gate = gate
        self._media = 0
        self._bytes = 0
        self._pixels = 0
        self._frames = 0
        self._walked = 0
        self._duration = 0.0
        self._seconds = 0.0
        self._fetching = 0.0

    @property
    def pixels(self) -> int:
        """Of all pictures and frames that were opened."""
        return self._pixels

    def expect(self, media: int) -> None:
        """Say how many media will come, so that too many are refused before the first is opened.

        Raises:
            MediaError: they are more than the limit.
        """
        if self._media + media > self.limits.max_media:
            raise MediaError(
                f"the request has {self._media + media:,} images and videos; at most {self.limits.max_media:,} are "
                f"taken, send fewer"
            )

    def open(self, kind: Kind, url: str, sampling: FrameSampling | None = None) -> Image.Image | Video:
        """The picture or video in a `data:` URI or, where the gate has a fetcher, at an http or https URL.

        Args:
            sampling: which frames are taken of a video (default: eight, uniformly).

        Raises:
            MediaError: another URL, more than the limits allow, or a file that is not what it should be.
            BusyError: too many videos are being decoded.
        """
        where = self._next(kind)
        scheme = url[:8].lower()
        if scheme.startswith(SCHEME):
            with _named(where):
                text = split_data_uri(url, kind)
            self._check_bytes(where, least_size(text))
            with _named(where):
                data = decode_base64(text)
            return self._open(kind, where, data, sampling)
        if not scheme.startswith(("http://", "https://")):
            raise MediaError(f"{where} is given by an address that is not opened; send it as a data: URI")
        if self._gate.fetch is None:
            raise MediaError(f"{where} is given by a web address, which this server does not fetch; send a data: URI")
        left = self.limits.seconds - self._fetching
        if left <= 0:
            raise MediaError(
                f"with {where} its media take more than {self.limits.seconds:g} seconds to fetch; send data: URIs"
            )
        started = time.monotonic()
        try:
            data = self._gate.fetch.fetch(url, where, self.limits.max_bytes - self._bytes, left)
        finally:
            self._fetching += time.monotonic() - started
        return self._open(kind, where, data, sampling)

    def open_bytes(self, kind: Kind, data: bytes, sampling: FrameSampling | None = None) -> Image.Image | Video:
        """The picture or video in encoded bytes. Raises as `open`."""
        return self._open(kind, self._next(kind), data, sampling)

    def _next(self, kind: Kind) -> str:
        """What messages call the next medium."""
        self.expect(1)
        self._media += 1
        return f"{kind} {self._media} of the request"

    def _check_bytes(self, where: str, size: int) -> None:
        if self._bytes + size > self.limits.max_bytes:
            raise MediaError(
                f"with {where} there are more than {self.limits.max_bytes:,} bytes of media; send fewer or smaller ones"
            )

    def _open(self, kind: Kind, where: str, data: bytes, sampling: FrameSampling | None) -> Image.Image | Video:
        self._check_bytes(where, len(data))
        self._bytes += len(data)
        if kind == "video":
            return self._video(where, data, sampling or FrameSampling())
        return self._picture(where, data)

    def _picture(self, where: str, data: bytes) -> Image.Image:
        left = self.limits.max_total_pixels - self._pixels
        most, advice = self.limits.max_pixels, "make it smaller"
        if image_suffix(data) != ".jpeg" and self.limits.max_pixels_slow < most:
            most, advice = self.limits.max_pixels_slow, "make it smaller or save it as a JPEG"
        if left < most:
            advice = f"a request may have {self.limits.max_total_pixels:,} in all, send fewer or smaller media"
        limits = ImageLimits(self.limits.max_bytes, min(most, left), advice, FORMATS)
        picture = decode_image(data, where, limits)
        self._pixels += picture.width * picture.height
        return picture

    def _video(self, where: str, data: bytes, sampling: FrameSampling) -> Video:
        if self._frames + sampling.limit > self.limits.max_frames:
            raise MediaError(
                f"with {where} more than {self.limits.max_frames:,} frames are asked for; "
                f"send fewer videos or take fewer frames of each"
            )
        left = self.limits.seconds - self._seconds
        if left <= 0:
            raise MediaError(
                f"with {where} its videos take more than {self.limits.seconds:g} seconds to decode; send fewer"
            )
        if self._walked:  # what is left for this one is less, and its message says so
            where = f"{where}, after {self._walked} frames and {self._duration:g} seconds of others,"
        with self._gate.decoding(left):
            started = time.monotonic()
            try:
                video, extent = decode_video(
                    data,
                    where,
                    sampling,
                    VideoLimits(
                        max_bytes=self.limits.max_bytes,
                        max_frames=self.limits.max_walked - self._walked,
                        max_pixels=self.limits.max_pixels,
                        max_total_pixels=self.limits.max_total_pixels - self._pixels,
                        max_duration=self.limits.max_duration - self._duration,
                        seconds=left,
                        memory=self.limits.memory,
                    ),
                )
            finally:
                self._seconds += time.monotonic() - started
        self._frames += len(video.frames)
        self._pixels += len(video.frames) * video.size[0] * video.size[1]
        self._walked += extent.frames
        self._duration += extent.seconds
        return video
