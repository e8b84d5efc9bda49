"""What replies took: each counted once, however often it is used, whether what was made of it is kept or left out.

(key, reply), ... ──add──▶ Usage(replies, read, cached, written, cost)
log + keys ──counted──▶ Usage by (prompt, backend, model), as a data set's card shows it
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mminstruct.building.limits import Price
from mminstruct.building.logged import LoggedCalls
from mminstruct.building.request import Completion

Counts = dict[tuple[str, str, str], "Usage"]


@dataclass
class Usage:
    """Counts of different replies. Safe for threads.

    Attributes:
        price: of the model; None: `cost` stays 0.
        read, cached, written: tokens; those `cached` are among those read.
        cut: replies that did not end by themselves.
        cost: in dollars.
    """

    price: Price | None = None
    replies: int = 0
    read: int = 0
    cached: int = 0
    written: int = 0
    cut: int = 0
    cost: float = 0.0
    _keys: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, key: str, reply: Completion) -> None:
        """Count a reply, unless one of this key was."""
        with self._lock:
            if key not in self._keys:
                self._keys.add(key)
                self.count(reply)

    def count(self, reply: Completion) -> None:
        read, written = reply.tokens
        self.replies += 1
        self.read += read
        self.cached += reply.cached
        self.written += written
        self.cut += reply.finish != "stop"
        if self.price is not None:
            self.cost += self.price.of(reply)


def counted(calls: Path, keys: Iterable[str], price: Price | None = None) -> Counts:
    """Of different keys, by prompt, backend and model, sorted. Raises `DataError` where `calls` is no log."""
    found: Counts = {}
    for call in LoggedCalls(calls).find(keys):
        found.setdefault((call.prompt, call.backend, call.model), Usage(price)).count(call.reply)
    return dict(sorted(found.items()))


def summed(usage: Iterable[Usage]) -> dict[str, int]:
    """What a manifest says of them; money depends on prices, so it says none."""
    parts = list(usage)
    return {name: sum(getattr(one, name) for one in parts) for name in ("replies", "read", "cached", "written")}
