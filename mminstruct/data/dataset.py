"""Conversations as a torch data set: opened pictures, token ids and labels, made when a sample is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

from mminstruct.conversation import Conversation, Media
from mminstruct.errors import DataError, MminstructError
from mminstruct.formats import media_source
from mminstruct.media import open_medium
from mminstruct.models.base_processor import BaseProcessor, Picture

# Prepared pictures are kept in memory when all of a data set fit in; small pictures cost more to open than to keep.
KEEP_BYTES = 512 * 2**20


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
        if not any(self._supervised(conversation) for conversation in conversations):
            raise DataError(
                f"none of the {len(conversations)} conversations has a supervised token, so there is nothing to learn; "
                "look at one with: mminstruct data mask"
            )

    def _supervised(self, conversation: Conversation) -> int:
        try:
            return self.processor.template.encode(conversation.messages, self.processor.tokenizer).supervised
        except DataError as error:
            raise DataError(f"conversation {conversation.id!r}: {error}") from None

    def _pictures_fit(self) -> bool:
        """Whether all prepared pictures stay in memory, each once."""
        distinct = {media.path: media for conversation in self.conversations for media in conversation.media}
        sizes = [self.processor.prepared_bytes(media) for media in distinct.values()]
        return None not in sizes and sum(size for size in sizes if size is not None) <= KEEP_BYTES

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        conversation = self.conversations[index]
        try:
            prepared = [self._prepared(media) for media in conversation.media]
        except MminstructError as error:
            raise type(error)(f"conversation {conversation.id!r}: {error}") from None
        sample = self.processor.training_sample(conversation, prepared)
        if len(sample["input_ids"]) > self.max_length:
            raise DataError(
                f"conversation {conversation.id!r} has {len(sample['input_ids'])} tokens, more than max_length "
                f"{self.max_length}; raise max_length or split the conversation"
            )
        return sample

    def _prepared(self, media: Media) -> Picture:
        """The picture or video, as far as it can be prepared alone."""
        if self._kept is not None and media.path in self._kept:
            return self._kept[media.path]
        source = media_source(media.path, self.media_root)
        prepared = self.processor.prepare(open_medium(media.kind, source, self.processor.frame_sampling))
        if self._kept is not None:
            self._kept[media.path] = prepared
        return prepared

    def lengths(self) -> list[int]:
        """Characters of each conversation plus the places of its media: enough to put like lengths together."""
        return [
            sum(len(message.text) for message in conversation.messages)
            + sum(self.processor.places(media) for media in conversation.media)
            for conversation in self.conversations
        ]
