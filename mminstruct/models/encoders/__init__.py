"""Vision encoders from timm, open_clip and transformers behind one contract."""

from __future__ import annotations

from mminstruct.models.config import EncoderConfig
from mminstruct.models.encoders.base import VisionEncoder


def build(config: EncoderConfig, pretrained: bool = False) -> VisionEncoder:
    """The encoder that a config describes.

    Args:
        pretrained: fetch the weights that the config names; otherwise they are random.

    Raises:
        ConfigError: the architecture does not exist or cannot give the layer that is asked for.
    """
    if config.source == "timm":
        from mminstruct.models.encoders.timm_encoder import TimmEncoder

        return TimmEncoder(config, pretrained)
    if config.source == "open_clip":
        from mminstruct.models.encoders.open_clip_encoder import OpenClipEncoder

        return OpenClipEncoder(config, pretrained)
    from mminstruct.models.encoders.transformers_encoder import TransformersEncoder

    return TransformersEncoder(config, pretrained)


__all__ = ["VisionEncoder", "build"]
