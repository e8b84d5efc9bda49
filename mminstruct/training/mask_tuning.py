"""What learning masks needs of the data: which weights get one, and which gradients are dropped (R-AMT).

Choosing (arXiv 2307.15049, "identify parameters important to a downstream task"): gradients of the task's loss, summed
over some micro-batches without any update; the weights with the largest ones get a mask.

Gradient dropout (the same paper; official `trainers/masktuning.py`): each step has two gradients of the scores, the
task's and that of the cross-entropy between the answers of the model with its whole weights and those with masks. Both
are summed over all micro-batches and processes before anything is dropped, so that a step does not depend on its split.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from mminstruct.models.adapters import Mask, MaskConfig
from mminstruct.models.adapters.mask import drop_gradient, most_important
from mminstruct.models.adapters.targets import maskable_weights
from mminstruct.training.objectives import Objective


def choose_weights(
    model: PreTrainedModel,
    config: MaskConfig,
    objective: Objective,
    batches: Iterable[dict[str, torch.Tensor]],
) -> list[str]:
    """Names, in the part, of the weights that get a mask.

    Args:
        batches: what `Processor.collate` makes; none is looked at where all weights get a mask.
    """
    weights = {
        name: getattr(module, attribute) for name, (module, attribute) in maskable_weights(model, config.part).items()
    }
    if config.share == 1:
        return list(weights)
    model.eval()
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    for batch in batches:
        output = objective(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        loss = output.loss_sum / output.count.clamp(min=1)
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
        for total, gradient in zip(sums.values(), found, strict=True):
            total += gradient
    for weight in weights.values():
        weight.requires_grad_(False)
    return most_important(sums, config.share)


class GradientDropout:
    """The general gradient of one step, and the dropping.

    Args:
        masks: those with a gradient dropout above 0.
        seed: of the run; the draws are a function of it, the step and the weight alone, alike on every process.
    """

    def __init__(self, masks: Sequence[Mask], seed: int) -> None:
        self.seed = seed
        self._masks = list(masks)
        self._scores = [score for mask in masks for score in mask.parameters()]
        self._strengths = [mask.config.gradient_dropout for mask in masks for _ in mask.parameters()]
        self._general = [torch.zeros_like(score) for score in self._scores]

    def watch(
        self,
        model: nn.Module,
        objective: Objective,
        batch: dict[str, torch.Tensor],
        logits: torch.Tensor,
        total: torch.Tensor,
    ) -> None:
        """Add one micro-batch's share of the general gradient.

        Args:
            model: unwrapped.
            logits: `[count, V]` of the supervised tokens, with masks, their graph whole.
            total: supervised tokens of the whole step.
        """
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for mask in self._masks:
                stack.enter_context(mask.off())
            model.eval()
            untuned = objective(model, batch).logits
            model.train()
        assert untuned is not None
        loss = nn.functional.cross_entropy(logits, untuned.softmax(-1), reduction="sum") / total.clamp(min=1)
        found = torch.autograd.grad(loss, self._scores, retain_graph=True, allow_unused=True, materialize_grads=True)
        self._general = [
            general.to(gradient) + gradient for general, gradient in zip(self._general, found, strict=True)
        ]

    def apply(self, step: int, reduce: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Drop from the scores' gradients, which must be those of the whole step.

        Args:
            reduce: sums a tensor over the processes.
        """
        for index, (score, strength) in enumerate(zip(self._scores, self._strengths, strict=True)):
            general = reduce(self._general[index])
            generator = torch.Generator(device=score.device)
            generator.manual_seed((self.seed * 1_000_003 + step) * 10_007 + index)
            assert score.grad is not None
            score.grad.copy_(drop_gradient(score.grad, general, strength, generator))
            self._general[index] = torch.zeros_like(score)
