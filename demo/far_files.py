"""A door behind the others: no call of the page names a web address as its file.

Gradio takes a file's `path` in a call for an address where it looks like one, and fetches it before any handler sees
the call. The page's own calls name uploads only.
"""

from __future__ import annotations

import json
from typing import Any

from gradio_client.utils import is_http_url_like
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mminstruct.serving.refusal import refuse

CALLS = "/gradio_api/"
UPLOADS = "/gradio_api/upload"  # no JSON, and long


class NoFarFiles:
    """ASGI middleware: 403 for a call with such a file, anywhere in its body. It stands behind the limit of bodies."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        calls = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(CALLS)
        if not calls or scope["path"].rstrip("/") == UPLOADS:
            await self.app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has left
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if _names_far_file(body):
            text = "A file of the web is not fetched here; upload it."
            await refuse(scope, receive, send, 403, "far_file", text)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, again, send)


def _names_far_file(body: bytes) -> bool:
    try:
        left: list[Any] = [json.loads(body)]
    except RecursionError:
        return True  # nobody knows what is down there
    except ValueError:
        return False  # no JSON: the page refuses it
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if is_http_url_like(value.get("path")):
                return True
            left += value.values()
        elif isinstance(value, list):
            left += value
    return False
