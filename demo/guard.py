"""Stands before the page: who may ask for it, and what its content may load.

While the page is served to this computer only, a request must name a loopback host, and one that comes from another
site's page is refused; otherwise a page opened in the same browser could reach the model by DNS rebinding or by posting
forms. The content security policy keeps the browser from fetching anything from elsewhere, whatever an answer contains.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})

# Gradio's page needs inline scripts and styles; everything else is confined to its own origin.
CONTENT_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    ]
)


class Guard:
    """ASGI middleware. `hosts` are the host names that may be asked for; None lets every name pass."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self.hosts is not None and not self._welcome(headers):
            refusal = PlainTextResponse("This page is served to this computer only.\n", status_code=403)
            await refusal(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Content-Security-Policy"] = CONTENT_POLICY
                answer["Referrer-Policy"] = "no-referrer"
                answer["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, with_policy)

    def _welcome(self, headers: Headers) -> bool:
        assert self.hosts is not None
        if _host(f"//{headers.get('host', '')}") not in self.hosts:
            return False
        origin = headers.get("origin")
        return origin is None or _host(origin) in self.hosts


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # an unbalanced bracket
        return None
