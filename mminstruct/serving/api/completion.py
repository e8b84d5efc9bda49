"""The shapes of answers, as OpenAI has them: `chat.completion` as a whole and `chat.completion.chunk` as events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mminstruct.serving.request import Token, Usage

DONE = b"data: [DONE]\n\n"

# Where an answer ended at the server's time limit a client should know that it is not whole, and "length" says so.
_REASONS = {"end": "stop", "stop": "stop", "length": "length", "time": "length"}


@dataclass(frozen=True)
class Head:
    """What every object of one answer says of it; `created` are seconds since 1970."""

    id: str
    created: int
    model: str


def whole(head: Head, text: str, usage: Usage, tokens: Sequence[Token] | None) -> dict[str, Any]:
    """The answer as one object; `tokens` where log probabilities were asked for."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None if tokens is None else logprobs(tokens),
        "finish_reason": _REASONS[usage.finish_reason],
    }
    return _object("chat.completion", head) | {"choices": [choice], "usage": usage_object(usage)}


class Chunks:
    """The events of one answer.

    Args:
        with_usage: end with an event that has the usage and no choice; the others then say that they have none.
    """

    def __init__(self, head: Head, with_usage: bool) -> None:
        self._head = head
        self._with_usage = with_usage

    def begin(self) -> bytes:
        return self._choice({"role": "assistant", "content": ""}, None, None)

    def text(self, text: str, tokens: Sequence[Token] | None) -> bytes:
        """A piece of text; `tokens` are those since the last event, where log probabilities were asked for."""
        return self._choice({"content": text}, tokens, None)

    def end(self, usage: Usage, tokens: Sequence[Token] | None) -> bytes:
        """Why it ended, the tokens that no text came of, what it took."""
        events = self._choice({}, tokens, _REASONS[usage.finish_reason])
        if self._with_usage:
            events += event(
                _object("chat.completion.chunk", self._head) | {"choices": [], "usage": usage_object(usage)}
            )
        return events + DONE

    def _choice(self, delta: dict[str, Any], tokens: Sequence[Token] | None, reason: str | None) -> bytes:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs(tokens) if tokens else None,
            "finish_reason": reason,
        }
        chunk = _object("chat.completion.chunk", self._head) | {"choices": [choice]}
        return event(chunk | {"usage": None} if self._with_usage else chunk)


def event(value: dict[str, Any]) -> bytes:
    """A server-sent event of one JSON object."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.new_tokens,
        "total_tokens": usage.prompt_tokens + usage.new_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def logprobs(tokens: Sequence[Token]) -> dict[str, Any]:
    return {"content": [_token(token) | {"top_logprobs": [_token(top) for top in token.top]} for token in tokens]}


def _token(token: Token) -> dict[str, Any]:
    # JSON knows no infinity; OpenAI, too, writes -9999 for what cannot happen.
    return {"token": token.text, "logprob": max(token.logprob, -9999.0), "bytes": list(token.data)}


def _object(kind: str, head: Head) -> dict[str, Any]:
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}
