"""What training, evaluation and chat use of a processor, whichever kind of model it belongs to.

Conversation + pictures ─training_sample, prompt─▶ input_ids [L], labels [L], tensors of the pictures
samples ─collate─▶ input_ids, attention_mask, labels [B, L], tensors of all pictures ─▶ `forward`, `generate`
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from transformers import PreTrainedTokenizerBase

from mminstruct.chat_template import TemplateConfig
from mminstruct.chat_template.encode import RESPONSE, EncodedPrompt, Supervision
from mminstruct.chat_template.template import ChatTemplate
from mminstruct.conversation import Conversation, Media
from mminstruct.errors import DataError
from mminstruct.media import FrameSampling, Video
from mminstruct.models.image import Features, Prepared

# The processor's own file in a checkpoint folder.
FILE = "mminstruct.json"

# A picture or a video as it was opened, as `prepare` has made it ready, or as the model's own encoder has seen it.
Picture = Image.Image | Video | Prepared | Features


# Breaking one token may leave another to be broken, in texts made for it; no text needs so many rounds.
_ROUNDS = 20
_NO_SPACE = "\u200b"


class SavedConfig(Protocol):
    """What every processor's `mminstruct.json` says."""

    @property
    def chat_template(self) -> TemplateConfig: ...

    @property
    def origins(self) -> dict[str, str]: ...


class BaseProcessor(ABC):
    """Makes a model's inputs and reads its answers.

    Attributes:
        tokenizer: a fast tokenizer with a padding token.
        template: the chat template, one object for training, evaluation and chat.
    """

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate

    @property
    @abstractmethod
    def config(self) -> SavedConfig:
        """What `mminstruct.json` of the checkpoint holds."""

    @abstractmethod
    def with_template(self, template: TemplateConfig) -> BaseProcessor:
        """The same processor with another chat template, for a stage of training that has its own."""

    @abstractmethod
    def training_sample(
        self,
        conversation: Conversation,
        pictures: Sequence[Picture],
        encoded: EncodedPrompt | None = None,
        supervision: Supervision = RESPONSE,
    ) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` `[L]` and, where there are pictures, the tensors that the model takes of them.

        Args:
            pictures: the opened files of `conversation.media` in their order, or what `prepare` made of them.
            encoded: what the template's `encode` makes of the messages, where that is known already.
            supervision: which texts a loss is taken on, where it is not.

        Raises:
            DataError: the conversation does not fit the template, or pictures are missing.
        """

    @abstractmethod
    def prompt(self, conversation: Conversation, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """The same without labels, ending where the model has to answer."""

    @abstractmethod
    def collate(
        self, samples: Sequence[dict[str, torch.Tensor]], padding_side: str = "left"
    ) -> dict[str, torch.Tensor]:
        """Samples as one batch, padded on the left (to generate) or on the right (to train)."""

    @abstractmethod
    def pack(
        self,
        samples: Sequence[dict[str, torch.Tensor]],
        share_prefix: bool = True,
        keys: Sequence[int] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Training samples as one row without padding, each blind to the others (see `mminstruct.models.packing`).

        Only for models without a `packing.hindrance`.

        Args:
            share_prefix: let neighbours that begin with the same picture stand behind one copy of what they begin with
                alike.
            keys: of each sample, where those of one key, and no others, are to share what they begin with, a picture
                or none.

        Returns:
            `input_ids`, `labels`, `position_ids` `[1, L]`, `attention_mask` `[1, 1, S, 3]`, the pictures' tensors.
        """

    @property
    @abstractmethod
    def frame_sampling(self) -> FrameSampling:
        """Which frames of a video are looked at."""

    @abstractmethod
    def prepare(self, picture: Picture) -> Picture:
        """What can be prepared of a medium without knowing its conversation; once prepared, it stays as it is."""

    @abstractmethod
    def prepared_bytes(self, media: Media) -> int | None:
        """Bytes of a prepared medium at most, for who wants to keep them; None where `prepare` does nothing."""

    @abstractmethod
    def places(self, media: Media) -> int:
        """How many tokens a medium takes, as far as its record says its size; no file is opened for it."""

    @property
    @abstractmethod
    def sized(self) -> bool:
        """Whether how many tokens a picture takes depends on its size."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a report says of how pictures and text are prepared."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the processor's files, `mminstruct.json` among them, into a folder."""

    @abstractmethod
    def _acting_tokens(self) -> Iterable[str]:
        """Tokens that do something when they are spelled in a text."""

    def escape(self, text: str) -> str:
        """Text of a stranger, made unable to act as a special token: each one is broken by a space.

        So is one that the tokenizer sees in other letters (full-width ones, where it normalises), and the beginning of
        one at the end of the text, since another text may follow and go on with it.

        Raises:
            DataError: a space does not break it.
        """
        acting = {token for token in self._acting_tokens() if len(token) > 1 and token.strip()}
        if not acting:
            return text
        numbers: Any = self.tokenizer.convert_tokens_to_ids(sorted(acting))
        ids = {number for number in numbers if number is not None}
        ids.discard(self.tokenizer.unk_token_id)  # what stands for any unknown word acts as nothing
        pattern = re.compile("|".join(re.escape(token) for token in sorted(acting, key=len, reverse=True)))
        for _ in range(_ROUNDS):
            places = {match.start() for match in pattern.finditer(text)} or self._seen_as(ids, text)
            places = places or _begun_at_the_end(text, acting)
            if not places:
                return text
            for place in sorted(places, reverse=True):
                # A template may trim the space that a text ends with.
                between = " " if place + 1 < len(text) else _NO_SPACE
                text = f"{text[: place + 1]}{between}{text[place + 1 :]}"
        raise DataError("a text spells special tokens in a way that cannot be broken; take them out")

    def _seen_as(self, ids: set[int], text: str) -> set[int]:
        """Where in the text the tokenizer finds one of these tokens."""
        result = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        pairs = zip(result["input_ids"], result["offset_mapping"], strict=True)
        return {start for token, (start, _) in pairs if token in ids}

    def decode(self, ids: list[int] | torch.Tensor) -> str:
        """Generated ids as text, special tokens and outer white space dropped."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        return text.removesuffix(self.template.end).strip()


def _begun_at_the_end(text: str, tokens: Iterable[str]) -> set[int]:
    """Where the longest beginning of a token starts that the text ends with; letters alone are words and begin none."""
    begun = [
        length
        for token in tokens
        for length in range(min(len(token) - 1, len(text)), 0, -1)
        if text.endswith(token[:length]) and token[:length].strip() and not token[:length].isalnum()
    ]
    return {len(text) - max(begun)} if begun else set()
