"""LLaVA and LLaVA-NeXT of transformers, `model_type: llava` and `llava_next`, with their processors.

Read in each of the four layouts of `keys.HF_LLAVA` and `keys.HF_LLAVA_NEXT`, written in the hub's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaConfig, LlavaNextConfig, PreTrainedConfig

from mminstruct.errors import CheckpointError
from mminstruct.files import write_json
from mminstruct.models.config import ConnectorConfig, TilingConfig, TransformersConfig
from mminstruct.models.factory import IMAGE_TOKEN
from mminstruct.models.interop import keys
from mminstruct.models.interop.image import image_settings, read_image, read_tiled_image, tiled_image_settings
from mminstruct.models.interop.parts import (
    CLIP,
    Opened,
    Parts,
    choose,
    clip_architecture,
    empty_model,
    feature_layer,
    read_config,
    read_template,
    read_tokenizer,
    require_clip,
    require_shapes,
    require_value,
    stored_shapes,
    unread_names,
    write_folder,
    write_template,
)
from mminstruct.models.interop.stream import Planned, Source, write
from mminstruct.models.scan import described_by


@dataclass(frozen=True)
class Kind:
    """What tells the two apart.

    Attributes:
        features: `vision_feature_select_strategy` to `TowerConfig.feature`.
        tiles: whether pictures are cut into tiles.
    """

    name: str
    architecture: str
    config: type[PreTrainedConfig]
    processor: str
    layouts: tuple[keys.Layout, ...]
    features: dict[str, Any]
    tiles: bool


LLAVA = Kind(
    name="hf-llava",
    architecture="LlavaForConditionalGeneration",
    config=LlavaConfig,
    processor="LlavaProcessor",
    layouts=keys.HF_LLAVA,
    features={"default": "patch", "full": "cls_patch"},
    tiles=False,
)
LLAVA_NEXT = Kind(
    name="hf-llava-next",
    architecture="LlavaNextForConditionalGeneration",
    config=LlavaNextConfig,
    processor="LlavaNextProcessor",
    layouts=keys.HF_LLAVA_NEXT,
    features={"default": "patch"},  # with the class token a tile's vectors are no square, which it needs
    tiles=True,
)

_CONNECTOR = ConnectorConfig(kind="mlp", options={"layers": 2})
_POST_NORM = "vision_encoder.model.post_layernorm."


def read(kind: Kind, folder: Path, out: Path, chat_template: str | None, max_shard_size: int | str) -> None:
    """Write the folder's model into `out` as a checkpoint of this project.

    Raises:
        CheckpointError: a key of a config, or a tensor, that this project cannot hold as it is; names it.
    """
    where = str(folder / "config.json")
    settings = read_config(folder)
    parts = _parts(kind, folder, settings, where, chat_template)
    source = Source(folder)
    model = empty_model(parts.config())
    wanted = stored_shapes(model)
    names = keys.match(kind.layouts, wanted, unread_names(model), source.tensors, str(folder))
    plan = {ours: source.planned(theirs) for ours, theirs in names.items()}
    require_shapes(plan, wanted, str(folder))
    write_folder(out, parts, plan, max_shard_size)


def _parts(kind: Kind, folder: Path, settings: dict[str, Any], where: str, chat_template: str | None) -> Parts:
    require_value(settings, "projector_hidden_act", "gelu", where)
    require_value(settings, "multimodal_projector_bias", True, where)
    feature = choose(settings, "vision_feature_select_strategy", "default", kind.features, where)
    layer = feature_layer(settings.get("vision_feature_layer", -2), "vision_feature_layer", where)
    choose(settings.get("vision_config", {}), "model_type", CLIP, {CLIP: CLIP}, f"{where}: vision_config")
    require_value(settings, "use_image_newline_parameter", True, where)
    with described_by(folder):
        config: Any = kind.config.from_dict(settings)  # fills in what a short config.json leaves to the class
    vision: Any = config.vision_config
    text: Any = config.text_config
    text.tie_word_embeddings = config.tie_word_embeddings
    tokenizer = read_tokenizer(folder, config)
    token_id = config.image_token_index
    if tokenizer.get_added_vocab().get(IMAGE_TOKEN) != token_id:
        raise CheckpointError(
            f"{where}: image_token_index is {token_id}, but the tokenizer's {IMAGE_TOKEN} is "
            f"{tokenizer.get_added_vocab().get(IMAGE_TOKEN)}"
        )
    if tokenizer.pad_token is None:
        raise CheckpointError(f"{folder}: the tokenizer has no padding token; set pad_token in tokenizer_config.json")
    if kind.tiles:
        image = read_tiled_image(folder, vision.image_size, config.image_grid_pinpoints)
    else:
        image = read_image(folder, vision.image_size)
    return Parts(
        encoder=TransformersConfig(
            source="transformers",
            name=vision.name_or_path or CLIP,
            architecture=clip_architecture(vision),
            layer=layer,
            feature=feature,
            image=image,
        ),
        connector=_CONNECTOR,
        text=text,
        image_token_id=token_id,
        tokenizer=tokenizer,
        template=read_template(tokenizer, chat_template, str(folder)),
        origin=f"{kind.name} {folder.resolve().name}",
        tiling=TilingConfig(resolutions=config.image_grid_pinpoints) if kind.tiles else None,
    )


def write_model(kind: Kind, opened: Opened, out: Path, max_shard_size: int | str) -> None:
    """Write a checkpoint of this project into `out` in the hub's layout.

    Layers that the checkpoint does not keep are not invented: the tower is written with the layers it has, and the
    feature layer is its last. `post_layernorm`, which transformers insists on and no feature passes through, is one and
    zero.

    Raises:
        CheckpointError: the connector, the encoder or the tiling is none that the format has.
    """
    if opened.linear_layers != 2:
        raise CheckpointError(
            f"{opened.source.folder}: the format {kind.name} has the connector mlp with two layers only, this model's "
            f"is {opened.connector.kind} {opened.connector.options}"
        )
    merge = None if opened.tiling is None else opened.tiling.merge
    if merge != ("spatial_unpad" if kind.tiles else None):
        raise CheckpointError(
            f"{opened.source.folder}: the format {kind.name} has "
            f"{'tiling with merge spatial_unpad' if kind.tiles else 'no tiling'}, this model has "
            f"{'no tiling' if merge is None else f'tiling with merge {merge}'}"
        )
    encoder, layers = require_clip(opened, kind.name)
    plan = opened.planned()
    width = encoder.architecture["hidden_size"]
    dtype = plan[keys.EMBEDDINGS].dtype
    plan[_POST_NORM + "weight"] = Planned((width,), dtype, lambda: torch.ones(width, dtype=dtype))
    plan[_POST_NORM + "bias"] = Planned((width,), dtype, lambda: torch.zeros(width, dtype=dtype))
    names = kind.layouts[0].translate_all(plan)
    _write_config(kind, opened, encoder, layers, out, dtype)
    _write_processor(kind, opened, encoder, out)
    write(out, {names[ours]: planned for ours, planned in plan.items()}, max_shard_size)


def _write_config(
    kind: Kind, opened: Opened, encoder: TransformersConfig, layers: int, out: Path, dtype: torch.dtype
) -> None:
    settings = {
        "architectures": [kind.architecture],
        "vision_config": {**encoder.architecture, "num_hidden_layers": layers},
        "text_config": opened.config.text_config.to_dict(),
        "image_token_index": opened.processor.config.image_token_id,
        "image_seq_length": opened.processor.config.image_tokens,
        "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": _strategy(kind, encoder),
        "vision_feature_layer": -1,
        "tie_word_embeddings": opened.config.text_config.tie_word_embeddings,
        "pad_token_id": opened.processor.tokenizer.pad_token_id,
        "dtype": str(dtype).removeprefix("torch."),
    }
    if opened.tiling is not None:
        settings["image_grid_pinpoints"] = _pinpoints(opened.tiling)
    kind.config.from_dict(settings).save_pretrained(out)


def _pinpoints(tiling: TilingConfig) -> list[list[int]]:
    return [list(resolution) for resolution in tiling.resolutions]


def _write_processor(kind: Kind, opened: Opened, encoder: TransformersConfig, out: Path) -> None:
    opened.write_generation_config(out)
    tokenizer = opened.processor.tokenizer
    write_template(tokenizer, opened.processor.config.chat_template)
    tokenizer.save_pretrained(out)
    image = opened.processor.config.image
    if opened.tiling is None:
        settings = image_settings(image)
    else:
        settings = tiled_image_settings(image, _pinpoints(opened.tiling))
    write_json(out / "preprocessor_config.json", settings)
    write_json(
        out / "processor_config.json",
        {
            "processor_class": kind.processor,
            "image_token": IMAGE_TOKEN,
            "patch_size": encoder.architecture["patch_size"],
            "num_additional_image_tokens": 1,  # CLIP's class token
            "vision_feature_select_strategy": _strategy(kind, encoder),
        },
    )


def _strategy(kind: Kind, encoder: TransformersConfig) -> str:
    return {feature: strategy for strategy, feature in kind.features.items()}[encoder.feature]
