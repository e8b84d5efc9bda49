"""LoRA and DoRA on all linear layers of one part, by peft.

`x [..., in] -> W x + scale * B A x [..., out]`, `A [rank, in]`, `B [out, rank]`; W stays, perhaps in 4 bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer, LoraModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from mminstruct.errors import CheckpointError, ConfigError
from mminstruct.models.adapters.base import Adapter, parameter_order, restore_order
from mminstruct.models.adapters.config import LoraConfig
from mminstruct.models.adapters.quantize import dequantize, quantize
from mminstruct.models.adapters.targets import linear_modules
from mminstruct.models.parts import part

WEIGHTS = "adapter_model.safetensors"
# What peft writes in front of a module's name, for the wrapper that its own users have around the model.
_BEGIN = "base_model.model."


class Lora(Adapter):
    """See the module.

    Args:
        compute_dtype: that a part in 4 bits computes in.

    Raises:
        ConfigError: the part has no linear layer, or DoRA is asked for where peft has none.
    """

    config: LoraConfig

    def __init__(self, model: PreTrainedModel, config: LoraConfig, compute_dtype: torch.dtype = torch.float32) -> None:
        modules = linear_modules(model, config.part)
        if config.dora and any(isinstance(module, nn.MultiheadAttention) for module in modules.values()):
            raise ConfigError(
                f"the {config.part} holds torch's MultiheadAttention, which peft has no DoRA for; use dora: false"
            )
        self.config, self.names = config, list(modules)
        whole = part(model, config.part)
        self._order = parameter_order(whole)
        if config.bits is not None:
            quantize(whole, self.names, compute_dtype)
        # peft asks whatever it is given for a `config` of transformers' kind; a dictionary of the one part has none,
        # and its names are whole, so that no layer can be met by the end of its name.
        self._root = nn.ModuleDict({config.part: whole})
        self._inject()

    def _inject(self) -> None:
        settings = self._peft_config([f"{self.config.part}.{name}" for name in self.names])
        self._tuner = LoraModel(self._root, settings, "default")
        found = {name for name, module in self._part.named_modules() if isinstance(module, LoraLayer)}
        found -= {f"{name}.base_layer.out_proj" for name in self.names}  # in torch's attention, part of its adapter
        if found != set(self.names):
            raise ConfigError(
                f"LoRA went on other layers of the {self.config.part} than it should: {sorted(found ^ set(self.names))}"
            )

    @property
    def _part(self) -> nn.Module:
        return self._root[self.config.part]

    def _peft_config(self, names: list[str]) -> peft.LoraConfig:
        return peft.LoraConfig(
            r=self.config.rank,
            lora_alpha=self.config.alpha,
            lora_dropout=self.config.dropout,
            use_dora=self.config.dora,
            use_rslora=self.config.rslora,
            init_lora_weights="gaussian" if self.config.init == "gaussian" else True,
            target_modules=names,
        )

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self._part.parameters() if parameter.requires_grad]

    def state(self) -> dict[str, torch.Tensor]:
        """peft's own tensors, named in the part: `NAME.lora_A.weight [rank, in]` and so on."""
        found = peft.get_peft_model_state_dict(self._root, save_embedding_layers=False)
        begin = f"{self.config.part}."
        return {name.removeprefix(begin): tensor.detach() for name, tensor in found.items()}

    def _set_state(self, state: dict[str, torch.Tensor]) -> None:
        named = {f"{self.config.part}.{name}": tensor for name, tensor in state.items()}
        peft.set_peft_model_state_dict(self._root, named)

    def save(self, folder: Path) -> None:
        """`adapter_config.json` and `adapter_model.safetensors` as peft writes them for the bare part."""
        save_file(
            {f"{_BEGIN}{name}": tensor.cpu().contiguous() for name, tensor in self.state().items()},
            folder / WEIGHTS,
            metadata={"format": "pt"},
        )
        settings = self._peft_config(self.names)
        settings.inference_mode = True
        settings.save_pretrained(str(folder))

    def load(self, folder: Path) -> None:
        try:
            found = {name.removeprefix(_BEGIN): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder / WEIGHTS} cannot be read ({error}); copy the adapter again") from None
        wanted = {name: tensor.shape for name, tensor in self.state().items()}
        if {name: tensor.shape for name, tensor in found.items()} != wanted:
            differing = sorted(set(found) ^ set(wanted)) or [n for n in wanted if found[n].shape != wanted[n]]
            raise CheckpointError(
                f"{folder / WEIGHTS} does not fit the {self.config.part}: {differing[0]!r} is missing, left over or of "
                "another shape; give the adapter and the base that belong together"
            )
        self._set_state(found)

    def merge(self) -> None:
        if self.config.bits is not None:
            # What was trained stood on the quantised numbers, so these are what the adapter is added to.
            state = {name: tensor.clone() for name, tensor in self.state().items()}
            self.unload()
            dequantize(self._part, self.names)
            self._inject()
            self._set_state(state)
        self._tuner.merge_and_unload()
        self._part.requires_grad_(False)
        restore_order(self._order)

    def unload(self) -> None:
        self._tuner.unload()
        restore_order(self._order)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        self._tuner.disable_adapter_layers()
        try:
            yield
        finally:
            self._tuner.enable_adapter_layers()

    def compute_exactly(self) -> None:
        if self.config.bits is not None:
            for name in self.names:
                layer: Any = self._part.get_submodule(name)
                layer.get_base_layer().compute_dtype = torch.float32
