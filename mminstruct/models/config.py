"""The parts of a model, written down: what a zoo row holds and what a checkpoint saves of itself.

A `ModelRow` (one YAML in `model_zoo/`) names parts and where their weights come from; the parts' own configs are
complete enough to rebuild each module with no network and no name looked up anywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mminstruct.chat_template import TemplateConfig
from mminstruct.config import Config
from mminstruct.media import FrameSampling
from mminstruct.models.row_facts import RowFacts


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


class TilingConfig(Config):
    """Any resolution, as LLaVA-NeXT does it: the whole picture once, and the picture cut into tiles as well.

    Each tile is as large as the encoder's picture (`ImageConfig.size`). Which grid of tiles a picture gets is the
    resolution that keeps most of its pixels, of those the one that wastes least (`select_best_resolution`,
    `llava/mm_utils.py`).

    Attributes:
        resolutions: height and width in pixels that a picture may be brought to, multiples of the tile's.
        merge: `spatial_unpad` puts the tiles' vectors on one grid, takes off what only saw padding and ends each row
            with the newline vector; `flat` lines the tiles up as they are (`mm_patch_merge_type` of
            `llava/model/llava_arch.py`).
    """

    resolutions: tuple[tuple[int, int], ...] = Field(min_length=1)
    merge: Literal["spatial_unpad", "flat"] = "spatial_unpad"


class VideoConfig(Config):
    """How a video becomes pictures: which frames are looked at, and how many vectors each one leaves.

    `pool` joins squares of `pool x pool` vectors of each frame into one (`mm_spatial_pool_stride` of LLaVA-NeXT's video
    models, behind the connector); `bilinear` is LLaVA-OneVision's way.
    """

    sampling: FrameSampling = FrameSampling()
    pool: int = Field(default=1, gt=0)
    pool_mode: Literal["average", "max", "bilinear"] = "average"


class TowerConfig(Config):
    """One vision encoder of one library; the subclasses say which.

    Attributes:
        source: the library that builds it.
        name: the library's name of the architecture (timm, open_clip), or the hub repository whose weights are taken
            (transformers).
        architecture: keyword arguments of `timm.create_model`; open_clip's `vision_cfg`; a transformers config with
            its `model_type`. This alone rebuilds the module.
        weights: the pretrained tag (open_clip) or `true` (timm, transformers) when `create` may fetch weights.
        layer: which transformer layer is read, counted as in Python (-2 is the last but one, LLaVA's choice); layers
            behind it are not built. Several are concatenated in channels, in the order given (transformers'
            `LlavaConfig.vision_feature_layer`). `null` reads the encoder's final output.
        feature: `patch`; `cls_patch` to keep what stands in front of the patches (the class token, then registers,
            where there are some); `cls` for the class token alone.
        norm: put a LayerNorm on the features (for encoders trained from scratch).
    """

    source: str
    name: str
    architecture: dict[str, Any] = Field(default_factory=dict)
    weights: bool | str = False
    layer: int | tuple[int, ...] | None = None
    feature: Literal["patch", "cls_patch", "cls"] = "patch"
    norm: bool = False
    image: ImageConfig

    @field_validator("layer")
    @classmethod
    def _counted_from_the_end(cls, layer: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        if layer == () or (isinstance(layer, tuple) and max(layer) >= 0) or (isinstance(layer, int) and layer >= 0):
            raise ValueError("layers are counted from the end, -1 is the last; give one below 0 or a list of such")
        return layer

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are read, in order; none for the final output."""
        if self.layer is None:
            return ()
        return (self.layer,) if isinstance(self.layer, int) else self.layer


class TimmConfig(TowerConfig):
    source: Literal["timm"]
    weights: bool = False


class TransformersConfig(TowerConfig):
    source: Literal["transformers"]
    weights: bool = False


class OpenClipConfig(TowerConfig):
    source: Literal["open_clip"]

    @field_validator("weights")
    @classmethod
    def _a_tag(cls, weights: bool | str) -> bool | str:
        if weights is True:
            raise ValueError("open_clip has several weights for one architecture; give the tag of one, or false")
        return weights


AnyTowerConfig = Annotated[TimmConfig | OpenClipConfig | TransformersConfig, Field(discriminator="source")]


class FusedConfig(Config):
    """Several towers that look at the same picture, their features joined into one row.

    Attributes:
        towers: each complete, as if it stood alone. Their `image` says by which `mean` and `std` each one is fed, and
            must agree with this config's own in all the rest, because the picture is prepared only once.
        fusion: `channel` concatenates the features of each patch, D is the sum of the widths (Prismatic, arXiv
            2402.07865, section 4.2); `interleave` lets the towers' tokens alternate, P is the sum of their numbers
            (the mixture of features of "Eyes Wide Shut?", arXiv 2401.06209, section 4.3).
        image: how the picture is prepared.
    """

    source: Literal["fused"]
    towers: tuple[AnyTowerConfig, ...] = Field(min_length=2)
    fusion: Literal["channel", "interleave"]
    image: ImageConfig

    @property
    def name(self) -> str:
        return " + ".join(tower.name for tower in self.towers)

    @property
    def weights(self) -> bool:
        """Whether `create` may fetch weights for any of the towers."""
        return any(tower.weights for tower in self.towers)


EncoderConfig = Annotated[TimmConfig | OpenClipConfig | TransformersConfig | FusedConfig, Field(discriminator="source")]


class ConnectorConfig(Config):
    """A connector by its name, with its own options."""

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)


class EveryLayer(Config):
    """Every n-th layer: `every: 2` is the layers 1, 3, 5, ..., counted from 0."""

    every: int = Field(ge=1)


class ExpertExtensionConfig(Config):
    """New experts in the mixture layers of the language model, which stays frozen (MoExtend, arXiv 2408.03511).

    Attributes:
        layers: which decoder layers, counted from 0: a list, `all`, or `{every: n}`; the last two pass over layers
            that are no mixture and over the last one, where a picture's token has no reader.
        experts: new experts, and router columns, a layer.
        start: `copy` begins as old experts and their columns, the paper's choice; `random` as drawn.
        calibration: width of the paper's calibration module, a small MLP that shifts the experts' weights; 16 in its
            code, 0 for none.
    """

    layers: Literal["all"] | EveryLayer | tuple[int, ...] = "all"
    experts: int = Field(default=1, ge=1)
    start: Literal["copy", "random"] = "copy"
    calibration: int = Field(default=0, ge=0)


class OwnParts(Config):
    """The parts that are our own modules, as a checkpoint's `config.json` holds them."""

    vision_encoder: EncoderConfig
    connector: ConnectorConfig
    tiling: TilingConfig | None = None
    video: VideoConfig = VideoConfig()
    expert_extension: ExpertExtensionConfig | None = None


class LanguageModelConfig(Config):
    """Any `AutoModelForCausalLM`: a transformers config with its `model_type`; `name` is the hub repository."""

    architecture: dict[str, Any]
    name: str | None = None
    weights: bool = False


class TokenizerSource(Config):
    """Where a tokenizer comes from: `name`, a hub repository, or `folder` (relative to the zoo row's file)."""

    name: str | None = None
    folder: str | None = None


class TokenizerConfig(TokenizerSource):
    """The model's tokenizer.

    `added_tokens` are special tokens that it is given, in this order, where it has none of them; `instruction` is the
    tokenizer of a connector that reads the question by another (BERT's).
    """

    added_tokens: tuple[str, ...] = ()
    pad_token: str | None = None
    instruction: TokenizerSource | None = None


class TinyConfig(Config):
    """The same kinds of parts, small enough for any CPU: what the test that walks the zoo builds.

    `vision_encoder` overrides the encoder's `architecture`; for fused towers it is a list, one mapping for each.
    """

    vision_encoder: dict[str, Any] | list[dict[str, Any]]
    connector: dict[str, Any] = Field(default_factory=dict)
    expert_extension: dict[str, Any] = Field(default_factory=dict)
    image_size: int = 32
    language_model: dict[str, Any]


class ModelRow(RowFacts):
    """One model of the zoo.

    A row's YAML may name a `base`, another row, and for encoder and language model a `part`; `compose.py` puts both in.
    """

    name: str
    summary: str
    vision_encoder: EncoderConfig
    connector: ConnectorConfig
    language_model: LanguageModelConfig
    expert_extension: ExpertExtensionConfig | None = None
    tokenizer: TokenizerConfig
    chat_template: TemplateConfig
    tiling: TilingConfig | None = None
    video: VideoConfig = VideoConfig()
    tiny: TinyConfig

    @property
    def part_names(self) -> dict[str, str]:
        """What `zoo list` calls the parts."""
        return {
            "vision_encoder": self.vision_encoder.name,
            "connector": self.connector.kind,
            "language_model": self.language_model.name or self.language_model.architecture["model_type"],
        }

    @model_validator(mode="after")
    def _tiles_are_whole(self) -> Self:
        if self.tiling is not None and self.vision_encoder.image.resize != "squash":
            raise ValueError("a model that tiles pictures wants image.resize: squash; its tiles are square already")
        return self

    @model_validator(mode="after")
    def _tiny_fits(self) -> Self:
        towers = len(self.vision_encoder.towers) if isinstance(self.vision_encoder, FusedConfig) else None
        overrides = self.tiny.vision_encoder
        if towers != (len(overrides) if isinstance(overrides, list) else None):
            wanted = "one mapping" if towers is None else f"a list of {towers} mappings, one for each tower"
            raise ValueError(f"tiny.vision_encoder must be {wanted}")
        return self
