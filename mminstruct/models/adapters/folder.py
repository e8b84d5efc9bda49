"""Only what was trained, on disk: adapters and parts that learnt whole, and which base they belong to.

    adapter.json                          the base (its name, a hash of each part that is needed from it), settings
    PART/adapter_config.json, adapter_model.safetensors     LoRA, as peft writes it for the bare part; of a native model
                                                            for the whole, after which its parts' tensors are named
    PART/masks.safetensors                masks, a bit for each number
    PART/weights.safetensors              a part that was trained whole

A part that is stored whole may differ in the base; every other one must be the one that was trained on. New experts may
be missing there: the folder says how the base is extended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from torch import nn
from transformers import PreTrainedModel

from mminstruct.config import Config, validate
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.errors import CheckpointError
from mminstruct.files import new_folder, read_json, write_json
from mminstruct.models import checkpoint
from mminstruct.models.adapters import attach
from mminstruct.models.adapters.base import Adapter
from mminstruct.models.adapters.config import AdapterConfig, MaskConfig
from mminstruct.models.adapters.mask import read_packed
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.config import ConnectorConfig, ExpertExtensionConfig, OwnParts
from mminstruct.models.parts import part, parts, require_parts
from mminstruct.models.scan import scan
from mminstruct.models.vlm import VisionLanguageModel, own_parts

FILE = "adapter.json"
WHOLE = "weights.safetensors"
# Of the largest logit, in float32: rounding of `(W + BA) x` against `W x + B (A x)` through all layers.
TOLERANCE = 1e-4


class Base(Config):
    """Which model an adapter was trained on: its name for people, and the hash of each part that it does not hold."""

    model: str
    hashes: dict[str, str]


class Description(Config):
    """`adapter.json`.

    Attributes:
        whole: the parts that the folder holds completely.
        connector, expert_extension: what those of a model of ours are that stand in `whole`.
    """

    base: Base
    whole: list[str]
    connector: ConnectorConfig | None = None
    expert_extension: ExpertExtensionConfig | None = None
    adapters: list[AdapterConfig]


def fingerprint(part: nn.Module) -> str:
    """SHA-256 of a part's tensors: names, shapes and numbers, these as float32 whatever they were loaded as."""
    digest = hashlib.sha256()
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} ".encode())
        plain = tensor.detach().cpu().contiguous()
        plain = plain.float() if plain.is_floating_point() else plain
        digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def describe(model: PreTrainedModel, name: str, whole: Sequence[str], configs: Sequence[AdapterConfig]) -> Description:
    """What `save` will write of a model, before its adapters are attached; its `whole` parts may have learnt already.

    Args:
        name: what a person calls the base.

    Raises:
        ConfigError: the model has no such part.
    """
    require_parts(model, whole)
    hashes = {part: fingerprint(found) for part, found in parts(model).items() if part not in whole}
    own = _own_parts(model) if isinstance(model, VisionLanguageModel) else None
    return Description(
        base=Base(model=name, hashes=hashes),
        whole=list(whole),
        connector=own.connector if own and "connector" in whole else None,
        expert_extension=own.expert_extension if own and "experts" in whole else None,
        adapters=list(configs),
    )


def save(folder: Path, model: PreTrainedModel, adapters: Sequence[Adapter], description: Description) -> None:
    """Write an adapter folder, which appears complete or not at all; the adapters must still be attached.

    Raises:
        RunError: the folder exists and is not empty.
    """
    with new_folder(folder) as temporary:
        for adapter in adapters:
            (temporary / adapter.config.part).mkdir()
            adapter.save(temporary / adapter.config.part)
        for name in description.whole:
            (temporary / name).mkdir()
            save_file(_tensors(part(model, name)), temporary / name / WHOLE, metadata={"format": "pt"})
        write_json(temporary / FILE, description.model_dump(mode="json"))


def _tensors(part: nn.Module) -> dict[str, torch.Tensor]:
    """A part's tensors, shared ones once; copies, because DeepSpeed lays what trains into one storage."""
    first = {tensor: name for name, tensor in reversed(part.state_dict(keep_vars=True).items())}
    return {name: tensor.detach().cpu().clone() for tensor, name in reversed(first.items())}


def load(folder: Path, model: PreTrainedModel, where: str) -> list[Adapter]:
    """Put a folder's adapters and whole parts on a model, which gets new experts where the folder has some.

    Args:
        where: what the model is, for the error of a wrong one.

    Raises:
        CheckpointError: the folder is no adapter or incomplete, or the model is not the one that it was trained on.
    """
    if not (folder / FILE).is_file():
        raise CheckpointError(f"{folder} holds no {FILE}; give the adapter folder that a training run wrote")
    scan(folder)
    description = validate(Description, read_json(folder / FILE), where=str(folder / FILE))
    known = parts(model)
    for name, wanted in description.base.hashes.items():
        if name not in known or fingerprint(known[name]) != wanted:
            difference = "holds other numbers than" if name in known else "is missing, unlike"
            raise CheckpointError(
                f"{where} is not the base of {folder}: its {name} {difference} the one of "
                f"{description.base.model!r} that the adapter was trained on; give that model"
            )
    _fit(model, description, where)
    for name in description.whole:
        try:
            load_model(part(model, name), str(folder / name / WHOLE))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{folder / name / WHOLE} cannot be read or does not fit: {error}") from None
    adapters = []
    for config in description.adapters:
        names = list(read_packed(folder / config.part)) if isinstance(config, MaskConfig) else None
        adapter = attach(model, config, names)
        adapter.load(folder / config.part)
        adapters.append(adapter)
    return adapters


def _own_parts(model: VisionLanguageModel) -> OwnParts:
    config: Any = model.config
    return own_parts(config, where="config")


def _fit(model: PreTrainedModel, description: Description, where: str) -> None:
    """Extend the model by the folder's experts, and refuse one whose whole parts are others by their config."""
    if not isinstance(model, VisionLanguageModel):
        return  # what is known of a native model's parts are their tensors
    own = _own_parts(model)
    if description.connector is not None and description.connector != own.connector:
        raise CheckpointError(
            f"the connector of {where} is of another kind than the adapter's; give the adapter's base"
        )
    if description.expert_extension is None:
        return
    if own.expert_extension is None:
        model.extend(description.expert_extension)
    elif own.expert_extension != description.expert_extension:
        raise CheckpointError(
            f"{where} has other new experts than the adapter's; give the model before it was extended"
        )


def merge(model: PreTrainedModel, adapters: Sequence[Adapter], processor: BaseProcessor) -> float:
    """Merge all adapters, in float32, and compare the logits of a picture and a question before and after.

    Returns:
        The largest difference, as a share of the largest logit.

    Raises:
        CheckpointError: it is above `TOLERANCE`; the merged model would not be the trained one.
    """
    model.float()
    model.eval()
    for adapter in adapters:
        adapter.compute_exactly()
    inputs = {name: tensor.to(model.device) for name, tensor in _probe(processor).items()}
    with torch.no_grad():
        before = model(**inputs).logits
        for adapter in adapters:
            adapter.merge()
        after = model(**inputs).logits
    difference = float((before - after).abs().max() / before.abs().max())
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"the merged model's logits differ from the adapted one's by {difference:.1e} of the largest, more than "
            f"{TOLERANCE:.0e}; keep the adapter folder and report this"
        )
    return difference


def merge_folder(folder: Path, base: Path, out: Path) -> float:
    """Base and adapter as one plain checkpoint, which is written only if its logits are the adapted model's.

    Returns:
        What `merge` returns.

    Raises:
        CheckpointError: the base is not the adapter's, a file is missing, or the logits differ.
        RunError: `out` exists and is not empty.
    """
    model, processor = checkpoint.load(base, dtype=torch.float32)
    difference = merge(model, load(folder, model, str(base)), processor)
    checkpoint.save(out, model, processor)
    return difference


def _probe(processor: BaseProcessor) -> dict[str, torch.Tensor]:
    """One picture of many colours and a question, as the model's inputs."""
    noise = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    conversation = Conversation(
        id="merge/probe",
        messages=[Message(role="user", content=[image(), text("What is to be seen here?")])],
        media=[Media(path="noise.png")],
    )
    return processor.collate([processor.prompt(conversation, [Image.fromarray(noise.numpy())])])
