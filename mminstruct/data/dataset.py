"""Conversations as a torch data set: opened pictures, token ids and labels, made when a sample is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset

from mminstruct.chat_template import IGNORE, Loss, Supervision
from mminstruct.chat_template.encode import EncodedPrompt
from mminstruct.conversation import Conversation, Media
from mminstruct.data.feature_cache import CachedMedia
from mminstruct.data.index import TokenIndex, cut, joined_index, seen_prefix, token_index
from mminstruct.data.mixture import Member, Mixture
from mminstruct.data.plan import MicroBatch
from mminstruct.data.source import Joined, Listed
from mminstruct.errors import DataError, MminstructError
from mminstruct.formats import media_source
from mminstruct.media import open_medium
from mminstruct.models.base_processor import BaseProcessor, Picture

# Prepared pictures are kept in memory when all of a data set fit in; small pictures cost more to open than to keep.
# As much is spent on token ids.
KEEP_BYTES = 512 * 2**20
_OVERHEAD = 400  # bytes of the objects around the token ids of one conversation


class ConversationDataset(Dataset[dict[str, torch.Tensor]]):
    """What `training_sample` of the processor makes of each conversation.

    Args:
        media_root: the folder that relative media paths start from.
        max_length: tokens that a sample may have at most, images included.
        loss: which texts a loss is taken on (`Supervision`).
        cache: the folder that keeps the token indices of sources; None: they are made of conversations in memory.
        cut_to: leave the last turns of conversations out that have more tokens than so many.

    Attributes:
        mixture: what an epoch draws; at first all conversations, each once.

    Raises:
        DataError: no conversations, or none of them has a token to learn from; later, a sample that is too long.
        MediaError: a picture that cannot be opened (when its sample is asked for).
    """

    branches: ClassVar[int] = 1  # samples that a unit is made of, which stand behind one another
    cuts: ClassVar[bool] = True  # whether last turns may be left out of one that is too long
    view: ClassVar[str] = "conversation"  # a name of what `_encoded` makes of one, for the index on disk

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
        if not len(conversations):
            raise DataError("the data set is empty; check its path, format and filters")
        joined = conversations if isinstance(conversations, Joined) else Joined([Listed(conversations, media_root)])
        self.conversations = self._arranged(joined)
        parts = zip(joined.starts, joined.parts, strict=True)
        self.mixture = Mixture([Member(part.name, start + np.arange(len(part))) for start, part in parts])
        self.media_root = media_root
        self.cache = cache
        self.cut_to = cut_to
        self.processor = processor
        self.max_length = max_length
        self.loss = loss
        self._kept: dict[str, Picture] | None = {} if self._pictures_fit() else None
        self._encodings: dict[tuple[int, int], EncodedPrompt] = {}  # by index and number of turns
        self._room = KEEP_BYTES
        self.cached: CachedMedia | None = None
        if cache is None:
            learns = any(self._encoded(index, self.conversations[index]).supervised for index in range(len(self)))
        else:
            learns = bool(self.index.supervised.any())
        if not learns:
            for problem in self.index.problems.values():
                raise DataError(problem)
            raise DataError(
                f"none of the {len(conversations)} conversations has a supervised token, so there is nothing to learn; "
                "look at one with: mminstruct data mask"
            )

    @cached_property
    def index(self) -> TokenIndex:
        """How many tokens each conversation has, by global index."""
        found = []
        for start, part in zip(self.conversations.starts, self.conversations.parts, strict=True):

            def encode(number: int, conversation: Conversation, start: int = start) -> EncodedPrompt:
                return self._encoded(start + number, conversation)

            def prefix(number: int, encoded: EncodedPrompt, places: Sequence[int], start: int = start) -> int:
                return self._prefix(start + number, encoded, places)

            found.append(
                token_index(part, self.processor, encode, prefix, self.cache, self.cut_to, self.loss, self.view)
            )
        return joined_index(found)

    def use(self, cached: CachedMedia) -> None:
        """Give what the model's encoder makes of pictures and videos from now on, and open none of them."""
        self.cached, self._kept = cached, None

    def _encoded(self, index: int, conversation: Conversation) -> EncodedPrompt:
        """A conversation's token ids, kept in memory as long as there is room."""
        key = (index, len(conversation.messages))
        if key in self._encodings:
            return self._encodings[key]
        try:
            encoded = self.processor.template.encode(
                conversation.messages, self.processor.tokenizer, supervision=self._supervision(index)
            )
        except DataError as error:
            raise DataError(f"conversation {conversation.id!r}: {error}") from None
        size = 2 * 4 * len(encoded.input_ids) + _OVERHEAD
        if size <= self._room:
            self._room -= size
            ids, labels = array("i", encoded.input_ids), array("i", encoded.labels)
            self._encodings[key] = EncodedPrompt(ids, labels, encoded.images)
        return encoded

    def conversation(self, index: int) -> Conversation:
        """The conversation as it is trained on, without the turns that are left out of it."""
        conversation = self.conversations[index]
        if self.cut_to is None or self.index.turns[index] <= 0:
            return conversation
        return cut(conversation, int(self.index.turns[index]))

    def _arranged(self, conversations: Joined) -> Joined:
        """What samples are made of."""
        return conversations

    def _prefix(self, index: int, encoded: EncodedPrompt, places: Sequence[int]) -> int:
        """The tokens that the index knows as shared."""
        return seen_prefix(encoded, places)

    def _supervision(self, index: int) -> Supervision:
        """What of a conversation a loss is taken on."""
        return Supervision(self.loss)

    def _pictures_fit(self) -> bool:
        """Whether all prepared pictures stay in memory, each once."""
        room = KEEP_BYTES
        for media in self.conversations.media():
            size = self.processor.prepared_bytes(media)
            if size is None or size > room:
                return False
            room -= size
        return True

    def __len__(self) -> int:
        return len(self.conversations)

    @property
    def units(self) -> int:
        """How many indices `samples` takes: what the plan of a stage orders and cuts into micro-batches."""
        return len(self) // self.branches

    def members(self, units: np.ndarray) -> np.ndarray:
        """The samples that units are made of."""
        return (units[:, None] * self.branches + np.arange(self.branches)).reshape(-1)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._sample(index, {})

    def _sample(self, index: int, opened: dict[str, Picture]) -> dict[str, torch.Tensor]:
        conversation = self.conversation(index)
        try:
            for media in conversation.media:
                if media.path not in opened:
                    opened[media.path] = self._prepared(media)
            prepared = [opened[media.path] for media in conversation.media]
        except MminstructError as error:
            raise type(error)(f"conversation {conversation.id!r}: {error}") from None
        sample = self.processor.training_sample(
            conversation, prepared, self._encoded(index, conversation), self._supervision(index)
        )
        if len(sample["input_ids"]) > self.max_length:
            raise DataError(
                f"conversation {conversation.id!r} has {len(sample['input_ids'])} tokens, more than max_length "
                f"{self.max_length}; raise max_length or split the conversation"
            )
        return sample

    def _prepared(self, media: Media) -> Picture:
        """The picture or video, as far as it can be prepared alone, or seen."""
        if self.cached is not None:
            return self.cached.read(media.path)
        if self._kept is not None and media.path in self._kept:
            return self._kept[media.path]
        source = media_source(media.path, self.media_root)
        prepared = self.processor.prepare(open_medium(media.kind, source, self.processor.frame_sampling))
        if self._kept is not None:
            self._kept[media.path] = prepared
        return prepared

    def pack_keys(self, count: int) -> list[int] | None:
        """The keys that `Processor.pack` takes, of `count` samples; None: what is shared is found by comparing."""
        return None

    def samples(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Several samples at once; a picture that stands in more than one of them is opened once."""
        opened: dict[str, Picture] = {}
        return [self._sample(index, opened) for index in indices]

    def keys(self) -> list[int | None]:
        """Of each conversation a number that says which picture or video it is about first; None where no other one is
        about the same, or it has none."""
        first = self.conversations.first
        counts = np.bincount(first[first >= 0], minlength=1)
        return [int(number) if number >= 0 and counts[number] > 1 else None for number in first]

    def pictured(self) -> list[bool]:
        """Of each unit whether it has pictures or videos."""
        found: list[bool] = (self.conversations.first[:: self.branches] >= 0).tolist()
        return found

    def token_counts(self, share: bool) -> tuple[array[int], array[int]]:
        """Of each conversation all its tokens, images included, and those up to the end of its first picture.

        The second is 0 where no loss is left to take behind it.

        Args:
            share: whether what conversations begin with alike stands only once; subclasses count with it.
        """
        return array("i", self.index.tokens.tobytes()), array("i", self.index.prefixes.tobytes())


class MicroBatches(Dataset[dict[str, torch.Tensor]]):
    """What the model is given, micro-batch by micro-batch, made where the data loader's processes run.

    Beside the model's inputs a batch holds `conversations`, their number. Where features are cached, every batch holds
    `features`, a batch of text those of no picture.

    Args:
        packed: rows without padding (`Processor.pack`); otherwise a row for each conversation.
        share_prefix: of packed rows.
        positions: makes the positions of a sample in a packed row, where they are more than a count.
    """

    def __init__(
        self,
        dataset: ConversationDataset,
        packed: bool,
        share_prefix: bool,
        positions: Callable[[dict[str, torch.Tensor]], torch.Tensor] | None = None,
    ) -> None:
        self.dataset, self.packed, self.share_prefix, self.positions = dataset, packed, share_prefix, positions

    def __len__(self) -> int:
        return self.dataset.units

    def __getitem__(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        samples = self.dataset.samples(batch.indices)
        if self.packed:
            if self.positions is not None:
                samples = [sample | {"position_ids": self.positions(sample)} for sample in samples]
            made = self.dataset.processor.pack(samples, self.share_prefix, self.dataset.pack_keys(len(samples)))
        else:
            made = self.dataset.processor.collate(samples, padding_side="right")
        if self.dataset.cached is not None and "features" not in made:
            made["features"] = self.dataset.cached.none()
        if not batch.counts:
            made["labels"] = torch.full_like(made["labels"], IGNORE)
        return made | {"conversations": torch.tensor(len(samples) if batch.counts else 0)}
