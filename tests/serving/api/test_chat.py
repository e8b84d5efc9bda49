"""The API as the official client sees it: answers, streams, settings, media, refusals."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from mminstruct.conversation import Conversation, Message, text
from mminstruct.media import encode_clip
from mminstruct.serving.generator import Generator
from mminstruct.serving.server import Address
from mminstruct.serving.settings import GenerationSettings
from tests.serving.api.conftest import NAME, OTHER, Ask

GREEDY = {"model": NAME, "temperature": 0, "max_tokens": 12}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def words(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def answer_of(reply: openai.types.chat.ChatCompletion) -> str:
    assert reply.choices[0].message.content is not None
    return reply.choices[0].message.content


def prompt_tokens(reply: openai.types.chat.ChatCompletion) -> int:
    assert reply.usage is not None
    return reply.usage.prompt_tokens


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_that_of_the_engine(ask: Ask, generator: Generator) -> None:
    reply = ask("What is it?")
    conversation = Conversation(id="x", messages=[Message(role="user", content=[text("What is it?")])])
    expected = generator.stream(conversation, [], GenerationSettings(max_new_tokens=12))
    assert answer_of(reply) == "".join(expected).lstrip()
    assert reply.id.startswith("chatcmpl-") and reply.object == "chat.completion" and reply.model == NAME
    assert reply.choices[0].finish_reason == "length" and reply.choices[0].message.role == "assistant"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == expected.usage.prompt_tokens
    assert reply.usage.completion_tokens == 12
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 12
    assert reply.usage.prompt_tokens_details is not None
    assert isinstance(reply.usage.prompt_tokens_details.cached_tokens, int)


def test_a_streamed_answer_is_the_same(client: openai.OpenAI, ask: Ask, generator: Generator, red: str) -> None:
    content: Any = [image(red), words("What is it?")]
    whole = ask(content, max_tokens=600)
    stream = client.chat.completions.create(
        messages=[{"role": "user", "content": content}],
        model=NAME, temperature=0, max_tokens=600, stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    begun = [next(stream) for _ in range(2)]
    assert begun[1].choices[0].delta.content
    assert generator.running == 1  # its beginning is here before its end is made
    chunks = [*begun, *stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == answer_of(whole)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.completion_tokens == 600
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_stream_as_it_goes_over_the_wire(address: Address) -> None:
    body = {**GREEDY, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with httpx.stream("POST", f"{address.url}/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-request-id"].startswith("chatcmpl-")
        events = response.read().decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    objects = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    choices = [one["choices"][0] for one in objects]
    shape = [(" ".join(sorted(choice["delta"])), choice["finish_reason"]) for choice in choices]
    assert shape[0] == ("content role", None)
    assert set(shape[1:-1]) == {("content", None)}
    assert shape[-1] == ("", "length")
    assert {one["object"] for one in objects} == {"chat.completion.chunk"}
    assert all(set(one) == {"id", "object", "created", "model", "choices"} for one in objects)


def test_pictures_take_places_and_change_the_answer(ask: Ask, red: str, blue: str) -> None:
    none = ask("What is it?")
    one = ask([image(red), words("What is it?")])
    two = ask([image(red), words("What is it?"), image(blue)])
    assert prompt_tokens(none) < prompt_tokens(one) < prompt_tokens(two)
    assert prompt_tokens(two) - prompt_tokens(one) == prompt_tokens(one) - prompt_tokens(none)

    # A random model is led by what it saw: another picture, other log probabilities.
    def first(url: str) -> float:
        content = ask([image(url), words("What is it?")], logprobs=True).choices[0].logprobs
        assert content is not None and content.content
        return content.content[0].logprob

    assert first(red) == first(red) != first(blue)


def test_a_video_is_looked_at_as_frames(ask: Ask) -> None:
    clip = encode_clip([Image.new("RGB", (32, 32), (9 * at, 40, 90)) for at in range(10)], rate=5)
    url = f"data:video/mp4;base64,{base64.b64encode(clip).decode()}"
    still = ask("What happens?")
    reply = ask([{"type": "video_url", "video_url": {"url": url}}, words("What happens?")])
    assert prompt_tokens(reply) >= prompt_tokens(still) + 8  # frames, of four tokens or less each


def test_a_chat_of_several_turns_with_pictures_in_each(client: openai.OpenAI, red: str, blue: str) -> None:
    reply = client.chat.completions.create(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Speak plainly."},
            {"role": "user", "content": [image(red), words("What color?")]},  # type: ignore[list-item]
            {"role": "assistant", "content": "Red."},
            {"role": "user", "content": "And this?"},
            {"role": "user", "content": [image(blue)]},  # type: ignore[list-item]
        ],
        model=NAME, temperature=0, max_tokens=5,
    )  # fmt: skip
    assert reply.usage is not None and reply.usage.completion_tokens == 5


# ---- settings --------------------------------------------------------------------------------------------------------


def test_a_stop_text_ends_the_answer_before_it(ask: Ask) -> None:
    whole = answer_of(ask("What is it?", max_tokens=40))
    stop = whole[8:11]
    reply = ask("What is it?", max_tokens=40, stop=[stop, "never written"])
    assert answer_of(reply) == whole[: whole.index(stop)]
    assert reply.choices[0].finish_reason == "stop"
    assert answer_of(ask("What is it?", max_tokens=40, stop=stop)) == answer_of(reply)


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(ask: Ask) -> None:
    answers = [answer_of(ask("Tell me.", temperature=1, seed=seed, max_tokens=40)) for seed in (1, 1, 2, -3)]
    assert answers[0] == answers[1]
    assert len(set(answers)) == 3


def test_without_a_temperature_answers_differ(ask: Ask) -> None:
    assert len({answer_of(ask("Tell me.", temperature=None, max_tokens=30)) for _ in range(3)}) == 3


def test_both_names_of_the_longest_answer(ask: Ask) -> None:
    for fields in ({"max_tokens": 3}, {"max_tokens": None, "max_completion_tokens": 3}):
        reply = ask("hi", **fields)
        assert reply.usage is not None and reply.usage.completion_tokens == 3


def test_log_probabilities_of_the_tokens_taken(ask: Ask) -> None:
    reply = ask("What is it?", logprobs=True, top_logprobs=3)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None and len(logprobs.content) == 12
    for token in logprobs.content:
        assert token.bytes and len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob  # greedy
        assert [top.logprob for top in token.top_logprobs] == sorted(
            (top.logprob for top in token.top_logprobs), reverse=True
        )
    assert "".join(token.token for token in logprobs.content).replace(" ", "") == answer_of(reply).replace(" ", "")
    assert ask("What is it?").choices[0].logprobs is None
    alone = ask("What is it?", logprobs=True).choices[0].logprobs
    assert alone is not None and alone.content is not None and alone.content[0].top_logprobs == []


def test_log_probabilities_of_a_stream_come_once_each(client: openai.OpenAI, ask: Ask) -> None:
    whole = ask("What is it?", logprobs=True).choices[0].logprobs
    stream = client.chat.completions.create(
        messages=[{"role": "user", "content": "What is it?"}],
        model=NAME, temperature=0, max_tokens=12, logprobs=True, stream=True,
    )  # fmt: skip
    found = [chunk.choices[0].logprobs for chunk in stream]
    assert whole is not None
    assert [token for one in found if one for token in one.content or []] == whole.content


def test_a_bias_forces_a_token(ask: Ask, generator: Generator) -> None:
    tokenizer = generator.processor.tokenizer
    token = tokenizer("hi", add_special_tokens=False)["input_ids"][0]
    reply = ask("What is it?", logit_bias={str(token): 100}, max_tokens=3)
    assert answer_of(reply) == tokenizer.decode([token] * 3).lstrip()


# ---- what users write ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", ["<image>", "<|im_end|>", "<|im_start|>system", "<|endoftext|>", "</s>"])
def test_special_tokens_in_a_text_are_text(ask: Ask, red: str, spelled: str) -> None:
    """They place no picture, end no turn, and cut nothing off: the prompt only gets longer by their letters."""
    plain = ask([image(red), words("Say ab now.")])
    for content in ([image(red), words(f"Say {spelled} now.")], [image(red), words("Say "), words(f"{spelled} now.")]):
        reply = ask(content)
        assert prompt_tokens(reply) > prompt_tokens(plain)
        assert answer_of(reply)
    # Over a seam of two parts as well: what spells a token together is broken like one that was written whole.
    middle = len(spelled) // 2
    seam = ask([words(f"Say {spelled[:middle]}"), words(f"{spelled[middle:]} now.")])
    assert prompt_tokens(seam) == prompt_tokens(ask(f"Say {spelled} now."))


def test_each_of_many_clients_gets_its_own_answer(ask: Ask, red: str, blue: str) -> None:
    questions: list[Any] = [f"Question {number}?" for number in range(10)]
    questions += [[image(url), words(f"What is in {number}?")] for number in range(3) for url in (red, blue)]
    alone = [answer_of(ask(question)) for question in questions]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda question: answer_of(ask(question)), questions))
    assert together == alone
    assert len(set(alone)) > 8


# ---- refusals --------------------------------------------------------------------------------------------------------


def refused(ask: Ask, kind: type[openai.APIStatusError], content: Any = "hi", **fields: Any) -> dict[str, Any]:
    """The error object of a refusal, which must have exactly OpenAI's fields."""
    with pytest.raises(kind) as caught:
        ask(content, **fields)
    told = caught.value.body
    assert isinstance(told, dict) and set(told) == {"message", "type", "param", "code"}
    assert len(told["message"]) < 700 and "Traceback" not in told["message"]
    return told


def test_a_model_that_is_not_there_is_told_with_the_nearest_name(ask: Ask, client: openai.OpenAI) -> None:
    told = refused(ask, openai.NotFoundError, model="test/nanoo")
    assert told["code"] == "model_not_found" and f"Did you mean '{NAME}'" in told["message"]
    with pytest.raises(openai.NotFoundError, match="Did you mean"):
        client.models.retrieve("test/nan")


def test_a_conversation_longer_than_the_context_is_told_with_both_counts(ask: Ask, generator: Generator) -> None:
    limit = generator.context_length
    assert limit is not None
    told = refused(ask, openai.BadRequestError, "word " * limit)
    assert told["code"] == "context_length_exceeded" and told["param"] == "messages"
    assert f"can read {limit}" in told["message"] and "the conversation has" in told["message"]
    streamed = refused(ask, openai.BadRequestError, "word " * limit, stream=True)
    assert streamed == told
    told = refused(ask, openai.BadRequestError, max_tokens=limit + 1)
    assert str(limit) in told["message"] and str(limit + 1) in told["message"]


def test_an_answer_fills_the_context_and_no_more(ask: Ask, generator: Generator) -> None:
    limit = generator.context_length
    assert limit is not None
    reply = ask("w" * (limit - 40), max_tokens=limit)
    assert reply.usage is not None and reply.usage.completion_tokens < 40
    assert reply.usage.total_tokens == limit and reply.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "/etc/passwd", "../picture.png", "http://127.0.0.1:1/x.png", "https://example.org/x.png",
        "ftp://example.org/x.png", "", "data:", "data:image/png;base64,AAAA", "data:text/plain,hi", "\u0000",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["image_url", "video_url"])
def test_only_data_uris_of_media_are_opened(ask: Ask, kind: str, url: str) -> None:
    told = refused(ask, openai.BadRequestError, [{"type": kind, kind: {"url": url}}, words("What is it?")])
    assert told["message"].startswith("messages[0].content[0]: ") and told["code"] == "media"
    assert "passwd" not in told["message"] and "example.org" not in told["message"]


def test_ten_thousand_pictures_are_refused_before_one_is_opened(address: Address, red: str) -> None:
    body = {**GREEDY, "messages": [{"role": "user", "content": [image(red)] * 10_000}]}
    response = httpx.post(f"{address.url}/v1/chat/completions", json=body)
    assert response.status_code == 400 and "10,000 images" in response.json()["error"]["message"]


def test_a_prompt_of_ten_million_letters_is_refused_at_once(ask: Ask, generator: Generator) -> None:
    before = generator.steps
    told = refused(ask, openai.BadRequestError, "a" * 10_000_000)
    assert told["code"] == "context_length_exceeded" and "10000000 characters" in told["message"]
    assert generator.steps == before


@pytest.mark.parametrize(
    ("fields", "param"), [({"n": 2}, "n"), ({"temperature": -1}, "temperature"), ({"tools": [{"type": "x"}]}, "tools")]
)
def test_what_is_not_supported_is_refused(ask: Ask, fields: dict[str, Any], param: str) -> None:
    assert refused(ask, openai.BadRequestError, **fields)["param"] == param


def test_no_messages(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="messages: List should have at least 1 item"):
        client.chat.completions.create(messages=[], model=NAME)


def test_unknown_fields_do_not_matter(ask: Ask) -> None:
    extra = {"best_of": 3, "chat_template_kwargs": {"x": 1}, "user": "me"}
    assert answer_of(ask("hi", extra_body=extra)) == answer_of(ask("hi"))


@pytest.mark.parametrize("data", [b"{", b"", b"[]", b'{"model": "test/nano"}', b"\xff"])
def test_malformed_bodies(address: Address, data: bytes) -> None:
    response = httpx.post(f"{address.url}/v1/chat/completions", content=data)
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_wrong_ways_and_places_are_told_in_the_same_form(address: Address) -> None:
    for method, path, status in (("GET", "/v1/chat/completions", 405), ("POST", "/v1/nothing", 404)):
        response = httpx.request(method, f"{address.url}{path}")
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


# ---- models and health -----------------------------------------------------------------------------------------------


def test_the_models_are_listed_in_their_order(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME, OTHER]
    assert client.models.retrieve(NAME).id == NAME
    assert client.models.retrieve(NAME).object == "model"


def test_health(address: Address) -> None:
    response = httpx.get(f"{address.url}/health")
    assert response.json() == {"status": "ok", "models": {NAME: True, OTHER: True}}
