"""Only what expert extension trains: connector, new experts and router columns, to be put onto the model they extend.

A delta folder holds `delta.safetensors` (the tensors of the parts `connector` and `experts`) and `delta.json`: the
configs of both, and the SHA-256 of the weights of the base, without which the new numbers mean nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mminstruct.config import validate
from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.files import new_folder, read_json, write_json
from mminstruct.models import checkpoint
from mminstruct.models.config import ConnectorConfig, ExpertExtensionConfig
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel

_WEIGHTS = "delta.safetensors"
_FACTS = "delta.json"
_BASE_PARTS = ("vision_encoder", "language_model")
_NEW_PARTS = ("connector", "experts")


def save_delta(folder: str | Path, model: VisionLanguageModel, base: str) -> None:
    """Write the new parts of an extended model; the folder appears whole or not at all.

    Args:
        base: what a person calls the model that was extended, for the record and for errors; its weights are told
            by their hash.

    Raises:
        ConfigError: the model has no new experts.
        RunError: the folder exists and is not empty.
    """
    if model.experts is None:
        raise ConfigError("this model has no new experts; save it as a checkpoint instead")
    with new_folder(Path(folder)) as temporary:
        tensors = {name: tensor.contiguous() for name, tensor in _new_tensors(model).items()}
        save_file(tensors, temporary / _WEIGHTS, metadata={"format": "pt"})
        facts = {
            "base": base,
            "base_sha256": base_hash(model),
            "connector": model.config.connector,
            "expert_extension": model.config.expert_extension,
        }
        write_json(temporary / _FACTS, facts)


def load_delta(
    folder: str | Path, base: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> tuple[VisionLanguageModel, Processor]:
    """The extended model (in evaluation mode) and its processor.

    Args:
        base: the checkpoint folder of the model that was extended, or of the extended one before training.
        dtype: of the parameters; default: as the base was saved.

    Raises:
        CheckpointError: the base is another one, or a file or tensor of the delta is missing, left over or misshapen.
    """
    folder = Path(folder)
    for name in (_FACTS, _WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} holds no {name}; give the folder of a delta, or copy or save it again")
    facts = read_json(folder / _FACTS)
    if not isinstance(facts, dict) or set(facts) != {"base", "base_sha256", "connector", "expert_extension"}:
        raise CheckpointError(f"{folder / _FACTS} does not hold what a delta says of itself; save the delta again")
    model, processor = checkpoint.load(base)
    if base_hash(model) != facts["base_sha256"]:
        raise CheckpointError(
            f"{base} has other weights than the model that {folder} extends ({facts['base']!r}); "
            "give that one, unchanged"
        )
    where = str(folder / _FACTS)
    connectors = [validate(ConnectorConfig, found, where) for found in (facts["connector"], model.config.connector)]
    if connectors[0] != connectors[1]:
        raise CheckpointError(f"{where}: the connector is another kind than that of {base}; give the base it extends")
    extension = validate(ExpertExtensionConfig, facts["expert_extension"], where)
    if model.experts is None:
        model.extend(extension)
    elif model.experts.config != extension:
        raise CheckpointError(f"{where}: {base} has other new experts already; give the model before it was extended")
    _fill(model, folder / _WEIGHTS)
    return model.to(device=device, dtype=dtype or model.dtype).eval(), processor  # type: ignore[call-arg]


@torch.no_grad()
def base_hash(model: VisionLanguageModel) -> str:
    """SHA-256 over names, shapes and numbers of encoder and language model.

    Floating-point numbers are hashed as float32, so the same weights are the same in any wider precision.
    """
    digest = hashlib.sha256()
    for part in _BASE_PARTS:
        for name, tensor in sorted(model.part(part).state_dict().items()):
            digest.update(f"{part}.{name} {list(tensor.shape)}\n".encode())
            exact = tensor.float() if tensor.is_floating_point() else tensor
            digest.update(exact.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _new_tensors(model: VisionLanguageModel) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": tensor for part in _NEW_PARTS for name, tensor in model.part(part).state_dict().items()}


@torch.no_grad()
def _fill(model: VisionLanguageModel, path: Path) -> None:
    try:
        tensors: dict[str, Any] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); copy or save it again") from None
    targets = _new_tensors(model)
    different = sorted(set(targets) ^ set(tensors))
    if different:
        raise CheckpointError(f"{path}: the tensor {different[0]!r} is missing or left over; save the delta again")
    for name, target in targets.items():
        if tensors[name].shape != target.shape:
            raise CheckpointError(
                f"{path}: the tensor {name!r} has shape {list(tensors[name].shape)}, "
                f"{_FACTS} wants {list(target.shape)}"
            )
        target.copy_(tensors[name])
