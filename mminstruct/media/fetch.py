"""Fetching media from the web, where a server's owner allows it: `URL -> bytes`, or a `MediaError`.

    URL ──form, host on the list──▶ name ──resolved once──▶ addresses, all public ──connected to──▶ body, up to a limit

A URL comes from a stranger, and this machine may reach what the stranger cannot: itself, its neighbours, a cloud's
metadata. So only hosts of a list are asked; a name is resolved once, every address of it has to be public, and the
connection goes to the address that was checked, whatever the name means by then. A redirect is not followed. Proxies
of the environment are not used, no cookie or password is sent, and the answer is not unpacked.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from mminstruct.errors import ConfigError, MediaError
from mminstruct.media.addresses import is_public

Resolver = Callable[[str, int], list[str]]

_PORTS = {"http": 80, "https": 443}
_ENTRY = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?|\[[0-9a-f:.]+\](:[0-9]{1,5})?")
_PIECE = 64 * 1024
_HEADERS = {
    "User-Agent": "mminstruct",
    "Accept": "image/*, video/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
_INSTEAD = "send the file as a data: URI"


@dataclass(frozen=True)
class FetchLimits:
    """What fetching one medium may take.

    Attributes:
        max_url: characters of its URL.
        connect: seconds for connecting to one address.
        read: seconds between two pieces of the answer.
        total: seconds in all, resolving the name included.
        addresses: of a host that are tried.
    """

    max_url: int = 2048
    connect: float = 5.0
    read: float = 5.0
    total: float = 20.0
    addresses: int = 4


DEFAULT_FETCH_LIMITS = FetchLimits()


@dataclass(frozen=True)
class _Target:
    secure: bool
    host: str
    port: int
    path: str


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system knows them. Raises `OSError` where it knows none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Fetcher:
    """Fetches from hosts of a list.

    Args:
        hosts: `images.example.org`; `*.example.org` for all hosts below that one; with `:8080` for a port other than
            80 and 443. An address of IPv6 stands in brackets.
        limits: of one fetch.
        resolver: gives a host's addresses; tests have one of their own.
        public: says which addresses may be connected to; tests on this machine have one of their own.
        context: how certificates are checked.

    Raises:
        ConfigError: an entry of `hosts` that is none of these forms.
    """

    def __init__(
        self,
        hosts: Collection[str],
        limits: FetchLimits = DEFAULT_FETCH_LIMITS,
        *,
        resolver: Resolver = resolve,
        public: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits
        self._hosts = frozenset(host.lower() for host in hosts)
        for host in sorted(self._hosts):
            if not _ENTRY.fullmatch(host) or (host.startswith("*.") and "." not in host[2:]):
                raise ConfigError(
                    f"{host!r} is no host to fetch media from; write it as images.example.org, *.example.org or "
                    f"images.example.org:8080"
                )
        self._resolver = resolver
        self._public = public
        self._context = context or ssl.create_default_context()

    def fetch(self, url: str, where: str, max_bytes: int, seconds: float | None = None) -> bytes:
        """The body of what a URL gives; messages begin with `where`.

        Args:
            max_bytes: of the body.
            seconds: in all, where that is less than the limit.

        Raises:
            MediaError: the URL is not allowed, leads into a private network or to a redirect, gives no file, one that
                is too large, or takes too long.
        """
        target = self._target(url, where)
        allowed = self.limits.total if seconds is None else min(seconds, self.limits.total)
        exchange = _Exchange(target, where, max_bytes, self.limits, self._resolver, self._public, self._context)
        # In a thread of its own, because neither resolving a name nor a header that drips in ends by itself.
        worker = threading.Thread(target=exchange.run, name="fetch", daemon=True)
        worker.start()
        worker.join(max(0.0, allowed))
        if worker.is_alive():
            exchange.abandon()
            raise MediaError(f"{where} did not arrive within {allowed:.3g} seconds; {_INSTEAD}")
        if exchange.error is not None:
            raise exchange.error
        return bytes(exchange.body)

    def _target(self, url: str, where: str) -> _Target:
        if len(url) > self.limits.max_url:
            raise MediaError(f"{where} has an address of more than {self.limits.max_url:,} characters; {_INSTEAD}")
        # `urlsplit` drops tabs and newlines, and others read a backslash as a slash: two readings of one address.
        if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
            raise MediaError(f"{where} has an address with characters that an address may not have; percent-encode it")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise MediaError(f"{where} has an address that is no valid URL; check it") from None
        if parts.scheme not in _PORTS or not host:
            raise MediaError(f"{where} has an address that is no http or https URL; check it")
        if "@" in parts.netloc:
            raise MediaError(f"{where} has an address with a user name in it; leave that out")
        port = _PORTS[parts.scheme] if port is None else port
        if not self._listed(host, port):
            raise MediaError(f"{where} lies on a host that this server does not fetch from; {_INSTEAD}")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return _Target(parts.scheme == "https", host, port, path)

    def _listed(self, host: str, port: int) -> bool:
        ending = "" if port in _PORTS.values() else f":{port}"
        if ":" in host:
            return f"[{host}]{ending}" in self._hosts
        labels = host.split(".")
        above = [f"*.{'.'.join(labels[place:])}{ending}" for place in range(1, len(labels))]
        return not self._hosts.isdisjoint([f"{host}{ending}", *above])


class _Exchange:
    """One question and its answer: runs in a thread, and can be abandoned from another."""

    def __init__(
        self,
        target: _Target,
        where: str,
        max_bytes: int,
        limits: FetchLimits,
        resolver: Resolver,
        public: Callable[[str], bool],
        context: ssl.SSLContext,
    ) -> None:
        self.body = bytearray()
        self.error: MediaError | None = MediaError(
            f"{where} could not be fetched from its host; check the address, or {_INSTEAD}"
        )
        self._target = target
        self._where = where
        self._max_bytes = max_bytes
        self._limits = limits
        self._resolver = resolver
        self._public = public
        self._context = context
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._abandoned = False

    def run(self) -> None:
        try:
            self._read(self._connected(self._addresses()))
        except MediaError as error:
            self.error = error
        except (OSError, ValueError, http.client.HTTPException):  # what sockets, TLS and the parser of answers raise
            return
        else:
            self.error = None
        finally:
            if self._socket is not None:
                self._socket.close()

    def abandon(self) -> None:
        """Let `run` end soon, whatever it waits for."""
        with self._lock:
            self._abandoned = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    # That of the plain socket: TLS's would change what the other thread works with.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _addresses(self) -> list[str]:
        found = self._resolver(self._target.host, self._target.port)
        if not found:
            raise OSError
        if not all(self._public(address) for address in found):
            raise MediaError(
                f"{self._where} lies on a host inside of a private network, which is not asked; {_INSTEAD}"
            )
        return found[: self._limits.addresses]

    def _connected(self, addresses: list[str]) -> socket.socket:
        """A connection to the first of these addresses, digits all, that takes one."""
        problem: OSError = OSError()
        for address in addresses:
            try:
                plain = socket.create_connection((address, self._target.port), timeout=self._limits.connect)
            except OSError as error:
                problem = error
                continue
            self._keep(plain)
            if not self._target.secure:
                return plain
            secure = self._context.wrap_socket(plain, server_hostname=self._target.host)
            self._keep(secure)
            return secure
        raise problem

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            self._socket = connection
            if self._abandoned:
                raise OSError
        connection.settimeout(self._limits.read)

    def _read(self, connection: socket.socket) -> None:
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        client = http.client.HTTPConnection(host, self._target.port)
        client.sock = connection  # so that it neither resolves nor connects
        usual = self._target.port == _PORTS["https" if self._target.secure else "http"]
        client.request(
            "GET", self._target.path, headers={"Host": host if usual else f"{host}:{self._target.port}", **_HEADERS}
        )
        with client.getresponse() as answer:
            if 300 <= answer.status < 400:
                raise MediaError(
                    f"{self._where} is said to lie elsewhere, which is not followed; give its last address"
                )
            if answer.status != 200:
                raise MediaError(f"{self._where} is not there (status {answer.status}); check the address")
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise MediaError(f"{self._where} comes compressed, which is not unpacked; {_INSTEAD}")
            if (answer.length or 0) > self._max_bytes:
                raise self._too_large()
            while piece := answer.read1(_PIECE):
                self.body += piece
                if len(self.body) > self._max_bytes:
                    raise self._too_large()
            if answer.length:
                raise MediaError(f"{self._where} broke off on its way; send it again")

    def _too_large(self) -> MediaError:
        return MediaError(
            f"{self._where} has more than the {self._max_bytes:,} bytes that are left to it; make it smaller"
        )
