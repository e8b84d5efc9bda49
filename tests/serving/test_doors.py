"""The doors before page and API, asked over real HTTP: hosts, sites, keys, passwords, rates, bodies, headers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from mminstruct.errors import ConfigError
from mminstruct.serving.doors import LOOPBACK_HOSTS, Doors, Rate, doors, is_loopback, require_lock
from mminstruct.serving.guard import Guard
from mminstruct.serving.lock import WRONG_AT_ONCE, Lock, Secrets, read_keys, read_passwords
from mminstruct.serving.rates import Buckets, address_of

KEY = "a-key-that-is-long-enough"
PASSWORD = "pass word é"
Serve = Callable[..., str]


async def echo(request: Request) -> PlainTextResponse:
    """As long as its body."""
    return PlainTextResponse(str(len(await request.body())))


async def slow(request: Request) -> PlainTextResponse:
    await asyncio.sleep(0.5)
    return PlainTextResponse("slow")


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Serves the application behind doors and gives its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(options: Doors | None = None, **changed: object) -> str:
        routes = [Route(path, echo, methods=["GET", "POST"]) for path in ("/", "/health", "/v1/chat", "/upload")]
        routes += [Route("/slow", slow, methods=["POST"]), Route("/files={name}", echo)]
        options = replace(options or Doors(), **changed)  # type: ignore[arg-type]
        application = Starlette(routes=routes, middleware=doors(options))
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


def basic(password: str, name: str = "anyone") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# ---- hosts and sites -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(serve: Serve) -> str:
    return serve(Doors(file_paths=("/files=",)))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.", "evil.example:80", "[", "", "0.0.0.0", "2130706433"],
)
def test_a_foreign_name_for_this_computer_is_refused(plain: str, host: str) -> None:
    """DNS rebinding."""
    assert httpx.get(plain, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost:1", "", "file://", "http://"],
)
def test_what_another_sites_page_posts_is_refused(plain: str, origin: str) -> None:
    assert httpx.post(plain, headers={"Origin": origin}).status_code == 403


def test_another_port_of_this_computer_is_another_site(plain: str) -> None:
    assert httpx.post(plain, headers={"Origin": "http://127.0.0.1:1"}).status_code == 403
    port = plain.rsplit(":", 1)[1]
    assert httpx.post(plain, headers={"Origin": f"http://localhost:{port}"}).status_code == 403


def test_the_own_page_and_programs_are_welcome(plain: str) -> None:
    port = plain.rsplit(":", 1)[1]
    own = {"Host": f"LOCALHOST:{port}", "Origin": f"http://localhost:{port}", "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(plain, headers=own).status_code == 200
    assert httpx.post(plain).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("mode", ["no-cors", "cors", "same-origin"])
def test_what_another_sites_page_embeds_is_refused(plain: str, site: str, mode: str) -> None:
    assert httpx.get(plain, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}).status_code == 403


def test_a_link_on_another_site_may_open_the_page_and_a_form_may_not_post_to_it(plain: str) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert httpx.get(plain, headers=link).status_code == 200
    assert httpx.post(plain, headers=link).status_code == 403


def test_a_server_that_others_reach_takes_any_name_and_no_foreign_site(serve: Serve) -> None:
    url = serve(Doors.of("0.0.0.0", keys=Secrets.of(KEY)))
    for origin, status in (("https://zoo.example", 200), ("https://evil.example", 403), ("https://zoo.example:8", 403)):
        headers = {"Host": "zoo.example", "Origin": origin, **bearer(KEY)}
        assert httpx.post(url, headers=headers).status_code == status


@pytest.mark.parametrize(
    "door", [Guard, partial(Lock, keys=Secrets.of(KEY), passwords=None, key_paths=(), open_paths=())]
)
def test_websockets_are_closed_unheard(door: Callable[..., ASGIApp]) -> None:
    """Asked as the server would, since ours may come without support for them."""
    told: list[Message] = []

    async def never(*_: object) -> Message:
        raise AssertionError("the application was asked")

    async def send(message: Message) -> None:
        told.append(message)

    scope = {"type": "websocket", "path": "/v1/chat", "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 5)}
    asyncio.run(door(never)(scope, never, send))  # type: ignore[arg-type]
    assert told == [{"type": "websocket.close", "code": 1008}]


# ---- keys and passwords ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(serve: Serve) -> str:
    return serve(keys=Secrets.of("another key of some length", KEY), passwords=Secrets.of(PASSWORD))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        bearer(KEY[:-1]),
        bearer(KEY + "x"),
        bearer(KEY.upper()),
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {PASSWORD}".encode()},
        basic(PASSWORD),
        {"Authorization": b"Bearer \xff\xfe"},
    ],
    ids=str,
)
def test_a_wrong_or_missing_key_is_refused_as_openai_refuses_it(locked: str, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{locked}/v1/chat", headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert error["code"] == "invalid_api_key" and "Authorization: Bearer" in error["message"]
    assert KEY not in answer.text


def test_a_key_opens_the_api_and_not_the_page(locked: str) -> None:
    assert httpx.post(f"{locked}/v1/chat", headers=bearer(KEY)).status_code == 200
    assert httpx.post(f"{locked}/v1/chat", headers={"Authorization": f"bearer   {KEY}"}).status_code == 200
    for path in ("/", "/upload", "//v1/chat", "/v1%2F..%2F", "/v10", "/V1/chat"):
        answer = httpx.get(f"{locked}{path}", headers=bearer(KEY))
        assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic")


def test_the_password_opens_the_page_under_any_name(locked: str) -> None:
    assert httpx.get(locked, headers=basic(PASSWORD)).status_code == 200
    assert httpx.get(locked, headers=basic(PASSWORD, name="")).status_code == 200


@pytest.mark.parametrize(
    "headers", [basic("wrong"), basic(""), {"Authorization": "Basic !!"}, {"Authorization": "Basic"}], ids=str
)
def test_a_wrong_password_is_refused(locked: str, headers: dict[str, str]) -> None:
    assert httpx.get(locked, headers=headers).status_code == 401


def test_health_is_open_for_reading_only(locked: str) -> None:
    assert httpx.get(f"{locked}/health").status_code == 200
    for path in ("/health/", "/health/../v1/chat", "/healthy"):
        assert httpx.get(f"{locked}{path}").status_code == 401
    assert httpx.post(f"{locked}/health").status_code == 401


def test_who_goes_on_guessing_is_not_heard_even_with_the_right_password(serve: Serve) -> None:
    url = serve(passwords=Secrets.of(PASSWORD))
    statuses = [httpx.get(url, headers=basic(f"guess {n}")).status_code for n in range(WRONG_AT_ONCE + 1)]
    assert statuses == [401] * WRONG_AT_ONCE + [429]
    answer = httpx.get(url, headers=basic(PASSWORD))
    assert answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= 10


@pytest.mark.parametrize(
    ("options", "header"),
    [({"keys": Secrets.of(KEY)}, bearer(KEY)), ({"passwords": Secrets.of(PASSWORD)}, basic(PASSWORD))],
)
def test_where_there_is_one_lock_it_is_on_everything(
    serve: Serve, options: dict[str, Secrets], header: dict[str, str]
) -> None:
    url = serve(**options)
    for path in ("/", "/v1/chat", "/upload", "/nowhere"):
        assert httpx.get(f"{url}{path}").status_code == 401
        assert httpx.get(f"{url}{path}", headers=header).status_code in (200, 404)


def test_files_of_keys_and_passwords(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"\ufeff# mine\n\n  {KEY}  \nyet another key, longer\n", encoding="utf-8")
    keys = read_keys(file)
    assert keys.find(KEY.encode()) and keys.find(b"yet another key, longer") != keys.find(KEY.encode())
    assert keys.find(b"# mine") is None and KEY not in repr(keys) and KEY not in repr(Doors(keys=keys))
    file.write_text("12345678\n")
    assert read_passwords(file).find(b"12345678")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds nothing"),
        (b"# only remarks\n\n", "holds nothing"),
        (b"short\n", ":1: an API key needs 16"),
        (b"long enough but \x07 rings\n", "printable"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_usable_keys_is_refused_without_quoting_it(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=told) as raised:
        read_keys(file)
    assert "rings" not in str(raised.value) and "short" not in str(raised.value).replace(str(file), "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "localhost.example.org"])
def test_a_host_that_others_reach_needs_a_lock(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="--api-key-file FILE, --password-file FILE"):
        Doors.of(host)
    require_lock(host, Secrets.of(KEY), None)
    options = Doors.of(host, passwords=Secrets.of(PASSWORD))
    assert options.hosts is None and options.rate == Rate()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_computer_alone_needs_none(host: str) -> None:
    options = Doors.of(host)
    assert options.hosts == LOOPBACK_HOSTS | {host} and options.rate is None


# ---- rates -----------------------------------------------------------------------------------------------------------


def test_who_asks_too_often_is_told_when_to_come_again(serve: Serve) -> None:
    url = serve(rate=Rate(per_minute=60, burst=3, at_once=8))
    assert [httpx.post(url).status_code for _ in range(3)] == [200] * 3
    refused = httpx.post(f"{url}/v1/chat")
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert httpx.get(url).status_code == 200, "what only reads is not counted"
    time.sleep(1.05)
    assert httpx.post(url).status_code == 200


def test_keys_are_counted_apart(serve: Serve) -> None:
    one, other = "first key, long enough", "second key, long enough"
    url = serve(keys=Secrets.of(one, other), rate=Rate(per_minute=1, burst=1))
    assert [httpx.post(url, headers=bearer(key)).status_code for key in (one, one, other)] == [200, 429, 200]


def test_requests_at_once_are_bounded_and_counted_down(serve: Serve) -> None:
    url = serve(rate=Rate(per_minute=6000, burst=100, at_once=2))

    async def ask() -> list[int]:
        async with httpx.AsyncClient() as client:
            answers = await asyncio.gather(*[client.post(f"{url}/slow") for _ in range(5)])
            return sorted(answer.status_code for answer in answers)

    assert asyncio.run(ask()) == [200, 200, 429, 429, 429]
    assert asyncio.run(ask()) == [200, 200, 429, 429, 429]


def test_old_clients_are_forgotten_and_their_number_is_bounded() -> None:
    now = 0.0
    buckets = Buckets(per_minute=60, burst=2, clock=lambda: now, most=100)
    for number in range(1000):
        assert buckets.take(f"client {number}") == 0
    assert len(buckets) == 100
    assert buckets.take("client 999") == 0 and buckets.take("client 999") == pytest.approx(1)
    now = 3.0
    assert buckets.take("new") == 0
    assert len(buckets) == 1


def test_a_bucket_fills_at_its_rate_and_no_further() -> None:
    now = 0.0
    buckets = Buckets(per_minute=30, burst=2, clock=lambda: now)
    assert [buckets.take("x") for _ in range(3)] == [0, 0, 2]
    now = 1.0
    assert buckets.wait("x") == 1
    now = 1000.0
    assert [buckets.take("x") for _ in range(3)] == [0, 0, 2]


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("::ffff:192.0.2.7", 5), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("testclient", 5), "testclient"),
        (None, "local"),
    ],
)
def test_a_client_without_a_key_is_its_address_or_its_ipv6_network(client: tuple[str, int] | None, name: str) -> None:
    assert address_of({"type": "http", "client": client}) == name


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(serve: Serve) -> str:
    return serve(body_bytes=1000, body_bytes_at={"/upload": 5000}, body_seconds=0.6, body_rate=1000)


def test_a_body_up_to_the_limit_passes_whole(narrow: str) -> None:
    assert httpx.post(narrow, content=b"x" * 1000).text == "1000"
    assert httpx.post(f"{narrow}/upload", content=b"x" * 5000).text == "5000"


@pytest.mark.parametrize("path", ["/", "/v1/chat"])
def test_a_body_above_the_limit_is_refused(narrow: str, path: str) -> None:
    assert httpx.post(f"{narrow}{path}", content=b"x" * 1001).status_code == 413
    assert httpx.post(f"{narrow}/upload", content=b"x" * 5001).status_code == 413


def test_a_body_in_chunks_is_counted_as_it_comes(narrow: str) -> None:
    assert httpx.post(narrow, content=iter([b"x" * 500] * 2)).text == "1000"
    answer = httpx.post(f"{narrow}/v1/chat", content=iter([b"x" * 500] * 40))
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"


def raw(url: str, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What the server answers to these bytes."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        with contextlib.suppress(BrokenPipeError):  # it may answer and close before it has heard all
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


@pytest.mark.parametrize("length", ["-1", "1e9", "99999999999999999999999999", "0x10", "٣"])
def test_a_length_that_is_none_or_huge_is_refused(narrow: str, length: str) -> None:
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode()
    assert raw(narrow, head).split()[1] in (b"400", b"413")


def test_bytes_beyond_the_declared_length_are_no_part_of_the_body(narrow: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    answer = raw(narrow, head + b"x" * 900)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n3")


def test_a_body_that_drips_is_cut_off(narrow: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
    started = time.monotonic()
    assert raw(narrow, head, *[b"x"] * 6, pause=0.15).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 3


def test_a_long_body_on_a_slow_line_passes(narrow: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
    assert raw(narrow, head, *[b"x" * 100] * 10, pause=0.12).endswith(b"\r\n\r\n1000")


# ---- headers ---------------------------------------------------------------------------------------------------------


def test_every_answer_has_the_headers_refusals_too(plain: str) -> None:
    for answer in (httpx.get(plain), httpx.get(f"{plain}/nowhere"), httpx.get(plain, headers={"Host": "evil.example"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_visitors_file_opened_by_itself_is_a_sandbox(plain: str) -> None:
    assert httpx.get(f"{plain}/files=x").headers["content-security-policy"].startswith("sandbox; default-src 'none'")
