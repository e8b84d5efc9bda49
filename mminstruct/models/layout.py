"""Which vectors of a picture or a video stand in the prompt, and in what order. Data and model ask the same object.

    a medium (frames, height, width); frames is 0 for a picture
    picture ──tiles──▶ [t, 3, S, S] ──encoder, connector──▶ [t, N, H] ──arrange──▶ [tokens, H]
    video   ──frames─▶ [f, 3, S, S] ──encoder, connector──▶ [f, N, H] ──pool─────▶ [f x M, H]

Without tiling a picture is one tile, and its N vectors stand as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional
from transformers.image_processing_utils import select_best_resolution

from mminstruct.errors import ConfigError
from mminstruct.models.config import TilingConfig, VideoConfig
from mminstruct.models.connectors.base import square_side


class Medium(NamedTuple):
    """A picture (`frames` 0) or a video, as large as it was opened, in pixels."""

    frames: int
    height: int
    width: int


class Layout:
    """See the module.

    Args:
        tile: S, height and width of what the encoder takes.
        vectors: N, how many the connector gives for one tile.
        in_prompt: whether they stand in the prompt; where they stand beside it, a medium takes one place there.

    Raises:
        ConfigError: resolutions that are no multiples of the tile, or vectors that lie on no grid where one is needed.
    """

    def __init__(
        self,
        tile: int,
        vectors: int,
        tiling: TilingConfig | None = None,
        video: VideoConfig = VideoConfig(),  # noqa: B008 - frozen
        in_prompt: bool = True,
    ) -> None:
        self.tile, self.vectors, self.tiling, self.video, self.in_prompt = tile, vectors, tiling, video, in_prompt
        if not in_prompt and (tiling is not None or video.pool > 1):
            raise ConfigError("gated cross-attention looks at whole media; take tiling and video.pool out")
        if tiling is not None:
            for resolution in tiling.resolutions:
                if any(edge <= 0 or edge % tile for edge in resolution):
                    raise ConfigError(
                        f"tiling.resolutions has {list(resolution)}, but a tile is {tile} x {tile} pixels; "
                        "give multiples of it"
                    )
            if tiling.merge == "spatial_unpad":
                square_side(vectors, "tiling.merge spatial_unpad")
        if video.pool > 1:
            side = square_side(vectors, "video.pool")
            if video.pool > side:
                raise ConfigError(f"video.pool is {video.pool}, but a frame has only {side} x {side} vectors")

    # ---- counting --------------------------------------------------------------------------------------------------

    def resolution(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that a picture of this size is brought to before it is cut. Only with tiling."""
        assert self.tiling is not None
        best: tuple[int, int] = select_best_resolution((height, width), list(self.tiling.resolutions))
        return best

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tiles. Only with tiling."""
        best = self.resolution(height, width)
        return best[0] // self.tile, best[1] // self.tile

    def tiles(self, medium: Medium) -> int:
        """How many pictures of the tile's size the encoder sees of it."""
        if medium.frames:
            return medium.frames
        return 1 + math.prod(self.grid(medium.height, medium.width)) if self.tiling is not None else 1

    def most_tiles(self) -> int:
        """Of one picture, whatever its size."""
        if self.tiling is None:
            return 1
        return 1 + max(height * width for height, width in self.tiling.resolutions) // self.tile**2

    def tokens(self, medium: Medium) -> int:
        """How many places it takes in the prompt."""
        if not self.in_prompt:
            return 1
        if medium.frames:
            return medium.frames * self.frame_tokens()
        if self.tiling is None:
            return self.vectors
        if self.tiling.merge == "flat":
            return self.tiles(medium) * self.vectors
        rows, columns = self._seen(medium)
        return self.vectors + (rows.stop - rows.start) * (columns.stop - columns.start + 1)

    def most_tokens(self) -> int:
        """Of one picture, whatever its size."""
        sizes = [(self.tile, self.tile)] if self.tiling is None else self.tiling.resolutions
        return max(self.tokens(Medium(0, *size)) for size in sizes)

    def frame_tokens(self) -> int:
        """M, the places of one frame of a video."""
        pool = self.video.pool
        if pool == 1:
            return self.vectors
        side = math.isqrt(self.vectors)
        pooled = -(-side // pool) if self.video.pool_mode == "bilinear" else side // pool
        return pooled * pooled

    def _seen(self, medium: Medium) -> tuple[slice, slice]:
        """Rows and columns of the whole grid of vectors that saw more than padding (`unpad_image`, LLaVA-NeXT)."""
        side = math.isqrt(self.vectors)
        down, across = (count * side for count in self.grid(medium.height, medium.width))
        if medium.width / medium.height > across / down:
            margin = (down - int(round(medium.height * (across / medium.width), 7))) // 2
            return slice(margin, down - margin), slice(0, across)
        margin = (across - int(round(medium.width * (down / medium.height), 7))) // 2
        return slice(0, down), slice(margin, across - margin)

    # ---- arranging -------------------------------------------------------------------------------------------------

    def arrange(
        self, vectors: torch.Tensor, media: Sequence[Medium], newline: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The vectors of all media, in the order of their places.

        Args:
            vectors: `[T, N, H]`, of all tiles and frames of `media` in order.
            newline: `[H]`, for `spatial_unpad`.

        Returns:
            `[sum of tokens, H]`.
        """
        if self.tiling is None and not any(medium.frames for medium in media):
            return vectors.flatten(0, 1)  # what stands in every batch of most models, without a loop
        return torch.cat(list(self._arranged(vectors, media, newline)))

    def _arranged(
        self, vectors: torch.Tensor, media: Sequence[Medium], newline: torch.Tensor | None
    ) -> Iterator[torch.Tensor]:
        start = 0
        for medium in media:
            own = vectors[start : start + self.tiles(medium)]
            start += len(own)
            if medium.frames:
                yield self._pool(own).flatten(0, 1)
            elif self.tiling is None or self.tiling.merge == "flat":
                yield own.flatten(0, 1)
            else:
                yield own[0]
                yield self._unpad(own[1:], medium, newline)

    def _unpad(self, tiles: torch.Tensor, medium: Medium, newline: torch.Tensor | None) -> torch.Tensor:
        """`[rows x columns of tiles, N, H] -> [tokens, H]`: one grid, unpadded, a newline behind each of its rows."""
        assert newline is not None  # the model has one wherever tiles are merged so
        (down, across), side = self.grid(medium.height, medium.width), math.isqrt(self.vectors)
        grid = tiles.view(down, across, side, side, -1).transpose(1, 2).reshape(down * side, across * side, -1)
        rows, columns = self._seen(medium)
        grid = grid[rows, columns]
        ends = newline.to(grid.dtype).expand(grid.shape[0], 1, -1)
        return torch.cat([grid, ends], dim=1).flatten(0, 1)

    def _pool(self, frames: torch.Tensor) -> torch.Tensor:
        """`[f, N, H] -> [f, M, H]`."""
        pool = self.video.pool
        if pool == 1:
            return frames
        side = math.isqrt(self.vectors)
        grid = frames.transpose(1, 2).unflatten(2, (side, side))
        if self.video.pool_mode == "bilinear":
            size = -(-side // pool)
            grid = functional.interpolate(grid, size=(size, size), mode="bilinear")
        elif self.video.pool_mode == "max":
            grid = functional.max_pool2d(grid, pool)
        else:
            grid = functional.avg_pool2d(grid, pool)
        return grid.flatten(2).transpose(1, 2)
