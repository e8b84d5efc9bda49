"""`IdeficsForVisionText2Text` of transformers: `model_type: idefics`, gated layers beside a Llama.

    model.vision_model.*               encoder, CLIP's modules without QuickGELU; class token and patches are read
    model.perceiver_resampler.*        connector.resampler
    model.gated_cross_attn_layers.K.*  connector.blocks.K, in front of decoder layer K * cross_layer_interval
    model.{embed_tokens,layers,norm}, lm_head   the Llama; rows of tokens that came later lie in tensors of their own

Facts: `transformers/models/idefics/modeling_idefics.py`, `vision.py`, `processing_idefics.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, IdeficsConfig, LlamaConfig

from mminstruct.chat_template.named import ROUNDS
from mminstruct.config import validate
from mminstruct.errors import CheckpointError
from mminstruct.files import write_json
from mminstruct.models.config import ConnectorConfig, ImageConfig, TransformersConfig
from mminstruct.models.connectors.gated_cross_attention import GatedCrossAttentionOptions
from mminstruct.models.factory import IMAGE_TOKEN
from mminstruct.models.interop import keys
from mminstruct.models.interop.image import FILTERS, RESCALE, read_settings
from mminstruct.models.interop.parts import (
    CLIP,
    Opened,
    Parts,
    choose,
    clip_architecture,
    empty_model,
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
from mminstruct.models.interop.stream import Planned, Source, joined, write
from mminstruct.models.scan import described_by

NAME = "hf-idefics"
ARCHITECTURE = "IdeficsForVisionText2Text"
TEMPLATE = "idefics"

IMAGE_FORMAT = ROUNDS[TEMPLATE].image_format
_IMAGE_PROCESSORS = ("IdeficsImageProcessor", "IdeficsImageProcessorPil")
_GATES = {"float": "one", "vector": "channel"}
_POST_NORM = "vision_encoder.model.post_layernorm."
# Our name of a tensor, and theirs of its last rows.
_LATER_ROWS = {
    keys.EMBEDDINGS: "model.embed_tokens.additional_embedding.weight",
    keys.HEAD: "lm_head.additional_fc.weight",
}
# What a Llama has under the same name.
_TEXT_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "rms_norm_eps",
    "initializer_range",
    "max_position_embeddings",
    "rope_parameters",
    "tie_word_embeddings",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
_VISION_KEYS = (
    "image_size",
    "intermediate_size",
    "patch_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
    "initializer_range",
    "initializer_factor",
)


def read(folder: Path, out: Path, chat_template: str | None, max_shard_size: int | str) -> None:
    """Write the folder's model into `out` as a checkpoint of this project.

    Raises:
        CheckpointError: a key of a config, or a tensor, that this project cannot hold as it is; names it.
    """
    where = str(folder / "config.json")
    parts, later = _parts(folder, read_config(folder), where, chat_template)
    source = Source(folder)
    model = empty_model(parts.config())
    wanted = stored_shapes(model)
    tied = model.all_tied_weights_keys
    rows = {ours: theirs for ours, theirs in _LATER_ROWS.items() if later and ours not in tied}
    found = [name for name in source.tensors if name not in _LATER_ROWS.values() or not later]
    blocks = parts.text.num_hidden_layers // parts.connector.options["every"]
    unread = [
        *unread_names(model),
        *(f"connector.blocks.{index}.layer.cross_attn.rotary_emb.inv_freq" for index in range(blocks)),
    ]
    names = keys.match(keys.idefics(blocks), wanted, unread, found, str(folder))
    plan = {ours: source.planned(theirs) for ours, theirs in names.items()}
    for ours, theirs in rows.items():
        if theirs not in source.tensors:
            raise CheckpointError(f"{folder}: the tensor {theirs!r} is missing; additional_vocab_size is {later}")
        plan[ours] = joined([plan[ours], source.planned(theirs)])
    require_shapes(plan, wanted, str(folder))
    write_folder(out, parts, plan, max_shard_size)


def _parts(folder: Path, settings: dict[str, Any], where: str, chat_template: str | None) -> tuple[Parts, int]:
    """The description, and how many rows of the vocabulary lie in tensors of their own."""
    require_value(settings, "dropout", 0.0, where)
    with described_by(folder):
        config = IdeficsConfig.from_dict(settings)  # fills in what a short config.json leaves to the class
    vision: Any = config.vision_config
    perceiver: Any = config.perceiver_config
    if config.num_hidden_layers % config.cross_layer_interval:
        raise CheckpointError(
            f"{where}: cross_layer_interval is {config.cross_layer_interval}, which does not divide the "
            f"{config.num_hidden_layers} layers"
        )
    clip = CLIPVisionConfig(hidden_size=vision.embed_dim, **{key: getattr(vision, key) for key in _VISION_KEYS})
    text = LlamaConfig(
        vocab_size=config.vocab_size + config.additional_vocab_size,
        **{key: getattr(config, key) for key in _TEXT_KEYS},
    )
    resampler = {
        "latents": perceiver.resampler_n_latents,
        "depth": perceiver.resampler_depth,
        "heads": perceiver.resampler_n_heads,
        "head_size": perceiver.resampler_head_dim,
        "qk_norm": perceiver.qk_layer_norms_perceiver,
        "activation": "relu",
    }
    options = {
        "resampler": resampler if config.use_resampler else None,
        "block": "idefics",
        "every": config.cross_layer_interval,
        "heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": config.hidden_act,
        "rms_norm_eps": config.rms_norm_eps,
        "qk_norm": config.qk_layer_norms,
        "gate": choose(settings, "alpha_type", "float", _GATES, where),
    }
    tokenizer = read_tokenizer(folder, text)
    if IMAGE_TOKEN not in tokenizer.get_added_vocab():
        raise CheckpointError(f"{folder}: the tokenizer has no token {IMAGE_TOKEN}; copy its added tokens as well")
    if tokenizer.pad_token is None:
        raise CheckpointError(f"{folder}: the tokenizer has no padding token; set pad_token in tokenizer_config.json")
    template = read_template(tokenizer, chat_template, str(folder), usual=f"{TEMPLATE} for Idefics-instruct")
    parts = Parts(
        encoder=TransformersConfig(
            source="transformers",
            name=CLIP,
            architecture=clip_architecture(clip),
            layer=-1,
            feature="cls_patch",
            image=_read_image(folder, vision.image_size),
        ),
        connector=ConnectorConfig(kind="gated_cross_attention", options=options),
        text=text,
        image_token_id=tokenizer.get_added_vocab()[IMAGE_TOKEN],
        tokenizer=tokenizer,
        template=template.model_copy(update={"image_format": IMAGE_FORMAT}),
        origin=f"{NAME} {folder.resolve().name}",
    )
    return parts, config.additional_vocab_size


def _read_image(folder: Path, size: int) -> ImageConfig:
    """Idefics' own image processor: squash to a square, bicubic, normalise."""
    file, settings = read_settings(folder)
    choose(settings, "image_processor_type", None, dict.fromkeys(_IMAGE_PROCESSORS), str(file))
    for key in ("do_resize", "do_rescale", "do_normalize"):
        require_value(settings, key, True, str(file))
    require_value(settings, "rescale_factor", RESCALE, str(file))
    require_value(settings, "image_num_channels", 3, str(file))
    require_value(settings, "image_size", size, str(file))
    require_value(settings, "size", {"height": size, "width": size}, str(file))
    for key in ("image_mean", "image_std"):
        if key not in settings:
            raise CheckpointError(f"{file}: the key {key!r} is missing")
    return ImageConfig(
        size=size,
        mean=tuple(settings["image_mean"]),
        std=tuple(settings["image_std"]),
        resize="squash",
        interpolation=choose(settings, "resample", 3, FILTERS, str(file)),
    )


def write_model(opened: Opened, out: Path, max_shard_size: int | str) -> None:
    """Write a checkpoint of this project into `out` as transformers' Idefics.

    All rows of the vocabulary lie in one tensor (`additional_vocab_size: 0`). `post_layernorm`, which transformers
    insists on and no feature passes through, is one and zero.

    Raises:
        CheckpointError: a part is none that `IdeficsForVisionText2Text` has.
    """
    encoder, layers = require_clip(opened, NAME)
    options = _require_idefics(opened, encoder)
    plan = opened.planned()
    width = encoder.architecture["hidden_size"]
    dtype = plan[keys.EMBEDDINGS].dtype
    plan[_POST_NORM + "weight"] = Planned((width,), dtype, lambda: torch.ones(width, dtype=dtype))
    plan[_POST_NORM + "bias"] = Planned((width,), dtype, lambda: torch.zeros(width, dtype=dtype))
    text = opened.config.text_config
    names = keys.idefics(text.num_hidden_layers // options.every)[0].translate_all(plan)
    _write_config(opened, encoder, layers, options, out, dtype)
    _write_processor(opened, out)
    write(out, {names[ours]: planned for ours, planned in plan.items()}, max_shard_size)


def _require_idefics(opened: Opened, encoder: TransformersConfig) -> GatedCrossAttentionOptions:
    """The connector's options. Raises `CheckpointError` naming the first thing that Idefics has otherwise."""
    where, connector, text = opened.source.folder, opened.connector, opened.config.text_config

    def require(name: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            raise CheckpointError(f"{where}: the format {NAME} wants {name} {wanted!r}, this model has {found!r}")

    require("the connector", connector.kind, "gated_cross_attention")
    options = validate(GatedCrossAttentionOptions, connector.options, where="connector gated_cross_attention")
    require("the connector's block", options.block, "idefics")
    require("the first block in front of layer", options.first or 0, 0)
    require("encoder.feature", encoder.feature, "cls_patch")
    require("image.resize", opened.processor.config.image.resize, "squash")
    require("the language model", text.model_type, "llama")
    require("num_key_value_heads", text.num_key_value_heads, text.num_attention_heads)
    require("head_dim", text.head_dim, text.hidden_size // text.num_attention_heads)
    require("attention_bias", text.attention_bias, False)
    require("mlp_bias", text.mlp_bias, False)
    require("a rest of layers without a block", text.num_hidden_layers % options.every, 0)
    require("the connector's heads", options.heads, text.num_attention_heads)
    require(
        "the connector's intermediate_size",
        options.intermediate_size or 4 * text.hidden_size,
        text.intermediate_size,
    )
    require("the connector's hidden_act", options.hidden_act, text.hidden_act)
    require("the connector's rms_norm_eps", options.rms_norm_eps, text.rms_norm_eps)
    if options.resampler is not None:
        require("the resampler's activation", options.resampler.activation, "relu")
    template = opened.processor.template
    require("chat_template.image_format", template.image_format, IMAGE_FORMAT)
    return options


def _write_config(
    opened: Opened,
    encoder: TransformersConfig,
    layers: int,
    options: GatedCrossAttentionOptions,
    out: Path,
    dtype: torch.dtype,
) -> None:
    text, resampler = opened.config.text_config, options.resampler
    clip = CLIPVisionConfig(**{k: v for k, v in encoder.architecture.items() if k != "model_type"})
    vision = {key: getattr(clip, key) for key in _VISION_KEYS}
    perceiver: dict[str, Any] = {"use_resampler": resampler is not None}
    if resampler is not None:
        perceiver |= {
            "resampler_n_latents": resampler.latents,
            "resampler_depth": resampler.depth,
            "resampler_n_heads": resampler.heads,
            "resampler_head_dim": resampler.head_size,
            "qk_layer_norms_perceiver": resampler.qk_norm,
        }
    settings = {
        **{key: getattr(text, key) for key in _TEXT_KEYS},
        "architectures": [ARCHITECTURE],
        "vocab_size": text.vocab_size,
        "additional_vocab_size": 0,
        "alpha_type": {ours: theirs for theirs, ours in _GATES.items()}[options.gate],
        "cross_layer_interval": options.every,
        "qk_layer_norms": options.qk_norm,
        "use_resampler": resampler is not None,
        "perceiver_config": perceiver,
        "vision_config": {**vision, "embed_dim": clip.hidden_size, "num_hidden_layers": layers},
        "dtype": str(dtype).removeprefix("torch."),
    }
    IdeficsConfig.from_dict(settings).save_pretrained(out)


def _write_processor(opened: Opened, out: Path) -> None:
    opened.write_generation_config(out)
    tokenizer, image = opened.processor.tokenizer, opened.processor.config.image
    write_template(tokenizer, opened.processor.config.chat_template)
    tokenizer.save_pretrained(out)
    numbers = {name: number for number, name in FILTERS.items()}
    write_json(
        out / "preprocessor_config.json",
        {
            "image_processor_type": _IMAGE_PROCESSORS[0],
            "image_num_channels": 3,
            "image_size": image.size,
            "image_mean": list(image.mean),
            "image_std": list(image.std),
            "resample": numbers[image.interpolation],
        },
    )
    write_json(out / "processor_config.json", {"processor_class": "IdeficsProcessor"})
