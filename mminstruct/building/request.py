"""What a model is asked, and the key under which its reply is kept.

    Request(messages, media, parameters, ...) ──▶ key(backend, model): SHA-256 of all that can change the reply

Two requests of one key are the same question to the same model, so a reply that was paid for once answers both.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field

from mminstruct.conversation import Media, Message, Record


class Parameters(Record):
    """How a reply is drawn. What is None is left to the server.

    Attributes:
        max_tokens: at most so many tokens in a reply; a reply that reaches it is cut off and counts as broken.
        seed: for servers that can repeat themselves.
    """

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None


class Request(Record):
    """
    Attributes:
        messages: what was said, the last one by the user; parts point into `media`.
        media: pictures, each with its SHA-256: the bytes are part of the question, the path is not.
        reply_schema: the JSON schema of the reply, for servers that can keep to one.
        prompt: name and version of the prompt that made the messages, such as `llava/detail@1`.
        sample: tells draws of one question apart.
    """

    messages: list[Message]
    media: list[Media] = Field(default_factory=list)
    parameters: Parameters = Field(default_factory=Parameters)
    reply_schema: dict[str, Any] | None = None
    prompt: str
    sample: int = 0

    def key(self, backend: str, model: str) -> str:
        """Raises `ValueError` where a medium has no SHA-256."""
        if any(medium.sha256 is None for medium in self.media):
            raise ValueError(f"a medium of a request of {self.prompt} has no SHA-256")
        media = [[medium.kind, medium.sha256] for medium in self.media]
        head = json.dumps([backend, model, media], separators=(",", ":"))
        content = f"{head}\n{self.model_dump_json(exclude={'media'})}"  # keys in the order of the fields, so one text
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


class Completion(Record):
    """What a model replied.

    Attributes:
        text: where it refused, what it said to that, or nothing.
        finish: why it ended, in OpenAI's words: `stop`, `length`, or `content_filter` where it refused.
        usage: what the server counted, as it says it; prices change, so money is computed of this only when asked for.
        batch: whether it came in a batch, which has other prices.
        first_token: log probabilities of the tokens that it might have begun with, where the server was asked for them.
    """

    text: str
    finish: str = "stop"
    usage: dict[str, Any] = Field(default_factory=dict)
    batch: bool = False
    first_token: dict[str, float] | None = None

    @property
    def cached(self) -> int:
        """Of the tokens read, those that the server had read before."""
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)

    @property
    def tokens(self) -> tuple[int, int]:
        """Read and written tokens, 0 where the server counted none."""
        return int(self.usage.get("prompt_tokens") or 0), int(self.usage.get("completion_tokens") or 0)
