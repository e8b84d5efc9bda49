"""`POST /v1/chat/completions`: one request from its bytes to the last byte of its answer.

body ─parse─▶ ChatRequest ─media, settings─▶ Engine.stream ─▶ Answer ─▶ one JSON object, or events as they come

Parsing and decoding happen in threads, few of them. A client that leaves cancels its answer at once, wherever it is.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from mminstruct.errors import BusyError, ConfigError, DataError
from mminstruct.media.gate import Gate
from mminstruct.serving.api import completion, messages
from mminstruct.serving.api.bridge import EventStream, LeftError, Text, while_connected
from mminstruct.serving.api.completion import Chunks, Head
from mminstruct.serving.api.errors import LEFT, ApiError, api_error
from mminstruct.serving.api.metrics import NO_MODEL, Metrics
from mminstruct.serving.api.schema import ChatRequest, UnknownFields, parse
from mminstruct.serving.engine import Engine
from mminstruct.serving.models import Models
from mminstruct.serving.request import Answer, Token

log = logging.getLogger(__name__)

PARSERS = 4  # requests whose JSON is read at once
DECODERS = 4  # requests whose media are decoded at once


@dataclass
class Asked:
    """One request on its way; `id` is also that of its answer, of its line in the log and of an error."""

    id: str
    created: int
    model: str = NO_MODEL
    engine: Engine | None = None
    answer: Answer | None = None
    pixels: int = 0
    over: bool = False


class Chat:
    """Answers chat requests with some models.

    Args:
        max_seconds: an answer ends after so long; None means never.
        most_pixels: of the media of all requests that wait or run; one alone may always have its own.
    """

    def __init__(
        self, models: Models, gate: Gate, metrics: Metrics, max_seconds: float | None, most_pixels: int
    ) -> None:
        self._models = models
        self._gate = gate
        self._metrics = metrics
        self._max_seconds = max_seconds
        self._most_pixels = most_pixels
        self._pixels = 0
        self._unknown = UnknownFields()
        self._parsers = anyio.CapacityLimiter(PARSERS)
        self._decoders = anyio.CapacityLimiter(DECODERS)

    async def __call__(self, http: Request) -> Response:
        """The endpoint. What fails before the first piece of text has a status of its own, later it is an event."""
        asked = Asked(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()))
        headers = {"x-request-id": asked.id}
        try:
            request, answer = await self._ask(asked, http)
            text = Text(answer)
            if request.streams:
                first = await while_connected(http.receive, text.next)
                return EventStream(self._events(asked, request, answer, text, first), headers)
            content = await while_connected(http.receive, partial(_all, text))
            tokens = answer.tokens if request.logprobs else None
            self._over(asked, 200)
            head = Head(asked.id, asked.created, asked.model)
            return JSONResponse(completion.whole(head, content, answer.usage, tokens), headers=headers)
        except (LeftError, ClientDisconnect):
            self._over(asked, LEFT)
            return Response(status_code=LEFT)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the cause
            told = self._told(asked, error)
            told.headers.update(headers)
            return told.response()
        except BaseException:  # the server ends
            self._over(asked, LEFT)
            raise

    async def _ask(self, asked: Asked, http: Request) -> tuple[ChatRequest, Answer]:
        """The request, and the answer that was begun."""
        request, unknown = await anyio.to_thread.run_sync(parse, await http.body(), limiter=self._parsers)
        self._unknown.tell(unknown)
        asked.engine = engine = self._engine(request.model)
        asked.model = request.model
        messages.require_readable(request, engine.context_length)
        settings = messages.settings(request, engine.context_length, self._max_seconds)

        def question() -> tuple[messages.Question, int]:
            with self._gate.request() as media:
                media.expect(request.media)
                found = messages.question(request, lambda kind, url: media.open(kind, url, engine.frame_sampling))
                return found, media.pixels

        limiter = self._decoders if request.media else self._parsers
        (conversation, media), pixels = await anyio.to_thread.run_sync(question, limiter=limiter)
        if await http.is_disconnected():
            raise LeftError
        if pixels and self._pixels and self._pixels + pixels > self._most_pixels:
            raise BusyError("pictures and videos of other requests fill the memory for them; ask again later")
        asked.pixels = pixels
        self._pixels += pixels
        asked.answer = engine.stream(conversation, media, settings)
        return request, asked.answer

    def _engine(self, name: str) -> Engine:
        try:
            return self._models[name]
        except ConfigError as error:
            raise ApiError(str(error), status=404, error_code="model_not_found", param="model") from None

    async def _events(
        self, asked: Asked, request: ChatRequest, answer: Answer, text: Text, piece: str | None
    ) -> AsyncGenerator[bytes, None]:
        options = request.stream_options
        head = Head(asked.id, asked.created, asked.model)
        chunks = Chunks(head, options is not None and bool(options.include_usage))
        told = 0

        def new_tokens() -> list[Token] | None:
            nonlocal told
            tokens = answer.tokens[told:]
            told += len(tokens)
            return tokens or None

        try:
            yield chunks.begin()
            while piece is not None:
                yield chunks.text(piece, new_tokens())
                piece = await text.next()
            self._over(asked, 200)
            yield chunks.end(answer.usage, new_tokens())
        except Exception as error:  # noqa: BLE001 - as above; the status was sent long ago
            yield completion.event(self._told(asked, error).body) + completion.DONE
        finally:
            self._over(asked, LEFT)

    # ---- how it ended ------------------------------------------------------------------------------------------------

    def _told(self, asked: Asked, error: Exception) -> ApiError:
        """What the client is told; the log is told the rest."""
        told = api_error(error, asked.id)
        limit = None if asked.engine is None else asked.engine.context_length
        too_long = limit is not None and asked.answer is not None and asked.answer.usage.prompt_tokens >= limit
        if isinstance(error, DataError) and too_long:
            told.error_code, told.param = "context_length_exceeded", "messages"
        if told.status >= 500:
            log.error("%s: %s", asked.id, told, exc_info=error if told.status == 500 else None)
        self._over(asked, told.status)
        return told

    def _over(self, asked: Asked, status: int) -> None:
        """End the answer, if it did not, and count the request; only the first call says how it ended."""
        if asked.over:
            return
        asked.over = True
        self._pixels -= asked.pixels
        usage = None
        if asked.answer is not None:
            asked.answer.close()
            usage = asked.answer.usage
        self._metrics.ended(asked.model, status, usage)
        took = "" if usage is None else f", read {usage.prompt_tokens} and wrote {usage.new_tokens} tokens"
        log.info("%s: %d, model %s%s", asked.id, status, asked.model or "unknown", took)


async def _all(text: Text) -> str:
    pieces = []
    while (piece := await text.next()) is not None:
        pieces.append(piece)
    return "".join(pieces)
