"""The API of a random tiny model on a real port, asked by the official client."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator

import openai
import pytest
from PIL import Image

from mminstruct.media.gate import Gate
from mminstruct.serving.api.app import create_app
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.server import Address, reserve, served

NAME = "test/nano"
OTHER = "test/other"


@pytest.fixture(scope="package")
def models(generator: Generator) -> Models:
    return Models({NAME: generator, OTHER: generator})


@pytest.fixture(scope="package")
def address(models: Models) -> Iterator[Address]:
    address = reserve()
    with served(create_app(models, Gate()), address, grace=1):
        yield address


@pytest.fixture(scope="package")
def client(address: Address) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url=f"{address.url}/v1", max_retries=0, timeout=60) as client:
        yield client


def data_uri(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


@pytest.fixture(scope="package")
def red() -> str:
    """A picture as a data URI."""
    return data_uri(Image.new("RGB", (80, 60), (200, 30, 30)))


@pytest.fixture(scope="package")
def blue() -> str:
    return data_uri(Image.new("RGB", (60, 80), (30, 30, 200)))


Ask = Callable[..., openai.types.chat.ChatCompletion]


@pytest.fixture
def ask(client: openai.OpenAI) -> Ask:
    """Asks for a short greedy answer to one user message, as a text or as parts."""

    def ask(content: object, **options: object) -> openai.types.chat.ChatCompletion:
        options = {"model": NAME, "temperature": 0, "max_tokens": 12, **options}
        create: Callable[..., openai.types.chat.ChatCompletion] = client.chat.completions.create
        return create(messages=[{"role": "user", "content": content}], **options)

    return ask
