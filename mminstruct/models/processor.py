"""From conversations and pictures to a model's inputs, and from ids back to text. The same object trains and answers.

Conversation + pictures ─template, tokenizer─▶ ids with one mark per image ─image_tokens─▶ N ids per image
samples ─collate─▶ input_ids, attention_mask, labels [B, L]; pixel_values [images, 3, H, W];
                   instruction_ids, instruction_mask [images, T] where the connector reads them
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mminstruct import __version__
from mminstruct.chat_template import IGNORE, IMAGE, TemplateConfig
from mminstruct.chat_template import get as get_template
from mminstruct.config import Config, validate
from mminstruct.conversation import Conversation, ImagePart, Media
from mminstruct.errors import CheckpointError, DataError
from mminstruct.files import read_json, write_json
from mminstruct.models.base_processor import FILE, BaseProcessor, Picture
from mminstruct.models.config import ImageConfig
from mminstruct.models.image import to_pixels


class ProcessorConfig(Config):
    """What `mminstruct.json` of a checkpoint holds beside the tokenizer's own files.

    `image_tokens` is N of the model's encoder and connector at `image.size`; `reads_instruction` whether the connector
    is told what is asked about an image; `origins` says where each part's weights first came from.
    """

    version: str = __version__
    image: ImageConfig
    image_tokens: int = Field(gt=0)
    image_token_id: int
    reads_instruction: bool = False
    chat_template: TemplateConfig
    origins: dict[str, str] = Field(default_factory=dict)


class Processor(BaseProcessor):
    """Makes the inputs of a model of our own parts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: ProcessorConfig) -> None:
        self.tokenizer = tokenizer
        self._config = config
        self.template = get_template(config.chat_template, tokenizer)

    @property
    def config(self) -> ProcessorConfig:
        """Everything but the tokenizer; saved with the checkpoint."""
        return self._config

    def with_template(self, template: TemplateConfig) -> Processor:
        """The same processor with another chat template, for a stage of training that has its own."""
        return Processor(self.tokenizer, self.config.model_copy(update={"chat_template": template}))

    # ---- one sample ------------------------------------------------------------------------------------------------

    def training_sample(self, conversation: Conversation, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` `[L]` and, where there are pictures, `pixel_values` `[n, 3, H, W]`.

        Args:
            pictures: the opened files of `conversation.media` in their order, or what `pixels` made of them.

        Raises:
            DataError: the conversation does not fit the template, or pictures are missing.
        """
        return self._sample(conversation, pictures, generation_prompt=False)

    def prompt(self, conversation: Conversation, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """The same without labels, ending where the model has to answer."""
        sample = self._sample(conversation, pictures, generation_prompt=True)
        del sample["labels"]
        return sample

    def _sample(
        self, conversation: Conversation, pictures: Sequence[Picture], generation_prompt: bool
    ) -> dict[str, torch.Tensor]:
        if len(pictures) != len(conversation.media):
            raise DataError(
                f"conversation {conversation.id!r} has {len(conversation.media)} media, "
                f"but {len(pictures)} pictures were given"
            )
        try:
            encoded = self.template.encode(conversation.messages, self.tokenizer, generation_prompt)
        except DataError as error:
            raise DataError(f"conversation {conversation.id!r}: {error}") from None
        ids: list[int] = []
        labels: list[int] = []
        for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
            count = self.config.image_tokens if token == IMAGE else 1
            ids += [self.config.image_token_id if token == IMAGE else token] * count
            labels += [label] * count
        if ids.count(self.config.image_token_id) != len(encoded.images) * self.config.image_tokens:
            raise DataError(
                f"conversation {conversation.id!r}: a text holds the image token itself; take it out or escape it"
            )
        sample = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
        if encoded.images:
            sample["pixel_values"] = torch.stack([self.pixels(pictures[index]) for index in encoded.images])
            if self.config.reads_instruction:
                sample |= self._instructions(conversation)
        return sample

    def _instructions(self, conversation: Conversation) -> dict[str, torch.Tensor]:
        """`instruction_ids` and `instruction_mask` `[n, T]`: for each image the text of the turn that holds it."""
        texts = [m.text for m in conversation.messages for part in m.content if isinstance(part, ImagePart)]
        tokens = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        # A turn may be a picture and nothing else; attention needs something to look at.
        ids = [torch.tensor(found or [self.tokenizer.pad_token_id]) for found in tokens]
        return _padded_instructions(ids, self.tokenizer.pad_token_id)

    def pixels(self, picture: Picture) -> torch.Tensor:
        """`[3, size, size]` float32; what is prepared already stays as it is."""
        return picture if isinstance(picture, torch.Tensor) else to_pixels(picture, self.config.image)

    # ---- batches ---------------------------------------------------------------------------------------------------

    def collate(
        self, samples: Sequence[dict[str, torch.Tensor]], padding_side: str = "left"
    ) -> dict[str, torch.Tensor]:
        """Samples as one batch, padded on the left (to generate) or on the right (to train)."""
        length = max(len(sample["input_ids"]) for sample in samples)
        pad = self.tokenizer.pad_token_id

        def padded(values: torch.Tensor, fill: int) -> torch.Tensor:
            missing = length - len(values)
            return torch.nn.functional.pad(values, (missing, 0) if padding_side == "left" else (0, missing), value=fill)

        batch = {
            "input_ids": torch.stack([padded(sample["input_ids"], pad) for sample in samples]),
            "attention_mask": torch.stack([padded(torch.ones_like(sample["input_ids"]), 0) for sample in samples]),
        }
        if "labels" in samples[0]:
            batch["labels"] = torch.stack([padded(sample["labels"], IGNORE) for sample in samples])
        pictures = [sample["pixel_values"] for sample in samples if "pixel_values" in sample]
        if pictures:
            batch["pixel_values"] = torch.cat(pictures)
        asked = [
            ids[mask.bool()]
            for sample in samples
            if "instruction_ids" in sample
            for ids, mask in zip(sample["instruction_ids"], sample["instruction_mask"], strict=True)
        ]
        if asked:
            batch |= _padded_instructions(asked, pad)
        return batch

    # ---- what is asked of every processor ---------------------------------------------------------------------------

    @property
    def prepared_bytes(self) -> int:
        return 3 * self.config.image.size**2 * 4

    def image_places(self, media: Media) -> int:
        return self.config.image_tokens

    def facts(self) -> dict[str, Any]:
        return {
            "chat_template": self.config.chat_template.name,
            "image_size": self.config.image.size,
            "image_tokens": self.config.image_tokens,
        }

    def _acting_tokens(self) -> Iterable[str]:
        return self.tokenizer.get_added_vocab()

    # ---- disk ------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files and `mminstruct.json` into a folder."""
        self.tokenizer.save_pretrained(folder)
        write_json(folder / FILE, self.config.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Processor:
        """Raises `CheckpointError` where the folder holds no processor of ours."""
        if not (folder / FILE).is_file():
            raise CheckpointError(
                f"{folder} holds no {FILE}; it is no mminstruct checkpoint, or an incomplete copy of one"
            )
        content = read_json(folder / FILE)
        if content.get("kind") == "native":
            raise CheckpointError(
                f"{folder} holds a native model, which transformers opens as it is; "
                "there is nothing to convert or verify"
            )
        config = validate(ProcessorConfig, content, where=str(folder / FILE))
        return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True), config)


def _padded_instructions(ids: Sequence[torch.Tensor], pad: int) -> dict[str, torch.Tensor]:
    masks = [torch.ones_like(found) for found in ids]
    return {
        "instruction_ids": torch.nn.utils.rnn.pad_sequence(list(ids), batch_first=True, padding_value=pad),
        "instruction_mask": torch.nn.utils.rnn.pad_sequence(masks, batch_first=True),
    }
