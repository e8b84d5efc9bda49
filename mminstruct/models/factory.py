"""A new model from a zoo row: the parts built and joined, the tokenizer given its image token, nothing guessed.

`create("nano")` is random from head to foot; `create("llava-1.5-7b", pretrained=True)` takes the parts' weights from
the hub that the row names. `tiny=True` builds the same kinds of parts in miniature, for tests and dry runs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mminstruct import catalog
from mminstruct.chat_template import TemplateConfig
from mminstruct.chat_template import get as get_template
from mminstruct.config import validate
from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models import compose, encoders
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.config import (
    EncoderConfig,
    ExpertExtensionConfig,
    FusedConfig,
    ImageConfig,
    ModelRow,
    TilingConfig,
    TinyConfig,
    TokenizerConfig,
    TokenizerSource,
)
from mminstruct.models.meta import meta
from mminstruct.models.native import factory as native
from mminstruct.models.native.config import NativeRow
from mminstruct.models.processor import Processor, ProcessorConfig
from mminstruct.models.vlm import VisionLanguageConfig, VisionLanguageModel

log = logging.getLogger(__name__)

IMAGE_TOKEN = "<image>"
# A tokenizer that comes with the package, for the miniatures of rows whose own lies on the hub.
_OWN_TOKENIZER = "nano"


def read_row(row: str | Path | dict[str, Any]) -> tuple[ModelRow | NativeRow, Path]:
    """A zoo row by name, by path or as a mapping, and the folder that its relative paths start from."""
    if isinstance(row, dict):
        return _validated(row, "model row"), catalog.folder(catalog.MODEL)
    path = catalog.find(catalog.MODEL, str(row))
    return _validated(compose.read(path), str(path)), path.parent


def _validated(content: dict[str, Any], where: str) -> ModelRow | NativeRow:
    """A row with the key `native` is a native model's."""
    if "native" in content:
        return validate(NativeRow, content, where)
    return validate(ModelRow, content, where)


def create(
    row: str | Path | dict[str, Any], pretrained: bool = False, tiny: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, BaseProcessor]:
    """A new model and its processor.

    Args:
        row: a name of the zoo (`mminstruct.list_models()`), the path of a row's YAML, or its content.
        pretrained: take the parts' weights from where the row says (the connector is always new).
        tiny: the row's miniature, with the package's own tokenizer; never pretrained.

    Raises:
        ConfigError: an unknown name, key or part, or a template that does not fit the tokenizer.
    """
    spec, folder = read_row(row)
    if tiny and pretrained:
        raise ConfigError(f"model {spec.name!r}: a tiny model has no pretrained weights; drop one of the two options")
    if isinstance(spec, NativeRow):
        return native.create(spec, _own_tokenizer(), pretrained, tiny, dtype)
    if tiny:
        spec, folder = _miniature(spec), catalog.folder(catalog.MODEL)
    tokenizer = _tokenizer(spec, folder)
    if tiny:  # the package's own tokenizer learns the end mark of the row's template, so that the row keeps it
        end = get_template(spec.chat_template, tokenizer).end
        tokenizer.add_tokens([AddedToken(end, special=True, normalized=False)], special_tokens=True)
    image_token_id = tokenizer.get_added_vocab()[IMAGE_TOKEN]
    text_config = dict(spec.language_model.architecture)
    text_config["vocab_size"] = max(text_config.get("vocab_size", 0), len(tokenizer))
    config = VisionLanguageConfig(
        vision_encoder=spec.vision_encoder.model_dump(mode="json"),
        connector=spec.connector.model_dump(mode="json"),
        text_config=text_config,
        image_token_id=image_token_id,
        **_arrangement(spec),
        expert_extension=_extension(spec),
    )
    model = VisionLanguageModel(config)
    instruction = _instruction_tokenizer(spec, folder)
    readable = spec.connector.options.get("instruction_vocabulary", 0)
    asked = tokenizer if instruction is None else instruction
    if readable and len(asked) > readable:
        raise ConfigError(
            f"model {spec.name!r}: its connector reads instructions of {readable} different tokens, but the tokenizer "
            f"has {len(asked)}; set instruction_vocabulary to as many"
        )
    origins = {"vision_encoder": "random", "connector": "random", "language_model": "random"}
    if pretrained:
        _fetch_weights(model, spec, origins)
    if model.experts is not None:
        model.experts.start(model.language_model)
        copied = model.experts.config.start == "copy"
        origins["experts"] = "copies of the language model's experts" if copied else "random"
    model.to(dtype=dtype)  # type: ignore[call-arg]
    own = instruction is not None
    described = processor_config(model, spec.vision_encoder.image, spec.chat_template, origins, own)
    processor = Processor(tokenizer, described, instruction)
    model.generation_config = generation_config(processor, where=f"model {spec.name!r}")
    return model, processor


def processor_config(
    model: VisionLanguageModel,
    image: ImageConfig,
    template: TemplateConfig,
    origins: dict[str, str],
    own_instruction_tokenizer: bool = False,
) -> ProcessorConfig:
    """What a processor has to know of its model.

    Raises `ConfigError` for an instruction tokenizer and a connector that reads no instruction.
    """
    if own_instruction_tokenizer and model.connector.reads != "ids":
        raise ConfigError("tokenizer.instruction is for a connector that reads ids of its own (q_former); drop it")
    layout = model.layout
    return ProcessorConfig(
        image=image,
        image_tokens=layout.vectors,
        image_token_id=model.config.image_token_id,
        in_prompt=layout.in_prompt,
        tiling=layout.tiling,
        video=layout.video,
        reads_instruction=model.connector.reads != "nothing",
        own_instruction_tokenizer=own_instruction_tokenizer,
        chat_template=template,
        origins=origins,
    )


def _arrangement(spec: ModelRow) -> dict[str, Any]:
    """How a row's pictures are tiled and its videos pooled, as `VisionLanguageConfig` takes it."""
    tiling = None if spec.tiling is None else spec.tiling.model_dump(mode="json")
    return {"tiling": tiling, "video": spec.video.model_dump(mode="json")}


def generation_config(processor: Processor, where: str) -> GenerationConfig:
    """Greedy, ends where the tokenizer or the template ends, and never writes an image token, nor one that stands
    around an image.

    Raises `ConfigError`, beginning with `where`, when the template does not fit the tokenizer.
    """
    return GenerationConfig(
        eos_token_id=_stop_ids(processor, where),
        pad_token_id=processor.tokenizer.pad_token_id,
        bos_token_id=processor.tokenizer.bos_token_id,
        suppress_tokens=sorted({processor.config.image_token_id, *_around_image_ids(processor)}),
    )


def skeleton(spec: ModelRow | NativeRow) -> PreTrainedModel:
    """A row's model on the meta device, where nothing is allocated or computed: to count and to measure."""
    if isinstance(spec, NativeRow):
        return native.skeleton(spec)
    config = VisionLanguageConfig(
        vision_encoder=spec.vision_encoder.model_dump(mode="json"),
        connector=spec.connector.model_dump(mode="json"),
        text_config=dict(spec.language_model.architecture),
        image_token_id=0,
        **_arrangement(spec),
        expert_extension=_extension(spec),
    )
    with meta():
        return VisionLanguageModel(config)


def _extension(spec: ModelRow) -> dict[str, Any] | None:
    return spec.expert_extension.model_dump(mode="json") if spec.expert_extension else None


def _own_tokenizer() -> Path:
    """The folder of the tokenizer that comes with the package."""
    spec, folder = read_row(_OWN_TOKENIZER)
    assert isinstance(spec, ModelRow) and spec.tokenizer.folder is not None  # the row is the package's own
    return folder / spec.tokenizer.folder


def _miniature(spec: ModelRow) -> ModelRow:
    language_model = {**spec.language_model.architecture, **spec.tiny.language_model}
    extension = spec.expert_extension
    if extension is not None:
        extension = validate(
            ExpertExtensionConfig, {**extension.model_dump(), **spec.tiny.expert_extension}, "tiny.expert_extension"
        )
    return spec.model_copy(
        update={
            "vision_encoder": _small_encoder(spec.vision_encoder, spec.tiny),
            "connector": spec.connector.model_copy(
                update={"options": {**spec.connector.options, **spec.tiny.connector}}
            ),
            "language_model": spec.language_model.model_copy(update={"architecture": language_model}),
            "expert_extension": extension,
            "tokenizer": _small_tokenizer(spec),
            "tiling": _small_tiling(spec),
        }
    )


def _small_tokenizer(spec: ModelRow) -> TokenizerConfig:
    """The package's own, for the instruction as well where the row has two."""
    folder = str(_own_tokenizer())
    instruction = None if spec.tokenizer.instruction is None else TokenizerSource(folder=folder)
    return TokenizerConfig(folder=folder, instruction=instruction)


def _small_tiling(spec: ModelRow) -> TilingConfig | None:
    """The same grids of smaller tiles."""
    if spec.tiling is None:
        return None
    before, now = spec.vision_encoder.image.size, spec.tiny.image_size
    small = [(height // before * now, width // before * now) for height, width in spec.tiling.resolutions]
    return spec.tiling.model_copy(update={"resolutions": tuple(small)})


def _small_encoder(encoder: EncoderConfig, tiny: TinyConfig) -> EncoderConfig:
    """The same kind of encoder; `ModelRow` has seen to it that there are overrides for each tower."""
    towers = encoder.towers if isinstance(encoder, FusedConfig) else (encoder,)
    overrides = tiny.vision_encoder if isinstance(tiny.vision_encoder, list) else [tiny.vision_encoder]
    small = [
        tower.model_copy(
            update={
                "architecture": {**tower.architecture, **override},
                "image": tower.image.model_copy(update={"size": tiny.image_size}),
                "weights": False,
            }
        )
        for tower, override in zip(towers, overrides, strict=True)
    ]
    if not isinstance(encoder, FusedConfig):
        return small[0]
    image = encoder.image.model_copy(update={"size": tiny.image_size})
    return encoder.model_copy(update={"towers": tuple(small), "image": image})


def _read_tokenizer(spec: ModelRow, tokenizer: TokenizerSource, folder: Path) -> PreTrainedTokenizerBase:
    if (tokenizer.name is None) == (tokenizer.folder is None):
        raise ConfigError(f"model {spec.name!r}: give the tokenizer either a name or a folder")
    source = tokenizer.name or str(folder / str(tokenizer.folder))
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"model {spec.name!r}: the tokenizer {source} cannot be read: {error}") from None


def _instruction_tokenizer(spec: ModelRow, folder: Path) -> PreTrainedTokenizerBase | None:
    if spec.tokenizer.instruction is None:
        return None
    tokenizer = _read_tokenizer(spec, spec.tokenizer.instruction, folder)
    if tokenizer.pad_token is None:
        raise ConfigError(f"model {spec.name!r}: the tokenizer of the instruction has no padding token")
    return tokenizer


def _tokenizer(spec: ModelRow, folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = _read_tokenizer(spec, spec.tokenizer, folder)
    added = [AddedToken(token, special=True, normalized=False) for token in spec.tokenizer.added_tokens]
    tokenizer.add_tokens(added, special_tokens=True)
    if spec.tokenizer.pad_token is not None:
        tokenizer.pad_token = spec.tokenizer.pad_token
    if tokenizer.pad_token is None:
        raise ConfigError(f"model {spec.name!r}: the tokenizer has no padding token; name one as tokenizer.pad_token")
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    return tokenizer


def _stop_ids(processor: Processor, where: str) -> list[int]:
    """Ids that end an answer: the tokenizer's own, and the template's mark, which must be one token."""
    tokenizer = processor.tokenizer
    ids = tokenizer(processor.template.end, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 and processor.template.config.name != "plain":
        raise ConfigError(
            f"{where}: the chat template {processor.template.config.name!r} ends a turn with "
            f"{processor.template.end!r}, which its tokenizer splits into {len(ids)} tokens; choose one that fits"
        )
    return sorted({*ids[-1:], *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])})


def _around_image_ids(processor: Processor) -> set[int]:
    """The added tokens in the template's image format (words in it may stand in an answer as well)."""
    added = set(processor.tokenizer.get_added_vocab().values())
    texts = processor.template.image_format.split("{}")
    found = [processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return added.intersection(token for ids in found for token in ids)


def _fetch_weights(model: VisionLanguageModel, spec: ModelRow, origins: dict[str, str]) -> None:
    if spec.vision_encoder.weights:
        model.vision_encoder = encoders.build(spec.vision_encoder, pretrained=True)
        origins["vision_encoder"] = model.vision_encoder.origin
    if spec.language_model.weights:
        name = str(spec.language_model.name)
        source = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False)
        source.resize_token_embeddings(model.config.text_config.vocab_size)
        model.language_model.load_state_dict(source.state_dict(), strict=True)
        origins["language_model"] = f"hub {name}"
    if not (spec.vision_encoder.weights or spec.language_model.weights):
        raise ConfigError(f"model {spec.name!r} names no pretrained weights; create it without pretrained")
