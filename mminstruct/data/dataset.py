"""Conversations as a torch data set: opened pictures, token ids and labels, made when a sample is asked for."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

from mminstruct.chat_template import IGNORE, IMAGE
from mminstruct.chat_template.encode import EncodedPrompt
from mminstruct.conversation import Conversation, Media
from mminstruct.data.feature_cache import CachedMedia
from mminstruct.data.plan import MicroBatch
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

    Raises:
        DataError: no conversations, or none of them has a token to learn from; later, a sample that is too long.
        MediaError: a picture that cannot be opened (when its sample is asked for).
    """

    def __init__(
        self, conversations: Sequence[Conversation], media_root: Path, processor: BaseProcessor, max_length: int
    ) -> None:
        if not conversations:
            raise DataError("the data set is empty; check its path, format and filters")
        self.conversations = conversations
        self.media_root = media_root
        self.processor = processor
        self.max_length = max_length
        self._kept: dict[str, Picture] | None = {} if self._pictures_fit() else None
        self._encodings: dict[int, EncodedPrompt] = {}
        self._room = KEEP_BYTES
        self.cached: CachedMedia | None = None
        if not any(self._encoded(index).supervised for index in range(len(conversations))):
            raise DataError(
                f"none of the {len(conversations)} conversations has a supervised token, so there is nothing to learn; "
                "look at one with: mminstruct data mask"
            )

    def use(self, cached: CachedMedia) -> None:
        """Give what the model's encoder makes of pictures and videos from now on, and open none of them."""
        self.cached, self._kept = cached, None

    def _encoded(self, index: int) -> EncodedPrompt:
        """A conversation's token ids, kept in memory as long as there is room."""
        if index in self._encodings:
            return self._encodings[index]
        conversation = self.conversations[index]
        try:
            encoded = self.processor.template.encode(conversation.messages, self.processor.tokenizer)
        except DataError as error:
            raise DataError(f"conversation {conversation.id!r}: {error}") from None
        size = 2 * 4 * len(encoded.input_ids) + _OVERHEAD
        if size <= self._room:
            self._room -= size
            ids, labels = array("i", encoded.input_ids), array("i", encoded.labels)
            self._encodings[index] = EncodedPrompt(ids, labels, encoded.images)
        return encoded

    def _pictures_fit(self) -> bool:
        """Whether all prepared pictures stay in memory, each once."""
        distinct = {media.path: media for conversation in self.conversations for media in conversation.media}
        sizes = [self.processor.prepared_bytes(media) for media in distinct.values()]
        return None not in sizes and sum(size for size in sizes if size is not None) <= KEEP_BYTES

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self._sample(index, {})

    def _sample(self, index: int, opened: dict[str, Picture]) -> dict[str, torch.Tensor]:
        conversation = self.conversations[index]
        try:
            for media in conversation.media:
                if media.path not in opened:
                    opened[media.path] = self._prepared(media)
            prepared = [opened[media.path] for media in conversation.media]
        except MminstructError as error:
            raise type(error)(f"conversation {conversation.id!r}: {error}") from None
        sample = self.processor.training_sample(conversation, prepared, self._encoded(index))
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

    def samples(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Several samples at once; a picture that stands in more than one of them is opened once."""
        opened: dict[str, Picture] = {}
        return [self._sample(index, opened) for index in indices]

    def keys(self) -> list[int | None]:
        """Of each conversation a number that says which picture or video it is about first; None where no other one is
        about the same, or it has none."""
        first = [
            (conversation.media[0].sha256 or conversation.media[0].path) if conversation.media else None
            for conversation in self.conversations
        ]
        several = [name for name, count in Counter(first).items() if name is not None and count > 1]
        numbers = {name: number for number, name in enumerate(several)}
        return [None if name is None else numbers.get(name) for name in first]

    def token_counts(self) -> tuple[array[int], array[int]]:
        """Of each conversation all its tokens, images included, and those up to the end of its first picture.

        The second is 0 where no loss is left to take behind it.
        """
        tokens, prefixes = array("i"), array("i")
        for index, conversation in enumerate(self.conversations):
            encoded = self._encoded(index)
            places = [self.processor.places(conversation.media[index]) for index in encoded.images]
            tokens.append(len(encoded.input_ids) - len(places) + sum(places))
            supervised = [number for number, label in enumerate(encoded.labels) if label != IGNORE]
            first = encoded.input_ids.index(IMAGE) if places else 0
            shared = bool(places) and bool(supervised) and first + 1 < supervised[0]
            prefixes.append(first + places[0] if shared else 0)
        return tokens, prefixes

    def lengths(self) -> list[int]:
        """Characters of each conversation plus the places of its media: enough to put like lengths together."""
        return [
            sum(len(message.text) for message in conversation.messages)
            + sum(self.processor.places(media) for media in conversation.media)
            for conversation in self.conversations
        ]


class MicroBatches(Dataset[dict[str, torch.Tensor]]):
    """What the model is given, micro-batch by micro-batch, made where the data loader's processes run.

    Beside the model's inputs a batch holds `conversations`, their number. Where features are cached, every batch holds
    `features`, a batch of text those of no picture.

    Args:
        packed: rows without padding (`Processor.pack`); otherwise a row for each conversation.
        share_prefix: of packed rows.
    """

    def __init__(self, dataset: ConversationDataset, packed: bool, share_prefix: bool) -> None:
        self.dataset, self.packed, self.share_prefix = dataset, packed, share_prefix

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        samples = self.dataset.samples(batch.indices)
        if self.packed:
            made = self.dataset.processor.pack(samples, self.share_prefix)
        else:
            made = self.dataset.processor.collate(samples, padding_side="right")
        if self.dataset.cached is not None and "features" not in made:
            made["features"] = self.dataset.cached.none()
        if not batch.counts:
            made["labels"] = torch.full_like(made["labels"], IGNORE)
        return made | {"conversations": torch.tensor(len(samples) if batch.counts else 0)}
