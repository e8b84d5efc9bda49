"""How the doors refuse: one status, one line; an OpenAI error object for clients of the API, text for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

API_PATHS = ("/v1", "/metrics")


def under(path: str, folders: Sequence[str]) -> bool:
    """Whether a path is one of these or lies below one: `/v1/models` is under `/v1`, `/v10` and `/v1/../` are not."""
    return ".." not in path.split("/") and any(path == folder or path.startswith(f"{folder}/") for folder in folders)


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer a request that is not let in. `code` is one word for programs, `message` one line for people."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    answer: Response
    if under(scope["path"], API_PATHS):
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        answer = JSONResponse({"error": error}, status, headers)
    else:
        answer = PlainTextResponse(f"{message}\n", status, headers)
    await answer(scope, receive, send)
