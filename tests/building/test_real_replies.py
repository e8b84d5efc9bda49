"""What a real server (llama.cpp's, with a model of 135M parameters) answers and refuses, as it was recorded."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.asking import AskingConfig
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.building.clients.chat_api import completion
from mminstruct.building.limits import Price
from mminstruct.building.prompt import Prompt
from mminstruct.building.replies import strict_schema
from mminstruct.building.request import Parameters
from mminstruct.data_builders import llava_plus, videosavi, vlr_if
from mminstruct.errors import ConfigError, MminstructError
from mminstruct.evidence.shape_tools import ShapeDetector
from mminstruct.evidence.tool import Region
from tests.building.asking_builder import Greys
from tests.building.chat_server import digest, serving

ANSWER = {
    "choices": [
        {
            "finish_reason": "length",
            "index": 0,
            "message": {"role": "assistant", "content": '{\n  "color": "json"\n}'},
        }
    ],
    "created": 1795767244,
    "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "system_fingerprint": "b0-unknown",
    "object": "chat.completion",
    "usage": {
        "completion_tokens": 20,
        "prompt_tokens": 34,
        "total_tokens": 54,
        "prompt_tokens_details": {"cached_tokens": 24},
    },
    "id": "chatcmpl-ulx7DVLSK2B8mHkZ7gz39UTu0wI4OEqw",
    "timings": {"cache_n": 24, "prompt_n": 10, "prompt_ms": 202.524, "predicted_n": 20, "predicted_ms": 548.885},
}
NO_PICTURES = {
    "error": {
        "code": 500,
        "message": "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "type": "server_error",
    }
}
TOO_LONG = {
    "error": {
        "code": 400,
        "message": "request (6031 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 6031,
        "n_ctx": 4096,
    }
}
QUICK = AskingConfig(server_attempts=4, first_wait=0.001, longest_wait=0.01)
PASSAGE = {
    "passage": "A purple square stands to the left of a black circle. Pairs of that kind were painted on the signs of "
    "two inns at one crossing.",
    "question": "Where were pairs like the one in this picture painted?",
    "answer": "They were painted on the signs of two inns at one crossing.",
    "unanswerable": "Nothing here is about this picture.",
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")


def greys(url: str, out: Path, timeout: float = 10.0, **settings: Any) -> None:
    client = OpenAICompatibleClient("m", [url], timeout=timeout)
    run(Greys(Greys.Options(count=2)), out, BuildConfig(**{"asking": QUICK} | settings), client=client)
    client.close()


def test_the_answer_of_llama_cpp_is_read() -> None:
    """Of which the server had 24 tokens from the question before: they are paid for by their own price."""
    found = completion(json.dumps(ANSWER))
    assert (found.text, found.finish, found.tokens) == ('{\n  "color": "json"\n}', "length", (34, 20))
    assert Price(read=1e6, cached=0, written=0).of(found) == 10


def test_json_that_is_whole_may_have_reached_its_greatest_length(tmp_path: Path) -> None:
    """Kept to a schema, a small model writes spaces behind the last brace until it is stopped."""
    with serving(lambda body: f"{json.dumps(PASSAGE)}\n   ", lambda number: "cut") as server:
        client = OpenAICompatibleClient("m", [server.url])
        run(load_builder("vlr-if", ["count=4", "kinds=[V]"]), tmp_path / "set", client=client, limit=1)
        assert len(server.requests) == 1
        (one,) = formats.read(tmp_path / "set")
        assert one.messages[1].text == PASSAGE["answer"]
        server.answer = lambda body: json.dumps(PASSAGE)[:-9]
        with pytest.raises(MminstructError, match="cut off at its greatest length; be shorter"):
            run(load_builder("vlr-if", ["count=4", "kinds=[V]"]), tmp_path / "half", client=client, limit=1)
        server.answer = lambda body: '"{}"'
        with pytest.raises(MminstructError, match="cut off at its greatest length; be shorter"):
            run(load_builder("vlr-if", ["count=4", "kinds=[V]"]), tmp_path / "text", client=client, limit=1)
        client.close()


def test_a_reply_that_goes_round_in_circles_is_shown_by_its_beginning(tmp_path: Path) -> None:
    circles = "it is the largest of the two shapes. " * 100

    def answer(body: dict[str, Any]) -> str:
        return circles if len(body["messages"]) == 1 else f"it is {digest(body)}"

    with serving(answer, lambda number: "cut" if number == 0 else None) as server:
        greys(server.url, tmp_path / "set")
    _, shown, told = server.requests[1]["messages"]
    assert shown["content"] == f"{circles[:400]} [...]" and "cut off at its greatest length" in told["content"]


def test_a_server_that_never_answers_stops_the_build_at_its_first_question(tmp_path: Path) -> None:
    """llama.cpp refuses pictures, where its model takes none, with a status that asks to be tried again."""
    with serving(lambda body: "", lambda number: "500") as server:
        server.failure = json.dumps(NO_PICTURES).encode()
        with pytest.raises(ConfigError) as told:
            greys(server.url, tmp_path / "set", on_error="skip")
    assert len(server.requests) == QUICK.server_attempts
    assert str(told.value).startswith("no question was answered, this one not in 4 attempts: http://127.0.0.1:")
    assert "image input is not supported" in str(told.value)
    assert str(told.value).endswith("check that the server runs, and takes what greys/shade@1 sends")


def test_a_server_that_answered_before_is_no_reason_to_stop(tmp_path: Path) -> None:
    with serving(lambda body: f"it is {digest(body)}", lambda number: "500" if number > 1 else None) as server:
        greys(server.url, tmp_path / "set", on_error="skip")
    assert len(list(formats.read(tmp_path / "set"))) == 1
    letters = (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in letters] == ["server"]


def test_a_question_too_long_for_the_server_is_left_out_at_once(tmp_path: Path) -> None:
    with serving(lambda body: f"it is {digest(body)}", lambda number: "400" if number == 0 else None) as server:
        server.failure = json.dumps(TOO_LONG).encode()
        greys(server.url, tmp_path / "set", on_error="skip")
    assert len(server.requests) == 1 + 2
    (letter,) = (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()
    assert "request (6031 tokens) exceeds the available context size (4096 tokens)" in json.loads(letter)["problem"]


def test_a_slow_server_is_told_of_by_the_option_that_waits_longer(tmp_path: Path) -> None:
    def slow(body: dict[str, Any]) -> str:
        time.sleep(0.3)
        return "it is late"

    with serving(slow) as server:
        asking = AskingConfig(server_attempts=1)
        with pytest.raises(ConfigError, match=r"did not answer within 0\.05 s; a slow server needs a longer --timeout"):
            greys(server.url, tmp_path / "set", timeout=0.05, asking=asking)


def test_a_seed_is_sent_and_another_round_has_another(tmp_path: Path) -> None:
    seeded = AskingConfig(parse_attempts=2, parameters=Parameters(seed=7))
    with serving(lambda body: f"it is {body['seed']}" if body["seed"] == 8 else "no") as server:
        with pytest.raises(MminstructError, match="none of 2 items"):
            greys(server.url, tmp_path / "set", asking=seeded, on_error="skip")
        assert [request["seed"] for request in server.requests] == [7, 7, 7, 7]
        greys(server.url, tmp_path / "set", asking=seeded, on_error="skip", retry=True)
    assert [one.messages[1].text for one in formats.read(tmp_path / "set")] == ["it is 8", "it is 8"]


class Nested(BaseModel):
    title: str = Field(default="a", min_length=1, description="A key that is also a keyword.")
    box: tuple[float, float] = (0.0, 1.0)
    mixed: tuple[int, str] | None = None
    parts: list[Region] = Field(default_factory=list)


def objects(node: Any) -> list[dict[str, Any]]:
    """All schemas of objects in a schema."""
    if isinstance(node, list):
        return [one for part in node for one in objects(part)]
    if not isinstance(node, dict):
        return []
    return ([node] if node.get("type") == "object" else []) + [one for part in node.values() for one in objects(part)]


def schemas() -> dict[str, dict[str, Any] | None]:
    looked = videosavi.Looked((0.5,), (), count=3)
    tool = llava_plus.Asked(ShapeDetector(), [], [])
    seeing: list[Prompt[Any, Any]] = [
        *(videosavi.QuestionsPrompt(), videosavi.CritiquePrompt(), videosavi.CandidatesPrompt()),
        *(videosavi.ScorePrompt(), videosavi.CheckPrompt()),
    ]
    found = {prompt.name: prompt.schema(looked) for prompt in seeing}
    found["vlr-if/passage"] = vlr_if.PASSAGE.schema(
        vlr_if.Asked(vlr_if.Facts(id="", image="", captions=[""]), "English", False)
    )
    return found | {"llava-plus/arguments": llava_plus.ARGUMENTS.schema(tool), "nested": strict_schema(Nested)}


@pytest.mark.parametrize("name", sorted(schemas()))
def test_schemas_keep_to_strict_mode(name: str) -> None:
    """OpenAI's: each object has all of its keys required and no others allowed, and no keyword that is not known."""
    schema = schemas()[name]
    assert schema is not None and schema["type"] == "object"
    for one in objects(schema):
        assert one["additionalProperties"] is False and one["required"] == list(one["properties"])
    told = json.dumps(schema)
    assert not any(f'"{word}":' in told for word in ("default", "minLength", "maxLength"))


def test_a_schema_says_how_many_and_of_what() -> None:
    found = schemas()
    questions = found["videosavi/questions"]
    assert questions is not None
    assert questions["properties"]["questions"] == {
        "items": {"type": "string"},
        "minItems": 3,
        "type": "array",
        "maxItems": 3,
    }
    nested = found["nested"]
    assert nested is not None
    assert nested["properties"]["title"] == {"type": "string"}  # a key of this name is no keyword
    assert nested["properties"]["box"] == {"items": {"type": "number"}, "minItems": 2, "maxItems": 2, "type": "array"}
    assert "prefixItems" in json.dumps(nested["properties"]["mixed"])
