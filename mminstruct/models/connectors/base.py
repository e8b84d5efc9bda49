"""The contract of a connector: `features [n, P, D] (+ instruction [n, T]) -> image embeddings [n, N, H]`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mminstruct.config import Config
from mminstruct.errors import ConfigError


class ConnectorOptions(Config):
    """A connector's own settings; each connector subclasses it."""


@dataclass(frozen=True)
class Instruction:
    """What is asked about each picture, for connectors that look for what matters to the question.

    Attributes:
        input_ids: `[n, T]`, the text of the turn that holds the picture, padded on the right.
        attention_mask: `[n, T]`, 1 for real tokens.
        embeddings: `[n, T, H]`, the language model's embeddings of the ids, for connectors that read those.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    embeddings: torch.Tensor | None = None


class Connector(nn.Module, ABC):
    """Turns an encoder's features into embeddings that stand in the language model's input.

    Args:
        input_size: D, the width of the encoder's features.
        output_size: H, the width of the language model's embeddings.
        options: an instance of the class's own `Options`.
    """

    Options: type[ConnectorOptions] = ConnectorOptions
    in_prompt = True  # whether its vectors stand in the prompt, or beside it
    reads: Literal["nothing", "ids", "embeddings"] = "nothing"  # of the instruction

    def __init__(self, input_size: int, output_size: int, options: ConnectorOptions) -> None:
        super().__init__()
        self.input_size, self.output_size, self.options = input_size, output_size, options
        self.image_newline: nn.Parameter | None = None

    def add_newline(self) -> None:
        """A learnt vector `[H]` that ends each row of a tiled picture (LLaVA-NeXT's `image_newline`)."""
        self.image_newline = nn.Parameter(torch.randn(self.output_size) / math.sqrt(self.output_size))

    def idle_parameters(self) -> set[str]:
        """Names of parameters that no result depends on; they are there because published checkpoints hold them."""
        return set()

    @abstractmethod
    def num_tokens(self, patches: int) -> int:
        """N for P patches. Raises `ConfigError` where the connector cannot take that many."""

    def pooled_patches(self, patches: int) -> int:
        """How many of P patches `pooled` leaves."""
        return patches

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """`[n, P, D] -> [n, P', D]`: what a connector makes of features before anything is learnt; here, nothing.

        `forward` takes what it gives in the features' place, with the same result.
        """
        return features

    @abstractmethod
    def forward(self, features: torch.Tensor, instruction: Instruction | None = None) -> torch.Tensor:
        """`[n, P, D] -> [n, N, H]`; `instruction` is given exactly to those that read it."""

    def forward_with_loss(
        self, features: torch.Tensor, instruction: Instruction | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`forward`, and a scalar that a mixture of experts adds to the mean loss of a token; None for all others."""
        return self(features, instruction), None


def square_side(patches: int, kind: str) -> int:
    """The side of a square grid of patches. Raises `ConfigError` where they are no square."""
    side = math.isqrt(patches)
    if side * side != patches:
        raise ConfigError(
            f"{kind} wants a square grid of patches, found {patches}; use another image size (and feature: patch)"
        )
    return side


def mlp(input_size: int, output_size: int, layers: int) -> nn.Module:
    """`layers` linear layers with GELU between them; the first changes the width (LLaVA's `mlp{N}x_gelu`)."""
    first = nn.Linear(input_size, output_size)
    if layers == 1:
        return first
    rest = [module for _ in range(layers - 1) for module in (nn.GELU(), nn.Linear(output_size, output_size))]
    return nn.Sequential(first, *rest)
