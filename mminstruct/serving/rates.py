"""How much one client may ask: requests a minute, and requests at once.

A client is the key that it showed (see `lock.py`), otherwise its address. Only requests that ask for work count, those
that post; what a page loads of itself does not.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from mminstruct.serving.refusal import refuse

CLIENT = "mminstruct.client"  # where the scope of a request names the key that it showed
MOST_CLIENTS = 10_000


class Buckets:
    """A bucket of tokens for each client: `burst` at first, refilled at `per_minute`.

    A full bucket is as good as none, so those that had time to fill are forgotten, and no more than `most` are kept.
    """

    def __init__(
        self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic, most: int = MOST_CLIENTS
    ) -> None:
        self._rate = per_minute / 60
        self._burst = burst
        self._clock = clock
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (tokens, when), last used last

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, client: str) -> float:
        """Seconds until the client may ask again; 0 when it may now."""
        return max(0.0, (1 - self._level(client)) / self._rate)

    def take(self, client: str) -> float:
        """As `wait`; where that is 0, a token is taken."""
        wait = self.wait(client)
        if wait == 0:
            self._levels[client] = (self._level(client) - 1, self._clock())
            self._levels.move_to_end(client)
            self._forget()
        return wait

    def _level(self, client: str) -> float:
        tokens, when = self._levels.get(client, (float(self._burst), 0.0))
        return min(float(self._burst), tokens + (self._clock() - when) * self._rate)

    def _forget(self) -> None:
        while self._levels:
            oldest = next(iter(self._levels))
            if len(self._levels) <= self._most and self._level(oldest) < self._burst:
                return
            del self._levels[oldest]


class RateLimit:
    """ASGI middleware: 429 with `Retry-After` for who asks too often or has too many requests open."""

    def __init__(self, app: ASGIApp, per_minute: float, burst: int, at_once: int) -> None:
        self.app = app
        self.at_once = at_once
        self._buckets = Buckets(per_minute, burst)
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        client = client_of(scope)
        if self._open[client] >= self.at_once:
            what = f"Too many requests at once (the limit is {self.at_once}); wait for an answer first."
            await refuse(scope, receive, send, 429, "too_many_at_once", what, {"Retry-After": "1"})
            return
        if wait := self._buckets.take(client):
            await too_often(scope, receive, send, wait)
            return
        self._open[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._open[client] -= 1
            if self._open[client] == 0:
                del self._open[client]


async def too_often(scope: Scope, receive: Receive, send: Send, wait: float) -> None:
    """Refuse, and say when to come again."""
    seconds = math.ceil(wait)
    what = f"Too many requests; ask again in {seconds} s."
    await refuse(scope, receive, send, 429, "rate_limit_exceeded", what, {"Retry-After": str(seconds)})


def client_of(scope: Scope) -> str:
    """The name that a request is counted under."""
    return scope.get(CLIENT) or address_of(scope)


def address_of(scope: Scope) -> str:
    """The address that a request came from; of an IPv6 address its network, since one computer has all of that."""
    if not scope.get("client"):
        return "local"
    try:
        address = ipaddress.ip_address(scope["client"][0].partition("%")[0])
    except ValueError:  # a name that a test or a proxy gave
        return str(scope["client"][0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        return str(address.ipv4_mapped)
    return str(address)
