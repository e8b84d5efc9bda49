"""A new model from a zoo row: the parts built and joined, the tokenizer given its image token, nothing guessed.

`create("nano")` is random from head to foot; `create("llava-1.5-7b", pretrained=True)` takes the parts' weights from
the hub that the row names. `tiny=True` builds the same kinds of parts in miniature, for tests and dry runs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from mminstruct import catalog
from mminstruct.chat_template import TemplateConfig
from mminstruct.chat_template import get as get_template
from mminstruct.config import load_yaml, validate
from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models import encoders
from mminstruct.models.config import EncoderConfig, FusedConfig, ImageConfig, ModelRow, TilingConfig, TinyConfig
from mminstruct.models.processor import Processor, ProcessorConfig
from mminstruct.models.vlm import VisionLanguageConfig, VisionLanguageModel

log = logging.getLogger(__name__)

IMAGE_TOKEN = "<image>"
# A tokenizer that comes with the package, for the miniatures of rows whose own lies on the hub.
_OWN_TOKENIZER = "nano"


def read_row(row: str | Path | dict[str, Any]) -> tuple[ModelRow, Path]:
    """A zoo row by name, by path or as a mapping, and the folder that its relative paths start from."""
    if isinstance(row, dict):
        return validate(ModelRow, row, where="model row"), catalog.folder(catalog.MODEL)
    path = catalog.find(catalog.MODEL, str(row))
    return validate(ModelRow, _with_base(path), where=str(path)), path.parent


def _with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A row's content; where it names a `base`, that row's, with each part that this one gives in place of the base's.

    Raises:
        ConfigError: a base that does not exist, or rows that are each other's base.
    """
    content = load_yaml(path)
    if "base" not in content:
        return content
    if path in above:
        raise ConfigError(f"{path} is, through its base, its own base; let one of the rows stand by itself")
    base = catalog.find(catalog.MODEL, str(content.pop("base")))
    inherited = _with_base(base, (*above, path))
    folder = inherited.get("tokenizer", {}).get("folder")
    if folder is not None and base.parent != path.parent:  # it starts from the file that names it
        inherited["tokenizer"] = {**inherited["tokenizer"], "folder": str(base.parent / folder)}
    return inherited | content


def create(
    row: str | Path | dict[str, Any], pretrained: bool = False, tiny: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[VisionLanguageModel, Processor]:
    """A new model and its processor.

    Args:
        row: a name of the zoo (`mminstruct.list_models()`), the path of a row's YAML, or its content.
        pretrained: take the parts' weights from where the row says (the connector is always new).
        tiny: the row's miniature, with the package's own tokenizer; never pretrained.

    Raises:
        ConfigError: an unknown name, key or part, or a template that does not fit the tokenizer.
    """
    spec, folder = read_row(row)
    if tiny:
        if pretrained:
            raise ConfigError(
                f"model {spec.name!r}: a tiny model has no pretrained weights; drop one of the two options"
            )
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
    )
    model = VisionLanguageModel(config)
    readable = spec.connector.options.get("instruction_vocabulary", 0)
    if readable and len(tokenizer) > readable:
        raise ConfigError(
            f"model {spec.name!r}: its connector reads instructions of {readable} different tokens, but the tokenizer "
            f"has {len(tokenizer)}; set instruction_vocabulary to as many"
        )
    origins = {"vision_encoder": "random", "connector": "random", "language_model": "random"}
    if pretrained:
        _fetch_weights(model, spec, origins)
    model.to(dtype=dtype)  # type: ignore[call-arg]
    processor = Processor(tokenizer, processor_config(model, spec.vision_encoder.image, spec.chat_template, origins))
    model.generation_config = generation_config(processor, where=f"model {spec.name!r}")
    return model, processor


def processor_config(
    model: VisionLanguageModel, image: ImageConfig, template: TemplateConfig, origins: dict[str, str]
) -> ProcessorConfig:
    """What a processor has to know of its model."""
    layout = model.layout
    return ProcessorConfig(
        image=image,
        image_tokens=layout.vectors,
        image_token_id=model.config.image_token_id,
        in_prompt=layout.in_prompt,
        tiling=layout.tiling,
        video=layout.video,
        reads_instruction=model.connector.reads != "nothing",
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


def skeleton(spec: ModelRow) -> VisionLanguageModel:
    """A row's model on the meta device, where nothing is allocated or computed: to count and to measure."""
    config = VisionLanguageConfig(
        vision_encoder=spec.vision_encoder.model_dump(mode="json"),
        connector=spec.connector.model_dump(mode="json"),
        text_config=dict(spec.language_model.architecture),
        image_token_id=0,
        **_arrangement(spec),
    )
    with torch.device("meta"):
        return VisionLanguageModel(config)


def count_parameters(spec: ModelRow) -> dict[str, int]:
    """Parameters of each part of a row."""
    return skeleton(spec).parameter_counts()


def _miniature(spec: ModelRow) -> ModelRow:
    language_model = {**spec.language_model.architecture, **spec.tiny.language_model}
    return spec.model_copy(
        update={
            "vision_encoder": _small_encoder(spec.vision_encoder, spec.tiny),
            "connector": spec.connector.model_copy(
                update={"options": {**spec.connector.options, **spec.tiny.connector}}
            ),
            "language_model": spec.language_model.model_copy(update={"architecture": language_model}),
            "tokenizer": read_row(_OWN_TOKENIZER)[0].tokenizer,
            "tiling": _small_tiling(spec),
        }
    )


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


def _tokenizer(spec: ModelRow, folder: Path) -> PreTrainedTokenizerBase:
    if (spec.tokenizer.name is None) == (spec.tokenizer.folder is None):
        raise ConfigError(f"model {spec.name!r}: give the tokenizer either a name or a folder")
    source = spec.tokenizer.name or str(folder / str(spec.tokenizer.folder))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"model {spec.name!r}: the tokenizer {source} cannot be read: {error}") from None
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
        source = AutoModelForCausalLM.from_pretrained(name)
        source.resize_token_embeddings(model.config.text_config.vocab_size)
        model.language_model.load_state_dict(source.state_dict(), strict=True)
        origins["language_model"] = f"hub {name}"
    if not (spec.vision_encoder.weights or spec.language_model.weights):
        raise ConfigError(f"model {spec.name!r} names no pretrained weights; create it without pretrained")
