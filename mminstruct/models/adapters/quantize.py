"""Linear layers in 4 bits and back, by bitsandbytes: NF4 with double quantisation (QLoRA, arXiv 2305.14314, section 3).

`nn.Linear` with `weight [out, in]` <-> `bitsandbytes.nn.Linear4bit` with half a byte for each number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mminstruct.errors import ConfigError


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise ConfigError("bits: 4 needs bitsandbytes; install it with: pip install 'mminstruct[quantize]'") from None
    return bitsandbytes


def quantize(part: nn.Module, names: Sequence[str], compute_dtype: torch.dtype) -> None:
    """Replace the linear layers of these names in place.

    Args:
        compute_dtype: that the weights are turned to when a layer runs.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    library = _bitsandbytes()
    for name in names:
        layer = part.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        device = layer.weight.device
        small = library.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=compute_dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        small.weight = library.nn.Params4bit(
            layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4", module=small
        )
        small.bias = layer.bias
        # On some CPUs an evaluation would lay the numbers out anew, for which no way back to float is public, and which
        # fails for layers that are no multiple of a block wide.
        small.support_avx512bf16_for_cpu = False
        part.set_submodule(name, small.to(device))  # moving it is what quantises it


def dequantize(part: nn.Module, names: Sequence[str]) -> None:
    """Replace the 4-bit layers of these names by plain ones, in float32, that hold the numbers they stood for."""
    library = _bitsandbytes()
    for name in names:
        small: Any = part.get_submodule(name)
        weight = library.functional.dequantize_4bit(small.weight.data, small.weight.quant_state).float()
        plain = nn.Linear(small.in_features, small.out_features, bias=small.bias is not None, device="meta")
        plain.weight = nn.Parameter(weight, requires_grad=False)
        plain.bias = small.bias
        part.set_submodule(name, plain)
