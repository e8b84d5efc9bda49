"""What a report says of the run itself: which model, which program versions."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mminstruct.models.base_processor import BaseProcessor

# Weights, configs, chat templates, and vocabularies of tokenizers without a tokenizer.json.
_DECIDING = (".safetensors", ".json", ".jinja", ".model", ".txt")
PACKAGES = ("mminstruct", "torch", "transformers", "timm", "open_clip_torch", "pillow", "numpy")


def model_facts(model: PreTrainedModel, processor: BaseProcessor, folder: Path | None = None) -> dict[str, Any]:
    """The model's folder, chat template, image preparation and size, as the report shows them."""
    from mminstruct.models.parts import parameter_counts

    counts = parameter_counts(model)
    facts: dict[str, Any] = {
        "folder": None if folder is None else str(folder),
        **processor.facts(),
        "parameters": sum(counts.values()),
    }
    facts |= {f"parameters_{part}": count for part, count in counts.items()}
    return facts | {"dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a score can depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def identity(folder: Path, dtype: str) -> dict[str, str]:
    """What the answers of a checkpoint depend on: a hash of each kind of its files, and the precision.

    Files that decide nothing (a model card, an index of shards) are left out, and so is the folder's name.
    """
    from mminstruct.files import bytes_sha256, sha256

    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _DECIDING)
    named = [f"{path.relative_to(folder)} {sha256(path)}" for path in files if not path.name.endswith(".index.json")]
    return {
        "checkpoint": bytes_sha256("\n".join(named).encode()),
        "dtype": dtype,
        "transformers": metadata.version("transformers"),
    }
