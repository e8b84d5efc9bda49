"""A model behind a server of OpenAI's chat API (vLLM, SGLang, llama.cpp, our own), as an `Engine`.

    engine = RemoteEngine("http://127.0.0.1:8000/v1", "llava")
    stream ─queue─▶ one thread with an event loop ─▶ POST /chat/completions ─events─▶ Answer, piece by piece

A cancelled answer closes its connection, by which the server knows that it may stop. All requests share the one thread;
only pictures are written in others, two at a time.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from mminstruct.building.clients.chat_api import connect, connect_async, shown, status_line
from mminstruct.conversation import Conversation
from mminstruct.errors import BusyError, ConfigError, DataError, MminstructError, RunError, ServerError
from mminstruct.serving.engine import Engine
from mminstruct.serving.models import Models
from mminstruct.serving.remote_chat import Chunk, RemoteConfig, asked
from mminstruct.serving.request import POLL_SECONDS, Answer, FinishReason, Request
from mminstruct.serving.settings import GenerationSettings

if TYPE_CHECKING:
    import openai
    from PIL.Image import Image

    from mminstruct.media import FrameSampling, Video

KEY_VARIABLE = "OPENAI_API_KEY"
_CONNECT_SECONDS = 10.0
_BUSY = frozenset({429, 503})
_REASONS: dict[str, FinishReason] = {"stop": "end", "length": "length"}
# Codes of OpenAI and our own server, and of llama.cpp; vLLM and SGLang say it in words only.
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG_WORDS = re.compile(r"context (length|size|window)|maximum model length|max_model_len", re.IGNORECASE)


class RemoteEngine(Engine):
    """Answers conversations with one model of a server.

    Args:
        base_url: such as `http://127.0.0.1:8000/v1`.
        model: its name there.
        key_variable: the environment's variable with the secret; it is never written anywhere.
        context_length: tokens of prompt and answer together, where it is known.

    Iterating an answer raises what `Engine.stream` says, and `BusyError` too where the server has no room (429, 503),
    `ServerError` where it refuses otherwise, dies, falls silent or says what is no answer.

    Raises:
        ConfigError: the openai package is missing, or the variable is not set.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_variable: str = KEY_VARIABLE,
        context_length: int | None = None,
        config: RemoteConfig | None = None,
    ) -> None:
        self.model = model
        self.where = shown(base_url)
        self.config = config or RemoteConfig()
        self._context_length = context_length
        self._client = connect_async(base_url, key_variable, max_retries=0, timeout=_timeout(self.config.silence))
        self._steps = 0
        self._closing = False
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._lock = threading.Lock()  # guards the lists above
        self._slots = asyncio.Semaphore(self.config.concurrent)
        self._writers = ThreadPoolExecutor(2, thread_name_prefix="mminstruct-remote-pictures")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mminstruct-remote", daemon=True)
        self._thread.start()

    def stream(
        self,
        conversation: Conversation,
        media: Sequence[Image | Video],
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """As `Engine` has it. What special tokens in the conversation's text do is the server's affair."""
        request = Request(conversation, media, settings or GenerationSettings(), cancel)
        request.usage.media = len(media)
        with self._lock:
            if self._closing:
                raise RunError("this connection to a server is closed; make a new one")
            self._waiting = [one for one in self._waiting if not _left(one)]
            full = len(self._running) >= self.config.concurrent
            if full and len(self._waiting) >= self.config.waiting:
                raise BusyError(f"{len(self._waiting)} questions wait for this model, as many as may; ask again later")
            self._waiting.append(request)
            # Under the lock, so that `close` comes wholly before or behind it.
            asyncio.run_coroutine_threadsafe(self._serve(request), self._loop)
        return Answer(request, self)

    def close(self) -> None:
        """Cancel what runs, refuse what waits, end the thread. May be called twice."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            waiting, self._waiting = self._waiting, []
        for request in waiting:
            if not _left(request):
                request.usage.finish_reason = "error"
                request.put(RunError("the connection was closed before this question's turn; ask again"))
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._writers.shutdown(cancel_futures=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def ahead(self, request: Request) -> int:
        with self._lock:
            return next((place + 1 for place, one in enumerate(self._waiting) if one is request), 0)

    @property
    def steps(self) -> int:
        """Pieces of text while they come; the server's count of tokens where it gives one at an answer's end."""
        return self._steps

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting)

    @property
    def running(self) -> int:
        with self._lock:
            return len(self._running)

    @property
    def context_length(self) -> int | None:
        return self._context_length

    @property
    def frame_sampling(self) -> FrameSampling:
        return self.config.sampling

    @property
    def facts(self) -> list[str]:
        context = self._context_length
        return [f"at {self.where}", *([] if context is None else [f"context of {context:,} tokens"])]

    def __enter__(self) -> RemoteEngine:
        return self

    # ---- in the thread -----------------------------------------------------------------------------------------------

    async def _serve(self, request: Request) -> None:
        async with self._slots:
            with self._lock:
                if not any(one is request for one in self._waiting):
                    return
                self._waiting = [one for one in self._waiting if one is not request]
                if _left(request):
                    return
                self._running = [*self._running, request]
            try:
                await self._answer(request)
            except Exception as error:  # noqa: BLE001 - any failure belongs to this request; the others go on
                request.usage.finish_reason = "error"
                request.put(error)
            finally:
                with self._lock:
                    self._running = [one for one in self._running if one is not request]

    async def _answer(self, request: Request) -> None:
        """Read the answer until it is over, its asker has left or its time is up."""
        usage, limit = request.usage, request.settings.max_seconds
        started = time.perf_counter()
        usage.queue_seconds = started - request.asked
        usage.finish_reason = "running"
        reading = asyncio.ensure_future(self._read(request, started))
        cut: FinishReason | None = None
        while not reading.done() and cut is None:
            left = POLL_SECONDS if limit is None else min(POLL_SECONDS, started + limit - time.perf_counter())
            await asyncio.wait({reading}, timeout=max(0.0, left))
            if request.cancelled or self._closing:
                cut = "cancelled"
            elif limit is not None and time.perf_counter() - started >= limit:
                cut = "time"
        usage.seconds = time.perf_counter() - started
        if reading.done() and not reading.cancelled() and (cut is None or reading.exception() is None):
            usage.finish_reason = reading.result()
        else:
            reading.cancel()
            await asyncio.wait({reading})  # the connection is closed behind this
            usage.finish_reason = cut or "cancelled"
        request.put(None)

    async def _read(self, request: Request, started: float) -> FinishReason:
        """Hand on what the server says. Returns why the answer ended."""
        import openai

        body = await self._loop.run_in_executor(self._writers, self._body, request)
        finish: FinishReason | None = None
        try:
            events: openai.AsyncStream[object] = await self._client.post(
                "/chat/completions", body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
            async with events:
                # As JSON: the package's own classes let through what is no answer.
                async for event in events:
                    chunk = Chunk.model_validate(event)
                    self._take(chunk, request, time.perf_counter() - started)
                    finish = finish if chunk.finish is None else self._reason(chunk)
        except (openai.OpenAIError, ValueError) as error:
            raise self._failure(error) from None
        if finish is None:
            raise ServerError(f"{self.where} broke off in the middle of an answer; ask again", again=True)
        return finish

    def _take(self, chunk: Chunk, request: Request, seconds: float) -> None:
        usage = request.usage
        tokens = chunk.tokens
        request.tokens.extend(tokens)
        new = len(tokens) or int(bool(chunk.text))
        if chunk.usage is not None:
            usage.prompt_tokens = chunk.usage.prompt_tokens
            usage.cached_tokens = chunk.usage.cached_tokens
            # A piece may be of several tokens, and a token may give no text.
            new = max(new, chunk.usage.completion_tokens - usage.new_tokens)
        if new:
            self._steps += new
            usage.new_tokens += new
            usage.seconds = seconds
            if usage.first_token_seconds is None:
                usage.first_token_seconds = seconds
        if chunk.text and not request.cancelled:
            request.put(chunk.text)

    def _body(self, request: Request) -> dict[str, Any]:
        return asked(self.model, request.conversation, request.media, request.settings, self.config)

    def _reason(self, chunk: Chunk) -> FinishReason:
        if chunk.stopped_by_text:
            return "stop"
        if chunk.finish not in _REASONS:
            raise ServerError(f"{self.where} ended the answer by {str(chunk.finish)[:50]!r}; ask something else")
        return _REASONS[chunk.finish]

    def _failure(self, error: Exception) -> MminstructError:
        """An error of the connection or of the server as one of ours."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return ServerError(f"{self.where} was silent for {self.config.silence:g} s; ask again later", again=True)
        if isinstance(error, openai.APIConnectionError):
            return ServerError(
                f"{self.where} cannot be reached or broke off ({_cause(error)}); see whether it runs", again=True
            )
        if isinstance(error, openai.APIStatusError):
            return self._refusal(error)
        if isinstance(error, openai.APIError):  # told in the middle of the stream
            if _too_long(error):
                return DataError(f"the conversation is too long for the server's model: {_words(error)}")
            return ServerError(f"{self.where} broke off an answer ({_words(error)})")
        # A ValueError: JSON, UTF-8 or an event that is none.
        return ServerError(f"{self.where} said something that is no answer of a chat API; check its address")

    def _refusal(self, error: openai.APIStatusError) -> MminstructError:
        if error.status_code in _BUSY:
            return BusyError(f"{self.where} has no room now: {status_line(error)}; ask again later")
        if error.status_code in (400, 413, 422) and _too_long(error):
            return DataError(
                f"the conversation is too long for the server's model: {status_line(error)}; "
                "start a new conversation, or send fewer pictures or less text"
            )
        hint = "; check the key in the environment" if error.status_code in (401, 403) else ""
        return ServerError(f"{self.where} refuses with {status_line(error)}{hint}", again=error.status_code >= 500)

    async def _end(self) -> None:
        """Wait until all that ran is cancelled (each looks whether it is closing), then let go of the connections."""
        await self._others()
        await self._client.close()
        await self._loop.shutdown_asyncgens()
        await self._others()

    async def _others(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


class _Listed(BaseModel):
    id: str
    max_model_len: int | None = None  # vLLM's and SGLang's


class _List(BaseModel):
    data: list[_Listed]


def remote_models(
    base_url: str,
    names: Sequence[str] = (),
    *,
    key_variable: str = KEY_VARIABLE,
    config: RemoteConfig | None = None,
) -> Models:
    """The models of a server by these names, or all that it lists (`GET /models`) where none is given.

    Raises:
        ConfigError: the key is missing, or the server lists no model.
        ServerError: it does not answer, or what it answers is no list.
    """
    chosen = {name: None for name in names} or _listed(base_url, key_variable)
    engines = {
        name: RemoteEngine(base_url, name, key_variable=key_variable, context_length=context, config=config)
        for name, context in chosen.items()
    }
    return Models(dict(engines))


def _listed(base_url: str, key_variable: str) -> dict[str, int | None]:
    """Names of a server's models and, where it says so, the length of their context."""
    where = shown(base_url)
    with connect(base_url, key_variable, timeout=_timeout(_CONNECT_SECONDS), max_retries=0) as client:
        import openai

        try:
            found = _List.model_validate_json(client.models.with_raw_response.list().content)
        except openai.APIStatusError as error:
            raise ServerError(f"{where} does not say its models: {status_line(error)}; check key and address") from None
        except openai.APIConnectionError as error:
            raise ServerError(f"{where} cannot be reached ({_cause(error)}); see whether it runs", again=True) from None
        except ValidationError:
            raise ServerError(f"{where} answered something that is no list of models; check the address") from None
    if not found.data:
        raise ConfigError(f"{where} lists no model; name one with --served-model")
    return {one.id: one.max_model_len for one in found.data}


def _timeout(silence: float) -> Any:
    """A server that is there is connected to at once, however slow its answers are."""
    import openai

    return openai.Timeout(silence, connect=min(silence, _CONNECT_SECONDS))


def _left(request: Request) -> bool:
    """Whether a request that waits was cancelled; it is then over."""
    if request.cancelled:
        request.usage.finish_reason = "cancelled"
        request.put(None)
    return request.cancelled


def _cause(error: Exception) -> str:
    return type(error.__cause__ or error).__name__


def _words(error: openai.APIError) -> str:
    return " ".join(str(error.message).split())[:200]


def _too_long(error: openai.APIError) -> bool:
    return error.code in _TOO_LONG or error.type in _TOO_LONG or bool(_TOO_LONG_WORDS.search(str(error.message)))
