"""The parser of chat requests: what it takes, and that whatever it is given it raises nothing but our own refusal."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mminstruct.errors import MediaError
from mminstruct.serving.api import messages
from mminstruct.serving.api.errors import ApiError
from mminstruct.serving.api.schema import ChatRequest, ImagePart, TextPart, UnknownFields, VideoPart, parse

HI = [{"role": "user", "content": "hi"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": HI, **fields}).encode()


def refusal(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(data)
    assert caught.value.status == 400
    return caught.value


def test_a_text_is_one_part_of_text() -> None:
    request, unknown = parse(body())
    assert request.messages[0].content == [TextPart(type="text", text="hi")]
    assert not unknown and not request.streams and request.media == 0


def test_parts_of_all_kinds_in_their_order() -> None:
    content = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:1", "detail": "low"}, "uuid": "x"},
        {"type": "video_url", "video_url": "data:2"},
        {"type": "image_url", "image_url": "data:3"},
    ]
    request, _ = parse(body(messages=[{"role": "user", "content": content, "name": "somebody"}]))
    first, second, third, fourth = request.messages[0].content
    assert isinstance(first, TextPart) and first.text == "a"
    assert isinstance(second, ImagePart) and second.image_url.url == "data:1"
    assert isinstance(third, VideoPart) and third.video_url.url == "data:2"
    assert isinstance(fourth, ImagePart) and fourth.image_url.url == "data:3"
    assert request.media == 3


def test_an_assistant_may_have_no_content() -> None:
    request, _ = parse(body(messages=[*HI, {"role": "assistant", "content": None, "tool_calls": None}, *HI]))
    assert request.messages[1].content == []


def test_null_means_not_given() -> None:
    optional = [name for name in ChatRequest.model_fields if name not in ("model", "messages")]
    request, _ = parse(body(**dict.fromkeys(optional)))
    assert request.model_dump(exclude={"model", "messages"}) == dict.fromkeys(optional)


def test_one_stop_text_or_several() -> None:
    assert parse(body(stop="a"))[0].stop == ["a"]
    assert parse(body(stop=["a", "b"]))[0].stop == ["a", "b"]


def test_token_ids_of_a_bias_are_texts_in_json() -> None:
    assert parse(body(logit_bias={"7": -100, "12": 1.5}))[0].logit_bias == {7: -100, 12: 1.5}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"type": "text"}}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [*HI, {"content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"max_tokens": "12"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": []}, "max_completion_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": {}}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": "x"}, "min_p"),
        ({"repetition_penalty": "x"}, "repetition_penalty"),
        ({"presence_penalty": "x"}, "presence_penalty"),
        ({"frequency_penalty": "x"}, "frequency_penalty"),
        ({"seed": "x"}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"stop": 3}, "stop"),
        ({"stop": [3]}, "stop[0]"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": True}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logit_bias": []}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"-1": 1}}, "logit_bias.-1"),
        ({"logit_bias": {"1": "x"}}, "logit_bias[1]"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": "object"}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": "text"}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, "messages"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    told = refusal(body(**fields))
    assert told.param is not None
    assert told.param.startswith(param) if param.startswith("logit_bias") else told.param == param
    assert param.split(".")[0].split("[")[0] in str(told)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": None, "schema": {}}}},
        {"tools": []},
        {"tool_choice": "none"},
        {"tool_choice": "auto"},
        {"modalities": ["text"]},
    ],
)
def test_what_asks_for_nothing_special_passes(fields: dict[str, Any]) -> None:
    parse(body(**fields))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"nonsense",
        b'{"model": NaN}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b"{}{}",
        b"1" * 10**5,
    ],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    assert "JSON" in str(refusal(data)) or "model" in str(refusal(data))


@pytest.mark.parametrize("data", [b"[]", b"null", b"3", b'"text"', b"true"])
def test_json_that_is_no_object_is_refused(data: bytes) -> None:
    assert "no object" in str(refusal(data))


def test_a_refusal_is_one_short_line_that_quotes_little() -> None:
    for told in (
        refusal(body(messages=[{"role": "x" * 10**6, "content": "y" * 10**6}])),
        refusal(body(messages=[{"role": "user", "content": [{"type": "x" * 10**6}]}])),
        refusal(body(logit_bias={"x" * 10**6: 1})),
        refusal(body(temperature="\n" * 10**6)),
    ):
        assert len(str(told)) < 600 and "\n" not in str(told)


def test_unknown_fields_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    _, unknown = parse(body(user="me", best_of=3, chat_template_kwargs={}))
    assert unknown == {"best_of", "chat_template_kwargs"}
    fields = UnknownFields()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            fields.tell(unknown)
        fields.tell(frozenset({"best_of", "other\nline"}))
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "'best_of', 'chat_template_kwargs'",
        r"'other\nline'",
    ]


def test_names_of_unknown_fields_do_not_pile_up(caplog: pytest.LogCaptureFixture) -> None:
    fields = UnknownFields()
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            fields.tell(frozenset({f"field-{number}"}))
    assert len(caplog.records) == UnknownFields.MOST


# ---- whatever comes --------------------------------------------------------------------------------------------------

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(LEAVES, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=8), v, max_size=4))
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "video_url", "audio"]) | ANYTHING},
    optional={
        "text": ANYTHING,
        "image_url": ANYTHING | st.builds(lambda u: {"url": u}, ANYTHING),
        "video_url": ANYTHING,
    },
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant"]) | ANYTHING,
        "content": st.text(max_size=20) | st.lists(PARTS, max_size=4) | ANYTHING,
    }
)
REQUESTS = st.fixed_dictionaries(
    {"model": st.text(max_size=8) | ANYTHING, "messages": st.lists(MESSAGES, max_size=5) | ANYTHING},
    optional={name: ANYTHING for name in ChatRequest.model_fields if name not in ("model", "messages")},
)


def take(data: bytes) -> None:
    """Everything that happens to a request before a model sees it."""

    def refuse(kind: str, url: str) -> Any:
        raise MediaError("refused")

    try:
        request, _ = parse(data)
        messages.require_readable(request, 2048)
        messages.settings(request, 2048, 60.0)
        messages.question(request, refuse)
    except ApiError as told:
        assert 400 <= told.status < 500 and len(str(told)) < 700


@settings(max_examples=100, deadline=2000)
@given(REQUESTS)
def test_no_request_raises_anything_else(request: dict[str, Any]) -> None:
    take(json.dumps(request).encode())


@settings(max_examples=100, deadline=2000)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    take(data)
    take(body()[:-1] + b', "' + data)
