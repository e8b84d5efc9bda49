"""A random tiny model whose answers are as long as they are asked for, and its generator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

import mminstruct
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.serving.generator import Generator


@pytest.fixture(scope="session")
def model_and_processor() -> tuple[VisionLanguageModel, Processor]:
    torch.manual_seed(0)
    model, processor = mminstruct.create("nano")
    # Without its end marks among the choices, an answer has exactly as many tokens as were asked for.
    model.generation_config.suppress_tokens = [
        *model.generation_config.suppress_tokens,
        *model.generation_config.eos_token_id,
    ]
    return model, processor


@pytest.fixture(scope="session")
def generator(model_and_processor: tuple[VisionLanguageModel, Processor]) -> Iterator[Generator]:
    with Generator(*model_and_processor) as generator:
        yield generator


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", (80, 60), (200, 30, 30))


@pytest.fixture
def conversation() -> Conversation:
    return Conversation(
        id="test",
        messages=[Message(role="user", content=[image(0), text("What color is the shape?")])],
        media=[Media(path="picture.png")],
    )
