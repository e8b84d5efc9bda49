"""The parts of a model, written down: what a zoo row holds and what a checkpoint saves of itself.

A `ModelRow` (one YAML in `model_zoo/`) names parts and where their weights come from; the parts' own configs are
complete enough to rebuild each module with no network and no name looked up anywhere.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mminstruct.chat_template import TemplateConfig
from mminstruct.config import Config


class ImageConfig(Config):
    """How a picture becomes `[3, size, size]` numbers.

    `resize`: `squash` ignores the aspect ratio; `pad` first pastes the picture on a square of the mean colour (LLaVA's
    `image_aspect_ratio: pad`); `crop` scales the shorter edge and cuts the centre (CLIP's own).
    """

    size: int = Field(gt=0)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resize: Literal["squash", "pad", "crop"] = "squash"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"


class EncoderConfig(Config):
    """A vision encoder.

    Attributes:
        source: the library that builds it.
        name: the library's name of the architecture (timm, open_clip), or the hub repository whose weights are taken
            (transformers).
        architecture: keyword arguments of `timm.create_model`; open_clip's `vision_cfg`; a transformers config with
            its `model_type`. This alone rebuilds the module.
        weights: the pretrained tag (open_clip) or `true` (timm, transformers) when `create` may fetch weights.
        layer: which transformer layer is read, counted as in Python (-2 is the last but one, LLaVA's choice); layers
            behind it are not built. `null` reads the encoder's final output.
        feature: `patch`, or `cls_patch` to keep the class token in front.
        norm: put a LayerNorm on the features (for encoders trained from scratch).
    """

    source: Literal["timm", "open_clip", "transformers"]
    name: str
    architecture: dict[str, Any] = Field(default_factory=dict)
    weights: bool | str = False
    layer: int | None = Field(default=None, lt=0)
    feature: Literal["patch", "cls_patch"] = "patch"
    norm: bool = False
    image: ImageConfig


class ConnectorConfig(Config):
    """A connector by its name, with its own options."""

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)


class LanguageModelConfig(Config):
    """Any `AutoModelForCausalLM`: a transformers config with its `model_type`; `name` is the hub repository."""

    architecture: dict[str, Any]
    name: str | None = None
    weights: bool = False


class TokenizerConfig(Config):
    """Where the tokenizer comes from: a hub repository, or `folder` (relative to the zoo row's file)."""

    name: str | None = None
    folder: str | None = None
    pad_token: str | None = None


class Origin(Config):
    """Who made a model and on which terms."""

    url: str
    licence: str
    paper: str | None = None


class TinyConfig(Config):
    """The same kinds of parts, small enough for any CPU: what the test that walks the zoo builds."""

    vision_encoder: dict[str, Any]
    connector: dict[str, Any] = Field(default_factory=dict)
    image_size: int = 32
    language_model: dict[str, Any]


class ModelRow(Config):
    """One model of the zoo.

    A row's YAML may name a `base`, another row: whatever top-level key it gives stands in place of the base's.
    """

    name: str
    summary: str
    vision_encoder: EncoderConfig
    connector: ConnectorConfig
    language_model: LanguageModelConfig
    tokenizer: TokenizerConfig
    chat_template: TemplateConfig
    origin: Origin
    tiny: TinyConfig
