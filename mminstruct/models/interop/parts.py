"""What an import knows of a foreign model before it reads a single number, and the folder that is made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPVisionConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from mminstruct.chat_template import TemplateConfig
from mminstruct.config import validate
from mminstruct.errors import CheckpointError
from mminstruct.files import read_json
from mminstruct.models.checkpoint import read_own_config
from mminstruct.models.config import ConnectorConfig, FusedConfig, TilingConfig, TowerConfig, TransformersConfig
from mminstruct.models.connectors.mlp import MlpOptions
from mminstruct.models.factory import IMAGE_TOKEN, generation_config, processor_config
from mminstruct.models.interop.jinja import from_jinja, to_jinja
from mminstruct.models.interop.keys import TOWER, match
from mminstruct.models.interop.stream import Planned, Source, write
from mminstruct.models.meta import meta
from mminstruct.models.processor import Processor
from mminstruct.models.scan import described_by, scan
from mminstruct.models.vlm import VisionLanguageConfig, VisionLanguageModel, own_parts

# What rebuilds a CLIP tower; `CLIPVisionConfig` has more keys, which concern every model of transformers.
_CLIP_KEYS = (
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
    "initializer_range",
    "initializer_factor",
)
# Those of them that change nothing in what a trained tower computes from a picture.
CLIP_TRAINING_KEYS = ("attention_dropout", "initializer_range", "initializer_factor", "projection_dim")
CLIP = "clip_vision_model"
# The other half of a whole CLIP model.
_CLIP_TEXT = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")


@dataclass(frozen=True)
class Parts:
    """A foreign model, described in this project's terms."""

    encoder: TransformersConfig
    connector: ConnectorConfig
    text: PreTrainedConfig
    image_token_id: int
    tokenizer: PreTrainedTokenizerBase
    template: TemplateConfig
    origin: str
    tiling: TilingConfig | None = None
    instruction_tokenizer: PreTrainedTokenizerBase | None = None

    def config(self) -> VisionLanguageConfig:
        return VisionLanguageConfig(
            vision_encoder=self.encoder.model_dump(mode="json"),
            connector=self.connector.model_dump(mode="json"),
            text_config=self.text,
            image_token_id=self.image_token_id,
            tiling=None if self.tiling is None else self.tiling.model_dump(mode="json"),
            architectures=[VisionLanguageModel.__name__],
        )


def empty_model(config: VisionLanguageConfig) -> VisionLanguageModel:
    """The model without numbers, for its names and shapes."""
    with meta():
        return VisionLanguageModel(config)


def stored_shapes(model: VisionLanguageModel) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of the model holds (a tied head is not stored)."""
    tied = model.all_tied_weights_keys
    return {name: tuple(t.shape) for name, t in model.state_dict().items() if name not in tied}


def unread_names(model: VisionLanguageModel) -> list[str]:
    """Our names of tensors that a foreign file may hold and that nothing reads.

    The tower's layers behind the feature layer, its last norm, a tied head, and the buffers that transformers before
    4.31 saved.
    """
    tower = model.vision_encoder.config
    assert isinstance(tower, TransformersConfig)  # `Parts` has no other
    architecture = dict(tower.architecture)
    with meta():
        whole = AutoModel.from_config(CLIPVisionConfig(**{k: v for k, v in architecture.items() if k != "model_type"}))
    names = {f"vision_encoder.model.{name}" for name in whole.state_dict()} - set(model.state_dict())
    return [*sorted(names), "vision_encoder.model.embeddings.position_ids", *unread_language_names(model)]


def unread_language_names(model: VisionLanguageModel) -> list[str]:
    """The language model's part of `unread_names`."""
    layers = range(model.config.text_config.num_hidden_layers)
    return [
        *model.all_tied_weights_keys,
        *(f"language_model.model.layers.{index}.self_attn.rotary_emb.inv_freq" for index in layers),
    ]


def embedding_name(model: VisionLanguageModel) -> str:
    """Our name of the language model's embeddings."""
    weight = model.get_input_embeddings().weight
    return next(name for name, parameter in model.named_parameters() if parameter is weight)


def require_shapes(plan: Mapping[str, Planned], wanted: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raises `CheckpointError` naming the first tensor of another shape than the config says."""
    for name, shape in wanted.items():
        if plan[name].shape != shape:
            raise CheckpointError(
                f"{where}: the tensor {name!r} (our name) has shape {list(plan[name].shape)}, "
                f"config.json wants {list(shape)}"
            )


def clip_architecture(config: CLIPVisionConfig) -> dict[str, Any]:
    """`architecture` of a CLIP tower; its activation (QuickGELU or not) stays as it is."""
    return {"model_type": CLIP, **{key: getattr(config, key) for key in _CLIP_KEYS}}


def read_tower_config(tower: Path) -> CLIPVisionConfig:
    """The tower's own config, or the half of a whole CLIP's that describes it."""
    settings = read_config(tower)
    kind = settings.get("model_type")
    with described_by(tower):
        if kind == CLIP:
            return CLIPVisionConfig.from_dict(settings)
        if kind == "clip":
            vision: CLIPVisionConfig = CLIPConfig.from_dict(settings).vision_config  # type: ignore[assignment]
            return vision
    raise CheckpointError(f"{tower}/config.json: model_type is {kind!r}; known: 'clip', {CLIP!r}")


def tower_plan(wanted: Collection[str], unread: Collection[str], tower: Path) -> dict[str, Planned]:
    """The tower's tensors out of a folder of its own. Raises `CheckpointError` where one is missing or unknown."""
    source = Source(tower)
    found = [name for name in source.tensors if not name.startswith(_CLIP_TEXT)]
    return {ours: source.planned(theirs) for ours, theirs in match(TOWER, wanted, unread, found, str(tower)).items()}


def grown(planned: Planned, rows: int) -> Planned:
    """A tensor of so many rows: fewer than there are, or more, then the new ones are the mean of the others."""
    found = planned.shape[0]

    def read_grown() -> torch.Tensor:
        tensor = planned.read()
        if rows <= found:
            return tensor[:rows].clone()
        mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
        return torch.cat([tensor, mean.expand(rows - found, -1)])

    return Planned((rows, *planned.shape[1:]), planned.dtype, read_grown)


def feature_layer(value: Any, key: str, where: str) -> int:
    """A layer counted from the end. Raises `CheckpointError` naming the key for anything else."""
    if type(value) is not int or value >= 0:
        raise CheckpointError(f"{where}: {key} is {value!r}; only one layer counted from the end (-2) can be read")
    return value


def require_value(settings: Mapping[str, Any], key: str, value: Any, where: str) -> None:
    """Raises `CheckpointError` where a key is there and says something else than the only value that can be read."""
    if settings.get(key, value) != value:
        raise CheckpointError(f"{where}: {key} is {settings[key]!r}; only {value!r} can be read")


def choose(settings: Mapping[str, Any], key: str, default: Any, table: Mapping[Any, Any], where: str) -> Any:
    """What a key's value stands for in a table. Raises `CheckpointError` naming the key and the values known."""
    value = settings.get(key, default)
    if value not in table:
        raise CheckpointError(f"{where}: {key} is {value!r}; known: {', '.join(repr(one) for one in table)}")
    return table[value]


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a foreign folder."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json; give the folder of a downloaded checkpoint")
    return dict(read_json(folder / "config.json"))


def read_tokenizer(folder: Path, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """A folder's tokenizer; `config` is the language model's, since the folder's own may be of no known type."""
    try:
        return AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: its tokenizer cannot be read: {error}") from None


def read_template(
    tokenizer: PreTrainedTokenizerBase, given: str | None, where: str, usual: str = "vicuna_v1 for LLaVA-1.5"
) -> TemplateConfig:
    """The chat template: the one given, or the one that an export of ours wrote into the tokenizer.

    Args:
        usual: what the error proposes where there is neither.
    """
    written = from_jinja(tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None)
    if written is not None:
        tokenizer.chat_template = None  # `mminstruct.json` holds it
        tokenizer.init_kwargs.pop("chat_template", None)  # or the tokenizer's file would say that there is none
    if given is not None:
        return TemplateConfig(name=given)
    if written is None:
        raise CheckpointError(
            f"{where} does not say which chat template it was trained with; name one with --chat-template ({usual})"
        )
    return written


def write_template(tokenizer: PreTrainedTokenizerBase, config: TemplateConfig, image: str = IMAGE_TOKEN) -> None:
    """Give a tokenizer the Jinja form of a template; `tokenizer` is there already, `plain` has none."""
    if config.name == "plain":
        tokenizer.chat_template = None
    elif config.name != "tokenizer":
        tokenizer.chat_template = to_jinja(config, image)


def write_folder(folder: Path, parts: Parts, plan: Mapping[str, Planned], max_shard_size: int | str) -> None:
    """A whole checkpoint folder of this project, as `checkpoint.save` writes it."""
    config = parts.config()
    model = empty_model(config)
    origins = dict.fromkeys(model.parts, parts.origin)
    own = parts.instruction_tokenizer is not None
    described = processor_config(model, parts.encoder.image, parts.template, origins, own)
    processor = Processor(parts.tokenizer, described, parts.instruction_tokenizer)
    config.dtype = plan[embedding_name(model)].dtype
    config.save_pretrained(folder)
    generation_config(processor, where=parts.origin).save_pretrained(folder)
    processor.save(folder)
    write(folder, plan, max_shard_size)


@dataclass(frozen=True)
class Opened:
    """A checkpoint of this project, opened for export: its description and its weights on disk."""

    config: VisionLanguageConfig
    encoder: TowerConfig | FusedConfig
    connector: ConnectorConfig
    tiling: TilingConfig | None
    processor: Processor
    source: Source

    @property
    def linear_layers(self) -> int | None:
        return linear_layers(self.connector)

    def planned(self) -> dict[str, Planned]:
        """Every tensor by our name. Raises `CheckpointError` where one is missing, too many or of another shape."""
        wanted = stored_shapes(empty_model(self.config))
        where = str(self.source.folder)
        for name in wanted:
            if name not in self.source.tensors:
                raise CheckpointError(f"{where} lacks the tensor {name!r}; the checkpoint is incomplete, copy it again")
        for name in self.source.tensors:
            if name not in wanted:
                raise CheckpointError(f"{where} holds the tensor {name!r}, which its config.json does not have")
        plan = {name: self.source.planned(name) for name in wanted}
        require_shapes(plan, wanted, where)
        return plan

    def write_generation_config(self, out: Path) -> None:
        GenerationConfig.from_pretrained(self.source.folder, local_files_only=True).save_pretrained(out)


def open_own(folder: Path) -> Opened:
    """Raises `CheckpointError` where the folder is no checkpoint of this project."""
    if folder.is_dir():
        scan(folder)
    processor = Processor.load(folder)
    config = read_own_config(folder)
    if config.expert_extension is not None:
        raise CheckpointError(f"{folder} has new experts for pictures, which no other project's format can hold")
    parts = own_parts(config, where=str(folder / "config.json"))
    return Opened(config, parts.vision_encoder, parts.connector, parts.tiling, processor, Source(folder))


def require_clip(opened: Opened, format_name: str) -> tuple[TransformersConfig, int]:
    """The encoder and the number of layers that it keeps. Raises `CheckpointError` unless it is a tower as LLaVA's."""
    encoder, where = opened.encoder, opened.source.folder
    if (
        not isinstance(encoder, TransformersConfig)
        or encoder.architecture.get("model_type") != CLIP
        or encoder.norm
        or encoder.feature == "cls"
    ):
        raise CheckpointError(
            f"{where}: the format {format_name} holds a CLIP tower of transformers without a norm of its own, "
            f"its patches read; the encoder here is {encoder.source} {encoder.name}"
        )
    if not isinstance(encoder.layer, int):
        raise CheckpointError(
            f"{where}: the format {format_name} reads one numbered layer of the encoder, this model reads "
            f"{encoder.layer}"
        )
    settings = {name: value for name, value in encoder.architecture.items() if name != "model_type"}
    kept: int = CLIPVisionConfig(**settings).num_hidden_layers
    return encoder, kept + encoder.layer + 1


def linear_layers(connector: ConnectorConfig) -> int | None:
    """How many linear layers a `linear` or an `mlp` connector has; None for any other kind (and with `expand`)."""
    if connector.kind == "mlp":
        options = validate(MlpOptions, connector.options, where="connector mlp")
        return None if options.expand else options.layers
    return 1 if connector.kind == "linear" else None
