"""OpenAI's chat API as JSON: a question's body, and what an answer says.

Pictures go as data URIs; a builder's are the bytes that their SHA-256 stands for.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from mminstruct.building.clients.base import Call
from mminstruct.building.request import Completion
from mminstruct.conversation import ImagePart, Message, TextPart, VideoPart
from mminstruct.errors import ConfigError, ServerError
from mminstruct.files import bytes_sha256
from mminstruct.media import image_suffix

if TYPE_CHECKING:
    import openai

AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})  # statuses after which the same question may be answered


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Token(BaseModel):
    token: str
    logprob: float


class _Place(_Token):
    top_logprobs: list[_Token] = Field(default_factory=list)


class _Logprobs(BaseModel):
    content: list[_Place] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    @property
    def first_token(self) -> dict[str, float] | None:
        """Log probability of each first token that the server says; of two spelt alike the more probable one's."""
        if self.logprobs is None or not self.logprobs.content:
            return None
        found: dict[str, float] = {}
        for one in [self.logprobs.content[0], *self.logprobs.content[0].top_logprobs]:
            found[one.token] = max(one.logprob, found.get(one.token, one.logprob))
        return found


class _Answer(BaseModel):
    """What is read of an answer; servers add keys of their own."""

    choices: list[_Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None


def connect(base_url: str, key_variable: str, **options: Any) -> openai.OpenAI:
    """
    Args:
        key_variable: the environment's variable with the secret; it is never written anywhere.
        options: of `openai.OpenAI`.

    Raises:
        ConfigError: the openai package is missing, or the variable is not set.
    """
    package, secret = _package_and_secret(key_variable)
    client: openai.OpenAI = package.OpenAI(api_key=secret, base_url=base_url, **options)
    return client


def connect_async(base_url: str, key_variable: str, **options: Any) -> openai.AsyncOpenAI:
    """As `connect`, for one event loop."""
    package, secret = _package_and_secret(key_variable)
    client: openai.AsyncOpenAI = package.AsyncOpenAI(api_key=secret, base_url=base_url, **options)
    return client


def _package_and_secret(key_variable: str) -> tuple[Any, str]:
    try:
        import openai
    except ModuleNotFoundError:
        raise ConfigError(
            "asking a server needs the openai package; install it with: pip install 'mminstruct[build]'"
        ) from None
    secret = os.environ.get(key_variable)
    if not secret:
        raise ConfigError(f"{key_variable} is not set; export it (any text for a server that asks for no key)")
    return openai, secret


def shown(base_url: str) -> str:
    """A server's address without what may be a secret: the user and password, and what stands behind the path."""
    parts = urlsplit(base_url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def status_line(error: openai.APIStatusError) -> str:
    """`status 400 (...)`: a status that is no answer, and the beginning of what the server says."""
    detail = " ".join(str(error.message).split())[:200]
    return f"status {error.status_code} ({detail})"


def body(call: Call, model: str) -> dict[str, Any]:
    """The body of a question.

    Raises:
        ConfigError: it sends a video.
        ServerError: a picture is not the one any more that the question is about.
    """
    request = call.request
    given: dict[str, Any] = {"model": model}
    given["messages"] = [
        {"role": one.role, "content": content(one, lambda part: _file_part(part, call))} for one in request.messages
    ]
    given |= request.parameters.model_dump(exclude_none=True)
    if request.parameters.seed is not None:
        given["seed"] = request.parameters.seed + request.sample  # another round is another draw
    given |= call.further
    if request.reply_schema is not None:
        schema = {"name": "reply", "strict": True, "schema": request.reply_schema}
        given["response_format"] = {"type": "json_schema", "json_schema": schema}
    return given


def completion(data: bytes | str) -> Completion:
    """What the body of an answer says. Raises pydantic's `ValidationError` where it is no completion."""
    answer = _Answer.model_validate_json(data)
    choice = answer.choices[0]
    finish = "content_filter" if choice.message.refusal else choice.finish_reason or "stop"
    said = choice.message.content or choice.message.refusal or ""
    return Completion(text=said, finish=finish, usage=answer.usage or {}, first_token=choice.first_token)


def content(message: Message, place: Callable[[ImagePart | VideoPart], list[dict[str, Any]]]) -> Any:
    """A message's `content`: one text where it has no media, else its parts in their order.

    Args:
        place: the parts that stand for a medium.
    """
    if all(isinstance(part, TextPart) for part in message.content):
        return message.text
    parts: list[dict[str, Any]] = []
    for part in message.content:
        parts += [text_part(part.text)] if isinstance(part, TextPart) else place(part)
    return parts


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def image_part(data: bytes) -> dict[str, Any]:
    """A part of a picture, of the bytes of its file."""
    return {"type": "image_url", "image_url": {"url": _data_uri(f"image/{image_suffix(data)[1:]}", data)}}


def video_part(data: bytes) -> dict[str, Any]:
    """A part of a video, of the bytes of an MP4, for servers that take `video_url`."""
    return {"type": "video_url", "video_url": {"url": _data_uri("video/mp4", data)}}


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _file_part(part: ImagePart | VideoPart, call: Call) -> list[dict[str, Any]]:
    if isinstance(part, VideoPart):
        raise ConfigError(f"{call.request.prompt} sends a video; this API takes pictures, so send its frames")
    medium = call.request.media[part.index]
    data = (call.folder / medium.path).read_bytes()
    if bytes_sha256(data) != medium.sha256:
        raise ServerError(f"{medium.path} is not the picture that the question is about; it was changed on the disk")
    return [image_part(data)]
