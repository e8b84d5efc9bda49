"""What a server is asked and what it says, as OpenAI's chat API has it, of a conversation with opened media.

conversation, pictures, frames, settings ─asked─▶ body of POST /chat/completions ─▶ one `Chunk` for each event
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from mminstruct.building.clients.chat_api import content, image_part, text_part, video_part
from mminstruct.config import Config
from mminstruct.conversation import Conversation, ImagePart, VideoPart
from mminstruct.media import FrameSampling, Video
from mminstruct.media.encode_frames import encode_frames
from mminstruct.media.encode_picture import encode_picture
from mminstruct.serving.request import Token
from mminstruct.serving.settings import GenerationSettings

if TYPE_CHECKING:
    from PIL.Image import Image

# A server names no ids of its tokens.
NO_ID = -1


class RemoteConfig(Config):
    """How one server is asked.

    Attributes:
        concurrent: answers that stream at once; others wait here.
        waiting: requests that may wait beside those; one more is refused.
        silence: seconds without a word of the server, after which an answer counts as failed.
        videos: how a video is sent: its frames as pictures, each after its time, or one MP4 of them as `video_url`.
        sampling: which frames of a video are looked at.
        max_pixels, max_bytes: of a picture, beyond which a smaller one is sent.
    """

    concurrent: int = Field(default=16, ge=1, le=1024)
    waiting: int = Field(default=64, ge=0)
    silence: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    videos: Literal["frames", "video_url"] = "frames"
    sampling: FrameSampling = FrameSampling()
    max_pixels: int = Field(default=4_000_000, ge=1)
    max_bytes: int = Field(default=15_000_000, ge=1)


def asked(
    model: str,
    conversation: Conversation,
    media: Sequence[Image | Video],
    settings: GenerationSettings,
    config: RemoteConfig,
) -> dict[str, Any]:
    """The body of a question. Raises `MediaError` for a picture that is too large however it is written."""

    def picture(image: Image) -> dict[str, Any]:
        return image_part(encode_picture(image, config.max_pixels, config.max_bytes))

    def place(part: ImagePart | VideoPart) -> list[dict[str, Any]]:
        medium = media[part.index]
        if not isinstance(medium, Video):
            return [picture(medium)]
        if config.videos == "video_url":
            return [video_part(encode_frames(medium))]
        shots = zip(medium.frames, medium.timestamps, strict=True)
        parts = [(text_part(f"\n{seconds:.1f} s: "), picture(frame)) for frame, seconds in shots]
        head = text_part(f"A video, {len(medium.frames)} frames of it, each after its time:")
        return [head, *(one for pair in parts for one in pair), text_part("\n")]

    messages = [{"role": one.role, "content": content(one, place)} for one in conversation.messages]
    return {"model": model, "messages": messages, **_drawing(settings)}


def _drawing(settings: GenerationSettings) -> dict[str, Any]:
    """Settings by the API's names. Those that only some servers know are sent where they are not as they always are."""
    given: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
    }
    usual = GenerationSettings()
    for name in ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed"):
        if (value := getattr(settings, name)) != getattr(usual, name):
            given[name] = value
    if settings.logit_bias:
        given["logit_bias"] = {str(token): bias for token, bias in settings.logit_bias.items()}
    if settings.stop:
        given["stop"] = list(settings.stop)
    if settings.logprobs is not None:
        given["logprobs"] = True
        if settings.logprobs:
            given["top_logprobs"] = settings.logprobs
    if settings.response_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": json.loads(settings.response_schema)}
        given["response_format"] = {"type": "json_schema", "json_schema": schema}
    return given


class _Token(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None = None

    def read(self, top: Sequence[_Token] = ()) -> Token:
        data = self.token.encode() if self.bytes is None else bytes(self.bytes)
        return Token(NO_ID, self.token, data, self.logprob, tuple(one.read() for one in top))


class _Place(_Token):
    top_logprobs: list[_Token] = Field(default_factory=list)


class _Logprobs(BaseModel):
    content: list[_Place] | None = None


class _Delta(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    delta: _Delta = Field(default_factory=_Delta)
    finish_reason: str | None = None
    stop_reason: str | int | None = None  # vLLM's: the stop text that was found, or the id of an end token
    logprobs: _Logprobs | None = None


class _Details(BaseModel):
    cached_tokens: int | None = None


class _Counted(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        return (self.prompt_tokens_details.cached_tokens or 0) if self.prompt_tokens_details is not None else 0


class Chunk(BaseModel):
    """What is read of one event of a stream; servers add keys of their own. The last one has `usage` and no choice."""

    choices: list[_Choice] = Field(max_length=1)
    usage: _Counted | None = None

    @property
    def text(self) -> str:
        return (self.choices[0].delta.content or "") if self.choices else ""

    @property
    def finish(self) -> str | None:
        return self.choices[0].finish_reason if self.choices else None

    @property
    def stopped_by_text(self) -> bool:
        return bool(self.choices) and isinstance(self.choices[0].stop_reason, str)

    @property
    def tokens(self) -> list[Token]:
        logprobs = self.choices[0].logprobs if self.choices else None
        return [] if logprobs is None else [one.read(one.top_logprobs) for one in logprobs.content or ()]
