"""PNGs of one's own: the pixels that were given, in whatever mode, and what readers other than ours make of them."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from mminstruct.media import encode_png, open_image


def noise(mode: str, size: tuple[int, int], colors: int) -> Image.Image:
    rng = random.Random(f"{mode}/{size}/{colors}")
    picture = Image.frombytes(mode, size, bytes(rng.randrange(colors) for _ in range(size[0] * size[1])))
    if mode == "P":
        picture.putpalette([rng.randrange(256) for _ in range(3 * colors)])
    return picture


def read(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
    return picture


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 5), (33, 20)])
@pytest.mark.parametrize(
    ("colors", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (200, 8), (256, 8)]
)
def test_palettes_keep_every_pixel_in_the_fewest_bits(size, colors, bits):
    picture = noise("P", size, colors)
    data = encode_png(picture)
    assert data[24] == bits  # the header's byte of bits a sample
    back = read(data)
    assert back.size == size
    assert np.array_equal(np.asarray(back.convert("RGB")), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("size", [(1, 1), (5, 9)])
def test_greys_keep_every_pixel(size):
    picture = noise("L", size, 256)
    back = read(encode_png(picture))
    assert back.mode == "L"
    assert back.tobytes() == picture.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (33, 20)])
def test_colors_keep_every_pixel_in_a_file_about_as_large_as_pillows(size):
    rng = random.Random(str(size))
    for source in (bytes(rng.randrange(256) for _ in range(3 * size[0] * size[1])), bytes(3 * size[0] * size[1])):
        picture = Image.frombytes("RGB", size, source)
        data = encode_png(picture)
        back = read(data)
        assert back.mode == "RGB" and back.tobytes() == source
        expected = io.BytesIO()
        picture.save(expected, "PNG")
        assert len(data) < 1.1 * len(expected.getvalue()) + 20


@pytest.mark.parametrize("mode", ["1", "RGBA", "LA", "I;16"])
def test_other_modes_are_as_pillow_writes_them(mode):
    picture = noise("L", (9, 7), 256).convert("I").convert(mode) if mode == "I;16" else noise("L", (9, 7), 256)
    picture = picture.convert(mode)
    back = read(encode_png(picture))
    assert back.mode == mode
    assert back.tobytes() == picture.tobytes()


def test_transparency_of_a_palette_is_kept():
    picture = noise("P", (6, 6), 4)
    picture.info["transparency"] = 2
    expected = io.BytesIO()
    picture.save(expected, "PNG")
    assert open_image(encode_png(picture)).tobytes() == open_image(expected.getvalue()).tobytes()


def test_one_picture_has_one_encoding():
    assert encode_png(noise("P", (50, 40), 9)) == encode_png(noise("P", (50, 40), 9))
