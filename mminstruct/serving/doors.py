"""The doors that every request passes before the page or the API sees it, as Starlette middlewares.

    options = replace(Doors.of(host, keys=read_keys(path)), body_bytes=2**20)
    application = FastAPI(middleware=doors(options))

request ─▶ headers ─▶ guard (host, site) ─▶ lock (key, password) ─▶ rates ─▶ body ─▶ application

What waits before the doors is the server's: how long a client may take for its headers, and how many may be connected.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.middleware import Middleware

from mminstruct.errors import ConfigError
from mminstruct.serving.bodies import BodyLimit
from mminstruct.serving.guard import CONTENT_POLICY, Guard, SecureHeaders
from mminstruct.serving.lock import Lock, Secrets
from mminstruct.serving.rates import RateLimit
from mminstruct.serving.refusal import API_PATHS

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Rate:
    """What one client may ask.

    Attributes:
        per_minute: requests in the long run.
        burst: requests in a row after a pause.
        at_once: requests that may be open beside each other.
    """

    per_minute: float = 60.0
    burst: int = 30
    at_once: int = 8


@dataclass(frozen=True)
class Doors:
    """What passes. `of` fills in what follows from the host.

    Attributes:
        hosts: host names that may be asked for; None lets every name pass.
        keys, passwords: what opens the lock; with neither there is none.
        key_paths: what the keys open where there are passwords too.
        open_paths: exact paths that may be read without either.
        rate: None where nobody is counted.
        body_bytes: the longest body; `body_bytes_at` has other limits by path.
        body_seconds, body_rate: seconds to wait for a body, beside one for each `body_rate` bytes that came.
        content_policy: what a page may load.
        file_paths: beginnings of paths of visitors' files, which get a stricter policy.
    """

    hosts: frozenset[str] | None = LOOPBACK_HOSTS
    keys: Secrets | None = field(default=None, repr=False)
    passwords: Secrets | None = field(default=None, repr=False)
    key_paths: tuple[str, ...] = API_PATHS
    open_paths: tuple[str, ...] = ("/health",)
    rate: Rate | None = None
    body_bytes: int = 64 * 2**20
    body_bytes_at: Mapping[str, int] = field(default_factory=dict)
    body_seconds: float = 20.0
    body_rate: int = 16 * 2**10
    content_policy: str = CONTENT_POLICY
    file_paths: tuple[str, ...] = ("/gradio_api/file",)

    @classmethod
    def of(
        cls, host: str, keys: Secrets | None = None, passwords: Secrets | None = None, rate: Rate | None = None
    ) -> Doors:
        """The doors of a server at this address: other computers need a key or password and are counted.

        Raises:
            ConfigError: other computers reach the host, and there is neither key nor password.
        """
        require_lock(host, keys, passwords)
        if is_loopback(host):
            return cls(LOOPBACK_HOSTS | {host}, keys, passwords, rate=rate)
        return cls(None, keys, passwords, rate=rate or Rate())


def doors(options: Doors) -> list[Middleware]:
    """The middlewares, outermost first."""
    found = [
        Middleware(SecureHeaders, policy=options.content_policy, files=options.file_paths),
        Middleware(Guard, hosts=options.hosts),
        Middleware(
            Lock,
            keys=options.keys,
            passwords=options.passwords,
            key_paths=options.key_paths,
            open_paths=options.open_paths,
        ),
    ]
    if options.rate is not None:
        rate = options.rate
        found.append(Middleware(RateLimit, per_minute=rate.per_minute, burst=rate.burst, at_once=rate.at_once))
    found.append(
        Middleware(
            BodyLimit,
            most=options.body_bytes,
            most_at=options.body_bytes_at,
            seconds=options.body_seconds,
            bytes_per_second=options.body_rate,
        )
    )
    return found


def require_lock(host: str, keys: Secrets | None, passwords: Secrets | None) -> None:
    """Raises `ConfigError` where other computers reach the host and nothing is asked of them."""
    if keys is None and passwords is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other computers use the model and this computer's time; leave it out, or ask them for "
            f"a key or password: --api-key-file FILE, --password-file FILE"
        )


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches a server at this address. A name other than `localhost` may lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
