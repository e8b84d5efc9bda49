"""How fast and how much a build may ask: requests and tokens a minute, and a budget that ends it."""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic

from pydantic import Field

from mminstruct.building.request import Completion
from mminstruct.config import Config, load_yaml, validate
from mminstruct.errors import BudgetError, ConfigError, did_you_mean

_DAY = r"^(\d{4}-\d{2}-\d{2})?$"


class Price(Config):
    """US dollars for a million tokens.

    Attributes:
        cached: for those read that the server had read before; None: as `read`.
        batch: the share of all prices that batches cost.
        date, source: when these figures were read, and where; empty: not known.
    """

    read: float = Field(ge=0)
    written: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    batch: float = Field(default=1.0, ge=0)
    date: str = Field(default="", pattern=_DAY)
    source: str = ""

    def of(self, reply: Completion) -> float:
        """What a reply costs, in dollars."""
        read, written = reply.tokens
        again = self.read if self.cached is None else self.cached
        full = (read - reply.cached) * self.read + reply.cached * again + written * self.written
        return full * (self.batch if reply.batch else 1) / 1e6

    @property
    def said(self) -> str:
        """Whose prices these are: `the prices of 2026-01-31 (the provider's page)`."""
        return f"the prices of {self.date} ({self.source})" if self.date else "the given prices"


class Prices(Config):
    """A file of prices, which says when and where they were read: for all, or beside a model's own."""

    date: str = Field(default="", pattern=_DAY)
    source: str = ""
    models: dict[str, Price]


def read_price(path: Path, model: str) -> Price:
    """The price of a model, with its date and source. Raises `ConfigError` where the file has none for it."""
    prices = validate(Prices, load_yaml(path), where=str(path))
    if model not in prices.models:
        raise ConfigError(f"{path} has no price of {model!r}.{did_you_mean(model, prices.models)}")
    price = prices.models[model]
    price = price.model_copy(update={"date": price.date or prices.date, "source": price.source or prices.source})
    if not (price.date and price.source):
        raise ConfigError(f"{path} does not say when and where the price of {model!r} was read; add date and source")
    return price


class BudgetConfig(Config):
    """The most that one run of a build may take; None is no limit. `cost` is in US dollars."""

    requests: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)
    minutes: float | None = Field(default=None, gt=0)


class Budget:
    """Counts what a run takes. Safe for threads.

    A reply's size is known when it is there, so tokens and money may end above their limit by the requests that were on
    their way; requests never do.

    Raises:
        ConfigError: money is limited and nothing says what the model costs.
    """

    def __init__(self, limits: BudgetConfig, price: Price | None = None) -> None:
        if limits.cost is not None and price is None:
            raise ConfigError("a limit in money needs the model's price; give a file of prices")
        self.limits = limits
        self.price = price
        self.requests = 0
        self.read = 0
        self.written = 0
        self.cost = 0.0
        self._start = monotonic()
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> None:
        """Count requests that are about to be made. Raises `BudgetError` instead where that would be too much."""
        minutes = (monotonic() - self._start) / 60
        with self._lock:
            taken = {
                "requests": self.requests + count - 1,
                "tokens": self.read + self.written,
                "cost": self.cost,
                "minutes": minutes,
            }
            for name, amount in taken.items():
                limit = getattr(self.limits, name)
                if limit is not None and amount >= limit:
                    raise BudgetError(
                        f"the budget of {limit:g} {'dollars' if name == 'cost' else name} is spent; what was built is "
                        f"kept, so raise it and run again with --resume"
                    )
            self.requests += count

    def add(self, reply: Completion) -> None:
        read, written = reply.tokens
        with self._lock:
            self.read += read
            self.written += written
            if self.price is not None:
                self.cost += self.price.of(reply)


class Bucket:
    """So many units a minute, spread evenly, after a first burst of a second's worth. Safe for threads."""

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60
        self._burst = max(1.0, self._rate)
        self._level = self._burst
        self._at = monotonic()
        self._lock = threading.Lock()

    def reserve(self, units: float = 1.0) -> float:
        """Take units, which may not be there yet; seconds until they are."""
        with self._lock:
            now = monotonic()
            self._level = min(self._burst, self._level + (now - self._at) * self._rate) - units
            self._at = now
            return max(0.0, -self._level / self._rate)


class RateConfig(Config):
    """Requests and tokens a minute that a server allows; None is no limit."""

    requests: float | None = Field(default=None, gt=0)
    tokens: float | None = Field(default=None, gt=0)


class Rate:
    """Waits that keep to `RateConfig`. Of a reply's tokens, those beyond what was expected are taken afterwards."""

    def __init__(self, config: RateConfig) -> None:
        self._requests = None if config.requests is None else Bucket(config.requests)
        self._tokens = None if config.tokens is None else Bucket(config.tokens)

    def before(self, tokens: int) -> float:
        """Seconds to wait before a request of about so many tokens."""
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.reserve())
        if self._tokens is not None:
            waits.append(self._tokens.reserve(tokens))
        return max(waits)

    def after(self, expected: int, reply: Completion) -> None:
        """Put the count right once the reply is there."""
        if self._tokens is not None and reply.usage:
            self._tokens.reserve(sum(reply.tokens) - expected)
