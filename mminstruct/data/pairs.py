"""Preference data: of each conversation two samples, the better and the worse continuation of the same turns.

    Conversation, preference (chosen, rejected) ──branch──▶ turns + chosen, turns + rejected ──▶ samples 2i, 2i + 1

Supervised is what the model must write in the continuation; answers among the turns before it are given.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mminstruct.chat_template import IGNORE, IMAGE, Loss, Supervision
from mminstruct.conversation import Conversation, Message, TextPart
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.mixture import Member, Mixture
from mminstruct.data.source import Joined
from mminstruct.errors import DataError
from mminstruct.models.base_processor import BaseProcessor


class PairDataset(ConversationDataset):
    """The samples of pairs, chosen before rejected; a pair is what the plan counts (`units`).

    Raises:
        DataError: a conversation without a preference; later, a branch that is too long or has nothing to learn.
    """

    paired = True

    def __init__(
        self,
        conversations: Joined | Sequence[Conversation],
        media_root: Path,
        processor: BaseProcessor,
        max_length: int,
        cache: Path | None = None,
        cut_to: int | None = None,
        loss: Loss = "response",
    ) -> None:
        if cut_to is not None:
            raise DataError("pairs are never cut; leave too_long at error")
        self._continued: list[int] = []
        branches = []
        for index in range(len(conversations)):
            conversation = conversations[index]
            if conversation.preference is None:
                raise DataError(
                    f"conversation {conversation.id!r} has no preference (chosen, rejected), so there is nothing to "
                    "compare; give preference data, or another objective"
                )
            for name, messages in (
                ("chosen", conversation.preference.chosen),
                ("rejected", conversation.preference.rejected),
            ):
                branches.append(branch(conversation, name, messages))
                self._continued.append(len(messages))
        # In memory: what the index on disk knows are whole conversations, not their branches.
        super().__init__(branches, media_root, processor, max_length, loss=loss)
        self.mixture = Mixture([Member("pairs", np.arange(self.units))])

    @property
    def units(self) -> int:
        return len(self.conversations) // 2

    def members(self, units: np.ndarray) -> np.ndarray:
        return np.stack([2 * units, 2 * units + 1], axis=1).reshape(-1)

    def _supervision(self, index: int) -> Supervision:
        return Supervision(self.loss, last=self._continued[index])

    def samples(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        found = super().samples([branch for index in indices for branch in (2 * index, 2 * index + 1)])
        for number, sample in enumerate(found):
            if not (sample["labels"][1:] != IGNORE).any():
                conversation = self.conversations[2 * indices[number // 2] + number % 2]
                raise DataError(f"conversation {conversation.id!r} has no answer to learn from in its continuation")
        return found

    def pack_keys(self, count: int) -> list[int]:
        return [number // 2 for number in range(count)]

    def keys(self) -> list[int | None]:
        """Every pair shares its prompt, and only with itself."""
        return list(range(self.units))

    def token_counts(self, share: bool) -> tuple[array[int], array[int]]:
        """Of each pair all its tokens, a shared prompt counted once; pairs share nothing with each other."""
        tokens, _ = super().token_counts(share)
        pairs = array("i")
        for chosen in range(0, len(tokens), 2):
            shared = self._shared(chosen, chosen + 1) if share else 0
            pairs.append(tokens[chosen] + tokens[chosen + 1] - shared)
        return pairs, array("i", [0] * len(pairs))

    def _shared(self, chosen: int, rejected: int) -> int:
        """Tokens of the prefix that `shared_runs` finds: what both begin with, up to what predicts the first answer."""
        one, two = (self._encoded(number, self.conversations[number]) for number in (chosen, rejected))
        first = min(
            next((number for number, label in enumerate(encoded.labels) if label != IGNORE), 1)
            for encoded in (one, two)
        )
        pairs = zip(one.input_ids[: first - 1], two.input_ids[: first - 1], strict=True)
        common = [token for token, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
        media = [self.conversations[chosen].media[index] for index in one.images[: common.count(IMAGE)]]
        return len(common) - len(media) + sum(map(self.processor.places, media))


def branch(conversation: Conversation, name: str, continuation: Sequence[Message]) -> Conversation:
    """The turns with one continuation behind them, as a conversation of its own, `id/name`.

    Media that only the other continuation shows are left out.
    """
    messages = [*conversation.messages, *continuation]
    used = sorted({part.index for turn in messages for part in turn.content if not isinstance(part, TextPart)})
    number = {index: new for new, index in enumerate(used)}
    turns = [
        turn.model_copy(
            update={
                "content": [
                    part if isinstance(part, TextPart) else part.model_copy(update={"index": number[part.index]})
                    for part in turn.content
                ]
            }
        )
        for turn in messages
    ]
    return Conversation(
        id=f"{conversation.id}/{name}", messages=turns, media=[conversation.media[index] for index in used]
    )
