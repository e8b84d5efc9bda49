"""One way to open an image: a path, a data URI or encoded bytes become an upright RGB picture, or a `MediaError`.

    source ──size limit──▶ bytes ──first bytes say the format──▶ header ──pixel limit──▶ pixels
           ──upright (EXIF)──▶ ──alpha on white, 16-bit scaled──▶ PIL image, mode RGB

Files come from anywhere, so nothing is decoded before its size is known, only six formats are tried, and no text out
of the file reaches a message. Of an animated or multi-page file the first picture counts. Colour profiles are not
applied, as in the image processors of transformers and open_clip.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from mminstruct.errors import MediaError
from mminstruct.media.data_uri import decode_base64, least_size, split_data_uri
from mminstruct.media.jpeg import most_scans, scans

# Pillow's name of each accepted format, and the bytes that a file of it begins with.
_MAGIC = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM"),
    "TIFF": re.compile(rb"II[*+]\x00|MM\x00[*+]"),
}
FORMATS = tuple(_MAGIC)


@dataclass(frozen=True)
class ImageLimits:
    """The largest image that is opened: encoded bytes, and pixels as the header states them.

    `advice` is what a message tells to do about an image that is too large, where its sender cannot raise the limits.
    `formats` are opened, by the names that Pillow has for them; all that are accepted, or fewer.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 64_000_000
    advice: str | None = None
    formats: tuple[str, ...] = FORMATS

    def remedy(self, name: str) -> str:
        """What to do about an image beyond the limit of this name."""
        return self.advice or f"make it smaller or raise ImageLimits.{name}"


DEFAULT_LIMITS = ImageLimits()

# Pillow's format plugins are parsers in Python and C; on broken bytes they raise all of these.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # width and height change places


def open_image(source: str | Path | bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """The picture in a file (str or Path), in a base64 data URI (str that begins with `data:`) or in encoded bytes.

    The result is decoded, upright, of mode RGB, and carries no metadata.

    Raises:
        MediaError: the source is missing, empty, no regular file, too large, not of an accepted format, or broken.
    """
    if isinstance(source, bytes):
        return decode_image(source, f"the image ({len(source)} bytes)", limits)
    if isinstance(source, str) and source.startswith("data:"):
        where, data = "the image in the data URI", _read_data_uri(source, limits)
    else:
        where, data = str(source), _read_file(Path(source), limits)
    return _decode(where, data, limits)


def decode_image(data: bytes, where: str, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """The picture in encoded bytes; messages begin with `where`. Raises `MediaError` as `open_image` does."""
    _check_size(where, len(data), limits)
    return _decode(where, data, limits)


def read_image(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[bytes, Image.Image]:
    """A file's bytes, read once, and the picture that `open_image` makes of them; raises `MediaError` as that does."""
    data = _read_file(path, limits)
    return data, _decode(str(path), data, limits)


def image_suffix(data: bytes) -> str:
    """How the name of a file with these encoded bytes ends, by the first of them; "" where no format is accepted."""
    name = next((name for name, magic in _MAGIC.items() if magic.match(data)), None)
    return "" if name is None else f".{name.lower()}"


def image_size(source: str | Path, limits: ImageLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Width and height that `open_image` would give, by the header alone: a file's pixels are not read.

    An EXIF block that a PNG has behind its pixels is not seen.

    Raises:
        MediaError: as `open_image`, but for what is wrong with the pixels.
    """
    if isinstance(source, str) and source.startswith("data:"):
        where = "the image in the data URI"
        return _upright_size(_header(where, io.BytesIO(_read_data_uri(source, limits)), limits))
    path = Path(source)
    with _opened(path, limits) as stream:
        return _upright_size(_header(str(path), stream, limits))


def _upright_size(picture: ImageFile.ImageFile) -> tuple[int, int]:
    width, height = picture.size
    if picture.format == "PNG" and "exif" not in picture.info:
        return width, height  # Pillow would decode all of it to see whether a block stands behind the pixels
    return (height, width) if _orientation(picture) in _SIDEWAYS else (width, height)


def _read_data_uri(uri: str, limits: ImageLimits) -> bytes:
    text = split_data_uri(uri)
    # Measured before decoding, so that an oversized text is never decoded.
    _check_size("the image in the data URI", least_size(text), limits, least=0)
    data = decode_base64(text)
    _check_size("the image in the data URI", len(data), limits)
    return data


def _read_file(path: Path, limits: ImageLimits) -> bytes:
    with _opened(path, limits) as stream:
        measured = os.fstat(stream.fileno()).st_size  # asking for max_bytes at once would make room for all of them
        data = stream.read(measured + 1)
        if len(data) > measured:
            data += stream.read(limits.max_bytes + 1 - len(data))
    _check_size(str(path), len(data), limits)  # the file may have grown since it was measured
    return data


@contextlib.contextmanager
def _opened(path: Path, limits: ImageLimits) -> Iterator[BinaryIO]:
    """The file, open, if it is a regular one of a size within the limits."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise MediaError(f"{path} is {kind}; give the path of an image file")
        _check_size(str(path), status.st_size, limits)
        with path.open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise MediaError(f"the image {path} does not exist; check the path and the folder it is relative to") from None
    except OSError as error:
        raise MediaError(f"the image {path} cannot be read ({error.strerror}); check the path and its rights") from None
    except ValueError:
        raise MediaError(f"{str(path)!r} is no valid path; give the path of an image file") from None


def _check_size(where: str, size: int, limits: ImageLimits, least: int = 1) -> None:
    if size < least:
        raise MediaError(f"{where} is empty; fetch or write the file again")
    if size > limits.max_bytes:
        raise MediaError(
            f"{where} has {size:,} bytes, more than the limit of {limits.max_bytes:,}; {limits.remedy('max_bytes')}"
        )


def _header(where: str, stream: BinaryIO, limits: ImageLimits) -> ImageFile.ImageFile:
    """The picture as far as its header says what it is; no pixel is decoded."""
    beginning = stream.read(16)
    stream.seek(0)
    name = next((name for name in limits.formats if _MAGIC[name].match(beginning)), None)
    if name is None:
        *others, last = ["WebP" if name == "WEBP" else name for name in limits.formats]
        raise MediaError(
            f"{where} is not a {', '.join(others)} or {last} image (its first bytes say so, whatever its name); "
            f"convert it to one of them, or remove it"
        )
    try:
        picture = Image.open(stream, formats=[name])
        width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        if limits.advice is not None:
            raise MediaError(
                f"{where} has more pixels than the limit of {limits.max_pixels:,}; {limits.advice}"
            ) from None
        raise MediaError(
            f"{where} has more pixels than Pillow's own limit; make it smaller, "
            f"or raise PIL.Image.MAX_IMAGE_PIXELS for files you trust"
        ) from None
    except _DECODER_ERRORS:
        raise MediaError(f"{where} is a broken {name} image (bad header); fetch or write the file again") from None
    if width * height > limits.max_pixels:
        raise MediaError(
            f"{where} has {width:,} x {height:,} pixels, more than the limit of {limits.max_pixels:,}; "
            f"{limits.remedy('max_pixels')}"
        )
    if width < 1 or height < 1:
        raise MediaError(f"{where} is a {name} image of {width} x {height} pixels; fetch or write the file again")
    return picture


def _decode(where: str, data: bytes, limits: ImageLimits) -> Image.Image:
    picture = _header(where, io.BytesIO(data), limits)
    width, height = picture.size
    most = most_scans(width * height)
    if picture.format == "JPEG" and scans(data, most) > most:
        raise MediaError(f"{where} is a JPEG image of more than {most} scans; save it as a baseline JPEG")
    try:
        picture.load()
    except _DECODER_ERRORS:
        raise MediaError(
            f"{where} is a broken or truncated {picture.format} image of {width} x {height} pixels; "
            f"fetch or write the file again"
        ) from None
    return _rgb(_upright(picture), where)


def _upright(picture: ImageFile.ImageFile) -> Image.Image:
    """The picture turned as its EXIF orientation says."""
    turn = _UPRIGHT.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: ImageFile.ImageFile) -> int:
    """As EXIF numbers it; 1, upright, where nothing is said."""
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG)
    except _DECODER_ERRORS:
        # The pixels are whole; a metadata block that nobody can read says nothing of how they stand.
        return 1
    return orientation if isinstance(orientation, int) else 1


def _rgb(picture: Image.Image, where: str) -> Image.Image:
    """The picture in mode RGB: transparent places white, deep greys scaled to 8 bits, no metadata."""
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bit_grey(picture, where)
    try:
        if picture.has_transparency_data:
            canvas = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            canvas.alpha_composite(picture.convert("RGBA"))
            picture = canvas
        converted = picture.convert("RGB")
    except _DECODER_ERRORS:
        raise MediaError(
            f"{where} has the colour mode {picture.mode}, which cannot be turned into RGB; convert it to RGB or grey"
        ) from None
    # `convert` copies the EXIF block; left in, whoever honours it next would turn the picture a second time.
    converted.info.clear()
    return converted


def _eight_bit_grey(picture: Image.Image, where: str) -> Image.Image:
    """A 16-bit, 32-bit or float grey picture as mode L, or LA where the file names one grey as transparent.

    16 bits have a fixed white, 65535. 32-bit integers and floats have none: values that fit 0..255, or 0..1 for
    floats, are taken for what they seem; others are stretched from their least to their greatest.
    """
    transparent = picture.info.get("transparency")
    if picture.mode.startswith("I;16"):
        levels = np.asarray(picture)
        table = np.rint(np.arange(65536, dtype=np.float32) * (255.0 / 65535.0)).astype(np.uint8)
        return _with_transparent(table[levels], levels, transparent)
    values = np.asarray(picture).astype(np.float32)
    if not np.isfinite(values).all():
        raise MediaError(f"{where} has grey values that are not finite; convert it to an 8-bit or 16-bit image")
    low, high = (0.0, 1.0) if picture.mode == "F" else (0.0, 255.0)
    if values.min() < low or values.max() > high:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return _with_transparent(np.rint(scaled).astype(np.uint8), values, transparent)


def _with_transparent(grey: np.ndarray, values: np.ndarray, transparent: object) -> Image.Image:
    """The grey picture; where the file names one of its values as transparent, with alpha."""
    picture = Image.fromarray(grey)
    if isinstance(transparent, int):
        picture.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return picture
