"""A server that speaks OpenAI's chat API: OpenAI itself, vLLM, SGLang, llama.cpp, Ollama.

    request ──▶ POST BASE_URL/chat/completions ──▶ completion, or `ServerError` that says whether to ask again

Pictures go as data URIs of the bytes that their SHA-256 stands for. Several servers of the same model share the load,
and a question that one did not answer goes to the next. Each request has an `Idempotency-Key`, the key of its log
entry, by which a server can know a question again whose asker was killed before it had the answer.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import ValidationError

from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.clients.chat_api import AGAIN, body, completion, connect, shown, status_line
from mminstruct.building.request import Completion
from mminstruct.errors import ConfigError, ServerError, UnreachableError

_NEVER = frozenset({401, 403, 404, 405})  # no request of this build will fare better


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
        self.model = model
        self._timeout = timeout
        # Waiting and asking again are the build's, where rate and budget are known.
        self._servers = [connect(url, key_variable, timeout=timeout, max_retries=0) for url in base_urls]
        self._turns = itertools.cycle(self._servers)
        self._lock = threading.Lock()

    def complete(self, call: Call) -> Completion:
        import openai

        with self._lock:
            server = next(self._turns)
        where = shown(str(server.base_url))
        try:
            # The raw text: the package's own parser lets through what is no answer.
            response = server.chat.completions.with_raw_response.create(
                **body(call, self.model),
                extra_headers={"Idempotency-Key": call.key},
            )
            return completion(response.content)
        except openai.APITimeoutError:
            raise ServerError(
                f"{where} did not answer within {self._timeout:g} s; a slow server needs a longer "
                "--timeout or fewer questions at once",
                again=True,
            ) from None
        except openai.APIConnectionError as error:
            raise UnreachableError(f"{where} did not answer ({type(error).__name__})", again=True) from None
        except openai.APIStatusError as error:
            raise _refusal(error, where) from None
        except ValidationError:
            raise ServerError(f"{where} answered something that is no completion", again=True) from None

    def close(self) -> None:
        for server in self._servers:
            server.close()


def _refusal(error: Any, where: str) -> ConfigError | ServerError:
    status = error.status_code
    if status in _NEVER:
        return ConfigError(f"{where} refuses with {status_line(error)}; check key, address and model")
    wait = error.response.headers.get("retry-after", "")
    seconds = float(wait) if wait.replace(".", "", 1).isdigit() else None
    return ServerError(f"{where} answered with {status_line(error)}", again=status in AGAIN, after=seconds)
