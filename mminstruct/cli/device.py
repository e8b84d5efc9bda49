"""The `--device` option that commands with a model share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from mminstruct.errors import ConfigError

if TYPE_CHECKING:
    import torch

Device = Annotated[
    str,
    typer.Option("--device", help="Where the model runs: cpu, cuda, cuda:1, ...; auto takes a GPU."),
]


def pick(name: str) -> torch.device:
    """The device of a name. Raises `ConfigError` where this machine does not have it."""
    import torch

    if name == "auto":
        # Of several processes on a machine (torchrun), each has a GPU of its own.
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch raises either, by backend
        first = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used ({first}); leave it out, or give cpu") from None
