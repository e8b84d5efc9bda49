"""Writing a picture for a server that takes so many pixels and bytes: as PNG, or where that is too large as JPEG."""

from __future__ import annotations

import io

from PIL import Image

from mminstruct.errors import MediaError
from mminstruct.media.encode_png import encode_png


def encode_picture(picture: Image.Image, max_pixels: int, max_bytes: int) -> bytes:
    """The bytes of a file with the picture, made smaller where it has more than `max_pixels`.

    Raises:
        MediaError: neither a PNG nor a JPEG of it has at most `max_bytes`.
    """
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        scale = (max_pixels / pixels) ** 0.5
        picture = picture.resize((max(1, int(picture.width * scale)), max(1, int(picture.height * scale))))
    data = encode_png(picture)
    if len(data) > max_bytes:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=95)
        data = stream.getvalue()
    if len(data) > max_bytes:
        raise MediaError(f"a picture of {picture.width} x {picture.height} is larger than the server takes; shrink it")
    return data
