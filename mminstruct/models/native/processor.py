"""A transformers processor as ours: the same samples, labels and batches for every family.

    messages + pictures ─template─▶ text ─the family's processor─▶ ids of the expanded text, offsets, picture tensors
    supervised spans of the text ─replacement offsets─▶ spans of the expanded text ─offsets─▶ labels [L]

Nothing is guessed about how a family expands an image: its processor says which characters it put in place of which
(`text_replacement_offsets`), so spans move by counting.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import GenerationConfig, ProcessorMixin

from mminstruct.chat_template import IGNORE, TemplateConfig
from mminstruct.chat_template.encode import RESPONSE, EncodedPrompt, Supervision, labels_of
from mminstruct.conversation import Conversation, ImagePart, Media, Message, TextPart
from mminstruct.errors import ConfigError, DataError
from mminstruct.files import write_json
from mminstruct.media import FrameSampling
from mminstruct.models.base_processor import FILE, BaseProcessor, Picture
from mminstruct.models.native.config import NativeConfig
from mminstruct.models.native.template import NativeTemplate, Span
from mminstruct.models.packing import in_a_row, medium_number

# Size of the blank pictures by which a processor is asked what it makes of pictures.
_BLANK = (64, 64)
# What a picture is taken to measure where the record does not say.
_USUAL = (448, 448)


class NativeProcessor(BaseProcessor):
    """See the module.

    Attributes:
        native: transformers' own processor.
    """

    template: NativeTemplate

    def __init__(self, native: ProcessorMixin, config: NativeConfig) -> None:
        self.native = native
        self.tokenizer = native.tokenizer
        self._config = config
        if not self.tokenizer.is_fast:
            raise ConfigError(f"{type(self.tokenizer).__name__} gives no character offsets; use its fast version")
        if self.tokenizer.pad_token is None:
            raise ConfigError("the tokenizer has no padding token; name one in its tokenizer_config.json")
        self.template = NativeTemplate(config.chat_template, native)
        self._places: dict[tuple[int, int], int] = {}

    @property
    def config(self) -> NativeConfig:
        return self._config

    def with_template(self, template: TemplateConfig) -> NativeProcessor:
        return NativeProcessor(self.native, self._config.model_copy(update={"chat_template": template}))

    # ---- one sample ------------------------------------------------------------------------------------------------

    def training_sample(
        self,
        conversation: Conversation,
        pictures: Sequence[Picture],
        encoded: EncodedPrompt | None = None,
        supervision: Supervision = RESPONSE,
    ) -> dict[str, torch.Tensor]:
        return self._sample(conversation, pictures, generation_prompt=False, supervision=supervision)

    def prompt(self, conversation: Conversation, pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        sample = self._sample(conversation, pictures, generation_prompt=True)
        return {name: value for name, value in sample.items() if name not in ("labels", "places")}

    def _sample(
        self,
        conversation: Conversation,
        pictures: Sequence[Picture],
        generation_prompt: bool,
        supervision: Supervision = RESPONSE,
    ) -> dict[str, torch.Tensor]:
        if len(pictures) != len(conversation.media):
            raise DataError(
                f"conversation {conversation.id!r} has {len(conversation.media)} media, "
                f"but {len(pictures)} pictures were given"
            )
        try:
            pieces = self.template.render(conversation.messages, generation_prompt)
            text, spans = "", []
            for piece in pieces:
                start = len(text)
                text += piece.text if piece.image is None else self.template.image_token
                if supervision.covers(piece):
                    spans.append((start, len(text)))
            order = [piece.image for piece in pieces if piece.image is not None]
            sample = self._encode(text, spans, [pictures[index] for index in order])
        except (DataError, ValueError) as error:  # the families' own checks of text and pictures are ValueErrors
            raise DataError(f"conversation {conversation.id!r}: {error}") from None
        if order:
            sample["places"] = self._places_of(sample["input_ids"], [conversation.media[index] for index in order])
        return sample

    def _places_of(self, ids: torch.Tensor, media: Sequence[Media]) -> torch.Tensor:
        """`[1, 4]`: all pictures as one, from the first of their tokens to the last, which some families wrap and
        separate by others."""
        image_tokens = torch.tensor([token for token in self.native.image_token_ids if token is not None])
        found = torch.isin(ids, image_tokens).nonzero().flatten()
        first, last = int(found[0]), int(found[-1])
        return torch.tensor([[medium_number(*media), first, last + 1 - first, len(media)]])

    def _encode(self, text: str, spans: Sequence[Span], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        output = self._call(text, pictures)
        if pictures:
            spans = _moved(spans, output.pop("text_replacement_offsets")[0])
        offsets = output.pop("offset_mapping")[0].tolist()
        del output["attention_mask"]
        sample = {name: value[0] if name in self._rows else value for name, value in output.items()}
        sample["labels"] = torch.tensor(labels_of(sample["input_ids"].tolist(), offsets, spans))
        sample["labels"][:1] = IGNORE  # nothing predicts it
        return sample

    def _call(self, text: str, pictures: Sequence[Picture]) -> dict[str, Any]:
        """What the family's processor makes of one text and its pictures."""
        # As `ProcessorMixin.apply_chat_template` does: a template that writes the beginning token wants no second one.
        start = self.tokenizer.bos_token
        settings: dict[str, Any] = {
            "text": [text],
            "return_tensors": "pt",
            "return_offsets_mapping": True,
            "add_special_tokens": start is None or not text.startswith(start),
        }
        if not pictures:
            output = dict(self.native(**settings))
            output.pop("text_replacement_offsets", None)
            return output
        output = dict(self.native(**settings, images=[list(pictures)], return_text_replacement_offsets=True))
        if "text_replacement_offsets" not in output:
            raise ConfigError(
                f"{type(self.native).__name__} does not say how it expands an image, so labels would be a guess; "
                "this family cannot be used as a native model yet"
            )
        return output

    @functools.cached_property
    def _rows(self) -> frozenset[str]:
        """Names of the tensors with one number a token: those there are without a picture."""
        return frozenset(self._call("a", [])) | {"labels"}

    @functools.cached_property
    def _nested(self) -> bool:
        """Whether the family keeps the pictures of a sample in a row of their own, `[B, n, ...]`, or all in one list.

        Asked of the processor itself: two pictures in one sample.
        """
        blank = Image.new("RGB", _BLANK)
        output = self._call(self.template.image_token * 2, [blank, blank])
        pixels: torch.Tensor = output[self.native.image_processor.model_input_names[0]]
        return pixels.shape[0] == 1

    # ---- batches ---------------------------------------------------------------------------------------------------

    def collate(
        self, samples: Sequence[dict[str, torch.Tensor]], padding_side: str = "left"
    ) -> dict[str, torch.Tensor]:
        """Samples as one batch, as the family's processor makes it of all of them at once.

        A batch to train on that has no picture gets one more row, a blank picture without labels: every rank has to run
        the encoder in every step, or DDP and ZeRO-3 wait for ever.
        """
        samples = [{name: value for name, value in sample.items() if name != "places"} for sample in samples]
        names = {name for sample in samples for name in sample}
        if "labels" in names and names <= self._rows:
            samples.append(self._blank)
            names |= set(self._blank) - {"places"}
        length = max(len(sample["input_ids"]) for sample in samples)
        fills = {"input_ids": self.tokenizer.pad_token_id, "labels": IGNORE}
        batch = {
            name: torch.stack([_padded(sample[name], length, fills.get(name, 0), padding_side) for sample in samples])
            for name in sorted(names & self._rows)
        }
        seen = [torch.ones_like(sample["input_ids"]) for sample in samples]
        batch["attention_mask"] = torch.stack([_padded(ones, length, 0, padding_side) for ones in seen])
        for name in sorted(names - self._rows):
            batch[name] = _joined([sample.get(name) for sample in samples], self._nested)
        return batch

    def pack(
        self,
        samples: Sequence[dict[str, torch.Tensor]],
        share_prefix: bool = True,
        keys: Sequence[int] | None = None,
    ) -> dict[str, torch.Tensor]:
        samples = list(samples)
        if all(set(sample) <= self._rows | {"position_ids"} for sample in samples):
            blank = dict(self._blank)  # every rank has to run the encoder, see `collate`
            if "position_ids" in samples[0]:
                blank["position_ids"] = torch.zeros_like(samples[0]["position_ids"][..., :1]).expand(
                    *samples[0]["position_ids"].shape[:-1], len(blank["input_ids"])
                )
            samples.append(blank)
            keys = None if keys is None else [*keys, -1]
        batch, behind = in_a_row(samples, sorted(self._rows & set(samples[0])), share_prefix, keys)
        pictured = [(sample, prefix) for sample, prefix in behind if not set(sample) <= self._rows | {"position_ids"}]
        # A prompt has no `places`, and shares nothing.
        seen = [sample for sample, prefix in pictured if not prefix or sample["places"][0, 1] >= prefix]
        for name in sorted({name for sample in seen for name in sample} - self._rows - {"places", "position_ids"}):
            batch[name] = _joined([sample[name] for sample in seen], False)
            if self._nested:  # a row has all of its pictures in one row of theirs
                batch[name] = batch[name].flatten(0, 1).unsqueeze(0)
        return batch

    @functools.cached_property
    def _blank(self) -> dict[str, torch.Tensor]:
        question = Message(role="user", content=[ImagePart(index=0), TextPart(text="a")])
        conversation = Conversation(id="blank", messages=[question], media=[Media(path="blank")])
        return self.training_sample(conversation, [Image.new("RGB", _BLANK)])

    # ---- what is asked of every processor --------------------------------------------------------------------------

    @property
    def frame_sampling(self) -> FrameSampling:
        return FrameSampling()

    def prepare(self, picture: Picture) -> Picture:
        """The picture itself: some families prepare it by how many stand beside it."""
        return picture

    def prepared_bytes(self, media: Media) -> None:
        return None

    def places(self, media: Media) -> int:
        """Tokens that the processor makes of a picture of this size; each size is tried once."""
        size = _USUAL if media.width is None or media.height is None else (media.width, media.height)
        if size not in self._places:
            output = self._call(self.template.image_token, [Image.new("RGB", size)])
            self._places[size] = output["input_ids"].shape[1]
        return self._places[size]

    @property
    def sized(self) -> bool:
        return True

    def facts(self) -> dict[str, Any]:
        return {"chat_template": self._config.chat_template.name, "processor": type(self.native).__name__}

    def _acting_tokens(self) -> Iterable[str]:
        """Special tokens, the processor's placeholders, and what else its template spells of the added tokens.

        Not all added tokens: some vocabularies hold runs of line feeds and HTML tags there.
        """
        template = str(self.native.chat_template)
        added = self.tokenizer.added_tokens_decoder.values()
        spelled = {
            token.content for token in added if token.special or (token.content.strip() and token.content in template)
        }
        return spelled | set(self.native.all_special_multimodal_tokens)

    def generation_config(self, where: str) -> GenerationConfig:
        """Greedy, ends where the tokenizer or the template ends, and never writes a placeholder.

        Raises `ConfigError`, beginning with `where`, when the template does not fit the tokenizer.
        """
        tokenizer = self.tokenizer
        ids = tokenizer(self.template.end, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise ConfigError(
                f"{where}: its chat template ends a turn with {self.template.end!r}, which its tokenizer splits into "
                f"{len(ids)} tokens; add it to the special tokens"
            )
        ends = {*ids, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])}
        # What stands for an image before it is expanded and what after: Gemma has a token for each.
        places = {tokenizer.convert_tokens_to_ids(token) for token in self.native.all_special_multimodal_tokens}
        places |= {token for token in self.native.image_token_ids if token is not None}
        return GenerationConfig(
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            suppress_tokens=sorted(places),
        )

    def save(self, folder: Path) -> None:
        self.native.save_pretrained(folder)
        write_json(folder / FILE, self._config.model_dump(mode="json"))


def _moved(spans: Sequence[Span], replacements: Sequence[dict[str, Any]]) -> list[Span]:
    """Spans of a text as spans of the same text with its placeholders replaced; no span holds a placeholder."""

    def moved(position: int) -> int:
        gained = [
            replaced["new_span"][1] - replaced["span"][1]
            for replaced in replacements
            if replaced["span"][1] <= position
        ]
        return position + (gained[-1] if gained else 0)

    return [(moved(start), moved(end)) for start, end in spans]


def _padded(values: torch.Tensor, length: int, fill: int, side: str) -> torch.Tensor:
    missing = length - len(values)
    return torch.nn.functional.pad(values, (missing, 0) if side == "left" else (0, missing), value=fill)


def _joined(values: Sequence[torch.Tensor | None], nested: bool) -> torch.Tensor:
    """Picture tensors one after the other, the smaller ones filled up with zeros behind.

    Args:
        nested: a sample without pictures has an empty row of its own.
    """
    present = [value for value in values if value is not None]
    largest = [max(sizes) for sizes in zip(*(value.shape[1:] for value in present), strict=True)]
    filled = []
    for value in values:
        if value is not None:
            missing = [
                amount
                for have, want in zip(value.shape[:0:-1], reversed(largest), strict=True)
                for amount in (0, want - have)
            ]
            filled.append(torch.nn.functional.pad(value, missing))
        elif nested:
            filled.append(present[0].new_zeros(1, *largest))
    return torch.cat(filled)
