"""`mminstruct chat --base-url`: a model behind a server answers in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.command import call
from tests.serving.streaming_server import Talk, serving


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")


def count(talk: Talk) -> None:
    """Says how many pictures it was sent in all turns."""
    parts = [part for one in talk.body["messages"] for part in one["content"] if not isinstance(part, str)]
    talk.piece(f"{talk.body['model']} sees ")
    talk.piece(str(sum(part["type"] == "image_url" for part in parts)), "stop")
    talk.end({"prompt_tokens": 9, "completion_tokens": 4})


def test_the_first_model_that_the_server_lists_answers_about_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with serving(count) as server:
        server.models = b'{"data": [{"id": "eyes"}, {"id": "ears"}]}'
        picture = tmp_path / "a.png"
        code, out, _ = call("chat", "--base-url", server.url, "--image", picture, "-q", "How many?", "--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["answer"], answer["finish_reason"]) == ("eyes sees 1", "end")
    assert (answer["prompt_tokens"], answer["new_tokens"]) == (9, 4)


def test_a_named_model_answers_and_the_server_is_asked_for_no_list() -> None:
    with serving(count) as server:
        code, out, _ = call("chat", "--base-url", server.url, "--served-model", "ears", "-q", "How many?")
    assert (code, out) == (0, "ears sees 0\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-q", "x"], "no model is given; give the folder of a checkpoint, or a server with --base-url"),
        (["--served-model", "x", "-q", "x"], "give the server's address with --base-url"),
        (["folder", "--base-url", "http://127.0.0.1:9/v1", "-q", "x"], "not both"),
        (["--base-url", "http://127.0.0.1:9/v1", "-q", "x"], "http://127.0.0.1:9/v1 cannot be reached"),
        (["--base-url", "http://127.0.0.1:9/v1", "--api-key-env", "NO_SUCH", "-q", "x"], "NO_SUCH is not set"),
    ],
)
def test_a_refusal_is_one_line(arguments: list[str], words: str) -> None:
    code, out, error = call("chat", *arguments)
    assert (code, out) == (2, "")
    (line,) = error.splitlines()
    assert words in line
