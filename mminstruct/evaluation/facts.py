"""What a report says of the run itself: which model, which program versions."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mminstruct import __version__

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


def code(root: Path | None = None) -> dict[str, Any]:
    """The version of this package; in a checkout also its git commit, and whether files that git knows differ from it.

    Both are None where there is no checkout, or no git to ask. `root` is the checkout; by default the one of this file.
    """
    root = root or Path(__file__).resolve().parents[2]
    found: dict[str, Any] = {"version": __version__, "commit": None, "changed": None}
    if (root / ".git").exists():
        commit = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
        if commit is not None and changes is not None:
            found |= {"commit": commit, "changed": bool(changes)}
    return found


def _git(root: Path, *arguments: str) -> str | None:
    """What git says, or None where it is not there or refuses."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> str:
    """The processor, its cores, and the accelerator if there is one, in words."""
    import os

    import torch

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = (line.partition(":") for line in info.read_text(encoding="utf-8", errors="replace").splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    cores = f"{os.cpu_count()} cores of {name}"
    return f"{torch.cuda.get_device_name()}, {cores}" if torch.cuda.is_available() else f"{cores}, no GPU"


def checkpoint_files(folder: Path) -> dict[str, str]:
    """name -> sha256 of a checkpoint's files, by name.

    Files that decide nothing (a model card, an index of shards) are left out.
    """
    from mminstruct.files import sha256

    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _DECIDING)
    return {str(path.relative_to(folder)): sha256(path) for path in files if not path.name.endswith(".index.json")}


def checkpoint_hashes(files: Mapping[str, str]) -> dict[str, str]:
    """One hash over the weights, one over the configuration and the processor, of what `checkpoint_files` found."""
    weights = {name: value for name, value in files.items() if name.endswith(".safetensors")}
    rest = {name: value for name, value in files.items() if name not in weights}
    return {"weights": _over(weights), "processor": _over(rest)}


def _over(files: Mapping[str, str]) -> str:
    from mminstruct.files import bytes_sha256

    return bytes_sha256("\n".join(f"{name} {value}" for name, value in files.items()).encode())


def identity(folder: Path, dtype: str, files: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the answers of a checkpoint depend on: a hash of its files, the precision; not the folder's name.

    `files` as `checkpoint_files` gives them, where they have been read already.
    """
    return {
        "checkpoint": _over(checkpoint_files(folder) if files is None else files),
        "dtype": dtype,
        "transformers": metadata.version("transformers"),
    }
