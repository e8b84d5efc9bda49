"""Pairs of a picture and a text: of each conversation two prompts, the question with its picture and the answer alone.

    user: picture, question; assistant: answer ──sides──▶ user: picture, question │ user: answer ──▶ samples 2i, 2i + 1

What stands for a side is the last token of its prompt, behind which the model would answer. It alone has a label, and
that is no token: it is a number of what the side shows, equal for equal pictures and for equal texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from mminstruct.chat_template import IGNORE
from mminstruct.chat_template.encode import EncodedPrompt
from mminstruct.conversation import Conversation, Message, TextPart
from mminstruct.data.dataset import ConversationDataset
from mminstruct.errors import DataError, MminstructError
from mminstruct.models.base_processor import Picture
from mminstruct.models.packing import medium_number


class ImageTextDataset(ConversationDataset):
    """Two samples of each conversation: what `BaseProcessor.prompt` makes of its sides, and `labels` (see the module).

    `max_length` and the token index count both sides of a conversation together.

    Raises:
        DataError: a conversation is more or less than one question with one picture or video, and one answer of text.
    """

    cuts = False
    view = "sides"

    def _encoded(self, index: int, conversation: Conversation) -> EncodedPrompt:
        """Both sides one behind the other, to be counted: their last tokens are labelled."""
        both = EncodedPrompt()
        for side in sides(conversation):
            try:
                one = self.processor.template.encode(side.messages, self.processor.tokenizer, generation_prompt=True)
            except DataError as error:
                raise DataError(f"conversation {conversation.id!r}: {error}") from None
            both.input_ids += one.input_ids
            both.labels += [IGNORE] * (len(one.input_ids) - 1) + [1]
            both.images += one.images
        return both

    def samples(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        opened: dict[str, Picture] = {}
        return [sample for index in indices for sample in self._sides(self.conversations[index], opened)]

    def _sides(self, conversation: Conversation, opened: dict[str, Picture]) -> list[dict[str, torch.Tensor]]:
        shown, told = sides(conversation)
        (medium,) = shown.media
        try:
            if medium.path not in opened:
                opened[medium.path] = self._prepared(medium)
        except MminstructError as error:
            raise type(error)(f"conversation {conversation.id!r}: {error}") from None
        made = [
            _labelled(self.processor.prompt(shown, [opened[medium.path]]), medium_number(medium)),
            _labelled(self.processor.prompt(told, []), _number(told.messages[-1].text)),
        ]
        if min(len(sample["input_ids"]) for sample in made) < 2:
            raise DataError(
                f"conversation {conversation.id!r}: a side of it is a single token; choose another chat template"
            )
        tokens = sum(len(sample["input_ids"]) for sample in made)
        if tokens > self.max_length:
            raise DataError(
                f"conversation {conversation.id!r} has {tokens} tokens on its two sides, more than max_length "
                f"{self.max_length}; raise max_length or shorten its text"
            )
        return made

    def keys(self) -> list[int | None]:
        """Nothing is shared: the sides of a conversation begin differently, and an equal picture is no negative."""
        return [None] * len(self)


def sides(conversation: Conversation) -> tuple[Conversation, Conversation]:
    """The question with its picture, and the answer as a question; a system text stands in front of both.

    Raises `DataError` for a conversation that is anything else than that.
    """
    system = [message for message in conversation.messages[:1] if message.role == "system"]
    turns = conversation.messages[len(system) :]
    shown = [part for turn in turns[:1] for part in turn.content if not isinstance(part, TextPart)]
    whole = [turn.role for turn in turns] == ["user", "assistant"] and len(shown) == len(conversation.media) == 1
    if not whole or not turns[1].text.strip() or any(not isinstance(part, TextPart) for part in turns[1].content):
        raise DataError(
            f"conversation {conversation.id!r} is no pair of a picture and a text: give one question with one picture "
            "or video, and one answer without, or another objective"
        )
    told = Message(role="user", content=turns[1].content)
    return (
        Conversation(id=conversation.id, messages=[*system, turns[0]], media=conversation.media),
        Conversation(id=conversation.id, messages=[*system, told]),
    )


def _labelled(sample: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    labels = torch.full_like(sample["input_ids"], IGNORE)
    labels[-1] = number & (2**63 - 1)  # not negative, so never `IGNORE`
    return sample | {"labels": labels}


def _number(text: str) -> int:
    """A number that stands for a text, the same in every process; outer white space does not matter."""
    return int.from_bytes(hashlib.blake2b(text.strip().encode(), digest_size=8).digest(), "big", signed=True)
