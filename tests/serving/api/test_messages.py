"""From a request to the engine's question: turns, places of media, settings."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from mminstruct.conversation import Conversation
from mminstruct.errors import MediaError
from mminstruct.media import Video
from mminstruct.serving.api import messages
from mminstruct.serving.api.errors import ApiError
from mminstruct.serving.api.schema import ChatRequest
from mminstruct.serving.settings import GenerationSettings

USER = {"role": "user", "content": "hi"}


def asked(*turns: dict[str, Any], **fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": list(turns), **fields})


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def image(name: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": name}}


def video(name: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": name}}


def open_medium(kind: str, url: str) -> Image.Image | Video:
    """A medium whose width says which one it is."""
    picture = Image.new("RGB", (int(url), 10))
    return Video((picture, picture), (0.0, 0.5)) if kind == "video" else picture


def question(*turns: dict[str, Any]) -> tuple[Conversation, list[int]]:
    conversation, media = messages.question(asked(*turns), open_medium)
    return conversation, [medium.size[0] for medium in media]


def flat(conversation: Conversation) -> list[tuple[str, list[object]]]:
    return [
        (turn.role, [part.text if part.type == "text" else (part.type, part.index) for part in turn.content])
        for turn in conversation.messages
    ]


def test_media_stand_where_they_stood_in_every_turn() -> None:
    conversation, widths = question(
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [text("a "), image("11"), text(" b "), video("12")]},
        {"role": "assistant", "content": [text("see "), image("13")]},
        {"role": "user", "content": [image("14"), text("c")]},
    )
    assert flat(conversation) == [
        ("system", ["be brief"]),
        ("user", ["a ", ("image", 0), " b ", ("video", 1)]),
        ("assistant", ["see ", ("image", 2)]),
        ("user", [("image", 3), "c"]),
    ]
    assert widths == [11, 12, 13, 14]
    assert [(media.kind, media.width, media.timestamps) for media in conversation.media] == [
        ("image", 11, None),
        ("video", 12, [0.0, 0.5]),
        ("image", 13, None),
        ("image", 14, None),
    ]


def test_neighbours_of_one_role_become_one_turn() -> None:
    conversation, _ = question(
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "user", "content": [image("1"), text("d")]},
        {"role": "assistant", "content": "e"},
        {"role": "assistant", "content": "f"},
        {"role": "user", "content": "g"},
    )
    assert flat(conversation) == [
        ("system", ["a\n\nb"]),
        ("user", ["c\n\n", ("image", 0), "d"]),
        ("assistant", ["e\n\nf"]),
        ("user", ["g"]),
    ]


def test_texts_that_meet_become_one_so_that_no_special_token_hides_in_a_seam() -> None:
    conversation, _ = question({"role": "user", "content": [text("<|im_"), text(""), text("end|>"), image("1")]})
    assert flat(conversation) == [("user", ["<|im_end|>", ("image", 0)])]


def test_an_answer_loses_its_outer_white_space_and_a_question_does_not() -> None:
    conversation, _ = question(
        {"role": "user", "content": " a "},
        {"role": "assistant", "content": " b \n"},
        {"role": "user", "content": " c "},
    )
    assert flat(conversation) == [("user", [" a "]), ("assistant", ["b"]), ("user", [" c "])]


@pytest.mark.parametrize(
    ("turns", "complaint"),
    [
        ([USER, {"role": "system", "content": "x"}, USER], r"messages\[1\]: a system message stands behind"),
        ([USER, {"role": "assistant", "content": "x"}], "of the role assistant"),
        ([{"role": "system", "content": "x"}], "of the role system"),
        ([{"role": "user", "content": " "}], "last user message is empty"),
        ([USER, {"role": "assistant", "content": "x"}, {"role": "user", "content": []}], "last user message is empty"),
    ],
)
def test_what_is_no_conversation_is_refused(turns: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ApiError, match=complaint):
        question(*turns)


def test_a_refused_medium_is_told_by_its_place() -> None:
    def refuse(kind: str, url: str) -> Image.Image:
        raise MediaError("it is refused")

    request = asked(USER, {"role": "user", "content": [text("a"), image("1")]})
    with pytest.raises(ApiError, match=r"^messages\[1\]\.content\[1\]: it is refused$") as caught:
        messages.question(request, refuse)
    assert caught.value.param == "messages[1].content[1].image_url.url"


# ---- settings --------------------------------------------------------------------------------------------------------


def settings(context: int | None = 2048, **fields: Any) -> GenerationSettings:
    return messages.settings(asked(USER, **fields), context, None)


def test_without_settings_the_answer_is_drawn_as_openai_does_and_may_fill_the_context() -> None:
    assert settings() == GenerationSettings(temperature=1.0, max_new_tokens=2048)
    assert settings(None).max_new_tokens == messages.LONGEST


def test_every_setting_arrives() -> None:
    drawn = settings(
        max_tokens=7, temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.2,
        frequency_penalty=-0.3, logit_bias={"1": -5.0}, seed=3, stop=["x"], logprobs=True, top_logprobs=4,
    )  # fmt: skip
    assert drawn == GenerationSettings(
        max_new_tokens=7, temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.2,
        frequency_penalty=-0.3, logit_bias={1: -5.0}, seed=3, stop=("x",), logprobs=4,
    )  # fmt: skip


def test_the_newer_name_of_the_longest_answer_wins() -> None:
    assert settings(max_tokens=7, max_completion_tokens=9).max_new_tokens == 9


def test_words_of_other_servers() -> None:
    assert settings(top_k=-1).top_k == 0
    assert settings(seed=-1).seed == 2**63 - 1
    assert settings(logprobs=True).logprobs == 0
    assert settings(logprobs=False).logprobs is None
    assert settings(stop=[]).stop == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 2049}, "max_tokens"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 2.0}, "min_p"),
        ({"presence_penalty": 3.0}, "presence_penalty"),
        ({"logit_bias": {"1": 101.0}}, "logit_bias[1]"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
)
def test_a_setting_out_of_range_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        settings(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param.split("[")[0] in str(caught.value) and len(str(caught.value)) < 400


def test_text_that_fits_into_no_context_is_refused_before_it_is_tokenised() -> None:
    messages.require_readable(asked({"role": "user", "content": "x" * 64 * 100}), 100)
    with pytest.raises(ApiError, match=r"6401 characters .* 100 tokens") as caught:
        messages.require_readable(asked({"role": "user", "content": "x" * (64 * 100 + 1)}), 100)
    assert caught.value.error_code == "context_length_exceeded"
    messages.require_readable(asked({"role": "user", "content": "x" * 10**6}), None)
