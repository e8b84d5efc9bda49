"""Preference data: of each conversation two samples, the better and the worse continuation of the same turns.

    Conversation, preference (chosen, rejected) ──branch──▶ turns + chosen, turns + rejected ──▶ samples 2i, 2i + 1

Supervised is what the model must write in the continuation; answers among the turns before it are given.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mminstruct.chat_template import IGNORE, IMAGE, Supervision
from mminstruct.chat_template.encode import EncodedPrompt
from mminstruct.conversation import Conversation, Media, Message, Preference, TextPart
from mminstruct.data.dataset import ConversationDataset
from mminstruct.data.source import Joined, Part
from mminstruct.errors import DataError


class Branches:
    """A source of pairs as one of their branches, chosen before rejected; nothing of it is kept but the last pair.

    Attributes:
        digest: of the branches, since they have other tokens than the conversations they are made of.
    """

    def __init__(self, part: Part) -> None:
        self.pairs = part
        self.name, self.media_root = part.name, part.media_root
        self.digest = None if part.digest is None else hashlib.sha256(f"branches {part.digest}".encode()).hexdigest()
        self.first: np.ndarray = np.repeat(part.first, 2)
        self._last: tuple[int, Conversation] | None = None

    def __len__(self) -> int:
        return 2 * len(self.pairs)

    def __getitem__(self, index: int, /) -> Conversation:
        name = ("chosen", "rejected")[index % 2]
        return branch(self._pair(index // 2), name, self.continuation(index))

    def continuation(self, index: int) -> list[Message]:
        """The messages of a branch that stand behind those of its pair."""
        preference = self._preference(index // 2)
        return preference.rejected if index % 2 else preference.chosen

    def media(self) -> Iterator[Media]:
        return self.pairs.media()

    def _pair(self, number: int) -> Conversation:
        if self._last is None or self._last[0] != number:
            self._last = number, self.pairs[number]
        return self._last[1]

    def _preference(self, number: int) -> Preference:
        pair = self._pair(number)
        if pair.preference is None:
            raise DataError(
                f"conversation {pair.id!r} has no preference (chosen, rejected), so there is nothing to "
                "compare; give preference data, or another objective"
            )
        return pair.preference


class PairDataset(ConversationDataset):
    """The samples of pairs, chosen before rejected; a pair is what the plan counts (`units`).

    Raises:
        DataError: a conversation without a preference; later, a branch that is too long or has nothing to learn.
    """

    branches = 2
    cuts = False

    def _arranged(self, conversations: Joined) -> Joined:
        return Joined([Branches(part) for part in conversations.parts])

    def _supervision(self, index: int) -> Supervision:
        part, start = self.conversations.part(index), self.conversations.start(index)
        assert isinstance(part, Branches)
        return Supervision(self.loss, last=len(part.continuation(index - start)))

    def samples(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        found = super().samples(self.members(np.asarray(indices)).tolist())
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
        tokens, shared = self.index.tokens, self.index.prefixes
        pairs = tokens[0::2] + tokens[1::2] - (shared[0::2] if share else 0)
        return array("i", pairs.tolist()), array("i", [0] * len(pairs))

    def _prefix(self, index: int, encoded: EncodedPrompt, places: Sequence[int]) -> int:
        """Of a chosen branch the tokens that it shares with the rejected one, as `shared_runs` finds them: what both
        begin with, up to what predicts the first answer."""
        if index % 2:
            return 0
        other = self._encoded(index + 1, self.conversations[index + 1])
        first = min(
            next((number for number, label in enumerate(one.labels) if label != IGNORE), 1) for one in (encoded, other)
        )
        pairs = zip(encoded.input_ids[: first - 1], other.input_ids[: first - 1], strict=True)
        common = [token for token, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
        shown = encoded.images[: common.count(IMAGE)]
        return len(common) - len(shown) + sum(places[image] for image in shown)


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
