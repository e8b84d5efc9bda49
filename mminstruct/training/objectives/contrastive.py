"""Contrast of pictures and texts: a picture is nearer to its own text than to the other texts of the batch, and back.

    e = the last hidden state of a prompt's last token, of length 1; S_ij = e(picture i) . e(text j) / temperature
    loss of pair i = (log sum_j exp S_ij + log sum_j exp S_ji) / 2 - S_ii

InfoNCE in both directions (arXiv 2103.00020, figure 3). Both sides go through the same whole model, a picture with what
is asked about it and a text alone, as in E5-V (arXiv 2407.12580) and VLM2Vec (arXiv 2410.05160), so every model can be
tuned so, and `Processor.prompt` makes what is embedded, later as well. A pair j with the same picture or the same text
as i is no negative of it and stands in neither of i's sums.

Negatives are the pairs of one micro-batch on all processes, so more of them come with `batch_size` and processes, and
not with `accumulate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel, TrainingArguments

from mminstruct.chat_template import IGNORE
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.image_text import ImageTextDataset
from mminstruct.errors import ConfigError
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.transfer import sent
from mminstruct.training.objectives.base import (
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    at_places,
    with_auxiliary,
)


class ContrastiveConfig(ObjectiveConfig):
    """
    Attributes:
        temperature: what cosines are divided by. It is not learnt, since a checkpoint has no place for it; the default
            is FlagEmbedding's.
    """

    dataset: ClassVar[type[ConversationDataset]] = ImageTextDataset
    of_tokens: ClassVar[bool] = False
    kind: Literal["contrastive"] = "contrastive"
    temperature: float = Field(default=0.02, gt=0)

    def build(self) -> Contrast:
        return Contrast(self)


class Contrast(Objective):
    """See the module. `loss_sum` is summed over pairs; a connector's own loss counts once a pair.

    Metrics: how often a picture's nearest text is its own, and a text's nearest picture.
    """

    unit: ClassVar[str] = "pairs"

    def __init__(self, config: ContrastiveConfig) -> None:
        self.config = config

    def start(
        self, model: PreTrainedModel, processor: BaseProcessor, whole: Sequence[str], settings: TrainingArguments
    ) -> None:
        if settings.per_device_train_batch_size * settings.world_size < 2:
            raise ConfigError("a micro-batch of one pair has nothing to tell it from; set batch_size to 2 or more")

    def count(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (batch["labels"] != IGNORE).sum() // 2

    def __call__(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> ObjectiveOutput:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        where = batch["labels"] != IGNORE
        columns = where.any(0).nonzero().squeeze(-1)
        device = batch["input_ids"].device
        output = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=sent(columns, device))
        embeddings = nn.functional.normalize(at_places(output.hidden_states[-1], where).float(), dim=-1)
        own = len(embeddings) // 2  # picture, text, picture, text ...
        start, everywhere = _on_all_processes(embeddings.unflatten(0, (own, 2)))
        _, shows = _on_all_processes(sent(batch["labels"][where], device).unflatten(0, (own, 2)))
        similar = everywhere[:, 0] @ everywhere[:, 1].T / self.config.temperature
        alike = (shows[:, None] == shows).any(-1).fill_diagonal_(False)
        similar = similar.masked_fill(alike, -torch.inf)
        matching = similar.diagonal()
        losses = (similar.logsumexp(0) + similar.logsumexp(1)) / 2 - matching
        mine = slice(start, start + own)
        # An embedding counts in the losses of other processes' pairs as well, which here are those of constants. So the
        # gradient is that of all losses, and summed over processes it is the whole one; the value is of own pairs.
        loss_sum = losses.sum() + (losses[mine].sum() - losses.sum()).detach()
        # DDP waits for a gradient of the output head, too.
        loss_sum = loss_sum + 0.0 * output.logits.sum()
        count = torch.tensor(own)
        metrics = {
            "image_to_text_accuracy_sum": ((similar >= matching[:, None]).sum(1) == 1)[mine].sum(),
            "text_to_image_accuracy_sum": ((similar >= matching).sum(0) == 1)[mine].sum(),
        }
        return ObjectiveOutput(with_auxiliary(loss_sum, count, output, metrics), count, metrics)


def _on_all_processes(rows: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The rows of all processes, of which each may have another number, and where this one's stand among them.

    Only this process's rows have a gradient.
    """
    sizes = gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = list(gather(padded).view(len(sizes), *padded.shape))
    found = [part[:size] for part, size in zip(parts, sizes, strict=True)]
    process = PartialState().process_index
    found[process] = rows
    return sum(sizes[:process]), torch.cat(found)
