"""A LoRA folder of the original LLaVA, read as if it had been merged: each tensor is merged when it is read.

`adapter_config.json` and `adapter_model.*` are peft's; `non_lora_trainables.bin` holds what was trained whole (the
projector). `W + scale * B @ A`, computed in float32.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from mminstruct.errors import CheckpointError
from mminstruct.files import read_json
from mminstruct.models.interop.parts import require_value
from mminstruct.models.interop.stream import Source

CONFIG = "adapter_config.json"
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_WHOLE = "non_lora_trainables.bin"
_BEGIN = "base_model.model."
_A, _B, _WEIGHT = ".lora_A.weight", ".lora_B.weight", ".weight"

# Settings of peft that change what an adapter computes, and the only value that is merged here.
_PLAIN = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "fan_in_fan_out": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
}


class MergedSource(Source):
    """The base's tensors with the adapter merged in, and the adapter's own whole tensors.

    Raises:
        CheckpointError: a file is missing, a setting of the adapter is unknown, or it changes what the base lacks.
    """

    def __init__(self, folder: Path, base: Path) -> None:
        where = str(folder / CONFIG)
        settings: dict[str, Any] = read_json(folder / CONFIG)
        for key, value in _PLAIN.items():
            require_value(settings, key, value, where)
        rank = settings["r"]
        self._scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
        self.folder = folder
        self._base = Source(base)
        self._adapter = Source(folder, [_first(folder, _ADAPTERS)])
        self._whole = Source(folder, [_first(folder, (_WHOLE,))])
        self._own = {name.removeprefix(_BEGIN): name for name in self._whole.tensors}
        self._changed: dict[str, tuple[str, str]] = {}
        for name in self._adapter.tensors:
            if name.endswith(_A):
                module = name.removesuffix(_A)
                self._changed[module.removeprefix(_BEGIN) + _WEIGHT] = (name, module + _B)
            elif not name.endswith(_B):
                raise CheckpointError(f"{folder}: the adapter's tensor {name!r} is none of LoRA's")
        self.tensors = {**self._base.tensors, **{ours: self._whole.tensors[name] for ours, name in self._own.items()}}
        for target, (down, up) in self._changed.items():
            if target not in self._base.tensors or up not in self._adapter.tensors:
                raise CheckpointError(f"{folder}: the adapter's {down!r} has no {target!r} in {base} or no {up!r}")
            shape = (self._adapter.tensors[up].shape[0], self._adapter.tensors[down].shape[1])
            if shape != self._base.tensors[target].shape:
                raise CheckpointError(f"{folder}: the adapter's {down!r} does not fit {target!r} of {base}")

    def read(self, name: str) -> torch.Tensor:
        if name in self._own:
            return self._whole.read(self._own[name])
        weight = self._base.read(name)
        if name not in self._changed:
            return weight
        down, up = (self._adapter.read(part).float() for part in self._changed[name])
        return (weight.float() + self._scale * (up @ down)).to(weight.dtype)


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder} holds no {names[0]}, which a LoRA folder of LLaVA has; copy it again")
