"""Layers that stand in front of a language model's own and look at the pictures (Flamingo, arXiv 2204.14198, 3.1.2).

    pictures [n, N, D] ─by rows of the batch─▶ Sights(latents [B, M, N, D], index [B, L]) ─keyword argument─▶ each layer

A token looks at the last medium that stands at or before it in its own row (the official
`only_attend_immediate_media`); one with none before it looks at nothing. The language model is not changed: its decoder
layers get forward hooks, and what the hooks need travels with the call, so that nothing is left behind on a module and
gradient checkpointing computes the same again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from mminstruct.errors import ConfigError, DataError

KEYWORD = "sights"


@dataclass
class Sights:
    """What the tokens of a batch see.

    Attributes:
        latents: `[B, M, N, D]`, the media of each row in order, zeros where a row has fewer; None for text alone.
        index: `[B, L]`, which of its row's media each token looks at, -1 for none.
        readers: how many layers have looked; a language model that drops unknown keyword arguments leaves it at 0.
    """

    latents: torch.Tensor | None
    index: torch.Tensor
    readers: list[int] = field(default_factory=lambda: [0])

    @property
    def mask(self) -> torch.Tensor:
        """`[B, L, M]`, True where a token looks at a medium."""
        assert self.latents is not None
        numbers = torch.arange(self.latents.shape[1], device=self.index.device)
        return self.index.unsqueeze(-1) == numbers

    def after(self, places: torch.Tensor) -> Sights:
        """The same media for the tokens that come next.

        Args:
            places: `[B, L']`, where media stand among them.

        Raises:
            DataError: there is one.
        """
        if places.any():
            raise DataError("a picture stands behind a text that has been read already; give all pictures at once")
        return Sights(self.latents, self.index[:, -1:].expand(-1, places.shape[1]))


def sights(latents: torch.Tensor | None, places: torch.Tensor, blank: torch.Tensor | None = None) -> Sights:
    """What each token sees.

    Args:
        latents: `[n, N, D]`, all media of the batch in the order of their places; None where there is none.
        places: `[B, L]`, True where a medium stands.
        blank: `[1, N, D]`, stands in each row of a batch without media and is seen by no token, so that all layers
            are in the graph all the same.

    Raises:
        DataError: as many places as media are not there.
    """
    found, wanted = (0 if latents is None else len(latents)), int(places.sum())
    if found != wanted:
        raise DataError(
            f"the text has {wanted} image places, but {found} pictures were given; "
            "make the inputs with this model's own processor"
        )
    index = places.long().cumsum(-1) - 1
    if latents is None:
        return Sights(None if blank is None else blank.expand(len(places), -1, -1).unsqueeze(1), index)
    rows = torch.split(latents, places.sum(-1).tolist())
    return Sights(nn.utils.rnn.pad_sequence(list(rows), batch_first=True), index)


def decoder_layers(language_model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a language model, in order.

    Raises:
        ConfigError: its modules do not say which they are.
    """
    found = lists_of_layers(language_model)
    if len(found) != 1:
        depth = language_model.config.get_text_config().num_hidden_layers
        raise ConfigError(
            f"{type(language_model).__name__} has {len(found)} lists of {depth} decoder layers, so it is not clear "
            "where gated layers belong; use a decoder-only model of transformers, or another connector"
        )
    return found[0]


def lists_of_layers(language_model: PreTrainedModel) -> list[nn.ModuleList]:
    """What could be the decoder layers of a language model, by kind and number: one list in almost every model."""
    depth = language_model.config.get_text_config().num_hidden_layers
    return [
        module
        for module in language_model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == depth
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    ]


class InFront:
    """A forward hook of one decoder layer: its block, if it has one, runs first; the layer never sees the keyword."""

    def __init__(self, block: nn.Module | None) -> None:
        self.block = block

    def __call__(
        self, layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        seen: Sights | None = keywords.get(KEYWORD)
        keywords = {name: value for name, value in keywords.items() if name != KEYWORD}
        if self.block is None or seen is None:  # without, the language model is being used by itself
            return arguments, keywords
        seen.readers[0] += 1
        hidden, *rest = arguments
        return (self.block(hidden, seen), *rest), keywords


def stand_in_front(blocks: dict[int, nn.Module], layers: nn.ModuleList) -> None:
    """Let `blocks[i]` run in front of `layers[i]`, wherever there is one."""
    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(InFront(blocks.get(number)), with_kwargs=True)
