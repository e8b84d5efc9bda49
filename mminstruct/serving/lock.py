"""The lock: API keys for programs, a password for people, read from files and kept as hashes.

`Authorization: Bearer KEY` opens the API's paths, `Authorization: Basic` (the browser asks for name and password; any
name will do) everything else, so that no route of a page, file routes included, has to think of it. Where only one of
the two is given, it opens everything. Comparison takes the same time however much of a guess is right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mminstruct.errors import ConfigError
from mminstruct.serving.rates import CLIENT, Buckets, address_of, too_often
from mminstruct.serving.refusal import refuse, under

SHORTEST_KEY = 16
SHORTEST_PASSWORD = 8
# Wrong passwords from one address: some at once, then one each ten seconds. Keys are too long to be guessed.
WRONG_AT_ONCE = 10
WRONG_PER_MINUTE = 6


@dataclass(frozen=True)
class Secrets:
    """Hashes of some secrets."""

    digests: tuple[bytes, ...]

    @classmethod
    def of(cls, *secrets: str) -> Secrets:
        return cls(tuple(hashlib.sha256(secret.encode()).digest() for secret in secrets))

    def find(self, secret: bytes) -> str | None:
        """A short name of the secret when it is one of these; the name does not give it away."""
        digest = hashlib.sha256(secret).digest()
        found = [known for known in self.digests if hmac.compare_digest(known, digest)]
        return hashlib.sha256(found[0]).hexdigest()[:12] if found else None


def read_keys(path: Path) -> Secrets:
    """API keys, one a line; lines that begin with `#` are remarks. Raises `ConfigError` where one cannot be used."""
    return Secrets.of(*_lines(path, "an API key", SHORTEST_KEY))


def read_passwords(path: Path) -> Secrets:
    """Passwords for the page, one a line, as `read_keys`."""
    return Secrets.of(*_lines(path, "a password", SHORTEST_PASSWORD))


def _lines(path: Path, what: str, shortest: int) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; write {what} on each line") from None
    secrets = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if len(line) < shortest or not line.isprintable():
            raise ConfigError(
                f"{path}:{number}: {what} needs {shortest} characters at least, all printable; make a longer one, "
                f"for instance by: python -c 'import secrets; print(secrets.token_urlsafe(24))'"
            )
        secrets.append(line)
    if not secrets:
        raise ConfigError(f"{path} holds nothing; write {what} on each line")
    return secrets


class Lock:
    """ASGI middleware: 401 without the right key or password.

    Args:
        keys, passwords: what opens; with neither, everything is open.
        key_paths: what the keys open where there are passwords too.
        open_paths: what may be read without either (exact paths, GET and HEAD only).
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Secrets | None,
        passwords: Secrets | None,
        key_paths: Sequence[str],
        open_paths: Sequence[str],
    ) -> None:
        self.app = app
        self.keys = keys
        self.passwords = passwords
        self.key_paths = key_paths
        self.open_paths = frozenset(open_paths)
        self._wrong = Buckets(WRONG_PER_MINUTE, WRONG_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope.get("method") in ("GET", "HEAD") and scope.get("path") in self.open_paths
        if scope["type"] == "lifespan" or is_open or (self.keys is None and self.passwords is None):
            await self.app(scope, receive, send)
            return
        by_key = self.passwords is None or (self.keys is not None and under(scope["path"], self.key_paths))
        scheme, _, value = Headers(scope=scope).get("authorization", "").partition(" ")
        if by_key:
            assert self.keys is not None
            name = self.keys.find(value.strip().encode("latin-1")) if scheme.lower() == "bearer" else None
            if name is None:
                what = "Wrong or missing API key; send it in the header 'Authorization: Bearer KEY'."
                challenge = {"WWW-Authenticate": "Bearer"}
                await refuse(scope, receive, send, 401, "invalid_api_key", what, challenge)
                return
            await self.app({**scope, CLIENT: f"key {name}"}, receive, send)
            return
        assert self.passwords is not None
        if scheme.lower() == "basic":
            address = address_of(scope)
            # Looked at before the password is: otherwise one could go on guessing without being let in.
            if wait := self._wrong.wait(address):
                await too_often(scope, receive, send, wait)
                return
            if self.passwords.find(_password(value)) is not None:
                await self.app(scope, receive, send)
                return
            self._wrong.take(address)
        challenge = {"WWW-Authenticate": 'Basic realm="mminstruct", charset="UTF-8"'}
        what = "Wrong or missing password; any name will do."
        await refuse(scope, receive, send, 401, "wrong_password", what, challenge)


def _password(value: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
