"""What the model saw of the last question: its pictures as the encoder takes them, its prompt as it was read.

    turns ──conversation_of, escaped──▶ Processor.prepare ──▶ tiles and frames, mean and spread undone ──▶ pictures
                                    └─▶ Processor.prompt ──▶ ids ──▶ the prompt's text, runs of image tokens counted

Nothing is worked out here: all of it comes from the model's own processor, asked as the generator asks it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from mminstruct.conversation import Conversation
from mminstruct.errors import DataError
from mminstruct.media import Video
from mminstruct.models.base_processor import BaseProcessor
from mminstruct.models.image import Prepared
from mminstruct.models.native.processor import NativeProcessor
from mminstruct.models.processor import Processor
from mminstruct.serving.chat import Framing, Turn, conversation_of
from mminstruct.serving.decoder import escaped
from mminstruct.serving.engine import Engine
from mminstruct.serving.generator import Generator


@dataclass(frozen=True)
class SeenMedium:
    """One picture or video.

    Attributes:
        name: `image 1`, `video 2`.
        size: width and height in pixels, as it was opened.
        tokens: places that it takes in the prompt.
        pictures: what the encoder takes of it; empty where that is no picture.
        labels: of each of them.
    """

    name: str
    size: tuple[int, int]
    tokens: int
    pictures: tuple[Image.Image, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What the model read.

    Attributes:
        tokens: of the prompt.
        prompt: its text in pieces (text, count): a piece with a count is an image token that stands so often in a row.
        together: what the encoder takes of all media, where the processor prepares them at once; empty where that is
            not made of pictures, or `media` have their own.
    """

    tokens: int
    prompt: tuple[tuple[str, int | None], ...]
    media: tuple[SeenMedium, ...]
    together: tuple[Image.Image, ...] = ()


def seen(engine: Engine, turns: Sequence[Turn], framing: Framing) -> Seen:
    """What the model saw of the last of these turns, and of those before it.

    Raises `DataError` where there is no turn, or the model runs elsewhere.
    """
    if not isinstance(engine, Generator):
        raise DataError("this model runs behind another server, which does not tell what its model sees")
    conversation, media = conversation_of(turns, framing)
    processor = engine.processor
    record = escaped(conversation, processor)
    sample = processor.prompt(record, media)
    ids = sample["input_ids"].tolist()
    looks = [_medium(processor, record, number, medium) for number, medium in enumerate(media)]
    together = _together(processor, sample) if isinstance(processor, NativeProcessor) else ()
    return Seen(len(ids), tuple(prompt_pieces(processor, ids)), tuple(looks), together)


def prompt_pieces(processor: BaseProcessor, ids: Sequence[int]) -> Iterator[tuple[str, int | None]]:
    """The prompt that the ids spell, special tokens and all, as `Seen.prompt` has it."""
    marks = _image_tokens(processor)
    once: list[int] = []
    runs: list[tuple[str, int]] = []
    for mark, run in itertools.groupby(ids, key=lambda token: token if token in marks else None):
        tokens = list(run)
        once += tokens if mark is None else tokens[:1]
        if mark is not None:
            runs.append((str(processor.tokenizer.convert_ids_to_tokens(mark)), len(tokens)))
    # Decoded as a whole: by itself, many a piece would lose its first space.
    text = str(processor.tokenizer.decode(once, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    for token, count in runs:
        before, _, text = text.partition(token)
        if before:
            yield before, None
        yield token, count
    yield text, None


def _image_tokens(processor: BaseProcessor) -> set[int]:
    if isinstance(processor, NativeProcessor):
        return {token for token in processor.native.image_token_ids if token is not None}
    assert isinstance(processor, Processor)  # the two kinds that there are
    return {processor.config.image_token_id}


def _medium(processor: BaseProcessor, record: Conversation, number: int, medium: Image.Image | Video) -> SeenMedium:
    kind = "video" if isinstance(medium, Video) else "image"
    prepared = processor.prepare(medium)
    if not isinstance(processor, Processor) or not isinstance(prepared, Prepared):
        tokens = processor.places(record.media[number])
        return SeenMedium(f"{kind} {number + 1}", medium.size, tokens, (), ())
    config = processor.config.image
    pictures = tuple(_picture(pixels, config.mean, config.std) for pixels in prepared.pixels)
    if isinstance(medium, Video):
        labels = [f"{time:.1f} s" for time in medium.timestamps]
    elif len(pictures) == 1:
        labels = ["whole"]
    else:
        rows, columns = processor.layout.grid(medium.height, medium.width)
        labels = ["whole", *(f"tile {row + 1}.{column + 1}" for row in range(rows) for column in range(columns))]
    tokens = processor.layout.tokens(prepared.medium)
    return SeenMedium(f"{kind} {number + 1}", medium.size, tokens, pictures, tuple(labels))


def _together(processor: NativeProcessor, sample: Mapping[str, torch.Tensor]) -> tuple[Image.Image, ...]:
    """The pictures in a family's own tensors; none where it takes them as rows of patches (Qwen2-VL and its like)."""
    images = processor.native.image_processor
    pixels = sample.get(images.model_input_names[0])
    if pixels is None or pixels.ndim < 4 or pixels.shape[-3] != 3:
        return ()
    mean, std = (images.image_mean, images.image_std) if images.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return tuple(_picture(one, mean, std) for one in pixels.flatten(0, -4))


def _picture(pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> Image.Image:
    """`[3, S, S]` as the encoder takes it, back as a picture."""
    means, spreads = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    values = ((pixels.float() * spreads + means) * 255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
