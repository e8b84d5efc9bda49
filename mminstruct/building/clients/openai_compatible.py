"""A server that speaks OpenAI's chat API: OpenAI itself, vLLM, SGLang, llama.cpp, Ollama, `mminstruct serve`.

    request ──▶ POST BASE_URL/chat/completions ──▶ completion, or `ServerError` that says whether to ask again

Pictures go as data URIs of the bytes that their SHA-256 stands for. Several servers of the same model share the load,
and a question that one did not answer goes to the next. Each request has an `Idempotency-Key`, the key of its log
entry, by which a server can know a question again whose asker was killed before it had the answer.
"""

from __future__ import annotations

import base64
import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.request import Completion, Request
from mminstruct.conversation import ImagePart, Message, TextPart
from mminstruct.errors import ConfigError, ServerError
from mminstruct.files import bytes_sha256
from mminstruct.media import image_suffix

_AGAIN = frozenset({408, 409, 425, 429, *range(500, 600)})
_NEVER = frozenset({401, 403, 404, 405})  # no request of this build will fare better


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Answer(BaseModel):
    """What is read of an answer; servers add keys of their own."""

    choices: list[_Choice]
    usage: dict[str, Any] | None = None


class OpenAICompatibleClient(LanguageModelClient):
    """
    Args:
        base_urls: of servers of the same model, such as `http://127.0.0.1:8000/v1`.
        key_variable: the environment's variable with the secret; it is never written anywhere.
        timeout: seconds for one answer.

    Raises:
        ConfigError: the openai package is missing, or the variable is not set.
    """

    backend = "openai"
    paid: ClassVar[bool] = True

    def __init__(
        self, model: str, base_urls: Sequence[str], *, key_variable: str = "OPENAI_API_KEY", timeout: float = 120.0
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise ConfigError(
                "asking a server needs the openai package; install it with: pip install 'mminstruct[build]'"
            ) from None
        secret = os.environ.get(key_variable)
        if not secret:
            raise ConfigError(f"{key_variable} is not set; export it (any text for a server that asks for no key)")
        self.model = model
        # Waiting and asking again are the build's, where rate and budget are known.
        self._servers = [
            openai.OpenAI(api_key=secret, base_url=url, timeout=timeout, max_retries=0) for url in base_urls
        ]
        self._turns = itertools.cycle(self._servers)
        self._lock = threading.Lock()

    def complete(self, call: Call) -> Completion:
        import openai

        with self._lock:
            server = next(self._turns)
        try:
            # The raw text: the package's own parser lets through what is no answer.
            response = server.chat.completions.with_raw_response.create(
                model=self.model,
                messages=_messages(call),  # type: ignore[arg-type]
                extra_headers={"Idempotency-Key": call.key},
                **_parameters(call.request),
            )
            answer = _Answer.model_validate_json(response.content)
        except openai.APIConnectionError as error:  # and APITimeoutError
            raise ServerError(f"{server.base_url} did not answer ({type(error).__name__})", again=True) from None
        except openai.APIStatusError as error:
            raise _refusal(error, str(server.base_url)) from None
        except ValidationError:
            raise ServerError(f"{server.base_url} answered something that is no completion", again=True) from None
        if not answer.choices:
            raise ServerError(f"{server.base_url} answered without a choice", again=True)
        choice = answer.choices[0]
        finish = "content_filter" if choice.message.refusal else choice.finish_reason or "stop"
        return Completion(text=choice.message.content or "", finish=finish, usage=answer.usage or {})

    def close(self) -> None:
        for server in self._servers:
            server.close()


def _refusal(error: Any, where: str) -> ConfigError | ServerError:
    status = error.status_code
    detail = " ".join(str(error.message).split())[:200]
    if status in _NEVER:
        return ConfigError(f"{where} refuses with status {status} ({detail}); check key, address and model")
    wait = error.response.headers.get("retry-after", "")
    seconds = float(wait) if wait.replace(".", "", 1).isdigit() else None
    return ServerError(f"{where} answered with status {status} ({detail})", again=status in _AGAIN, after=seconds)


def _parameters(request: Request) -> dict[str, Any]:
    given = request.parameters.model_dump(exclude_none=True)
    if request.reply_schema is not None:
        schema = {"name": "reply", "strict": True, "schema": request.reply_schema}
        given["response_format"] = {"type": "json_schema", "json_schema": schema}
    return given


def _messages(call: Call) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": _content(message, call)} for message in call.request.messages]


def _content(message: Message, call: Call) -> str | list[dict[str, Any]]:
    if all(isinstance(part, TextPart) for part in message.content):
        return message.text
    parts: list[dict[str, Any]] = []
    for part in message.content:
        if isinstance(part, TextPart):
            parts.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            parts.append({"type": "image_url", "image_url": {"url": _data_uri(call, part.index)}})
        else:
            raise ConfigError(f"{call.request.prompt} sends a video; this API takes pictures, so send its frames")
    return parts


def _data_uri(call: Call, index: int) -> str:
    medium = call.request.media[index]
    data = (call.folder / medium.path).read_bytes()
    if bytes_sha256(data) != medium.sha256:
        raise ServerError(f"{medium.path} is not the picture that the question is about; it was changed on the disk")
    return f"data:image/{image_suffix(data)[1:]};base64,{base64.b64encode(data).decode('ascii')}"
