"""What is measured of any page: axe's findings, what lies beyond the edge, requests to elsewhere, complaints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import axe_playwright_python
from playwright.sync_api import BrowserContext, Page, Request, WebSocket

DESKTOP, PHONE = (1280, 900), (390, 844)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# The look has changed and no color is still on its way to another one.
_SETTLED = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  await frame();
  for (const one of document.getAnimations()) if (one instanceof CSSTransition) one.finish();
  await frame();
}"""
_OWN_SCHEMES = ("data", "blob", "file", "about")
_BROKEN_OFF = ("AbortError", "Unexpected error Connection errored out")


@cache
def _axe() -> str:
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(view: Page) -> list[str]:
    """axe's serious and critical findings, one line each: the rule, the element, what is wrong with it."""
    view.evaluate(_axe())
    found = view.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 5, "axe looked at nothing"
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} {' '.join(node['failureSummary'].split())}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def each_look(view: Page) -> Iterator[str]:
    """Shows the page on a desktop and on a phone, light and dark, one after the other; says which."""
    for width, height in (DESKTOP, PHONE):
        view.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            view.emulate_media(color_scheme=scheme)
            view.evaluate(_SETTLED)
            yield f"{scheme}, {width} pixels"


def sideways(view: Page) -> int:
    """Pixels by which the page can be scrolled to the side."""
    return int(view.evaluate("(e => e.scrollWidth - e.clientWidth)(document.documentElement)"))


@dataclass
class Watch:
    """What the browser asked for, and what went wrong in it.

    It only listens: a request that Playwright holds back waits for the thread of the tests, whatever that does.
    """

    asked: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    loads: Counter[Page] = field(default_factory=Counter)  # how often each page was loaded

    def over(self, context: BrowserContext) -> None:
        context.on("request", self._request)
        context.on("page", self._page)

    def _page(self, view: Page) -> None:
        view.on("console", lambda note: self._complains(view, note.text) if note.type == "error" else None)
        view.on("pageerror", lambda error: self._complains(view, str(error)))
        view.on("websocket", self._socket)
        view.on("request", lambda request: self._loads(view, request))

    def _loads(self, view: Page, request: Request) -> None:
        """A reload breaks off what the page was asking; the page says so before the reload's own request, or after."""
        if request.is_navigation_request():
            self.loads[view] += 1
            if self.loads[view] > 1:
                self.complaints[:] = [text for text in self.complaints if not text.startswith(_BROKEN_OFF)]

    def _complains(self, view: Page, text: str) -> None:
        if self.loads[view] < 2 or not text.startswith(_BROKEN_OFF):
            self.complaints.append(text)

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)
        if _leaves(request.url):
            self.elsewhere.append(request.url)

    def _socket(self, socket: WebSocket) -> None:
        if _leaves(socket.url):
            self.elsewhere.append(socket.url)


def _leaves(url: str) -> bool:
    """Whether a request for this leaves the computer."""
    address = urlsplit(url)
    return address.scheme not in _OWN_SCHEMES and address.hostname != "127.0.0.1"
