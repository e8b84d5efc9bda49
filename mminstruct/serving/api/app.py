"""The API as one ASGI application: chat completions, the list of models, health and figures.

    app = create_app(models, Gate())

It opens no port; `mminstruct.serving.server` does, for the API alone (`mminstruct serve`) or beside a page
(`mminstruct demo`).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mminstruct.errors import ConfigError
from mminstruct.media.gate import Gate
from mminstruct.serving.api.chat import Chat
from mminstruct.serving.api.errors import ApiError, api_error
from mminstruct.serving.api.metrics import CONTENT_TYPE, Metrics
from mminstruct.serving.models import Models

log = logging.getLogger(__name__)

MAX_SECONDS = 600.0
MOST_PIXELS = 1_000_000_000  # 3 GB


def create_app(
    models: Models,
    gate: Gate,
    *,
    max_seconds: float | None = MAX_SECONDS,
    most_pixels: int = MOST_PIXELS,
    middleware: Sequence[Middleware] = (),
) -> FastAPI:
    """The application.

    Args:
        models: who answers; they are not closed here.
        gate: opens what requests bring.
        max_seconds: an answer ends after so long.
        most_pixels: of the media of all requests that wait or run.
        middleware: what a request passes before (see `mminstruct.serving.doors`).
    """
    app = FastAPI(title="mminstruct", openapi_url=None, docs_url=None, redoc_url=None, middleware=list(middleware))
    metrics = Metrics(models)
    chat = Chat(models, gate, metrics, max_seconds, most_pixels)
    started = int(time.time())

    def described(name: str) -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": started,
            "owned_by": "mminstruct",
            "max_model_len": models[name].context_length,  # vLLM's word for it
        }

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        return await chat(request)

    @app.get("/v1/models")
    async def list_models() -> Response:
        return JSONResponse({"object": "list", "data": [described(name) for name in models]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        try:
            return JSONResponse(described(name))
        except ConfigError as error:
            raise ApiError(str(error), status=404, error_code="model_not_found", param="model") from None

    @app.get("/health")
    async def health() -> Response:
        alive = {name: engine.alive for name, engine in models.items()}
        well = all(alive.values())
        return JSONResponse({"status": "ok" if well else "failed", "models": alive}, 200 if well else 503)

    @app.get("/metrics")
    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        reason = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return ApiError(reason, status=error.status_code, error_code="http", headers=headers).response()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        told = api_error(error, request_id := uuid.uuid4().hex)
        log.error("%s: %s %s: %s", request_id, request.method, request.url.path[:200], told)
        return told.response()

    return app
