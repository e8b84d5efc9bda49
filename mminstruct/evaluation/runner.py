"""Asks a model every question of a benchmark: greedy, batched with left padding, each image decoded once.

    items ─ conversation ─▶ distinct requests ─ processor.prompt ─▶ {input_ids [L], pixel_values [n,3,H,W]}
          ─ collate ─▶ {input_ids [B,L], ...} ─ model.generate ─▶ ids [B, L+new] ─ decode ─▶ one text per item

Requests that are the same (same prompt, same images) are generated once. Requests are prepared a window at a time, in
the benchmark's order, so that an image is decoded once for all its questions and only a window's pixels are held.
Within a window they are batched by prompt length, longest first, and the answers written back in the items' order.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image

from mminstruct.conversation import Conversation
from mminstruct.evaluation.benchmark import Benchmark, Item
from mminstruct.media import open_image

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mminstruct.models.base_processor import BaseProcessor

Progress = Callable[[int, int], None]
"""Called as progress(items done, items in all)."""

BATCHES_PER_WINDOW = 8
IMAGES_KEPT = 8
BLANK_COLOUR = (128, 128, 128)


@dataclass(frozen=True)
class Predictions:
    """What a model answered.

    Attributes:
        items: the questions, in the benchmark's order.
        texts: the model's answer to each.
        seconds: how long it took, images and prompts included, the loading of the model not.
        generated: how many distinct requests were answered by the model.
        blank_images: whether the model was shown grey images instead of the real ones.
    """

    items: list[Item]
    texts: list[str]
    seconds: float
    generated: int
    blank_images: bool


@dataclass
class _Request:
    """One distinct prompt and the places of the items that ask it."""

    conversation: Conversation
    images: Callable[[], list[Image.Image]]
    places: list[int] = field(default_factory=list)


def evaluate(
    model: PreTrainedModel,
    processor: BaseProcessor,
    benchmark: Benchmark,
    *,
    batch_size: int,
    limit: int | None = None,
    blank_images: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """The model's answer to each question of a benchmark.

    Args:
        batch_size: how many prompts are generated together; the answers do not depend on it.
        limit: ask the first `limit` questions only.
        blank_images: show mid-grey images of the same sizes instead; what is still right then was not seen but guessed.
        progress: called after each batch.

    Raises:
        DataError: the benchmark's data is missing or broken.
        MediaError: an image cannot be read.
    """
    start = time.perf_counter()
    items = benchmark.questions(limit)
    requests = _distinct_requests(benchmark, items, blank_images)
    texts = [""] * len(items)
    done = 0
    with torch.inference_mode(), evaluation_mode(model):
        window = batch_size * BATCHES_PER_WINDOW
        for first in range(0, len(requests), window):
            for request, answer in _answers(
                model, processor, requests[first : first + window], batch_size, benchmark.max_new_tokens
            ):
                for place in request.places:
                    texts[place] = answer
                done += len(request.places)
                if progress is not None:
                    progress(done, len(items))
    return Predictions(items, texts, time.perf_counter() - start, len(requests), blank_images)


def _distinct_requests(benchmark: Benchmark, items: Sequence[Item], blank_images: bool) -> list[_Request]:
    """One request for each different prompt, in the order in which they first come."""
    opened = functools.lru_cache(maxsize=IMAGES_KEPT)(open_image)
    requests: dict[tuple[Any, ...], _Request] = {}
    for place, item in enumerate(items):
        conversation = benchmark.conversation(item)
        paths = [Path(media.path) for media in conversation.media]
        if blank_images:
            sizes = [opened(path).size for path in paths]
            seen: tuple[Any, ...] = tuple(sizes)
            images = functools.partial(_blank_images, sizes)
        else:
            seen = tuple(paths)
            images = functools.partial(_real_images, paths, opened)
        key = (tuple(message.model_dump_json() for message in conversation.messages), seen)
        requests.setdefault(key, _Request(conversation, images)).places.append(place)
    return list(requests.values())


def _real_images(paths: Sequence[Path], opened: Callable[[Path], Image.Image]) -> list[Image.Image]:
    return [opened(path) for path in paths]


def _blank_images(sizes: Sequence[tuple[int, int]]) -> list[Image.Image]:
    return [Image.new("RGB", size, BLANK_COLOUR) for size in sizes]


def _answers(
    model: PreTrainedModel,
    processor: BaseProcessor,
    requests: Sequence[_Request],
    batch_size: int,
    max_new_tokens: int,
) -> Iterator[tuple[_Request, str]]:
    """The answers to the requests of one window, batch by batch, longest prompts first."""
    prompts = [processor.prompt(request.conversation, request.images()) for request in requests]
    order = sorted(range(len(requests)), key=lambda i: len(prompts[i]["input_ids"]), reverse=True)
    for first in range(0, len(order), batch_size):
        members = order[first : first + batch_size]
        batch = processor.collate([prompts[i] for i in members], padding_side="left")
        inputs = {name: value.to(model.device) for name, value in batch.items()}
        # Greedy whatever the checkpoint's own generation config says: a repetition penalty would change the answers.
        # (`generate` is typed for models of one modality, hence Any.)
        ids = cast(Any, model).generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0
        )
        new = ids[:, batch["input_ids"].shape[1] :].cpu()
        for i, answer in zip(members, new, strict=True):
            yield requests[i], processor.decode(answer)


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout and the like off inside the block, each module's own mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
