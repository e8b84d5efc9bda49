"""`InstructBlipForConditionalGeneration` of transformers with a Llama behind it (Vicuna), and its processor.

Its picture stands in front of everything, the beginning-of-sequence token included, and its Q-Former reads the whole
prompt through BERT's tokenizer, which lies in `qformer_tokenizer`. Names are the same in every version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AddedToken, AutoTokenizer, InstructBlipConfig, PreTrainedTokenizerBase

from mminstruct.config import validate
from mminstruct.errors import CheckpointError
from mminstruct.files import write_json
from mminstruct.models.config import ConnectorConfig, TransformersConfig
from mminstruct.models.connectors.q_former import QFormerOptions
from mminstruct.models.factory import IMAGE_TOKEN
from mminstruct.models.interop import keys
from mminstruct.models.interop.image import blip_image_settings, read_image
from mminstruct.models.interop.parts import (
    Opened,
    Parts,
    choose,
    empty_model,
    grown,
    read_config,
    read_template,
    read_tokenizer,
    require_shapes,
    require_value,
    stored_shapes,
    unread_language_names,
    write_folder,
    write_template,
)
from mminstruct.models.interop.stream import Source, write
from mminstruct.models.scan import described_by

NAME = "hf-instructblip"
ARCHITECTURE = "InstructBlipForConditionalGeneration"
TEXT = "llama"

_VISION = "instructblip_vision_model"
_TOKENIZER = "qformer_tokenizer"
# What rebuilds the tower; its config has more keys, which concern every model of transformers.
_VISION_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
    "initializer_range",
    "qkv_bias",
)
# Keys of `qformer_config` to options of the connector, and those that have one value only.
_OPTIONS = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "intermediate_size",
    "cross_attention_frequency": "cross_attention_every",
    "hidden_dropout_prob": "dropout",
    "vocab_size": "instruction_vocabulary",
}
_FIXED = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "pad_token_id": 0}


def read(folder: Path, out: Path, chat_template: str | None, max_shard_size: int | str) -> None:
    """Write the folder's model into `out` as a checkpoint of this project.

    Where the config knows no image token, as older ones, `<image>` is added, and a row for it to
    embeddings and head where the vocabulary has none to spare.

    Raises:
        CheckpointError: a key of a config, or a tensor, that this project cannot hold as it is; names it.
    """
    where = str(folder / "config.json")
    parts, rows = _parts(folder, read_config(folder), where, chat_template)
    source = Source(folder)
    model = empty_model(parts.config())
    wanted = stored_shapes(model)
    # Versions before 4.31 saved these positions and each layer's frequencies.
    unread = ["connector.q_former.embeddings.position_ids", *unread_language_names(model)]
    names = keys.match(keys.HF_INSTRUCTBLIP, wanted, unread, source.tensors, str(folder))
    plan = {ours: source.planned(theirs) for ours, theirs in names.items()}
    for name in (keys.EMBEDDINGS, keys.HEAD):
        if rows and name in plan:
            plan[name] = grown(plan[name], plan[name].shape[0] + rows)
    require_shapes(plan, wanted, str(folder))
    write_folder(out, parts, plan, max_shard_size)


def _parts(folder: Path, settings: dict[str, Any], where: str, chat_template: str | None) -> tuple[Parts, int]:
    """The description, and how many rows the vocabulary grows by."""
    choose(settings.get("text_config", {}), "model_type", "opt", {TEXT: TEXT}, f"{where}: text_config")
    with described_by(folder):
        config = InstructBlipConfig.from_dict(settings)  # fills in what a short config.json leaves to the class
    vision: Any = config.vision_config
    q_former: Any = config.qformer_config
    text: Any = config.text_config
    described = q_former.to_dict()
    for key, value in {**_FIXED, "attention_probs_dropout_prob": q_former.hidden_dropout_prob}.items():
        require_value(described, key, value, f"{where}: qformer_config")
    tokenizer = read_tokenizer(folder, text)
    if tokenizer.pad_token is None:
        raise CheckpointError(f"{folder}: the tokenizer has no padding token; set pad_token in tokenizer_config.json")
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    token_id = tokenizer.get_added_vocab()[IMAGE_TOKEN]
    if config.image_token_index not in (None, token_id):
        raise CheckpointError(
            f"{where}: image_token_index is {config.image_token_index}, but the tokenizer's {IMAGE_TOKEN} is {token_id}"
        )
    rows = max(0, token_id + 1 - text.vocab_size)
    text.vocab_size += rows
    options = {ours: described[theirs] for theirs, ours in _OPTIONS.items()}
    parts = Parts(
        encoder=TransformersConfig(
            source="transformers",
            name=vision.name_or_path or _VISION,
            architecture={"model_type": _VISION, **{key: getattr(vision, key) for key in _VISION_KEYS}},
            feature="cls_patch",
            image=read_image(folder, vision.image_size),
        ),
        connector=ConnectorConfig(kind="q_former", options={"queries": config.num_query_tokens, **options}),
        text=text,
        image_token_id=token_id,
        tokenizer=tokenizer,
        template=read_template(tokenizer, chat_template, str(folder), usual="instructblip"),
        origin=f"{NAME} {folder.resolve().name}",
        instruction_tokenizer=_instruction_tokenizer(folder, q_former.vocab_size),
    )
    return parts, rows


def _instruction_tokenizer(folder: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    if not (folder / _TOKENIZER).is_dir():
        raise CheckpointError(
            f"{folder} holds no {_TOKENIZER}, the tokenizer of what its Q-Former reads; copy it again"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder / _TOKENIZER, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / _TOKENIZER}: the tokenizer cannot be read: {error}") from None
    if len(tokenizer) > vocabulary:
        raise CheckpointError(
            f"{folder / _TOKENIZER} has {len(tokenizer)} tokens, the Q-Former knows {vocabulary} (qformer_config, "
            "vocab_size)"
        )
    return tokenizer


def write_model(opened: Opened, out: Path, max_shard_size: int | str) -> None:
    """Write a checkpoint of this project into `out`.

    Raises:
        CheckpointError: a part is none that `InstructBlipForConditionalGeneration` has.
    """
    encoder, options = _require_instructblip(opened)
    plan = opened.planned()
    names = keys.HF_INSTRUCTBLIP[0].translate_all(plan)
    text = opened.config.text_config
    described = options.model_dump()
    settings = {
        "architectures": [ARCHITECTURE],
        "vision_config": encoder.architecture,
        "qformer_config": {
            **{theirs: described[ours] for theirs, ours in _OPTIONS.items()},
            "attention_probs_dropout_prob": options.dropout,
            **_FIXED,
        },
        "text_config": text.to_dict(),
        "num_query_tokens": options.queries,
        "image_token_index": opened.processor.config.image_token_id,
        "dtype": str(plan[keys.EMBEDDINGS].dtype).removeprefix("torch."),
    }
    InstructBlipConfig.from_dict(settings).save_pretrained(out)
    opened.write_generation_config(out)
    processor = opened.processor
    assert processor.instruction_tokenizer is not None  # `_require_instructblip` has seen to it
    # Their processor puts the image's tokens in front by itself; a mark in the text would be one too many.
    write_template(processor.tokenizer, processor.config.chat_template, image="")
    processor.tokenizer.save_pretrained(out)
    processor.instruction_tokenizer.save_pretrained(out / _TOKENIZER)
    write_json(out / "preprocessor_config.json", blip_image_settings(processor.config.image))
    write_json(
        out / "processor_config.json",
        {"processor_class": "InstructBlipProcessor", "num_query_tokens": options.queries},
    )
    write(out, {names[ours]: planned for ours, planned in plan.items()}, max_shard_size)


def _require_instructblip(opened: Opened) -> tuple[TransformersConfig, QFormerOptions]:
    encoder, where = opened.encoder, opened.source.folder
    text = opened.config.text_config
    if opened.connector.kind != "q_former" or opened.processor.instruction_tokenizer is None:
        raise CheckpointError(
            f"{where}: the format {NAME} has the connector q_former, which reads the instruction by a tokenizer of its "
            f"own; this model's is {opened.connector.kind} {opened.connector.options}"
        )
    if (
        not isinstance(encoder, TransformersConfig)
        or encoder.architecture.get("model_type") != _VISION
        or (encoder.layer, encoder.feature, encoder.norm) != (None, "cls_patch", False)
    ):
        raise CheckpointError(
            f"{where}: the format {NAME} holds a tower {_VISION} of transformers, its output read with the class "
            f"token; the encoder here is {encoder.source} {encoder.name}"
        )
    if text.model_type != TEXT or opened.tiling is not None or opened.processor.config.image.resize != "squash":
        raise CheckpointError(
            f"{where}: the format {NAME} has a Llama, pictures squashed and not tiled; this model's language model is "
            f"{text.model_type}, its pictures are {'tiled' if opened.tiling else opened.processor.config.image.resize}"
        )
    return encoder, validate(QFormerOptions, opened.connector.options, where=f"{where}: connector q_former")
