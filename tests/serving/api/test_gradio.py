"""Gradio's client of OpenAI's API, `gr.load_chat`, against ours; the doors as clients of the API see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from mminstruct.media.gate import Gate
from mminstruct.serving.api.app import create_app
from mminstruct.serving.doors import Doors, doors
from mminstruct.serving.generator import Generator
from mminstruct.serving.lock import Secrets
from mminstruct.serving.models import Models
from mminstruct.serving.server import Address, reserve, served
from tests.serving.api.conftest import NAME

KEY = "a-key-of-some-length-1234"


@pytest.fixture(scope="module")
def locked(generator: Generator) -> Iterator[Address]:
    """A server with doors, as the command has it; its answers are short."""
    address = reserve()
    entrance = doors(Doors.of(address.host, keys=Secrets.of(KEY)))
    app = create_app(Models({NAME: generator}), Gate(), max_seconds=0.4, middleware=entrance)
    with served(app, address, grace=1):
        yield address


@pytest.mark.parametrize("streaming", [True, False])
def test_gradio_chats_with_pictures_over_two_turns(
    locked: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    import gradio as gr

    picture = tmp_path / "picture.png"
    Image.new("RGB", (80, 60), (200, 30, 30)).save(picture)
    chat = gr.load_chat(f"{locked.url}/v1/", NAME, KEY, file_types=["image"], streaming=streaming)

    def say(text: str, files: list[str], history: list[dict[str, Any]]) -> str:
        reply = chat.fn({"text": text, "files": files}, history)
        return str(list(reply)[-1] if streaming else reply)

    first = say("What is it?", [str(picture)], [])
    assert first
    history = [
        {"role": "user", "content": [{"type": "file", "file": {"path": str(picture)}}]},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": first}]},
    ]
    assert say("And what color is it?", [], history)


def test_the_doors_speak_as_the_api_does(locked: Address) -> None:
    """Their refusals are errors that the official client knows by kind."""
    with (
        openai.OpenAI(api_key="another-key-of-some-length", base_url=f"{locked.url}/v1", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="API key"),
    ):
        client.models.list()
    with openai.OpenAI(api_key=KEY, base_url=f"{locked.url}/v1", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [NAME]
        with pytest.raises(openai.APIStatusError, match="longer than") as caught:
            client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "a" * (64 * 2**20)}])
        assert caught.value.status_code == 413
