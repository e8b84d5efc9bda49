"""From conversations and pictures to a model's inputs, and from ids back to text. The same object trains and answers.

Conversation + pictures ─template, tokenizer─▶ ids with one mark per medium ─Layout─▶ as many ids as it has tokens
samples ─collate─▶ input_ids, attention_mask, labels [B, L]; pixel_values [T, 3, S, S], pictures or tiles and frames,
                   or features [T, P, D], where the encoder has seen them already;
                   media [n, 3] where there are tiles or frames (`Medium`);
                   instruction_ids, instruction_mask [T, L'] where the connector reads them
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
from mminstruct.chat_template.encode import RESPONSE, EncodedPrompt, Supervision
from mminstruct.config import Config, validate
from mminstruct.conversation import Conversation, Media, TextPart
from mminstruct.errors import CheckpointError, DataError
from mminstruct.files import read_json, write_json
from mminstruct.media import FrameSampling
from mminstruct.models.base_processor import FILE, BaseProcessor, Picture
from mminstruct.models.config import ImageConfig, TilingConfig, VideoConfig
from mminstruct.models.image import Features, Prepared, prepare
from mminstruct.models.layout import Layout, Medium
from mminstruct.models.packing import in_a_row, medium_number
from mminstruct.models.scan import UNREADABLE

INSTRUCTION_TOKENIZER = "instruction_tokenizer"  # a folder in a checkpoint's
_SEEN = ("pixel_values", "features")  # what a model takes of pictures; a sample has at most one of them


class ProcessorConfig(Config):
    """What `mminstruct.json` of a checkpoint holds beside the tokenizer's own files.

    Attributes:
        image_tokens: N, the vectors that the model's encoder and connector make of a picture of `image.size`.
        in_prompt: whether they stand in the prompt; otherwise a picture takes one place there.
        reads_instruction: whether the connector is told what is asked about an image.
        own_instruction_tokenizer: whether that is tokenised by a tokenizer of its own (InstructBLIP's Q-Former is a
            BERT and reads BERT's), special tokens and all; otherwise by the model's, without special tokens.
        origins: where each part's weights first came from.
    """

    version: str = __version__
    image: ImageConfig
    image_tokens: int = Field(gt=0)
    image_token_id: int
    in_prompt: bool = True
    tiling: TilingConfig | None = None
    video: VideoConfig = VideoConfig()
    reads_instruction: bool = False
    own_instruction_tokenizer: bool = False
    chat_template: TemplateConfig
    origins: dict[str, str] = Field(default_factory=dict)


class Processor(BaseProcessor):
    """Makes the inputs of a model of our own parts.

    Attributes:
        layout: how many places a picture or a video takes.
        instruction_tokenizer: the one that the connector's instruction has to itself, where it has one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: ProcessorConfig,
        instruction_tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        if config.own_instruction_tokenizer != (instruction_tokenizer is not None):
            raise ValueError("give an instruction tokenizer exactly where own_instruction_tokenizer is true")
        self.tokenizer = tokenizer
        self.instruction_tokenizer = instruction_tokenizer
        self._config = config
        self.template = get_template(config.chat_template, tokenizer)
        self.layout = Layout(config.image.size, config.image_tokens, config.tiling, config.video, config.in_prompt)

    @property
    def config(self) -> ProcessorConfig:
        """Everything but the tokenizer; saved with the checkpoint."""
        return self._config

    def with_template(self, template: TemplateConfig) -> Processor:
        """The same processor with another chat template, for a stage of training that has its own."""
        config = self.config.model_copy(update={"chat_template": template})
        return Processor(self.tokenizer, config, self.instruction_tokenizer)

    # ---- one sample ------------------------------------------------------------------------------------------------

    def training_sample(
        self,
        conversation: Conversation,
        pictures: Sequence[Picture],
        encoded: EncodedPrompt | None = None,
        supervision: Supervision = RESPONSE,
    ) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` `[L]` and, where there are pictures, `pixel_values` `[T, 3, S, S]` or `features`
        `[T, P, D]` (see the module) and `places` `[n, 4]`: which medium (a number made of its hash or path), where it
        begins, how many places it takes, of how many tiles and frames.

        Args:
            pictures: the opened files of `conversation.media` in their order, or what `prepare` made of them, or the
                features of all of them.

        Raises:
            DataError: the conversation does not fit the template, or pictures are missing.
        """
        return self._sample(conversation, pictures, False, encoded, supervision)

    def prompt(self, conversation: Conversation, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """The same without labels, ending where the model has to answer."""
        sample = self._sample(conversation, pictures, generation_prompt=True)
        return {name: value for name, value in sample.items() if name != "labels"}

    def _sample(
        self,
        conversation: Conversation,
        pictures: Sequence[Picture],
        generation_prompt: bool,
        encoded: EncodedPrompt | None = None,
        supervision: Supervision = RESPONSE,
    ) -> dict[str, torch.Tensor]:
        if len(pictures) != len(conversation.media):
            raise DataError(
                f"conversation {conversation.id!r} has {len(conversation.media)} media, "
                f"but {len(pictures)} pictures were given"
            )
        if encoded is None:
            try:
                encoded = self.template.encode(conversation.messages, self.tokenizer, generation_prompt, supervision)
            except DataError as error:
                raise DataError(f"conversation {conversation.id!r}: {error}") from None
        prepared = [self.prepare(pictures[index]) for index in encoded.images]
        keys = [medium_number(conversation.media[index]) for index in encoded.images]
        counts = [self.layout.tokens(one.medium) for one in prepared]
        seen = [one.inputs[1] for one in prepared]
        ids: list[int] = []
        labels: list[int] = []
        places = []
        following = iter(zip(keys, counts, seen, strict=True))
        for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
            count = 1
            if token == IMAGE:
                key, count, one = next(following)
                places.append((key, len(ids), count, len(one)))
            ids += [self.config.image_token_id if token == IMAGE else token] * count
            labels += [label] * count
        if ids.count(self.config.image_token_id) != sum(counts):
            raise DataError(
                f"conversation {conversation.id!r}: a text holds the image token itself; take it out or escape it"
            )
        sample = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)}
        if prepared:
            sample[prepared[0].inputs[0]] = torch.cat(seen)
            sample["places"] = torch.tensor(places)
            if self.layout.tiling is not None or any(one.medium.frames for one in prepared):
                sample["media"] = torch.tensor([one.medium for one in prepared])
            if self.config.reads_instruction:
                sample |= self._instructions(conversation, [len(one) for one in seen])
        return sample

    def _instructions(self, conversation: Conversation, tiles: Sequence[int]) -> dict[str, torch.Tensor]:
        """`instruction_ids` and `instruction_mask` `[T, L']`: for each tile of a medium the text of its turn."""
        texts = [m.text for m in conversation.messages for part in m.content if not isinstance(part, TextPart)]
        own = self.instruction_tokenizer
        tokenizer = self.tokenizer if own is None else own
        tokens = [tokenizer(text, add_special_tokens=own is not None)["input_ids"] for text in texts]
        longest = max(map(len, tokens))
        if own is not None and longest > own.model_max_length:
            raise DataError(
                f"conversation {conversation.id!r}: an instruction has {longest} tokens, the connector reads at most "
                f"{own.model_max_length}; shorten the turn that holds the picture"
            )
        # A turn may be a picture and nothing else; attention needs something to look at.
        ids = [torch.tensor(found or [tokenizer.pad_token_id]) for found in tokens]
        repeated = [one for one, count in zip(ids, tiles, strict=True) for _ in range(count)]
        return _padded_instructions(repeated, tokenizer.pad_token_id)

    def prepare(self, picture: Picture) -> Prepared | Features:
        """Pixels for the encoder; what is prepared or seen already stays as it is."""
        if isinstance(picture, Prepared | Features):
            return picture
        return prepare(picture, self.config.image, self.layout)

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
        return batch | self._pictures(samples)

    def _pictures(self, samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The tensors of all pictures, in order."""
        batch = {}
        seen = [sample for sample in samples if _seen(sample) is not None]
        for name in _SEEN:
            found = [sample[name] for sample in samples if name in sample]
            if found:
                batch[name] = torch.cat(found)
        if any("media" in sample for sample in seen):
            batch["media"] = torch.cat([sample.get("media", self._single(sample)) for sample in seen])
        asked = [
            ids[mask.bool()]
            for sample in samples
            if "instruction_ids" in sample
            for ids, mask in zip(sample["instruction_ids"], sample["instruction_mask"], strict=True)
        ]
        if asked:
            own = self.instruction_tokenizer
            pad = self.tokenizer.pad_token_id if own is None else own.pad_token_id
            batch |= _padded_instructions(asked, pad)
        return batch

    def pack(
        self,
        samples: Sequence[dict[str, torch.Tensor]],
        share_prefix: bool = True,
        keys: Sequence[int] | None = None,
    ) -> dict[str, torch.Tensor]:
        # A connector that reads the instruction makes other tokens of a picture for each; then nothing is shared.
        share = share_prefix and not self.config.reads_instruction
        batch, behind = in_a_row(samples, ("input_ids", "labels"), share, keys)
        return batch | self._pictures([self._behind(sample, prefix) for sample, prefix in behind])

    def _behind(self, sample: dict[str, torch.Tensor], prefix: int) -> dict[str, torch.Tensor]:
        """What is left of a sample's pictures without those in its first `prefix` tokens."""
        if not prefix or "places" not in sample:
            return sample
        inside = sample["places"][:, 1] < prefix
        tiles = int(sample["places"][inside, 3].sum())
        left = {name: sample[name][tiles:] for name in _SEEN if name in sample}
        if "media" in sample:
            left["media"] = sample["media"][~inside]
        return {} if bool(inside.all()) else left

    def _single(self, sample: dict[str, torch.Tensor]) -> torch.Tensor:
        """`media` of a sample of pictures that are one tile each, whose sizes nothing depends on."""
        size = self.layout.tile
        seen = _seen(sample)
        assert seen is not None  # asked only of samples with pictures
        return torch.tensor([Medium(0, size, size)] * len(seen))

    # ---- what is asked of every processor ---------------------------------------------------------------------------

    @property
    def frame_sampling(self) -> FrameSampling:
        return self.config.video.sampling

    def prepared_bytes(self, media: Media) -> int:
        tiles = self.frame_sampling.limit if media.kind == "video" else self.layout.most_tiles()
        return tiles * 3 * self.layout.tile**2 * 4

    def places(self, media: Media) -> int:
        tile, frames = self.layout.tile, self.frame_sampling.limit if media.kind == "video" else 0
        return self.layout.tokens(Medium(frames, media.height or tile, media.width or tile))

    @property
    def sized(self) -> bool:
        return self.layout.tiling is not None

    def facts(self) -> dict[str, Any]:
        return {
            "chat_template": self.config.chat_template.name,
            "image_size": self.config.image.size,
            "image_tokens": self.config.image_tokens,
        }

    def _acting_tokens(self) -> Iterable[str]:
        own = self.instruction_tokenizer
        return [*self.tokenizer.get_added_vocab(), *(own.all_special_tokens if own is not None else ())]

    # ---- disk ------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files and `mminstruct.json` into a folder."""
        self.tokenizer.save_pretrained(folder)
        if self.instruction_tokenizer is not None:
            self.instruction_tokenizer.save_pretrained(folder / INSTRUCTION_TOKENIZER)
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
        instruction = None
        if config.own_instruction_tokenizer:
            if not (folder / INSTRUCTION_TOKENIZER).is_dir():
                raise CheckpointError(f"{folder} holds no {INSTRUCTION_TOKENIZER}; the checkpoint is incomplete")
            instruction = _open_tokenizer(folder / INSTRUCTION_TOKENIZER)
        return cls(_open_tokenizer(folder), config, instruction)


def _open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise CheckpointError(f"the tokenizer of {folder} cannot be opened: {error}") from error


def _seen(sample: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """What a sample holds of its pictures, one row for each tile or frame."""
    return next((sample[name] for name in _SEEN if name in sample), None)


def _padded_instructions(ids: Sequence[torch.Tensor], pad: int) -> dict[str, torch.Tensor]:
    masks = [torch.ones_like(found) for found in ids]
    return {
        "instruction_ids": torch.nn.utils.rnn.pad_sequence(list(ids), batch_first=True, padding_value=pad),
        "instruction_mask": torch.nn.utils.rnn.pad_sequence(masks, batch_first=True),
    }
