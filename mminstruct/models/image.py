"""From a picture to the numbers an encoder takes: resize, scale to 0..1, normalise. Pillow and numpy only."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from mminstruct.models.config import ImageConfig

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def to_pixels(picture: Image.Image, config: ImageConfig) -> torch.Tensor:
    """An RGB picture as `[3, size, size]` float32, as the encoder was trained to see it.

    `crop` and `pad` give what transformers' CLIPImageProcessor gives (for `pad` behind LLaVA's `expand2square`).
    """
    size, resample = config.size, _FILTERS[config.interpolation]
    if config.resize == "pad":
        picture = pad_to_square(picture, tuple(int(255 * value) for value in config.mean))  # type: ignore[arg-type]
    if config.resize == "crop":
        picture = _scale_shorter_edge(picture, size, resample)
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    elif picture.size != (size, size):
        picture = picture.resize((size, size), resample)
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1).contiguous()
    mean, std = torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)
    return (pixels / 255.0 - mean) / std


def pad_to_square(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """The picture centred on a square of one colour (`expand2square`, `llava/mm_utils.py`)."""
    side = max(picture.size)
    if picture.size == (side, side):
        return picture
    square = Image.new("RGB", (side, side), colour)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def _scale_shorter_edge(picture: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    width, height = picture.size
    if width <= height:
        return picture.resize((size, int(size * height / width)), resample)
    return picture.resize((int(size * width / height), size), resample)
