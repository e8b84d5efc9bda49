"""The gate: what it opens, what one request may bring, and messages that quote no path, decoder or input."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from mminstruct.errors import BusyError, ConfigError, MediaError
from mminstruct.media import FrameSampling, Gate, GateLimits, Video, encode_clip

DEFAULTS = GateLimits()


def encoded(picture: Image.Image, name: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, name, **options)
    return stream.getvalue()


def picture(width: int = 20, height: int = 10) -> bytes:
    return encoded(Image.new("RGB", (width, height), (200, 30, 30)))


def clip(frames: int = 20, width: int = 64, height: int = 48) -> bytes:
    return encode_clip([Image.new("RGB", (width, height), (9 * number, 0, 0)) for number in range(frames)], 10)


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def video() -> bytes:
    return clip()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by each picture that is decoded."""
    from mminstruct.media import gate

    seen: list[int] = []
    real = gate.decode_image

    def decode_image(data: bytes, *rest: object) -> Image.Image:
        seen.append(len(data))
        return real(data, *rest)

    monkeypatch.setattr(gate, "decode_image", decode_image)
    return seen


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_pictures_come_as_data_uris_and_as_bytes(name: str) -> None:
    data = encoded(Image.new("RGB", (20, 10), (200, 30, 30)), name)
    with Gate().request() as request:
        for opened in (
            request.open("image", uri(data, f"image/{name.lower()}")),
            request.open("image", uri(data, f"image/{name.lower()}").replace("data:image", "DATA:Image")),
            request.open_bytes("image", data),
        ):
            assert isinstance(opened, Image.Image)
            assert opened.size == (20, 10) and opened.mode == "RGB"
            assert all(abs(a - b) < 9 for a, b in zip(opened.getpixel((5, 5)), (200, 30, 30), strict=True))


def test_videos_come_as_data_uris_and_as_bytes(video: bytes) -> None:
    with Gate().request() as request:
        for opened in (
            request.open("video", uri(video, "video/mp4"), FrameSampling(limit=3)),
            request.open_bytes("video", video, FrameSampling(limit=3)),
        ):
            assert isinstance(opened, Video)
            assert opened.size == (64, 48) and opened.timestamps == pytest.approx((0.0, 0.9, 1.9))


def test_nothing_of_a_file_is_left_on_the_disk(video: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Gate().request() as request:
        request.open_bytes("video", video, FrameSampling(limit=1))
        with pytest.raises(MediaError):
            request.open_bytes("video", video[:300], FrameSampling(limit=1))
    assert not list(tmp_path.iterdir())


def refusal(kind: str, url: str, gate: Gate | None = None) -> str:
    with (gate or Gate()).request() as request, pytest.raises(MediaError) as caught:
        request.open(kind, url)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and len(message) < 250 and caught.value.__cause__ is None
    return message


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "../../etc/passwd",
        "etc/passwd",
        "C:\\windows\\win.ini",
        "ftp://example.org/a.png",
        "javascript:alert(1)",
        "//example.org/a.png",
        "blob:https://example.org/1",
        " data:image/png;base64,AAAA",
        "",
        "x" * 10_000_000,
    ],
)
def test_only_data_and_the_web_are_addresses(url: str) -> None:
    for kind in ("image", "video"):
        message = refusal(kind, url)
        assert message == f"{kind} 1 of the request is given by an address that is not opened; send it as a data: URI"


def test_the_web_is_not_asked_unless_there_is_a_fetcher() -> None:
    for url in ("http://example.org/a.png", "HTTPS://example.org/a.png"):
        assert "which this server does not fetch" in refusal("image", url)


@pytest.mark.parametrize(
    ("kind", "url", "problem"),
    [
        ("image", "data:image/png,abc", "image 1 of the request: the data URI is not base64"),
        ("image", "data:image/png;base64", "not base64"),
        ("image", "data:" + "x" * 10_000_000, "not base64"),
        ("image", "data:image/png;" + "x" * 1_000_000 + ";base64,AAAA", "not base64"),
        ("image", "data:image/png;base64,AA\nAA", "outside one base64 alphabet"),
        ("image", "data:image/png;base64,AAAAA", "impossible length"),
        ("image", uri(picture(), "video/mp4"), "not of an image type; write it as data:image/png"),
        ("video", uri(picture()), "not of a video type; write it as data:video/mp4"),
        ("image", uri(b"", "image/png"), "is empty"),
        ("video", uri(b"", "video/mp4"), "0 bytes"),
        (
            "image",
            uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
            "is not a JPEG, PNG, WebP, GIF or",
        ),
        ("image", uri(encoded(Image.new("L", (4, 4)), "TIFF"), "image/tiff"), "is not a JPEG, PNG, WebP, GIF or BMP"),
    ],
)
def test_data_uris_that_are_refused(kind: str, url: str, problem: str) -> None:
    assert problem in refusal(kind, url)


def test_messages_number_the_media_of_a_request() -> None:
    with Gate().request() as request:
        request.open_bytes("image", picture())
        with pytest.raises(MediaError, match=r"^image 2 of the request is not a JPEG"):
            request.open_bytes("image", b"secret words")


def test_too_many_media_are_refused_before_any_is_opened(decoded: list[int]) -> None:
    with Gate().request() as request:
        with pytest.raises(MediaError, match=r"has 10,000 images and videos; at most 32 are taken, send fewer"):
            request.expect(10_000)
        for _ in range(32):
            request.open_bytes("image", picture())
        with pytest.raises(MediaError, match="has 33 images and videos"):
            request.open_bytes("image", picture())
    assert len(decoded) == 32


def test_bytes_are_counted_over_the_request_and_before_they_are_decoded(decoded: list[int]) -> None:
    data = picture()
    with Gate(GateLimits(max_bytes=3 * len(data))).request() as request:
        for _ in range(3):
            request.open("image", uri(data))
        with pytest.raises(MediaError, match=rf"with image 4 of the request there are more than {3 * len(data)} bytes"):
            request.open("image", uri(data))
        with pytest.raises(MediaError, match="with image 5 of the request there are more than"):
            request.open("image", "data:image/png;base64," + "%" * 10_000_000)  # by its length: not even looked at
    assert len(decoded) == 3


def test_pixels_are_counted_of_each_picture_and_over_the_request() -> None:
    with Gate(GateLimits(max_pixels=200, max_total_pixels=500)).request() as request:
        with pytest.raises(MediaError, match=r"21 x 10 pixels, more than the limit of 200; make it smaller$"):
            request.open_bytes("image", picture(21, 10))
        for _ in range(2):
            request.open_bytes("image", picture(20, 10))
        with pytest.raises(MediaError, match=r"more than the limit of 100; a request may have 500 in all"):
            request.open_bytes("image", picture(20, 10))
        request.open_bytes("image", picture(10, 10))


def test_frames_are_counted_walked_and_kept(video: bytes) -> None:
    two = FrameSampling(limit=2)
    with Gate(GateLimits(max_frames=3)).request() as request:
        with pytest.raises(MediaError, match=r"with video 1 of the request more than 3 frames are asked for"):
            request.open_bytes("video", video, FrameSampling(limit=4))
        request.open_bytes("video", video, two)
        with pytest.raises(MediaError, match=r"more than 3 frames are asked for; send fewer videos or take fewer"):
            request.open_bytes("video", video, two)
    with Gate(GateLimits(max_walked=30)).request() as request:
        request.open_bytes("video", video, two)
        with pytest.raises(MediaError, match=r"video 2 of the request, after 20 frames and 1.9 seconds .* 10 frames"):
            request.open_bytes("video", video, two)


def test_seconds_and_pixels_of_videos_are_counted(video: bytes) -> None:
    two = FrameSampling(limit=2)
    with Gate(GateLimits(max_duration=2.5)).request() as request:
        request.open_bytes("video", video, two)
        with pytest.raises(MediaError, match=r"it lasts more than 0.6 seconds; cut it shorter"):
            request.open_bytes("video", video, two)
    with Gate(GateLimits(max_total_pixels=3 * 64 * 48)).request() as request:
        request.open_bytes("video", video, two)
        with pytest.raises(MediaError, match=r"2 of its frames have more than 3072 pixels in all"):
            request.open_bytes("video", video, two)


def test_decoding_time_is_counted_over_the_request(video: bytes) -> None:
    with Gate(GateLimits(seconds=0.01)).request() as request:
        with pytest.raises(MediaError, match=r"could not be decoded within 0.01 seconds"):
            request.open_bytes("video", video)
        with pytest.raises(MediaError, match=r"with video 2 of the request its videos take more than 0.01 seconds"):
            request.open_bytes("video", video)


def test_a_request_lowers_limits_and_raises_none() -> None:
    gate = Gate(GateLimits(max_media=5, max_bytes=1000))
    wide = GateLimits(**{field.name: 10**12 for field in fields(GateLimits)})
    with gate.request(wide) as request:
        assert request.limits == gate.limits
    with gate.request(GateLimits(max_media=2, max_bytes=5000)) as request:
        assert (request.limits.max_media, request.limits.max_bytes) == (2, 1000)


def test_requests_are_counted_apart() -> None:
    gate = Gate(GateLimits(max_media=1))
    for _ in range(3):
        with gate.request() as request:
            request.open_bytes("image", picture())


def test_limits_below_zero_are_no_limits() -> None:
    with pytest.raises(ConfigError, match=r"GateLimits.max_walked is below zero"):
        GateLimits(max_walked=-1)


def test_so_many_videos_are_decoded_at_one_time_and_no_more(video: bytes) -> None:
    gate = Gate(GateLimits(decoders=1, seconds=0.3))
    inside, over = threading.Event(), threading.Event()

    def occupy() -> None:
        with gate.decoding(1.0):
            inside.set()
            over.wait(30)

    other = threading.Thread(target=occupy)
    other.start()
    try:
        assert inside.wait(30)
        with gate.request() as request, pytest.raises(BusyError, match="too many videos are being decoded"):
            request.open_bytes("video", video)
    finally:
        over.set()
        other.join()
    with gate.decoding(0.0):  # free again
        pass
