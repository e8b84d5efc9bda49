"""The last feed-forward of a language model, only where its output is read.

    logits_to_keep [K] ─keyword argument─▶ last decoder layer ─▶ its feed-forward sees [B, K, H] instead of [B, L, H]

A training step reads logits at the places that predict a supervised token, so the head runs there only. Behind the last
attention nothing leads from one place to another any more: what the feed-forward makes of other places is read by
nobody, no gradient comes back through it, and loss and gradients are the same without it. In a model of n layers that
saves about two thirds of the last one at the places without a label.

As for gated cross-attention, what the hooks need travels with the call, so gradient checkpointing computes the same.
It repeats the layer's own forward, without hooks around it: therefore they are on the layer's modules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mminstruct.models.cross_attention import lists_of_layers
from mminstruct.models.vlm import VisionLanguageModel

Call = tuple[tuple[Any, ...], dict[str, Any]]

_KEYWORD = "places_read"
# Mixtures count how often each expert is chosen, over all places.
_EXPERTS = frozenset({"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"})


@contextlib.contextmanager
def last_layer_where_read(model: PreTrainedModel) -> Iterator[None]:
    """Within, a call with `logits_to_keep=[K]` runs the last feed-forward at these places only.

    Its hidden states elsewhere are then not the model's. Nothing changes for native models, for mixtures of experts,
    for layers whose feed-forward is no module called `mlp`, and for language models that do not pass keyword arguments
    on to their layers.
    """
    if not isinstance(model, VisionLanguageModel):
        yield
        return
    language_model = model.language_model
    found = lists_of_layers(language_model)
    mixture = _EXPERTS & language_model.config.get_text_config().to_dict().keys()
    feed_forward = dict(found[0][-1].named_children()).get("mlp") if len(found) == 1 and not mixture else None
    if feed_forward is None:
        yield
        return
    where = _Where()
    readers = [(layer is found[0][-1], part) for layer in found[0] for part in layer.children()]
    handles = [
        language_model.register_forward_pre_hook(_send, with_kwargs=True),
        *(
            part.register_forward_pre_hook(where.begin if last else _drop, with_kwargs=True)
            for last, part in readers
            if part is not feed_forward
        ),
        feed_forward.register_forward_pre_hook(where.choose),
        feed_forward.register_forward_hook(where.spread),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _send(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Call | None:
    places = keywords.get("logits_to_keep")
    if not isinstance(places, torch.Tensor) or keywords.get("output_hidden_states"):
        return None
    return arguments, {**keywords, _KEYWORD: places}


def _drop(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Call | None:
    if _KEYWORD not in keywords:
        return None
    return arguments, {name: value for name, value in keywords.items() if name != _KEYWORD}


class _Where:
    """The hooks in the last layer. Its attention is handed the places, among the keywords of the model's call, and its
    feed-forward comes next."""

    def __init__(self) -> None:
        self.places: torch.Tensor | None = None
        self.length = 0

    def begin(self, attention: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Call | None:
        if _KEYWORD in keywords:
            self.places = keywords[_KEYWORD]
        return _drop(attention, arguments, keywords)

    def choose(self, feed_forward: nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        if self.places is None:
            return None
        (states,) = arguments
        self.length = states.shape[1]
        return (states.index_select(1, self.places),)

    def spread(
        self, feed_forward: nn.Module, arguments: tuple[torch.Tensor], output: torch.Tensor
    ) -> torch.Tensor | None:
        if self.places is None:
            return None
        places, self.places = self.places, None
        whole = output.new_zeros(output.shape[0], self.length, output.shape[2])
        return whole.index_copy(1, places, output)
