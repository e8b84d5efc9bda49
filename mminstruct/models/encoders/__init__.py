"""Vision encoders from timm, open_clip and transformers, alone or fused, behind one contract."""

from __future__ import annotations

from mminstruct.models.config import EncoderConfig, FusedConfig, OpenClipConfig, TimmConfig, TransformersConfig
from mminstruct.models.encoders.base import Tower, VisionEncoder
from mminstruct.models.encoders.fused import FusedEncoder


def build(config: EncoderConfig, pretrained: bool = False) -> VisionEncoder:
    """The encoder that a config describes.

    Args:
        pretrained: fetch the weights that the config names; otherwise they are random.

    Raises:
        ConfigError: the architecture does not exist, cannot give the layer or feature that is asked for, or the
            towers of a fused encoder do not fit together.
    """
    if isinstance(config, FusedConfig):
        return FusedEncoder(config, [_tower(tower, pretrained) for tower in config.towers])
    return _tower(config, pretrained)


def _tower(config: TimmConfig | OpenClipConfig | TransformersConfig, pretrained: bool) -> Tower:
    """One library's encoder; only that library is imported."""
    if isinstance(config, TimmConfig):
        from mminstruct.models.encoders.timm_encoder import TimmEncoder

        return TimmEncoder(config, pretrained)
    if isinstance(config, OpenClipConfig):
        from mminstruct.models.encoders.open_clip_encoder import OpenClipEncoder

        return OpenClipEncoder(config, pretrained)
    from mminstruct.models.encoders.transformers_encoder import TransformersEncoder

    return TransformersEncoder(config, pretrained)


__all__ = ["FusedEncoder", "Tower", "VisionEncoder", "build"]
