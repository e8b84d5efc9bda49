"""OpenFlamingo's `checkpoint.pt`: what was trained, to be put between a CLIP tower and a language model of their own.

    perceiver.*                                        connector.resampler
    lang_encoder.<layers>.N.gated_cross_attn_layer.*   connector.blocks.K, K counting the layers N that have one
    lang_encoder.<embeddings>                          the embeddings, as many rows as the tokenizer has tokens
    lang_encoder.<layers>.N.decoder_layer.*            the language model's own, in files of FSDP only

Facts: `src/flamingo.py`, `src/flamingo_lm.py`, `src/helpers.py`, `src/factory.py`, `train/train_utils.py` of
mlfoundations/open_flamingo 2.0.1. Keys and values lie in one tensor there. The tower's last layer is read, patches only
and without a norm: so did open_clip 2.20, the latest when the checkpoints were made; 2.23 and later norm them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AddedToken, AutoConfig

from mminstruct.errors import CheckpointError
from mminstruct.models.config import ConnectorConfig, TransformersConfig
from mminstruct.models.factory import IMAGE_TOKEN
from mminstruct.models.interop import keys
from mminstruct.models.interop.image import read_image
from mminstruct.models.interop.parts import (
    Parts,
    clip_architecture,
    embedding_name,
    empty_model,
    grown,
    read_config,
    read_template,
    read_tokenizer,
    read_tower_config,
    require_shapes,
    stored_shapes,
    tower_plan,
    unread_names,
    write_folder,
)
from mminstruct.models.interop.stream import Planned, Source, part_of_rows
from mminstruct.models.scan import described_by
from mminstruct.models.vlm import VisionLanguageModel

NAME = "open-flamingo"
TEMPLATE = "open_flamingo"
FILE = "checkpoint.pt"

_END_OF_CHUNK, _PAD = "<|endofchunk|>", "<PAD>"
# `GatedCrossAttentionBlock` and `PerceiverResampler` are always built with as many; no tensor's shape says it.
_HEADS = 8
_HEAD = "language_model.lm_head."


class _Names(NamedTuple):
    """How a language model's tensors are called in the versions of transformers that checkpoints were made with."""

    layers: str  # OpenFlamingo's `decoder_layers_attr_name`
    embeddings: str
    head: str
    # Buffers of a layer that are in a state dict and never read.
    buffers: tuple[str, ...]


# Language models whose layers pass on to a hook what a caller hands them.
_LANGUAGE_MODELS = {
    "llama": _Names("model.layers", "model.embed_tokens.", "lm_head.", ("self_attn.rotary_emb.inv_freq",)),
    "gpt_neox": _Names(
        "gpt_neox.layers",
        "gpt_neox.embed_in.",
        "embed_out.",
        ("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
    ),
}

# Ours and theirs, inside of one layer of the resampler and inside of one block.
_RESAMPLER = {
    "0.context_layer_norm.": "0.norm_media.",
    "0.latents_layer_norm.": "0.norm_latents.",
    "0.q_proj.": "0.to_q.",
    "0.k_proj.": "0.to_kv.",
    "0.v_proj.": "0.to_kv.",
    "0.output_proj.": "0.to_out.",
    "1.ln.": "1.0.",
    "1.fc.": "1.1.",
    "1.c_proj.": "1.3.",
}
_BLOCK = {
    "norm.": "attn.norm.",
    "query.": "attn.to_q.",
    "key.": "attn.to_kv.",
    "value.": "attn.to_kv.",
    "output.": "attn.to_out.",
    "attention_gate": "attn_gate",
    "feed_forward.": "ff.",
    "feed_forward_gate": "ff_gate",
}
# Endings of our names that are the first or the second half of the rows of one tensor there.
_HALVES = {".k_proj.weight": 0, ".v_proj.weight": 1, ".key.weight": 0, ".value.weight": 1}


def is_source(path: Path) -> bool:
    """Whether a path can only be meant as one of these checkpoints."""
    return path.suffix == ".pt" or (path / FILE).is_file()


def read(
    path: Path,
    out: Path,
    chat_template: str | None,
    tower: Path | None,
    base: Path | None,
    max_shard_size: int | str,
) -> None:
    """Write the model into `out` as a checkpoint of this project.

    Args:
        path: `checkpoint.pt`, or a folder that holds it.
        tower: folder of the CLIP tower, as transformers has it.
        base: folder of the language model.

    Raises:
        CheckpointError: a key of a config, or a tensor, that this project cannot hold as it is; names it.
    """
    if tower is None or base is None:
        raise CheckpointError(
            f"{path} holds neither the vision tower nor the language model; give a local folder of each with "
            "--vision-tower and --base"
        )
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{path} holds no {FILE}; give the file itself")
    trained = Source(file.parent, [file])
    names = _language_model(base)
    numbers = _block_numbers(trained, names, str(file))
    parts = _parts(trained, names, numbers, tower, base, str(file), chat_template)
    model = empty_model(parts.config())
    _require_every_layer(model, numbers, names, str(file))
    wanted = stored_shapes(model)
    plan = _trained_plan(model, wanted, trained, names, numbers, str(file))
    plan |= _base_plan(model, [n for n in wanted if n not in plan and n.startswith("language_model.")], names, base)
    plan |= tower_plan([name for name in wanted if name.startswith("vision_encoder.")], unread_names(model), tower)
    rows = wanted[embedding_name(model)][0]
    for name in (embedding_name(model), _HEAD + "weight"):
        if name in plan and plan[name].shape[0] != rows:
            plan[name] = grown(plan[name], rows)
    require_shapes(plan, wanted, str(path))
    write_folder(out, parts, {name: plan[name] for name in wanted}, max_shard_size)


def _language_model(base: Path) -> _Names:
    kind = read_config(base).get("model_type")
    if kind not in _LANGUAGE_MODELS:
        raise CheckpointError(
            f"{base}/config.json: model_type is {kind!r}; gated layers can stand in front of "
            f"{', '.join(_LANGUAGE_MODELS)} (MPT's layers, as transformers has them, cannot be told what is seen)"
        )
    return _LANGUAGE_MODELS[kind]


def _block_numbers(trained: Source, names: _Names, where: str) -> list[int]:
    """The decoder layers that have a gated block in front of them."""
    pattern = re.compile(rf"lang_encoder\.{re.escape(names.layers)}\.(\d+)\.gated_cross_attn_layer\.")
    numbers = sorted({int(found[1]) for name in trained.tensors if (found := pattern.match(name))})
    if not numbers:
        raise CheckpointError(
            f"{where} holds no tensor lang_encoder.{names.layers}.N.gated_cross_attn_layer; it is no OpenFlamingo "
            "checkpoint, or --base is another kind of language model"
        )
    return numbers


def _require_every_layer(model: VisionLanguageModel, numbers: list[int], names: _Names, where: str) -> None:
    """Raises `CheckpointError` unless a block stands in front of every so many layers, the last one included."""
    every, depth = numbers[0] + 1, model.config.text_config.num_hidden_layers
    wanted = list(range(every - 1, depth, every))
    if numbers != wanted:
        raise CheckpointError(
            f"{where}: gated layers stand at {names.layers} {numbers}, but at {wanted} of the {depth} layers of --base "
            "they would stand evenly; is it the language model that the checkpoint was trained on?"
        )


def _parts(
    trained: Source, names: _Names, numbers: list[int], tower: Path, base: Path, where: str, chat_template: str | None
) -> Parts:
    shapes = {name: stored.shape for name, stored in trained.tensors.items()}
    block = f"lang_encoder.{names.layers}.{numbers[0]}.gated_cross_attn_layer."
    query, feed_forward = f"{block}attn.to_q.weight", f"{block}ff.1.weight"
    latents, looking = "perceiver.latents", "perceiver.layers.0.0.to_q.weight"
    embeddings = f"lang_encoder.{names.embeddings}weight"
    for name in (query, feed_forward, latents, looking, embeddings):
        if name not in shapes:
            raise CheckpointError(f"{where}: the tensor {name!r} is missing")
    depths = [int(name.split(".")[2]) for name in shapes if name.startswith("perceiver.layers.")]
    options = {
        "resampler": {
            "latents": shapes[latents][0],
            "depth": max(depths) + 1,
            "heads": _HEADS,
            "head_size": shapes[looking][0] // _HEADS,
            "activation": "gelu",
        },
        "block": "flamingo",
        "every": numbers[0] + 1,
        "heads": _HEADS,
        "head_size": shapes[query][0] // _HEADS,
        "intermediate_size": shapes[feed_forward][0],
    }
    vision: Any = read_tower_config(tower)
    with described_by(base):
        text = AutoConfig.for_model(**read_config(base))
    tokenizer = read_tokenizer(base, text)
    # In the order in which OpenFlamingo's factory adds them, since ids are counted.
    added = [_END_OF_CHUNK, IMAGE_TOKEN] + ([_PAD] if tokenizer.pad_token is None else [])
    tokenizer.add_tokens([AddedToken(one, special=True, normalized=False) for one in added], special_tokens=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = _PAD
    text.vocab_size = shapes[embeddings][0]
    if len(tokenizer) != text.vocab_size:
        raise CheckpointError(
            f"{where}: the tensor {embeddings!r} has {text.vocab_size} rows, but the tokenizer in {base} has "
            f"{len(tokenizer)} tokens with those that OpenFlamingo adds; is it the one that it was trained with?"
        )
    return Parts(
        encoder=TransformersConfig(
            source="transformers",
            name=str(vision.name_or_path or tower.name),
            architecture=clip_architecture(vision),
            layer=-1,
            feature="patch",
            image=read_image(tower, vision.image_size),
        ),
        connector=ConnectorConfig(kind="gated_cross_attention", options=options),
        text=text,
        image_token_id=tokenizer.get_added_vocab()[IMAGE_TOKEN],
        tokenizer=tokenizer,
        template=read_template(tokenizer, chat_template, where, usual=f"{TEMPLATE} for OpenFlamingo"),
        origin=f"{NAME} {Path(where).resolve().parent.name}",
    )


def _trained_plan(
    model: VisionLanguageModel,
    wanted: dict[str, tuple[int, ...]],
    trained: Source,
    names: _Names,
    numbers: list[int],
    where: str,
) -> dict[str, Planned]:
    """What the checkpoint holds; the head only where its name has `embed` in it, which is the original's rule."""
    depth = len({name.split(".")[3] for name in wanted if name.startswith("connector.resampler.blocks.")})
    gated = [f"lang_encoder.{names.layers}.{number}.gated_cross_attn_layer." for number in numbers]
    beginnings = {
        "connector.resampler.latents": "perceiver.latents",
        "connector.resampler.layer_norm.": "perceiver.norm.",
        **{
            f"connector.resampler.blocks.{k}.{ours}": f"perceiver.layers.{k}.{theirs}"
            for k in range(depth)
            for ours, theirs in _RESAMPLER.items()
        },
        **{
            f"connector.blocks.{k}.{ours}": prefix + theirs
            for k, prefix in enumerate(gated)
            for ours, theirs in _BLOCK.items()
        },
        f"language_model.{names.embeddings}": f"lang_encoder.{names.embeddings}",
    }
    head = {_HEAD: f"lang_encoder.{names.head}"}
    # FSDP's state dict has the frozen layers as well (`save_checkpoint`, `train/train_utils.py`).
    frozen = {
        f"language_model.{names.layers}.{number}.": f"lang_encoder.{names.layers}.{number}.decoder_layer."
        for number in range(model.config.text_config.num_hidden_layers)
    }
    layouts = (
        keys.Layout("head elsewhere", beginnings),
        keys.Layout("head in the file", {**beginnings, **head}),
        keys.Layout("the whole language model", {**beginnings, **head, **frozen, "language_model.": "lang_encoder."}),
    )
    buffers = {
        f"lang_encoder.{names.layers}.{number}.decoder_layer.{buffer}"
        for number in range(model.config.text_config.num_hidden_layers)
        for buffer in names.buffers
    }
    found = [name for name in trained.tensors if name not in buffers]
    tied = list(model.all_tied_weights_keys)
    matched = keys.match(layouts, wanted, tied, found, where)
    plan = {ours: trained.planned(theirs) for ours, theirs in matched.items()}
    for ours in plan:
        for ending, half in _HALVES.items():
            if ours.startswith("connector.") and ours.endswith(ending):
                plan[ours] = part_of_rows(plan[ours], half, of=2)
    return plan


def _base_plan(model: VisionLanguageModel, missing: list[str], names: _Names, base: Path) -> dict[str, Planned]:
    """What the checkpoint does not hold of the language model."""
    if not missing:
        return {}
    source = Source(base)
    unread = [embedding_name(model), _HEAD + "weight"] + [
        f"language_model.{names.layers}.{number}.{buffer}"
        for number in range(model.config.text_config.num_hidden_layers)
        for buffer in names.buffers
    ]
    layout = keys.Layout("language model", {_HEAD: names.head, "language_model.": ""})
    matched = keys.match([layout], missing, unread, source.tensors, str(base))
    return {ours: source.planned(theirs) for ours, theirs in matched.items()}
