"""Where pictures are sent by the routers of a mixture: what decides which old experts the new ones begin as.

    usage = routing.picture_routing(model, batches)                 # {layer: how often each old expert [E]}
    model.experts.start(model.language_model, routing.most_used(usage, n))

This is the statistic of MoExtend's extension stage (arXiv 2408.03511; `expert_distribution.py` of its code). There it
counts the experts of every token of questions about pictures; here only those of the pictures' own tokens, which alone
may choose a new expert. That script sorts probabilities in ascending order and so counts the least likely experts; this
counts the chosen ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from mminstruct.errors import DataError
from mminstruct.models.experts import mixtures_of
from mminstruct.models.vlm import VisionLanguageModel


@torch.no_grad()
def picture_routing(model: VisionLanguageModel, batches: Iterable[dict[str, torch.Tensor]]) -> dict[int, torch.Tensor]:
    """How often the tokens of pictures choose each old expert, by the index of the mixture's layer: `[E]`, int64.

    Args:
        batches: what `Processor.collate` makes, with pictures; labels are not read.

    Raises:
        DataError: no batch holds a picture.
    """
    mixtures = mixtures_of(model.language_model)
    usage = {index: torch.zeros(mixture.gate.weight.shape[0], dtype=torch.int64) for index, mixture in mixtures.items()}
    places = torch.zeros(0, dtype=torch.bool)

    def count(index: int, gate: Any, logits: torch.Tensor) -> None:
        chosen = logits[places.flatten()].topk(gate.top_k, dim=-1).indices
        usage[index] += torch.bincount(chosen.flatten(), minlength=len(usage[index])).cpu()

    handles = [
        mixture.gate.register_forward_hook(lambda gate, _, output, index=index: count(index, gate, output[0]))
        for index, mixture in mixtures.items()
    ]
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            places = batch["input_ids"] == model.config.image_token_id
            model(**{name: value for name, value in batch.items() if name != "labels"}, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    if not all(counts.any() for counts in usage.values()) or not usage:
        raise DataError("no picture went through a mixture layer; give batches with pictures to a model that has some")
    return usage


def most_used(usage: dict[int, torch.Tensor], experts: int) -> dict[int, list[int]]:
    """The `experts` most used old experts of each layer, most used first; of two used alike the first."""
    return {
        index: counts.sort(descending=True, stable=True).indices[:experts].tolist() for index, counts in usage.items()
    }
