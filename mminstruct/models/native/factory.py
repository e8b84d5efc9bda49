"""A new native model from a zoo row: full-size from the hub or random, or in miniature with nothing fetched."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel

from mminstruct.errors import CheckpointError
from mminstruct.models.meta import meta
from mminstruct.models.native.checkpoint import open_processor
from mminstruct.models.native.config import NativeConfig, NativeRow
from mminstruct.models.native.parts import NATIVE_PARTS
from mminstruct.models.native.processor import NativeProcessor


def create(
    row: NativeRow, tokenizer: Path, pretrained: bool, tiny: bool, dtype: torch.dtype
) -> tuple[PreTrainedModel, NativeProcessor]:
    """See `mminstruct.models.factory.create`.

    Args:
        tokenizer: the folder of the tokenizer that miniatures use.
    """
    origins = dict.fromkeys(NATIVE_PARTS, f"hub {row.native}" if pretrained else "random")
    config = NativeConfig(origins=origins)
    if tiny:
        return _tiny(row, tokenizer, config, dtype)
    processor = open_processor(row.native, config, local_files_only=False)
    if pretrained:
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                row.native, dtype=dtype, use_safetensors=True, trust_remote_code=False
            )
        except OSError as error:
            raise CheckpointError(f"model {row.name!r}: the weights {row.native} cannot be read: {error}") from None
        return model.eval(), processor
    return _random(row.architecture, processor, dtype, where=f"model {row.name!r}"), processor


def skeleton(row: NativeRow) -> PreTrainedModel:
    """A row's model on the meta device, to count and to measure."""
    with meta():
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**row.architecture))
    return model


def _tiny(
    row: NativeRow, tokenizer: Path, config: NativeConfig, dtype: torch.dtype
) -> tuple[PreTrainedModel, NativeProcessor]:
    processor = _tiny_processor(row, tokenizer, config)
    ids = processor.tokenizer
    special = {"bos_token_id": ids.bos_token_id, "eos_token_id": ids.eos_token_id, "pad_token_id": ids.pad_token_id}
    architecture = _merged(row.architecture, row.tiny.architecture)
    architecture = _merged(architecture, {"text_config": {"vocab_size": len(ids), **special}})
    architecture |= {key: ids.convert_tokens_to_ids(row.tiny.tokens[name]) for key, name in row.tiny.token_ids.items()}
    return _random(architecture, processor, dtype, where=f"model {row.name!r}"), processor


def _tiny_processor(row: NativeRow, tokenizer: Path, config: NativeConfig) -> NativeProcessor:
    """The family's processor around the package's tokenizer, made as any other: opened from a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        AutoTokenizer.from_pretrained(tokenizer, extra_special_tokens=row.tiny.tokens).save_pretrained(folder)
        (folder / "processor_config.json").write_text(json.dumps(row.tiny.processor), encoding="utf-8")
        (folder / "chat_template.jinja").write_text(row.tiny.chat_template, encoding="utf-8")
        return open_processor(folder, config)


def _random(
    architecture: dict[str, Any], processor: NativeProcessor, dtype: torch.dtype, where: str
) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**architecture), dtype=dtype)
    model.generation_config = processor.generation_config(where)
    return model


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`, sub-configs key by key."""
    return base | {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in over.items()
    }
