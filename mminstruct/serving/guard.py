"""Two doors against other web pages: which sites may ask, and what a page of ours may load.

`Guard` refuses a request that names a foreign host (a foreign name that points to this computer: DNS rebinding), and
one that another site's page sends (forms, images, scripts that post). `SecureHeaders` tells the browser to fetch
nothing from elsewhere, whatever an answer contains, to show us in nobody's frame, and never to guess what a file is.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mminstruct.serving.refusal import refuse

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
        "frame-ancestors 'none'",
    ]
)
# A visitor's file that is opened by itself is a document without scripts and without an origin.
FILE_POLICY = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; frame-ancestors 'none'"

HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware. `hosts` are the host names that may be asked for; None lets every name pass.

    A browser says from where a request comes: by `Origin` for whatever posts, by `Sec-Fetch-Site` for the rest.
    Programs say neither. A link on another site may open the page, and nothing else. Nothing here speaks WebSocket.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http" or not self._known_host(Headers(scope=scope)):
            await refuse(scope, receive, send, 403, "wrong_host", "This host name is not served here.")
        elif not _same_site(scope["method"], Headers(scope=scope)):
            await refuse(scope, receive, send, 403, "foreign_site", "Pages of other sites may not ask here.")
        else:
            await self.app(scope, receive, send)

    def _known_host(self, headers: Headers) -> bool:
        return self.hosts is None or _host_name(headers.get("host", "")) in self.hosts


def _same_site(method: str, headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None:
        return _place(origin.partition("://")[2]) == _place(headers.get("host", "")) != ""
    if headers.get("sec-fetch-site") in ("cross-site", "same-site"):  # of one site are all ports of this computer
        return method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
    return True


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # an unbalanced bracket
        return None


def _place(host: str) -> str:
    """Host and port, without the port that goes without saying."""
    return host.lower().removesuffix(":80").removesuffix(":443")


class SecureHeaders:
    """ASGI middleware that puts the headers on every answer. `files` are beginnings of paths of visitors' files."""

    def __init__(self, app: ASGIApp, policy: str = CONTENT_POLICY, files: Sequence[str] = ()) -> None:
        self.app = app
        self.policy = policy
        self.files = tuple(files)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        policy = FILE_POLICY if scope["path"].startswith(self.files) else self.policy

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Content-Security-Policy"] = policy
                for name, value in HEADERS.items():
                    answer[name] = value
            await send(message)

        await self.app(scope, receive, with_headers)
