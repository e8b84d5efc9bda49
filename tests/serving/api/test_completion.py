"""The shapes that clients get, letter by letter."""

from __future__ import annotations

import json
import math

from mminstruct.serving.api.completion import Chunks, Head, logprobs, whole
from mminstruct.serving.request import Token, Usage

HEAD = Head("chatcmpl-1", 1700000000, "m")
USAGE = Usage(prompt_tokens=7, cached_tokens=4, new_tokens=2, finish_reason="end")
TOKENS = [Token(5, "né", "né".encode(), -0.5, (Token(5, "né", "né".encode(), -0.5), Token(6, "b", b"b", -math.inf)))]


def test_the_events_of_an_answer() -> None:
    chunks = Chunks(HEAD, with_usage=False)
    stream = chunks.begin() + chunks.text('a "né"\n', None) + chunks.end(USAGE, None)
    head = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m"'
    start = f'data: {{{head},"choices":[{{"index":0,'
    assert stream.decode() == (
        start + '"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
        + start + '"delta":{"content":"a \\"né\\"\\n"},"logprobs":null,"finish_reason":null}]}\n\n'
        + start + '"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
        + "data: [DONE]\n\n"
    )  # fmt: skip


def test_with_usage_the_last_event_has_it_and_the_others_say_that_they_have_none() -> None:
    chunks = Chunks(HEAD, with_usage=True)
    events = (chunks.begin() + chunks.text("a", TOKENS) + chunks.end(USAGE, None)).decode().split("\n\n")
    objects = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert events[-2:] == ["data: [DONE]", ""]
    assert [one["usage"] for one in objects[:-1]] == [None, None, None]
    assert objects[-1]["choices"] == []
    assert objects[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert objects[1]["choices"][0]["logprobs"] == logprobs(TOKENS)


def test_an_answer_as_a_whole() -> None:
    answer = whole(HEAD, "né", USAGE, TOKENS)
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "né", "refusal": None},
            "logprobs": {
                "content": [
                    {
                        "token": "né",
                        "logprob": -0.5,
                        "bytes": [110, 195, 169],
                        "top_logprobs": [
                            {"token": "né", "logprob": -0.5, "bytes": [110, 195, 169]},
                            {"token": "b", "logprob": -9999.0, "bytes": [98]},
                        ],
                    }
                ]
            },
            "finish_reason": "stop",
        }
    ]
    json.dumps(answer, allow_nan=False)
    assert whole(HEAD, "", Usage(finish_reason="time"), None)["choices"][0]["finish_reason"] == "length"
    assert whole(HEAD, "", Usage(finish_reason="stop"), None)["choices"][0]["logprobs"] is None
