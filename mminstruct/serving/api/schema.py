"""What a chat request may hold: JSON bytes in, a `ChatRequest` out, or an `ApiError` that names the field.

OpenAI's fields, and those that vLLM has beside them. What is used here has to be of its type; what is not known is
left out, because clients send what their makers' own servers know. No URL is opened here and no text is read.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mminstruct.serving.api.errors import ApiError

log = logging.getLogger(__name__)

MAX_MESSAGES = 10_000
MAX_PARTS = 10_000  # of one message

# Known and without effect here.
IGNORED = frozenset(
    {"user", "store", "metadata", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key"}
)


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Url(_Body):
    url: str


class TextPart(_Body):
    type: Literal["text"]
    text: str


class ImagePart(_Body):
    type: Literal["image_url"]
    image_url: Url

    @field_validator("image_url", mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value


class VideoPart(_Body):
    type: Literal["video_url"]
    video_url: Url

    @field_validator("video_url", mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class ChatMessage(_Body):
    """One turn; a text stands for one part of text. An assistant's may have no content."""

    role: Literal["system", "developer", "user", "assistant"]
    content: list[Part] = Field(max_length=MAX_PARTS)
    tool_calls: list[Any] | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"type": "text", "text": value}]
        return [] if value is None else value


class StreamOptions(_Body):
    include_usage: bool | None = None


class JsonSchema(_Body):
    """A schema with a name, which has no effect; it is kept to whether `strict` is asked for or not."""

    content: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is missing, which this type wants")
        return self

    @property
    def schema_text(self) -> str | None:
        """The JSON schema of the answer, as JSON."""
        if self.type == "json_object":
            return '{"type": "object"}'
        return None if self.json_schema is None else json.dumps(self.json_schema.content)


class ChatRequest(_Body):
    """A request for one answer. None means that the field is not given."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    stop: list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tool_choice: Any = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _token_ids(cls, value: Any) -> Any:
        # Keys of JSON are texts.
        if not isinstance(value, dict):
            return value
        return {int(key) if key.isascii() and key.isdigit() and len(key) < 10 else key: at for key, at in value.items()}

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def media(self) -> int:
        """How many pictures and videos there are."""
        return sum(not isinstance(part, TextPart) for message in self.messages for part in message.content)


def parse(body: bytes) -> tuple[ChatRequest, frozenset[str]]:
    """The request that a body holds, and the names of its fields that nobody here knows.

    Raises:
        ApiError: 400; the message names the first field that is wrong and never quotes what it holds.
    """
    try:
        data = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(f"the request is no JSON: {_short(str(error))}; send one JSON object") from None
    if not isinstance(data, dict):
        raise ApiError('the request is JSON, but no object; send {"model": ..., "messages": [...]}')
    try:
        request = ChatRequest.model_validate(data)
    except ValidationError as error:
        raise invalid(error) from None
    _require_supported(request)
    return request, frozenset(data) - set(ChatRequest.model_fields) - IGNORED


def invalid(error: ValidationError, names: dict[str, str] | None = None) -> ApiError:
    """What a client is told of a validation's first complaint; `names` are fields that are called otherwise here."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = _path(first["loc"], names or {})
    complaint = "this field is missing" if first["type"] == "missing" else _short(first["msg"])
    return ApiError(f"{param}: {complaint}" if param else complaint, param=param or None)


def _path(place: Sequence[int | str], names: dict[str, str]) -> str:
    """`messages[0].content[1].image_url.url`, without the tag that pydantic puts behind a part's number."""
    path = ""
    for before, step in zip([None, *place], place, strict=False):
        if isinstance(step, int):
            path += f"[{step}]"
        elif not (isinstance(before, int) and path.rpartition(".")[2].startswith("content[")):
            path += f".{names.get(step, step)}" if path else names.get(step, step)
    return path[:200]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}..."


def _require_supported(request: ChatRequest) -> None:
    def refuse(param: str, message: str) -> ApiError:
        return ApiError(f"{param}: {message}", param=param, error_code="unsupported")

    if request.n not in (None, 1):
        raise refuse(
            "n", "this server gives one answer to a request; leave it out and ask as often as you want answers"
        )
    if request.modalities is not None and request.modalities != ["text"]:
        raise refuse("modalities", "answers are text only here; leave it out")
    for param, value in (("tools", request.tools), ("functions", request.functions)):
        if value:
            raise refuse(param, "no tools can be called here; leave it out")
    if request.tool_choice not in (None, "none", "auto"):
        raise refuse("tool_choice", "no tools can be called here; leave it out")
    if any(message.tool_calls for message in request.messages):
        raise refuse("messages", "a message calls tools, which nobody here knows; leave tool_calls out")


class UnknownFields:
    """Says once in the log which fields of requests have no effect."""

    MOST = 100

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def tell(self, names: frozenset[str]) -> None:
        with self._lock:
            new = sorted({name[:60] for name in names} - self._told)[: self.MOST - len(self._told)]
            self._told.update(new)
        if new:
            log.warning("fields of a request have no effect here: %s", ", ".join(map(repr, new)))
