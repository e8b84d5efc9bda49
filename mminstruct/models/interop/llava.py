"""The folder of the original LLaVA project: `config.json` of a Llama or Mistral with `mm_*` keys, weights `model.*`.

Facts: `llava/model/llava_arch.py`, `llava/model/builder.py`, `llava/model/multimodal_encoder/clip_encoder.py`,
`llava/mm_utils.py` of haotian-liu/LLaVA. Its config names the vision tower and does not describe it; a folder
`vision_tower` inside, or one that is given, does: `config.json`, `preprocessor_config.json` and, where the file of the
model has no tower, weights.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from transformers import AddedToken, LlamaConfig, MistralConfig

from mminstruct.errors import CheckpointError
from mminstruct.files import read_json, write_json
from mminstruct.models.config import ConnectorConfig, ImageConfig, TilingConfig, TransformersConfig
from mminstruct.models.factory import IMAGE_TOKEN
from mminstruct.models.interop import keys, lora
from mminstruct.models.interop.image import image_settings, read_image
from mminstruct.models.interop.parts import (
    CLIP_TRAINING_KEYS,
    Opened,
    Parts,
    choose,
    clip_architecture,
    empty_model,
    feature_layer,
    grown,
    linear_layers,
    read_config,
    read_template,
    read_tokenizer,
    read_tower_config,
    require_clip,
    require_shapes,
    require_value,
    stored_shapes,
    tower_plan,
    unread_names,
    write_folder,
    write_template,
)
from mminstruct.models.interop.stream import Source, has_weights, weight_files, write

NAME = "llava"
# model_type to the names of architectures under which its folders go; the first is what is written.
ARCHITECTURES = {
    "llava_llama": ("LlavaLlamaForCausalLM", "LlamaForCausalLM"),
    "llava": ("LlavaLlamaForCausalLM", "LlamaForCausalLM"),  # until version 1.1.3
    "llava_mistral": ("LlavaMistralForCausalLM", "MistralForCausalLM"),
}
TOWER_FOLDER = "vision_tower"
PROJECTOR = "mm_projector.bin"  # all that the first stage of training leaves

_TEXT = {"llava_llama": LlamaConfig, "llava": LlamaConfig, "llava_mistral": MistralConfig}
# The other way round: model_type of a language model to the folder's.
_WRITTEN = {"llama": "llava_llama", "mistral": "llava_mistral"}

# mm_projector_type to the connector. An absent key means `linear`, as in the original.
_CONNECTORS = {"linear": ConnectorConfig(kind="linear")} | {
    f"mlp{layers}x_gelu": ConnectorConfig(kind="mlp", options={"layers": layers}) for layers in range(2, 9)
}
_FEATURES = {"patch": "patch", "cls_patch": "cls_patch"}
# image_aspect_ratio to ImageConfig.resize; without the key CLIP's own preparation is used. `None`: the tower's own.
_RESIZE = {"pad": "pad", "anyres": "squash", "square": None, None: None}
_MERGES = {"flat": "flat", "spatial_unpad": "spatial_unpad"}
# Keys that say how the model was trained, or concern ways of cutting pictures that are refused.
_TRAINING = (
    "use_mm_proj",
    "tune_mm_mlp_adapter",
    "freeze_mm_mlp_adapter",
    "mm_projector_lr",
    "unfreeze_mm_vision_tower",
    "mm_use_im_patch_token",
    "tokenizer_model_max_length",
    "tokenizer_padding_side",
    "freeze_mm_vision_resampler",
    "tune_mm_vision_resampler",
    "mm_vision_tower_lr",
    "image_crop_resolution",
    "image_split_resolution",
)
_READ = (
    "mm_vision_tower",
    "mm_hidden_size",
    "mm_projector_type",
    "mm_vision_select_layer",
    "mm_vision_select_feature",
    "mm_use_im_start_end",
    "mm_patch_merge_type",
    "mm_resampler_type",
    "image_aspect_ratio",
    "image_grid_pinpoints",  # read for anyres only
)
_HEAD_ROWS = (keys.EMBEDDINGS, keys.HEAD)


def read(
    folder: Path,
    out: Path,
    chat_template: str | None,
    tower: Path | None,
    base: Path | None,
    max_shard_size: int | str,
) -> None:
    """Write the folder's model into `out` as a checkpoint of this project.

    The original marks an image by -200 and has no token for it; ours gets one, where the tokenizer has none, and with
    it a row of the embeddings and of the head: the mean of the others (it is never read and never generated).

    Args:
        tower: folder of the vision tower; default: `vision_tower` inside.
        base: folder of the language model that a LoRA folder, or a projector alone, was trained on.

    Raises:
        CheckpointError: a key of a config, or a tensor, that this project cannot hold as it is; names it.
    """
    settings = read_config(folder)
    where = str(folder / "config.json")
    tower = _tower_folder(folder, settings, tower)
    source = _source(folder, settings, base)
    parts, rows = _parts(folder, settings, where, tower, base, chat_template)
    model = empty_model(parts.config())
    wanted = stored_shapes(model)
    unread = unread_names(model)
    names = keys.match(keys.LLAVA, wanted, unread, source.tensors, str(folder))
    plan = {ours: source.planned(theirs) for ours, theirs in names.items()}
    elsewhere = [name for name in wanted if name not in names]
    if elsewhere:
        plan |= tower_plan(elsewhere, unread, tower)
    for name in _HEAD_ROWS:
        if rows and name in plan:
            plan[name] = grown(plan[name], plan[name].shape[0] + rows)
    require_shapes(plan, wanted, str(folder))
    write_folder(out, parts, plan, max_shard_size)


def _source(folder: Path, settings: dict[str, Any], base: Path | None) -> Source:
    if not (folder / lora.CONFIG).is_file():
        if not has_weights(folder) and (folder / PROJECTOR).is_file():
            if base is None:
                raise CheckpointError(
                    f"{folder} holds a projector alone ({PROJECTOR}), trained on {settings.get('_name_or_path')!r}; "
                    "give a local folder of that language model with --base"
                )
            return Source(folder, [*weight_files(base), folder / PROJECTOR])
        if base is not None:
            raise CheckpointError(f"{folder} holds no {lora.CONFIG}, so it is whole already; drop --base")
        return Source(folder)
    if base is None:
        name = read_json(folder / lora.CONFIG).get("base_model_name_or_path")
        raise CheckpointError(
            f"{folder} is a LoRA adapter of {name!r}; give a local folder of that language model with --base"
        )
    return lora.MergedSource(folder, base)


def _tower_folder(folder: Path, settings: dict[str, Any], given: Path | None) -> Path:
    tower = given or folder / TOWER_FOLDER
    if not (tower / "config.json").is_file():
        name = settings.get("mm_vision_tower")
        if given is not None:
            raise CheckpointError(f"{given} holds no config.json; give the folder of the vision tower {name!r}")
        raise CheckpointError(
            f"{folder} does not describe its vision tower {name!r}; give a local folder of it with --vision-tower"
        )
    if given is not None and (folder / TOWER_FOLDER / "config.json").is_file():
        _require_same_tower(folder / TOWER_FOLDER, given)
    return tower


def _require_same_tower(own: Path, given: Path) -> None:
    """Two descriptions of a tower must agree. Its activation, for one, shows in no tensor (QuickGELU or not)."""
    wanted, found = clip_architecture(read_tower_config(own)), clip_architecture(read_tower_config(given))
    for key, value in wanted.items():
        if found[key] != value and key not in CLIP_TRAINING_KEYS:
            raise CheckpointError(
                f"{given}/config.json: {key} is {found[key]!r}, but {own}, which describes the tower that the model "
                f"was trained with, says {value!r}; drop --vision-tower or give that one"
            )


def _tiling(settings: dict[str, Any], where: str) -> TilingConfig | None:
    merge = choose(settings, "mm_patch_merge_type", "flat", _MERGES, where)
    ratio = settings.get("image_aspect_ratio")
    if ratio != "anyres":
        if merge != "flat":
            raise CheckpointError(
                f"{where}: mm_patch_merge_type is {merge!r} with image_aspect_ratio {ratio!r}; only anyres has tiles "
                "to merge"
            )
        return None
    pairs = settings.get("image_grid_pinpoints")
    try:
        if isinstance(pairs, str):  # as it was given on the command line; the original evaluates it, too
            pairs = ast.literal_eval(pairs)
        resolutions = tuple((height, width) for width, height in pairs)  # type: ignore[union-attr]
    except (ValueError, SyntaxError, TypeError):
        raise CheckpointError(f"{where}: image_grid_pinpoints is {pairs!r}, no list of pairs (width, height)") from None
    return TilingConfig(resolutions=resolutions, merge=merge)


def _parts(
    folder: Path, settings: dict[str, Any], where: str, tower: Path, base: Path | None, chat_template: str | None
) -> tuple[Parts, int]:
    """The description, and how many rows the vocabulary grows by."""
    for key in settings:
        if key.startswith("mm_") and key not in (*_READ, *_TRAINING):
            raise CheckpointError(f"{where}: the key {key!r} is unknown; the model may not be a plain LLaVA")
    require_value(settings, "mm_use_im_start_end", False, where)
    require_value(settings, "mm_resampler_type", None, where)
    resize = choose(settings, "image_aspect_ratio", None, _RESIZE, where)
    tiling = _tiling(settings, where)
    connector = choose(settings, "mm_projector_type", "linear", _CONNECTORS, where)
    feature = choose(settings, "mm_vision_select_feature", "patch", _FEATURES, where)
    layer = feature_layer(settings.get("mm_vision_select_layer", -2), "mm_vision_select_layer", where)
    vision: Any = read_tower_config(tower)
    if settings.get("mm_hidden_size", vision.hidden_size) != vision.hidden_size:
        raise CheckpointError(
            f"{where}: mm_hidden_size is {settings['mm_hidden_size']}, the tower in {tower} has {vision.hidden_size}"
        )
    image = read_image(tower, vision.image_size)
    kind = choose(settings, "model_type", None, _TEXT, where)
    text = kind(**{k: v for k, v in settings.items() if k not in (*_READ, *_TRAINING, "architectures", "model_type")})
    # What training did not save whole has the tokenizer of its base.
    whole = base is None or (folder / "tokenizer_config.json").is_file()
    tokenizer = read_tokenizer(folder if whole else base, text)  # type: ignore[arg-type]
    if tokenizer.pad_token is None:
        if settings.get("pad_token_id") is None:
            raise CheckpointError(
                f"{folder}: neither the tokenizer nor config.json (pad_token_id) names a padding token"
            )
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(settings["pad_token_id"])
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    rows = max(0, len(tokenizer) - text.vocab_size)
    text.vocab_size += rows
    parts = Parts(
        encoder=TransformersConfig(
            source="transformers",
            name=str(settings.get("mm_vision_tower", TOWER_FOLDER)),
            architecture=clip_architecture(vision),
            layer=layer,
            feature=feature,
            image=image.model_copy(update={"resize": resize or image.resize}),
        ),
        connector=connector,
        text=text,
        image_token_id=tokenizer.get_added_vocab()[IMAGE_TOKEN],
        tokenizer=tokenizer,
        template=read_template(tokenizer, chat_template, str(folder)),
        origin=f"{NAME} {folder.resolve().name}",
        tiling=tiling,
    )
    return parts, rows


def write_model(opened: Opened, out: Path, max_shard_size: int | str) -> None:
    """Write a checkpoint of this project into `out` as the original's folder, with the tower in its file.

    Raises:
        CheckpointError: a part is none that the original has.
    """
    projectors = [name for name, connector in _CONNECTORS.items() if linear_layers(connector) == opened.linear_layers]
    if not projectors:
        raise CheckpointError(
            f"{opened.source.folder}: the format {NAME} has the connectors {', '.join(_CONNECTORS)}, this model's is "
            f"{opened.connector.kind} {opened.connector.options}"
        )
    text = opened.config.text_config
    if text.model_type not in _WRITTEN:
        raise CheckpointError(
            f"{opened.source.folder}: the format {NAME} has a Llama or a Mistral, this model's language model is "
            f"{text.model_type}"
        )
    if opened.encoder.image.resize == "squash" and opened.tiling is None:
        raise CheckpointError(
            f"{opened.source.folder}: the format {NAME} pads or crops pictures, this model squashes them"
        )
    encoder, _ = require_clip(opened, NAME)
    plan = opened.planned()
    names = keys.LLAVA[0].translate_all(plan)
    text.dtype = plan[keys.EMBEDDINGS].dtype
    settings = {
        **text.to_dict(),
        "architectures": [ARCHITECTURES[_WRITTEN[text.model_type]][0]],
        "model_type": _WRITTEN[text.model_type],
        "pad_token_id": opened.processor.tokenizer.pad_token_id,
        "mm_vision_tower": encoder.name,
        "mm_hidden_size": encoder.architecture["hidden_size"],
        "mm_projector_type": projectors[0],
        "mm_vision_select_layer": encoder.layer,
        "mm_vision_select_feature": encoder.feature,
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        **_arrangement(opened.tiling, encoder.image),
        "use_mm_proj": True,
        "unfreeze_mm_vision_tower": True,  # makes the original use the tower in the file
    }
    write_json(out / "config.json", settings)
    _write_tower(encoder, out / TOWER_FOLDER)
    opened.write_generation_config(out)
    tokenizer = opened.processor.tokenizer
    write_template(tokenizer, opened.processor.config.chat_template)
    tokenizer.save_pretrained(out)
    write(out, {names[ours]: planned for ours, planned in plan.items()}, max_shard_size)


def _arrangement(tiling: TilingConfig | None, image: ImageConfig) -> dict[str, Any]:
    if tiling is None:
        return {"image_aspect_ratio": "pad" if image.resize == "pad" else "square"}
    return {
        "image_aspect_ratio": "anyres",
        "image_grid_pinpoints": [[width, height] for height, width in tiling.resolutions],
        "mm_patch_merge_type": tiling.merge,
    }


def _write_tower(encoder: TransformersConfig, folder: Path) -> None:
    folder.mkdir()
    write_json(folder / "config.json", {"architectures": ["CLIPVisionModel"], **encoder.architecture})
    # Padding is the model's matter (image_aspect_ratio); the tower's own preparation crops.
    crop = encoder.image.model_copy(update={"resize": "crop"})
    write_json(folder / "preprocessor_config.json", image_settings(crop))
