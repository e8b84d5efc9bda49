"""`open_image`: every kind of good picture becomes upright RGB, every kind of bad one a one-line `MediaError`."""

from __future__ import annotations

import base64
import io
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from mminstruct.errors import MediaError
from mminstruct.media import ImageLimits, decode_base64, image, image_size, open_image

# Pillow warns of damaged metadata and of large pictures; here they are damaged and large on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]


def encoded(picture: Image.Image, name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, name, **options)
    return stream.getvalue()


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def photo(width: int = 24, height: int = 16) -> Image.Image:
    """A smooth picture of which no turn or mirror image equals another."""
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, x / 2], axis=-1).astype(np.uint8))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> bytes:
    """A valid PNG header of any size with almost no data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def refused(source: str | Path | bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(MediaError) as caught:
        open_image(source, limits or ImageLimits())
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is None  # nothing of the untrusted bytes travels along
    return message


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_opens_from_path_data_uri_and_bytes(name: str, tmp_path: Path) -> None:
    data = encoded(photo(), name)
    path = tmp_path / "picture.dat"  # the format is chosen by the bytes, not by the name
    path.write_bytes(data)
    uri = f"data:image/{name.lower()};base64," + base64.b64encode(data).decode()
    for source in (path, str(path), uri, data):
        picture = open_image(source)
        assert (picture.mode, picture.size, picture.info) == ("RGB", (24, 16), {})
        assert np.abs(pixels(picture) - pixels(photo())).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_upright_once(name: str, orientation: int) -> None:
    stored = {  # how a camera stores the upright picture under each orientation
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
        6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
        7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
        8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
    }[orientation](photo())
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if name in ("JPEG", "WEBP") else {}
    picture = open_image(encoded(stored, name, exif=exif, **options))
    assert picture.size == photo().size
    assert np.abs(pixels(picture) - pixels(photo())).mean() < 12
    assert picture.getexif().get(0x0112) is None  # so that nobody turns it again


def test_unreadable_exif_leaves_the_picture_as_stored() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0" + b"II*\0\xff\xff\xff\xff" + b"\0" * 8)
    assert open_image(data).size == (24, 16)


def four(values: list[Any], mode: str) -> Image.Image:
    picture = Image.new(mode, (2, 2))
    picture.putdata(values)
    return picture


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_flattened_on_white(name: str) -> None:
    values = [(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 255)]
    options = {"lossless": True, "exact": True} if name == "WEBP" else {}
    picture = open_image(encoded(four(values, "RGBA"), name, **options))
    assert pixels(picture).reshape(-1, 3).tolist() == [list(c) for c in (RED, WHITE, WHITE, BLACK)]


def test_half_transparent_black_is_middle_grey() -> None:
    assert open_image(encoded(four([(0, 0, 0, 128)] * 4, "RGBA"), "PNG")).getpixel((0, 0)) == (127, 127, 127)


def test_grey_with_alpha() -> None:
    picture = open_image(encoded(four([(0, 255), (0, 0), (200, 255), (200, 0)], "LA"), "PNG"))
    assert pixels(picture)[..., 0].ravel().tolist() == [0, 255, 200, 255]


def palette_picture() -> Image.Image:
    picture = four([0, 1, 2, 1], "P")
    picture.putpalette([255, 0, 0, 0, 0, 255, 0, 0, 0])
    return picture


@pytest.mark.parametrize("name", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(name: str) -> None:
    picture = open_image(encoded(palette_picture(), name))
    assert pixels(picture).reshape(-1, 3).tolist() == [[255, 0, 0], [0, 0, 255], [0, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize(("name", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00\xff"), ("GIF", 1)])
def test_transparent_palette_entry_is_white(name: str, transparency: int | bytes) -> None:
    picture = open_image(encoded(palette_picture(), name, transparency=transparency))
    assert pixels(picture).reshape(-1, 3).tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 0], [255, 255, 255]]


def test_transparent_colour_of_rgb_and_grey_is_white() -> None:
    rgb = encoded(four([(1, 2, 3), RED, (1, 2, 3), BLACK], "RGB"), "PNG", transparency=(1, 2, 3))
    assert pixels(open_image(rgb)).reshape(-1, 3).tolist() == [list(c) for c in (WHITE, RED, WHITE, BLACK)]
    grey = encoded(four([7, 9, 7, 0], "L"), "PNG", transparency=7)
    assert pixels(open_image(grey))[..., 0].ravel().tolist() == [255, 9, 255, 0]


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(name: str) -> None:
    values = np.array([[0, 257, 32768], [65535, 128, 129]], dtype=np.uint16)
    picture = open_image(encoded(Image.fromarray(values), name))
    assert pixels(picture)[..., 0].tolist() == [[0, 1, 128], [255, 0, 1]]


def test_sixteen_bit_grey_with_a_transparent_level() -> None:
    values = np.array([[1000, 1001], [65535, 0]], dtype=">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 0, 0, 0, 0))
    data += png_chunk(b"tRNS", struct.pack(">H", 1001)) + png_chunk(b"IDAT", zlib.compress(rows))
    picture = open_image(data + png_chunk(b"IEND", b""))
    assert pixels(picture)[..., 0].tolist() == [[4, 255], [255, 0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100], [200, 255]], dtype=np.int32), [[0, 100], [200, 255]]),
        (np.array([[-1000, 0], [500, 1000]], dtype=np.int32), [[0, 128], [191, 255]]),
        (np.array([[0.0, 0.25], [0.5, 1.0]], dtype=np.float32), [[0, 64], [128, 255]]),
        (np.array([[10.0, 20.0], [30.0, 60.0]], dtype=np.float32), [[0, 51], [102, 255]]),
        (np.array([[7.5, 7.5], [7.5, 7.5]], dtype=np.float32), [[0, 0], [0, 0]]),
    ],
)
def test_32_bit_and_float_greys(values: np.ndarray, expected: list[list[int]]) -> None:
    assert pixels(open_image(encoded(Image.fromarray(values), "TIFF")))[..., 0].tolist() == expected


def test_float_grey_that_is_not_finite_is_refused() -> None:
    data = encoded(Image.fromarray(np.array([[np.nan, 1.0]], dtype=np.float32)), "TIFF")
    assert "not finite" in refused(data)


def test_one_bit_grey_and_cmyk() -> None:
    assert pixels(open_image(encoded(four([0, 255, 255, 0], "1"), "PNG")))[..., 1].ravel().tolist() == [0, 255, 255, 0]
    assert open_image(encoded(Image.new("L", (2, 2), 77), "JPEG")).getpixel((0, 0)) == (77, 77, 77)
    for name in ("JPEG", "TIFF"):
        picture = open_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), name))
        assert np.abs(pixels(picture) - np.array(RED)).max() < 8


def test_colour_mode_without_a_way_to_rgb_is_refused() -> None:
    with pytest.raises(MediaError, match=r"a\.tif has the colour mode La, which cannot be turned into RGB"):
        image._rgb(Image.new("La", (2, 2)), "a.tif")


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_picture_of_an_animation(name: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLACK)]
    options = {"lossless": True} if name == "WEBP" else {}
    data = encoded(frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert open_image(data).getpixel((0, 0)) == RED


# What is refused


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    assert refused(missing) == (f"the image {missing} does not exist; check the path and the folder it is relative to")
    assert refused(tmp_path) == f"{tmp_path} is a folder; give the path of an image file"
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    assert refused(fifo) == f"{fifo} is not a regular file; give the path of an image file"  # and does not hang
    assert "not a regular file" in refused("/dev/zero")
    assert "no valid path" in refused("a\0b.png")
    assert "cannot be read" in refused("x" * 5000)
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be read (Not a directory)" in refused(tmp_path / "file" / "a.png")


def test_empty_file_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.write_bytes(b"")
    assert refused(path) == f"{path} is empty; fetch or write the file again"
    assert refused(b"") == "the image (0 bytes) is empty; fetch or write the file again"


def test_text_under_an_image_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_text("<html>SECRET not an image</html>")
    message = refused(path)
    assert message.startswith(f"{path} is not a JPEG, PNG, WebP, GIF, BMP or TIFF image")
    assert "convert it" in message and "SECRET" not in message
    assert "the image (12 bytes) is not a" in refused(b"%PDF-1.7 abc")


@pytest.mark.parametrize("make", [lambda: b"P6 2 2 255\n" + b"\0" * 12, lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_formats_beyond_the_six_are_not_tried(make: Callable[[], bytes]) -> None:
    assert "is not a JPEG, PNG" in refused(make())


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_plugin_of_the_format_is_given_the_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opener = mock.Mock(wraps=Image.open)
    monkeypatch.setattr(Image, "open", opener)
    open_image(encoded(photo(), name))
    assert [call.kwargs for call in opener.call_args_list] == [{"formats": [name]}]


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_files(name: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, name)
    path = tmp_path / "cut"
    for kept in (len(data) // 2, 12):
        path.write_bytes(data[:kept])
        message = refused(path)
        assert message.startswith(f"{path} is a broken") and name in message and "again" in message


@pytest.mark.parametrize("name", FORMATS)
def test_random_damage_never_escapes_as_another_error(name: str) -> None:
    data = encoded(photo(), name)
    generator = np.random.default_rng(1)
    for _ in range(150):
        damaged = np.frombuffer(data, dtype=np.uint8).copy()
        places = generator.integers(0, len(damaged), size=generator.integers(1, 8))
        damaged[places] = generator.integers(0, 256, size=len(places))
        try:
            picture = open_image(damaged.tobytes(), ImageLimits(max_pixels=1_000_000))
        except MediaError as error:
            assert "\n" not in str(error)
        else:
            assert picture.mode == "RGB"


def test_too_many_bytes_are_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate(10**12)  # a sparse file: reading it would not fit in memory
    message = refused(path)
    assert (
        "1,000,000,000,000 bytes, more than the limit of 67,108,864" in message and "ImageLimits.max_bytes" in message
    )
    data = encoded(photo(), "PNG")
    assert "more than the limit of 10;" in refused(data, ImageLimits(max_bytes=10))
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    assert "more than the limit of 10;" in refused(uri, ImageLimits(max_bytes=10))
    assert "more than the limit of 10;" in refused(uri + "!", ImageLimits(max_bytes=10))  # measured before decoded


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (12_000, 10_000), (9_000, 8_000)])
def test_decompression_bombs_are_refused_before_decoding(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(width, height))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refused(path)
    assert "pixels" in message and "make it smaller" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # in KiB; decoded: at least 206 MB


def test_pixel_limit_can_be_set() -> None:
    data = encoded(photo(), "PNG")
    assert open_image(data, ImageLimits(max_pixels=24 * 16)).size == (24, 16)
    assert "24 x 16 pixels, more than the limit of 383" in refused(data, ImageLimits(max_pixels=24 * 16 - 1))


def test_data_uris_that_are_refused() -> None:
    assert "not base64" in refused("data:image/png,abc")
    assert "not base64" in refused("data:image/png;base64")
    assert "not of an image type" in refused("data:text/plain;base64,aGk=")
    assert "outside one base64 alphabet" in refused("data:image/png;base64,%%%%")
    assert refused("data:image/png;base64,") == "the image in the data URI is empty; fetch or write the file again"
    assert "is not a JPEG" in refused("data:image/png;base64,aGVsbG8gd29ybGQ=")


def test_decode_base64_accepts_both_alphabets_and_missing_padding() -> None:
    for data in (b"", b"a", b"ab", b"abc", bytes(range(256)), b"\xfb\xff\xfe"):
        for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
            assert decode_base64(text) == data
            assert decode_base64(text.rstrip("=")) == data


@pytest.mark.parametrize(
    "text", ["a", "aaaaa", "aa=", "aaa==", "aa===", "aaaa=", "a a a", "aaaa\n", "=", "aa=a", "+a-a", "ä", "aaé="]
)
def test_decode_base64_is_strict_otherwise(text: str) -> None:
    with pytest.raises(MediaError, match="base64"):
        decode_base64(text)


def test_importing_the_package_loads_no_pillow_and_media_loads_no_torch() -> None:
    code = (
        "import sys, mminstruct; assert 'PIL' not in sys.modules;"
        "import mminstruct.media; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_the_size_is_known_by_the_header(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (70, 31)).save(path)
    assert image_size(path) == open_image(path).size == (70, 31)
    path.write_bytes(path.read_bytes()[:3])
    with pytest.raises(MediaError, match=r"a\.\w+ is (not a|a broken)"):
        image_size(path)


def test_the_size_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("jpg", "png"):
        Image.new("RGB", (70, 31)).save(tmp_path / f"a.{ending}", exif=exif)
        assert image_size(tmp_path / f"a.{ending}") == open_image(tmp_path / f"a.{ending}").size == (31, 70)
