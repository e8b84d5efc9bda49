"""Opening a native model's folder: ours, or one that transformers or somebody on the hub has saved."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
)

from mminstruct.config import validate
from mminstruct.errors import CheckpointError
from mminstruct.files import read_json
from mminstruct.models.base_processor import FILE
from mminstruct.models.meta import meta
from mminstruct.models.native.config import NativeConfig
from mminstruct.models.native.processor import NativeProcessor
from mminstruct.models.scan import UNREADABLE, described_by, require_plausible, safe_weights

log = logging.getLogger(__name__)

ADAPTER = "adapter_config.json"


def is_native(folder: Path) -> bool:
    """Whether a folder holds a native model: by our own file, without one by what transformers maps its config to."""
    if (folder / FILE).is_file():
        return read_json(folder / FILE).get("kind") == "native"
    if not (folder / "config.json").is_file():
        return False
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNREADABLE:  # a model type that transformers does not know, or a broken file
        return False
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def load(
    folder: Path, dtype: torch.dtype | None, device: str | torch.device
) -> tuple[PreTrainedModel, NativeProcessor]:
    """The model (in evaluation mode) and processor of a folder; see `mminstruct.models.checkpoint.load`."""
    config = _own_config(folder)
    if (folder / ADAPTER).exists():  # transformers would open the model that it names
        raise CheckpointError(
            f"{folder} holds {ADAPTER}, so it is no whole model; merge the adapter into its base first"
        )
    require_plausible(_empty(folder), safe_weights(folder), folder)
    model = open_model(folder, dtype or "auto").eval()
    model.to(device=device)  # type: ignore[call-arg]
    processor = open_processor(folder, config)
    if not (folder / "generation_config.json").is_file():  # a config's own eos id alone need not be the turn's end
        model.generation_config = processor.generation_config(str(folder))
    for name, origin in config.origins.items():
        log.info("%s of %s began as %s", name, folder, origin)
    return model, processor


def skeleton(folder: Path) -> tuple[PreTrainedModel, NativeProcessor]:
    """See `mminstruct.models.checkpoint.skeleton`."""
    processor = open_processor(folder, _own_config(folder))
    return _empty(folder), processor


def _empty(folder: Path) -> PreTrainedModel:
    with described_by(folder), meta():
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
        return model


def _own_config(folder: Path) -> NativeConfig:
    if not (folder / FILE).is_file():
        return NativeConfig()
    return validate(NativeConfig, read_json(folder / FILE), where=str(folder / FILE))


def open_processor(source: str | Path, config: NativeConfig, **options: Any) -> NativeProcessor:
    """The processor of a folder, or with `local_files_only=False` of a hub repository."""
    try:
        native = AutoProcessor.from_pretrained(
            source, **{"local_files_only": True, "trust_remote_code": False, **options}
        )
    except UNREADABLE as error:
        raise CheckpointError(f"the processor of {source} cannot be opened: {error}") from None
    return NativeProcessor(native, config)


def open_model(folder: Path, dtype: torch.dtype | str) -> PreTrainedModel:
    """transformers' own loader, held to strictness: no tensor missing, left over or of another shape; no pickle."""
    try:
        opened: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused below
        )
    except (*UNREADABLE, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be opened as a native model ({error}); copy or save it again") from None
    model: PreTrainedModel
    model, report = opened
    for kind, words in (
        ("missing_keys", "lacks the tensor"),
        ("unexpected_keys", "holds a tensor that the model does not have:"),
        ("mismatched_keys", "holds a tensor of another shape than config.json wants:"),
    ):
        if report[kind]:
            first = sorted(map(str, report[kind]))[0]
            more = len(report[kind]) - 1
            raise CheckpointError(f"{folder} {words} {first} (and {more} more such); copy or save it again")
    return model
