"""The table of attacks on the gate: each is refused in one line, or is opened as the picture that it begins with."""

from __future__ import annotations

import base64
import io
import os
import resource
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mminstruct.errors import MediaError
from mminstruct.media import FrameSampling, Gate, GateLimits, Video, VideoLimits, encode_clip, encode_png, open_video
from mminstruct.media.jpeg import most_scans, scans

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
RED = (200, 30, 30)


def photo(width: int = 64, height: int = 48) -> Image.Image:
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, x / 2], axis=-1).astype(np.uint8))


def encoded(picture: Image.Image, name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, name, **options)
    return stream.getvalue()


def clip(frames: int = 20) -> bytes:
    return encode_clip([photo().rotate(9 * number) for number in range(frames)], 10)


def opened(data: bytes) -> Image.Image:
    with Gate().request() as request:
        picture = request.open_bytes("image", data)
    assert isinstance(picture, Image.Image)
    return picture


def refused(data: bytes, kind: str = "image", limits: GateLimits | None = None) -> str:
    """The message; in one line, and with nothing of paths, tracebacks or the decoders' own words."""
    sampling = FrameSampling(limit=2)
    with Gate().request(limits) as request, pytest.raises(MediaError) as caught:
        request.open_bytes(kind, data, sampling)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(f"{kind} 1 of the request") and "\n" not in message and ";" in message
    assert not [word for word in ("/", "PIL", "av.", "ffmpeg", "Errno", "0x", "Traceback") if word in message], message
    assert caught.value.__cause__ is None
    return message


# --- pictures ---------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        png_of_size(100_000, 100_000),
        png_of_size(2**31 - 1, 2**31 - 1),
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"\x2c" + bytes(20),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 90_000, 90_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["png", "largest png", "gif", "bmp"],
)
def test_a_picture_of_ten_thousand_million_pixels(data: bytes) -> None:
    started = time.process_time()
    assert "pixels" in refused(data)
    assert time.process_time() - started < 0.5


def test_a_picture_of_one_pixel_too_many_is_not_decoded() -> None:
    limits = GateLimits(max_pixels=64 * 48 - 1)
    assert "64 x 48 pixels, more than the limit of 3,071" in refused(encoded(photo(), "PNG"), limits=limits)


def test_formats_that_are_slow_to_decode_have_a_limit_of_their_own() -> None:
    limits = GateLimits(max_pixels_slow=64 * 48 - 1)
    for name in ("PNG", "WEBP", "GIF", "BMP"):
        assert "than the limit of 3,071; make it smaller or save it as a JPEG" in refused(
            encoded(photo(), name), limits=limits
        )
    with Gate(limits).request() as request:
        request.open_bytes("image", encoded(photo(), "JPEG"))


def gif_of_frames(count: int) -> bytes:
    """A first frame as Pillow writes it, then as many of one pixel."""
    first = encoded(photo(8, 8).quantize(4), "GIF")
    one = b"\x21\xf9\x04\x00\x0a\x00\x00\x00\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    return first.removesuffix(b";") + one * count + b";"


def test_a_gif_of_a_hundred_thousand_frames_costs_no_more_than_its_first() -> None:
    few, many = gif_of_frames(1), gif_of_frames(100_000)

    def seconds(data: bytes) -> float:
        started = time.process_time()
        for _ in range(5):
            assert opened(data).size == (8, 8)
        return time.process_time() - started

    seconds(few)
    # What is left is to copy the bytes; walking over the frames takes ten times as long.
    assert seconds(many) < seconds(few) + 0.05
    with Image.open(io.BytesIO(many)) as walked:
        assert walked.n_frames == 100_001  # type: ignore[attr-defined]


def test_a_gif_of_a_hundred_thousand_frames_is_no_video() -> None:
    assert "more than 36000 frames; cut it shorter" in refused(gif_of_frames(100_000), "video")


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, (0, 0, 0))]
    for name in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if name == "WEBP" else {}
        data = encoded(frames[0], name, save_all=True, append_images=frames[1:] * 3, **options)
        assert opened(data).getpixel((0, 0)) == RED


def jpeg_of_scans(count: int, side: int = 800) -> bytes:
    """A grey progressive JPEG with one scan that paints it, and empty ones after that, of a few bytes each."""
    blocks = (side // 8) ** 2
    tables = b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    tables += b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, side, side, 1) + bytes([1, 0x11, 0])
    tables += b"\xff\xc4" + struct.pack(">HB", 20, 0x00) + bytes([1, *[0] * 15, 0])
    tables += b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1, *[0] * 15, 0xE0])
    first = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 0, 0) + bytes(blocks // 8)
    run = "0" + "1" * 14  # an empty band of 32,767 blocks
    bits = run * -(-blocks // 32767)
    body = int(bits + "1" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big").replace(b"\xff", b"\xff\0")
    return (
        b"\xff\xd8"
        + tables
        + first
        + (b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0) + body) * count
        + b"\xff\xd9"
    )


def test_a_jpeg_of_thousands_of_empty_scans() -> None:
    """27 kB that would take a decoder 0.6 s; 60 MB would take hours."""
    assert (most_scans(800 * 800), most_scans(64_000_000), most_scans(10**10)) == (100, 23, 1)
    assert opened(jpeg_of_scans(99)).size == (800, 800)
    assert "JPEG image of more than 100 scans" in refused(jpeg_of_scans(2000))


def test_scans_are_counted_as_a_decoder_does() -> None:
    assert scans(encoded(photo(), "JPEG"), 100) == 1
    assert scans(encoded(photo(), "JPEG", progressive=True), 100) == 10
    exif = Image.Exif()
    exif[0x010E] = "\xda".join(["x"] * 500)
    behind = b"\xff\xda" * 500  # a phone's clip behind the picture's end has such bytes by chance
    assert scans(encoded(photo(), "JPEG", comment=behind, exif=exif) + behind, 100) == 1


def test_a_truncated_jpeg_at_every_percent_of_its_length() -> None:
    for options in ({}, {"progressive": True}):
        data = encoded(photo(320, 240), "JPEG", quality=90, **options)
        whole = np.asarray(opened(data))
        answers = []
        for percent in range(100):
            try:
                answers.append(np.array_equal(np.asarray(opened(data[: len(data) * percent // 100])), whole))
            except MediaError as error:
                assert "\n" not in str(error)
                answers.append(None)
        assert answers == [None] * 100  # no part of it passes for the whole


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file",
        b"%PDF-1.7\n",
        b"<html><body>GIF89a</body></html>",
        b"P6 1 1 255\nabc",
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        b"\0\0\1\0\1\0" + bytes(100),
        b"\x7fELF" + bytes(100),
        b"#!/bin/sh\nid\n",
        zlib.compress(bytes(1000)),
    ],
    ids=["svg", "svg with an entity", "eps", "pdf", "html", "ppm", "jpeg 2000", "icon", "elf", "script", "zlib"],
)
def test_what_is_no_picture_of_an_accepted_format(data: bytes) -> None:
    assert "is not a JPEG, PNG, WebP, GIF or BMP image" in refused(data)


def zip_of(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as shut:
        shut.writestr(name, content)
    return stream.getvalue()


SCRIPT = b"<script>alert(document.domain)</script>"


@pytest.mark.parametrize(
    "data",
    [
        encoded(photo(), "PNG") + zip_of("evil.js", b"alert(1)"),
        encoded(photo().quantize(16), "GIF") + zip_of("evil.class", b"\xca\xfe\xba\xbe"),
        encoded(photo(), "JPEG", comment=SCRIPT) + SCRIPT,
        encoded(photo(), "BMP") + SCRIPT,
        encoded(photo(), "WEBP", exif=b"Exif\0\0" + SCRIPT),
        encoded(photo(), "PNG").replace(b"IEND", b"IEND", 1)[:-12]
        + chunk(b"tEXt", b"Comment\0" + SCRIPT)
        + chunk(b"IEND", b""),
    ],
    ids=["png and zip", "gif and jar", "html in a jpeg", "html behind a bmp", "html in webp's exif", "html in a png"],
)
def test_a_polyglot_is_the_picture_that_it_begins_with_and_nothing_else_goes_further(data: bytes) -> None:
    picture = opened(data)
    assert picture.size == (64, 48) and not picture.info
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(photo())).mean() < 25
    shown = encode_png(picture)
    for hidden in (b"PK\x03\x04", b"evil", SCRIPT, b"script"):
        assert hidden not in shown


def test_a_polyglot_that_begins_with_something_else_is_refused() -> None:
    for data in (
        zip_of("a.png", encoded(photo(), "PNG")),
        SCRIPT + encoded(photo(), "JPEG"),
        b"\n" + encoded(photo(), "PNG"),
    ):
        assert "is not a JPEG" in refused(data)


def test_a_png_of_a_small_header_and_endless_rows_takes_no_memory() -> None:
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(200_000_000), 9)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert opened(data).size == (8, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_png_of_a_text_that_unpacks_to_gigabytes_is_refused() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    data = encoded(photo(), "PNG")
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        body = b"a\0\0" + bomb if kind != b"iTXt" else b"a\0\1\0\0\0" + bomb
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            assert opened(data[:33] + chunk(kind, body) + data[33:]).size == (64, 48)
        except MediaError as error:
            assert "broken" in str(error)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


# --- requests ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_images_in_one_request() -> None:
    url = "data:image/png;base64," + base64.b64encode(encoded(photo(), "PNG")).decode()
    with Gate().request() as request:
        with pytest.raises(MediaError, match=r"has 10,000 images and videos; at most 32 are taken"):
            request.expect(10_000)
        with pytest.raises(MediaError, match=r"has 33 images and videos"):
            for _ in range(10_000):
                request.open("image", url)


@pytest.mark.parametrize(
    "url", ["x" * 10_000_000, "data:" + "x" * 10_000_000, "file://" + "../" * 3_000_000, "http://" + "a" * 10_000_000]
)
def test_ten_megabytes_of_text_in_a_url(url: str) -> None:
    started = time.process_time()
    with Gate().request() as request, pytest.raises(MediaError) as caught:
        request.open("image", url)
    assert time.process_time() - started < 0.5 and len(str(caught.value)) < 200


# --- videos -----------------------------------------------------------------------------------------------------------


def test_a_header_that_lies_about_frames_and_length_changes_nothing() -> None:
    """An MP4 says how long it lasts (mvhd, tkhd, mdhd) and how many frames there are (stts, stsz)."""
    data = clip(40)

    def patched(name: bytes, offset: int, value: int) -> bytes:
        at = data.index(name) + 4 + offset
        return data[:at] + struct.pack(">I", value) + data[at + 4 :]

    limits = GateLimits(max_walked=30)
    for lie in (patched(b"mvhd", 16, 1), patched(b"mdhd", 16, 1), patched(b"tkhd", 20, 1)):
        assert "more than 30 frames" in refused(lie, "video", limits)  # counted, whatever was said
    for lie in (patched(b"stsz", 8, 10**9), patched(b"stts", 4, 10**9), patched(b"mdhd", 16, 2**32 - 1)):
        started = time.monotonic()
        with Gate().request() as request:
            try:
                video = request.open_bytes("video", lie, FrameSampling(limit=2))
                assert isinstance(video, Video) and len(video.frames) == 2
            except MediaError as error:
                assert "\n" not in str(error)
        assert time.monotonic() - started < 25


def test_frames_that_are_larger_than_their_header_says() -> None:
    """An MJPEG's frames are pictures of their own, so the container's size is only talk."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="avi") as container:
        video = container.add_stream("mjpeg", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        for _ in range(3):
            container.mux(video.encode(av.VideoFrame.from_image(photo())))
        container.mux(video.encode())
    small, large = encoded(photo(), "JPEG"), encoded(photo(640, 480), "JPEG", quality=5)
    data = stream.getvalue()
    start, end = data.index(b"\xff\xd8"), data.index(b"\xff\xd9") + 2
    assert len(small) > 0
    padded = large + bytes(max(0, end - start - len(large)))
    shift = len(padded) - (end - start)
    lie = bytearray(data[:start] + padded + data[end:])
    struct.pack_into("<I", lie, start - 4, len(padded))
    movi = data.index(b"movi") - 4
    struct.pack_into("<I", lie, movi, struct.unpack_from("<I", data, movi)[0] + shift)
    message = refused(bytes(lie), "video", GateLimits(max_pixels=64 * 48))
    assert "its frames have 640 x 480 pixels" in message or "cannot be decoded" in message


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n" + b"#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n" * 10_000,
        b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\n" + b"file '/dev/zero'\n" * 10_000,
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period/></MPD>",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 9 RTP/AVP 96\r\n",
        b"file,/etc/passwd",
        b"concat:/etc/passwd|/etc/hosts",
        b";FFMETADATA1\ntitle=x\n",
        b"0,0,0,1,12,0x1\n" * 10,
    ],
    ids=["hls", "hls of a file", "concat", "dash", "sdp", "name", "concat protocol", "metadata", "checksums"],
)
def test_playlists_and_texts_open_nothing(data: bytes) -> None:
    assert "it cannot be decoded" in refused(data, "video") or "holds no" in refused(data, "video")


def test_a_playlist_reaches_no_server(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        refused(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n".encode(), "video")
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_video_of_a_codec_that_nobody_knows() -> None:
    data = clip(3).replace(b"avc1", b"zzzz")
    assert "it cannot be decoded" in refused(data, "video") or "not known here" in refused(data, "video")


def test_decoding_is_stopped_by_the_clock_and_by_memory() -> None:
    data = clip()
    assert "within 0.02 seconds" in refused(data, "video", GateLimits(seconds=0.02))
    message = refused(data, "video", GateLimits(memory=2**20))
    assert "memory" in message or "crashed the video decoder" in message or "cannot be decoded" in message


PROBE = """
import json, os, resource, socket, sys
from pathlib import Path
from mminstruct.media import decode
found = {"variables": sorted(os.environ), "path": "" in sys.path}
decode.load_decoder()
decode.give_up_rights(2 << 30, 30)
def fails(act):
    try:
        act()
    except OSError:
        return True
    return False
found["reads"] = not fails(lambda: open("/etc/passwd"))
found["writes"] = not fails(lambda: open("/tmp/mminstruct-probe", "w"))
found["connects"] = not fails(lambda: socket.socket())
found["core"] = resource.getrlimit(resource.RLIMIT_CORE)
found["cpu"] = resource.getrlimit(resource.RLIMIT_CPU)
found["written"] = resource.getrlimit(resource.RLIMIT_FSIZE)
found["memory"] = resource.getrlimit(resource.RLIMIT_AS)
print(json.dumps(found))
"""


def test_the_decoding_process_has_no_rights() -> None:
    import json

    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, env=environment, check=True)
    found = json.loads(done.stdout)
    assert not (found["reads"] or found["writes"] or found["connects"])
    assert found["core"] == [0, 0] and found["written"] == [0, 0] and found["cpu"] == [31, 31]
    assert found["memory"] == [2 << 30, 2 << 30]


def test_the_decoding_process_gets_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from mminstruct.media import sandbox

    monkeypatch.setenv("MMINSTRUCT_SECRET", "key")
    seen: dict[str, object] = {}
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        seen.update(options, command=command)
        return real(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(sandbox.subprocess, "Popen", popen)
    with Gate().request() as request:
        request.open_bytes("video", clip(3), FrameSampling(limit=1))
    variables = seen["env"]
    assert isinstance(variables, dict)
    assert set(variables) <= {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SYSTEMROOT", "LD_LIBRARY_PATH"}
    assert isinstance(seen["command"], list) and seen["command"][1] == "-I"


def test_a_decoder_that_was_taken_over_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever a child writes instead of frames: no more is read than was allowed, and no text of it comes through."""
    from mminstruct.media import sandbox

    (tmp_path / "a.mp4").write_bytes(clip(3))
    says = [
        '{"width": 100000, "height": 100000, "timestamps": [0], "frames": 1, "seconds": 0}',
        '{"width": 8, "height": 8, "timestamps": [' + "0," * 5000 + '0], "frames": 1, "seconds": 0}',
        '{"width": 8, "height": 8, "timestamps": [0], "frames": 1, "seconds": 0}',  # and no frame
        '{"width": -8, "height": 8, "timestamps": [0], "frames": 1, "seconds": 0}',
        "[" * 100_000,
        "secret",
        "",
    ]
    for line in says:
        monkeypatch.setattr(sandbox, "_START", f"import sys; sys.stdout.write({line!r} + chr(10)); sys.exit(1)")
        with pytest.raises(MediaError, match=r"a\.mp4 crashed the video decoder; the file is broken$"):
            open_video(tmp_path / "a.mp4", FrameSampling(limit=2), VideoLimits())
    monkeypatch.setattr(sandbox, "_START", "import time; time.sleep(60)")
    with pytest.raises(MediaError, match=r"within 0\.3 seconds"):
        open_video(tmp_path / "a.mp4", FrameSampling(limit=2), VideoLimits(seconds=0.3))
