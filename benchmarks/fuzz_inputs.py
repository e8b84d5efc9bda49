"""What `fuzz.py` sends: small whole files of every format, and random changes of them."""

from __future__ import annotations

import base64
import copy
import io
import json
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import av
import numpy as np
from PIL import Image

# --- whole files ------------------------------------------------------------------------------------------------------


def _photo(width: int = 24, height: int = 16) -> Image.Image:
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, x / 2], axis=-1).astype(np.uint8))


def _encoded(picture: Image.Image, name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, name, **options)
    return stream.getvalue()


@cache
def pictures() -> tuple[bytes, ...]:
    """Every accepted format in its modes, with animations, orientations and palettes; a TIFF, which is not accepted."""
    photo = _photo()
    grey, alpha, palette = photo.convert("L"), photo.convert("RGBA"), photo.quantize(16)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [photo.rotate(90), photo.rotate(180)]}
    made = [
        _encoded(photo, "JPEG"),
        _encoded(photo, "JPEG", progressive=True, exif=exif),
        _encoded(photo.convert("CMYK"), "JPEG"),
        _encoded(grey, "JPEG", progressive=True),
        _encoded(photo, "JPEG", subsampling=0, restart_marker_rows=1),
        _encoded(palette, "PNG", transparency=3),
        _encoded(photo, "PNG", exif=exif, dpi=(72, 72)),
        _encoded(alpha, "PNG", **frames),
        *(_encoded(mode, "PNG") for mode in (photo, grey, alpha, palette, deep, grey.convert("1"), grey.convert("LA"))),
        _encoded(photo, "WEBP"),
        _encoded(alpha, "WEBP", lossless=True, exif=exif),
        _encoded(photo, "WEBP", **frames),
        _encoded(palette, "GIF", transparency=2),
        _encoded(photo, "GIF", **frames),
        *(_encoded(mode, "BMP") for mode in (photo, grey, palette, grey.convert("1"), alpha)),
        _encoded(photo, "TIFF"),
    ]
    return tuple(made)


@cache
def videos() -> tuple[bytes, ...]:
    """A dozen frames in every container that is accepted and can be written here."""
    kinds = (
        ("mp4", "libx264", "yuv420p"),
        ("mov", "mpeg4", "yuv420p"),
        ("matroska", "libx264", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mpegts", "mpeg2video", "yuv420p"),
        ("mpeg", "mpeg1video", "yuv420p"),
        ("flv", "flv1", "yuv420p"),
        ("asf", "wmv2", "yuv420p"),
        ("gif", "gif", "rgb8"),
    )
    made = []
    for container, codec, pixels in kinds:
        stream = io.BytesIO()
        with av.open(stream, "w", format=container) as output:
            video: Any = output.add_stream(codec, rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, pixels
            for number in range(12):
                frame = av.VideoFrame.from_image(_photo(64, 48).rotate(30 * number))
                output.mux(video.encode(frame))
            output.mux(video.encode())
        made.append(stream.getvalue())
    return tuple(made)


@cache
def archives() -> tuple[bytes, ...]:
    files = {"a.txt": b"first" * 50, "folder/b.bin": bytes(range(256)) * 4, "folder/deeper/c": b""}
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as shut:
            for name, content in files.items():
                shut.writestr(zipfile.ZipInfo(name), content, method)
        made.append(stream.getvalue())
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode=mode, format=form) as tar:  # type: ignore[call-overload]
                for name, content in {**files, "é" * 70 + "/long": b"x"}.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            made.append(stream.getvalue())
    return tuple(made)


# --- mutations --------------------------------------------------------------------------------------------------------

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, -1)


def mutated(rng: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    """One of the seeds after one to six changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(min(6, 1 + int(rng.expovariate(0.7)))):
        _change(rng, data, seeds)
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        return _png_with_checksums(bytes(data))
    return bytes(data)


def _change(rng: random.Random, data: bytearray, seeds: tuple[bytes, ...]) -> None:
    size = len(data)
    # Headers decide more than bodies.
    at = rng.randrange(min(size, 160) if rng.random() < 0.5 else size) if size else 0
    length = min(size - at, int(rng.expovariate(1 / 30)) + 1)
    match rng.randrange(9):
        case 0 if size:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + length] = rng.randbytes(length)
        case 2 | 3:
            width = rng.choice((1, 2, 4, 8))
            value = rng.choice(_NUMBERS) if rng.random() < 0.8 else rng.getrandbits(64)
            data[at : at + width] = (value % 256**width).to_bytes(width, rng.choice(("big", "little")))
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = rng.randbytes(length)
        case 6:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        case 7:
            del data[at:]
        case _:
            other = rng.choice(seeds)
            cut = rng.randrange(len(other))
            data[at:] = other[cut:] if rng.random() < 0.7 else data[at:] + other


def _png_with_checksums(data: bytes) -> bytes:
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + length]
        parts += [data[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join([*parts, data[at:]])


def forged_png(rng: random.Random) -> bytes:
    """A PNG with right checksums of which the header says anything at all."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    side = (1, 2, 7, 64, 1000, 8000, 65535, 100_000, 2**31 - 1)
    header = struct.pack(
        ">IIBBBBB",
        rng.choice(side),
        rng.choice(side),
        rng.choice((1, 2, 4, 8, 16, 3)),
        rng.choice((0, 2, 3, 4, 6, 5)),
        0,
        0,
        rng.choice((0, 1)),
    )
    extras = [
        chunk(kind, rng.randbytes(rng.choice((0, 1, 6, 30, 768)))) for kind in (b"PLTE", b"tRNS", b"acTL", b"iCCP")
    ]
    rows = zlib.compress(rng.randbytes(rng.randrange(200)) + bytes(rng.choice((0, 1000, 1_000_000))))
    middle = [one for one in extras if rng.random() < 0.4]
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *middle, chunk(b"IDAT", rows), chunk(b"IEND", b"")])


# --- texts ------------------------------------------------------------------------------------------------------------

_SCHEMES = ("data:", "DATA:", "file://", "http://", "https://", "ftp://", "javascript:", "//", "", "data:,", "blob:")
_ALPHABET = "ABCabc019+/=-_,;:%@\\\n\t\0 ü\u202e\ud800🖼{}[]\"'<>"


def changed_text(rng: random.Random, text: str) -> str:
    letters = list(text)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(letters) + 1)
        match rng.randrange(4):
            case 0:
                letters[at:at] = rng.choices(_ALPHABET, k=rng.randrange(1, 5))
            case 1:
                del letters[at : at + rng.randrange(1, 20)]
            case 2:
                letters[at : at + 1] = rng.choice(_ALPHABET)
            case _:
                letters[at:at] = letters[: rng.randrange(1, 40)] * rng.choice((1, 1, 30))
    return "".join(letters)


def data_uri(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(_SCHEMES) + "".join(rng.choices(_ALPHABET, k=rng.choice((0, 3, 50, 100_000))))
    data = rng.choice(pictures()) if rng.random() < 0.5 else mutated(rng, pictures())
    kind = rng.choice(("image/png", "image/jpeg", "image/webp", "image/svg+xml", "IMAGE/x", "text/html", ""))
    encode = rng.choice((base64.b64encode, base64.urlsafe_b64encode))
    text = f"{rng.choice(_SCHEMES[:2])}{kind};{rng.choice(('base64', 'charset=utf-8;base64', 'BASE64', ''))},"
    text += encode(data).decode()
    return text if rng.random() < 0.3 else changed_text(rng, text)


_HOSTS = (
    "images.example.org", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "127.1", "localhost",
    "169.254.169.254", "a.images.example.org.", "images.example.org@127.0.0.1", "user:word@images.example.org",
    "[fe80::1%25eth0]", "[64:ff9b::7f00:1]", "xn--bcher-kva.example", "bücher.example", "", "[", "[::", "a" * 300,
)  # fmt: skip


def web_address(rng: random.Random) -> str:
    port = rng.choice(("", "", ":80", ":443", ":22", ":0", ":65536", ":99999999999", ":x", ":"))
    path = rng.choice(("", "/", "/a.png", "/../../etc/passwd", "?q", "#f", "/%00", "/\r\nHost: x", "/" + "a" * 3000))
    url = rng.choice(("http://", "https://", "HTTP://", "http:/", "http:\\\\")) + rng.choice(_HOSTS) + port + path
    return url if rng.random() < 0.5 else changed_text(rng, url)


# --- requests of the API ----------------------------------------------------------------------------------------------


def _request() -> dict[str, Any]:
    picture = "data:image/png;base64," + base64.b64encode(_encoded(_photo(), "PNG")).decode()
    return {
        "model": "nano",
        "messages": [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is <image> <|im_end|>?"},
                    {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
                ],
            },
            {"role": "assistant", "content": "A ramp."},
            {"role": "user", "content": "And now?"},
        ],
        "max_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"5": -100},
        "presence_penalty": 0.1,
        "n": 1,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "seen", "strict": True, "schema": copy.deepcopy(_SCHEMA)},
        },
    }


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "blue", 3, None]},
        "name": {"type": "string", "pattern": "[a-z]{1,8}( [a-z]+)*", "maxLength": 30},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "where": {"type": "array", "items": {"$ref": "#/$defs/place"}, "minItems": 1, "maxItems": 4},
        "also": {"anyOf": [{"type": "number", "multipleOf": 0.5}, {"const": "none"}, {"$ref": "#"}]},
        "when": {"type": "string", "format": "date-time"},
    },
    "required": ["color", "where"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}}, "patternProperties": {"^y": {}}}},
}
_VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: None,
    lambda rng: rng.choice((True, False, "", "user", "tool", "image_url", "data:", "\ud800", "\0", "x" * 5000)),
    lambda rng: rng.choice((0, -1, 1, 1.5, 1e308, 10**30, -(2**63), 2**64, 0.1)),
    lambda rng: rng.choice(([], {}, [[]], {"type": "text"}, {"url": 1}, [None] * 100)),
    lambda rng: data_uri(rng),
    lambda rng: changed_text(rng, "what is this"),
)


def request_body(rng: random.Random) -> bytes:
    """A chat request with some of its values exchanged, taken away or added, and sometimes with bytes changed."""
    body = _request()
    for _ in range(rng.randrange(5)):
        _change_value(rng, body)
    if rng.random() < 0.02:
        body["messages"] = _request()["messages"] * rng.choice((10, 500))
    try:
        text = json.dumps(body).encode()
    except RecursionError:
        text = b"{}"
    if rng.random() < 0.02:
        text = b"[" * 20_000 + text
    return text if rng.random() < 0.7 else mutated(rng, (text,))


def _change_value(rng: random.Random, place: Any) -> None:
    """Walks down to a random place and changes what is there."""
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = rng.choice(keys)
        below = place[key]
        if isinstance(below, dict | list) and below and rng.random() < 0.7:
            place = below
            continue
        match rng.randrange(4):
            case 0:
                del place[key]
            case 1 if isinstance(place, dict):
                place[changed_text(rng, str(key))] = copy.deepcopy(below)
            case 1 | 2 if isinstance(place, list):
                place.append(copy.deepcopy(below))
            case _:
                place[key] = rng.choice(_VALUES)(rng)
        return
