"""What a client is told when there is no answer: an HTTP status and OpenAI's error object, never a traceback.

any exception ──api_error──▶ ApiError (status, type, code, param, headers) ──response──▶ {"error": {...}}

What the asker can mend is told as it is; what is nobody's business outside (paths, a decoder's words) stays in the log,
under the id that the client is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from mminstruct.errors import (
    BusyError,
    ConfigError,
    DataError,
    MediaError,
    MemoryLimitError,
    MminstructError,
    RunError,
    ServerError,
)

RETRY_SECONDS = 2
LEFT = 499  # the status, in logs and figures only, of a request whose client left
INVALID = "invalid_request_error"

# OpenAI's clients ask again by themselves after a 5xx; where that cannot help they are told so.
_NOT_AGAIN = {"x-should-retry": "false"}


class ApiError(MminstructError):
    """A refusal of one request.

    Attributes:
        status: of HTTP.
        type, error_code, param: as OpenAI has them; `param` is the field that is wrong.
    """

    code = "api"

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = INVALID,
        error_code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.error_code = error_code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        return {
            "error": {"message": str(self), "type": self.type, "param": self.param, "code": self.error_code},
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def api_error(error: Exception, request_id: str) -> ApiError:
    """What a client is told of an exception.

    Args:
        request_id: stands in the message where the log says more.
    """
    match error:
        case ApiError():
            return error
        case BusyError():
            return _again(str(error), 429, "rate_limit_error", "busy", RETRY_SECONDS)
        case MemoryLimitError():
            message = f"{error} (error {request_id})"
            return ApiError(message, status=507, type="server_error", error_code="memory", headers=_NOT_AGAIN)
        case ServerError(again=True):
            return _again(str(error), 503, "server_error", "upstream", error.after or RETRY_SECONDS)
        case ServerError():
            return ApiError(str(error), status=502, type="server_error", error_code="upstream", headers=_NOT_AGAIN)
        case RunError():
            return _again(str(error), 503, "server_error", "closing", RETRY_SECONDS)
        case DataError() | MediaError() | ConfigError():
            return ApiError(str(error), error_code=error.code)
        case _:
            return ApiError(
                f"the model failed ({type(error).__name__}); ask again, and if it stays so look up error {request_id} "
                f"in the server's log",
                status=500,
                type="server_error",
                error_code="internal",
                headers=_NOT_AGAIN,
            )


def _again(message: str, status: int, type: str, code: str, seconds: float) -> ApiError:
    after = {"Retry-After": str(max(1, round(seconds)))}
    return ApiError(message, status=status, type=type, error_code=code, headers=after)
