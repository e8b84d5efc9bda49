"""Saving and loading a model folder: complete, strict, safetensors only, independent of the folder's name.

A checkpoint folder holds `config.json` and `model*.safetensors` (the model), `generation_config.json`, the tokenizer's
files and `mminstruct.json` (the processor: image preparation, chat template, image tokens, origins of the weights);
`instruction_tokenizer/` where the connector reads the question through a tokenizer of its own. A native model's folder
is as transformers writes it, `mminstruct.json` (`kind: native`) beside it.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from mminstruct.errors import CheckpointError
from mminstruct.files import new_folder, read_json
from mminstruct.models.base_processor import FILE, BaseProcessor
from mminstruct.models.meta import meta
from mminstruct.models.native import checkpoint as native
from mminstruct.models.processor import Processor
from mminstruct.models.scan import described_by, require_plausible, safe_weights, scan
from mminstruct.models.vlm import VisionLanguageConfig, VisionLanguageModel

log = logging.getLogger(__name__)


def save(
    folder: str | Path,
    model: PreTrainedModel,
    processor: BaseProcessor,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint folder; it appears complete or not at all.

    Args:
        state_dict: the whole weights, where the model itself holds only this process's share of them (ZeRO-3).

    Raises:
        RunError: the folder exists and is not empty.
    """
    with new_folder(Path(folder)) as temporary:
        model.save_pretrained(temporary, state_dict=state_dict)
        processor.save(temporary)


def load(
    checkpoint: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> tuple[PreTrainedModel, BaseProcessor]:
    """The model (in evaluation mode) and processor of a checkpoint folder, or of a native model's as the hub has them.

    Args:
        dtype: of the parameters; default: as they were saved.

    Raises:
        CheckpointError: a file or a tensor is missing, is left over, or has another shape than the config says.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder; give the folder of a checkpoint (it holds config.json and {FILE})"
        )
    scan(folder)
    if native.is_native(folder):
        return native.load(folder, dtype, device)
    processor = Processor.load(folder)
    config = read_own_config(folder)
    shards = safe_weights(folder)
    require_plausible(empty(config, folder), shards, folder)
    saved_dtype: Any = config.dtype or torch.float32
    with no_init_weights():  # random numbers that `_fill` would overwrite, every one of them, take longest
        model = VisionLanguageModel(config)
    model.to(dtype=saved_dtype)  # type: ignore[call-arg]
    _fill(model, shards, folder)
    with described_by(folder, "generation_config.json"):
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    model.to(device=device, dtype=dtype or saved_dtype).eval()  # type: ignore[call-arg]
    origins = ", ".join(f"{name} (began as {processor.config.origins.get(name, 'unknown')})" for name in model.parts)
    log.info("loaded all %d tensors of %s: %s", len(model.state_dict()), folder, origins)
    return model, processor


def skeleton(checkpoint: str | Path) -> tuple[PreTrainedModel, BaseProcessor]:
    """As `load`, but the model lies on the meta device and no weight is read: to count and to measure.

    Raises:
        CheckpointError: `config.json` or the processor is missing.
    """
    folder = Path(checkpoint)
    scan(folder)
    if native.is_native(folder):
        return native.skeleton(folder)
    processor = Processor.load(folder)
    return empty(read_own_config(folder), folder), processor


def read_own_config(folder: Path) -> VisionLanguageConfig:
    """`config.json` of a checkpoint of this project. Raises `CheckpointError` where it is none."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json; the checkpoint is incomplete, copy or save it again")
    with described_by(folder):
        return VisionLanguageConfig.from_dict(read_json(folder / "config.json"))


def empty(config: VisionLanguageConfig, folder: Path) -> VisionLanguageModel:
    """The model that a folder's config describes, on the meta device, where it takes no memory."""
    with described_by(folder), meta():
        return VisionLanguageModel(copy.deepcopy(config))  # a model writes into its config how it computes


@torch.no_grad()
def _fill(model: VisionLanguageModel, shards: list[Path], folder: Path) -> None:
    """Copy every tensor of the shards into the model, one at a time, and insist that none is missing or left over."""
    targets = model.state_dict(keep_vars=True)
    tied = model.all_tied_weights_keys
    missing = set(targets) - set(tied)
    for shard in shards:
        try:
            with safe_open(shard, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - safe_open has no iterator
                    tensor = tensors.get_tensor(name)
                    if name not in targets:
                        raise CheckpointError(
                            f"{shard} holds the tensor {name!r}, which the model in {folder}/config.json does not have"
                        )
                    if tensor.shape != targets[name].shape:
                        raise CheckpointError(
                            f"{shard}: the tensor {name!r} has shape {list(tensor.shape)}, "
                            f"{folder}/config.json wants {list(targets[name].shape)}"
                        )
                    targets[name].copy_(tensor)
                    missing.discard(name)
        except SafetensorError as error:
            raise CheckpointError(f"{shard} is not a whole safetensors file ({error}); copy or save it again") from None
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(targets)} tensors ({some}{', ...' if len(missing) > 3 else ''}); "
            "the checkpoint is incomplete, copy or save it again"
        )
    model.tie_weights()
