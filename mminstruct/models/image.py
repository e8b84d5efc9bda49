"""From a picture or a video to the numbers an encoder takes: cut, resize, scale to 0..1, normalise.

    picture ─▶ [t, 3, S, S]: itself, or (tiling) first the whole of it and then its tiles, row by row
    video   ─▶ [f, 3, S, S]

Pillow and numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from mminstruct.media import Video
from mminstruct.models.config import ImageConfig
from mminstruct.models.layout import Layout, Medium

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Prepared:
    """A medium ready for the encoder: `pixels` `[t, 3, S, S]`, float32, and what they are of."""

    pixels: torch.Tensor
    medium: Medium

    @property
    def inputs(self) -> tuple[str, torch.Tensor]:
        """The model's name for what it takes of the medium, and that: one row for each tile or frame."""
        return "pixel_values", self.pixels


@dataclass(frozen=True)
class Features:
    """A medium that the encoder has seen already: `features` `[t, P, D]`, and what they are of."""

    features: torch.Tensor
    medium: Medium

    @property
    def inputs(self) -> tuple[str, torch.Tensor]:
        """As `Prepared.inputs`."""
        return "features", self.features


def prepare(picture: Image.Image | Video, config: ImageConfig, layout: Layout) -> Prepared:
    """A picture with its tiles, where the model wants any, or the frames of a video."""
    if isinstance(picture, Video):
        frames = torch.stack([to_pixels(frame, config) for frame in picture.frames])
        width, height = picture.size
        return Prepared(frames, Medium(len(frames), height, width))
    width, height = picture.size
    tiles = [picture] if layout.tiling is None else [picture, *cut(picture, config, layout)]
    return Prepared(torch.stack([to_pixels(tile, config) for tile in tiles]), Medium(0, height, width))


def cut(picture: Image.Image, config: ImageConfig, layout: Layout) -> list[Image.Image]:
    """The tiles of a picture, row by row: it is scaled into the best resolution and centred there on black.

    `process_anyres_image` and `resize_and_pad_image` of `llava/mm_utils.py`; transformers' LlavaNextImageProcessorPil.
    """
    height, width = layout.resolution(picture.height, picture.width)
    across, down = width / picture.width, height / picture.height
    if across < down:
        size = (width, min(math.ceil(picture.height * across), height))
    else:
        size = (min(math.ceil(picture.width * down), width), height)
    scaled = picture.resize(size, _FILTERS[config.interpolation])
    whole = Image.new("RGB", (width, height))
    whole.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
    tile = layout.tile
    return [
        whole.crop((left, top, left + tile, top + tile))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]


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
