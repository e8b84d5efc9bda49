"""Several towers behind one contract: each sees the same picture, normalised in its own way, and features are joined.

pixel_values [n, 3, H, W] ─back to 0..1─▶ ─each tower's mean and std─▶ towers [n, P, D_i]
channel:    [n, P, sum of D_i]                 Prismatic, arXiv 2402.07865, section 4.2
interleave: [n, number of towers x P, D]       mixture of features, arXiv 2401.06209, section 4.3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from mminstruct.errors import ConfigError
from mminstruct.models.config import FusedConfig, ImageConfig
from mminstruct.models.encoders.base import Tower, VisionEncoder


class FusedEncoder(VisionEncoder):
    """Towers side by side.

    Raises:
        ConfigError: the towers want different pictures, give different numbers of patches, or, to be interleaved,
            features of different widths.
    """

    config: FusedConfig

    def __init__(self, config: FusedConfig, towers: Sequence[Tower]) -> None:
        super().__init__()
        self.config = config
        self._check_images()
        self.towers = nn.ModuleList(towers)
        self.origin = " + ".join(tower.origin for tower in towers)
        widths = [tower.hidden_size for tower in towers]
        if config.fusion == "interleave" and len(set(widths)) > 1:
            raise ConfigError(
                f"interleaved towers need features of one width, found {self._named(widths)}; "
                "choose architectures or layers of equal width, or use fusion: channel"
            )
        self.hidden_size = sum(widths) if config.fusion == "channel" else widths[0]
        self.num_patches(config.image.size, config.image.size)  # towers that do not fit are found here

    def num_patches(self, height: int, width: int) -> int:
        counts = [tower.num_patches(height, width) for tower in self._each_tower()]
        if len(set(counts)) > 1:
            raise ConfigError(
                f"fused towers must give equally many tokens of a picture, found {self._named(counts)} at "
                f"{height} x {width} pixels; choose patch sizes, an image size and features that agree"
            )
        return counts[0] if self.config.fusion == "channel" else sum(counts)

    def pixels(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """`[n, 3, H, W]`, prepared as `config.image` says, for each tower as that tower was trained to see it.

        Means and stds are made of the config each time: as buffers `.to(dtype)` would round them, and transformers' own
        loader would leave them empty, since no checkpoint holds them.
        """

        def moments(image: ImageConfig) -> torch.Tensor:
            return torch.tensor([image.mean, image.std], device=pixel_values.device).view(2, 3, 1, 1)

        mean, std = moments(self.config.image)
        between_0_and_1 = pixel_values.float() * std + mean
        towers = [moments(tower.image) for tower in self.config.towers]
        return [((between_0_and_1 - mean) / std).to(pixel_values.dtype) for mean, std in towers]

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.towers, self.pixels(pixel_values), strict=True)
        features = [tower(pixels) for tower, pixels in pairs]
        if self.config.fusion == "channel":
            return torch.cat(features, dim=2)
        return torch.stack(features, dim=2).flatten(1, 2)

    def checkpoint_activations(self, enable: bool) -> None:
        for tower in self._each_tower():
            tower.checkpoint_activations(enable)

    def _each_tower(self) -> list[Tower]:
        return cast(list[Tower], list(self.towers))  # a ModuleList has forgotten what it holds

    def _check_images(self) -> None:
        wanted = self.config.image
        for tower in self.config.towers:
            for key in ("size", "resize", "interpolation"):
                own, shared = getattr(tower.image, key), getattr(wanted, key)
                if own != shared:
                    raise ConfigError(
                        f"the picture is prepared once for all towers: the fused encoder has image.{key} {shared!r}, "
                        f"its tower {tower.name!r} has {own!r}; write the same in both"
                    )

    def _named(self, numbers: Sequence[int]) -> str:
        named = zip(self.config.towers, numbers, strict=True)
        return ", ".join(f"{number} from {tower.name!r}" for tower, number in named)
