"""Fetching: listed hosts only, public addresses only, the checked address and no other, within size and time."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mminstruct.errors import ConfigError, MediaError
from mminstruct.media import Gate, GateLimits
from mminstruct.media.addresses import is_public
from mminstruct.media.fetch import Fetcher, FetchLimits

MEGABYTE = 2**20


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 30, 30)).save(stream, "PNG")
    return stream.getvalue()


def answer(body: bytes, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n".encode() + body


class Server:
    """Answers on a port of this machine, by path; keeps what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[bytes] = []
        self.answers: dict[str, Callable[[socket.socket], None]] = {}
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def gives(self, path: str, *pieces: bytes, pause: float = 0.0) -> None:
        def write(connection: socket.socket) -> None:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)

        self.answers[path] = write

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                question = b""
                while b"\r\n\r\n" not in question:
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    question += piece
                self.asked.append(question)
                self.answers[question.split()[1].decode()](connection)
        except OSError:  # the other side has hung up
            pass

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # which wakes the thread that waits for the next one
        self._socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.gives("/a.png", answer(png()))
    yield server
    with contextlib.suppress(OSError):  # a test has closed it
        server.close()


def loopback(address: str) -> bool:
    return address == "127.0.0.1"


def fetcher(server: Server, **limits: float) -> Fetcher:
    """One that reaches this machine under a name, as if it were a host of the web."""
    return Fetcher(
        [f"images.example.org:{server.port}", "images.example.org"],
        FetchLimits(**limits),  # type: ignore[arg-type]
        resolver=lambda host, port: ["127.0.0.1"],
        public=loopback,
    )


def at(server: Server, path: str = "/a.png") -> str:
    return f"http://images.example.org:{server.port}{path}"


def refused(fetch: Fetcher, url: str, most: int = MEGABYTE) -> str:
    with pytest.raises(MediaError) as caught:
        fetch.fetch(url, "image 1", most)
    message = str(caught.value)
    assert message.startswith("image 1 ") and "\n" not in message and len(message) < 250
    assert "example.org" not in message and caught.value.__cause__ is None
    return message


def test_a_picture_comes_through_the_gate(server: Server) -> None:
    with Gate(fetch=fetcher(server)).request() as request:
        opened = request.open("image", at(server, "/a.png"))
        assert isinstance(opened, Image.Image) and opened.size == (20, 10)
    (asked,) = server.asked
    head = asked.decode().lower()
    assert f"host: images.example.org:{server.port}\r\n" in head
    assert "cookie" not in head and "authorization" not in head and "accept-encoding: identity" in head


def test_what_comes_is_judged_by_its_first_bytes(server: Server) -> None:
    server.gives("/page", answer(b"<html>inner page</html>", headers="Content-Type: image/png\r\n"))
    gate = Gate(fetch=fetcher(server))
    with gate.request() as request, pytest.raises(MediaError, match=r"^image 1 of the request is not a JPEG"):
        request.open("image", at(server, "/page"))


def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetcher(server).fetch(at(server), "image 1", MEGABYTE) == png()


# --- which hosts ------------------------------------------------------------------------------------------------------


def test_hosts_that_are_listed() -> None:
    fetch = Fetcher(
        ["images.example.org", "*.wide.example", "odd.example:8080", "[2001:db8::1]", "Upper.Example"],
        resolver=lambda host, port: ["10.0.0.1"],
    )
    for url in (
        "http://images.example.org/a",
        "https://IMAGES.example.org:443/a",
        "https://a.wide.example",
        "https://a.b.wide.example?x",
        "http://odd.example:8080/",
        "http://[2001:db8::1]/",
        "http://upper.example/",
    ):
        assert "private network" in refused(fetch, url), url  # which is found out of listed hosts only
    for url in (
        "http://example.org/",
        "http://a.images.example.org/",
        "http://images.example.org.evil.example/",
        "http://evilwide.example/",
        "http://wide.example/",
        "http://images.example.org./",
        "http://odd.example/",
        "http://images.example.org:22/",
        "http://images.example.org:8080/",
        "http://[2001:db8::2]/",
    ):
        assert "does not fetch from" in refused(fetch, url), url


@pytest.mark.parametrize("host", ["*", "*.org", "http://a.example", "a.example/", "", "a b", "user@a.example", "a..:x"])
def test_entries_that_are_no_hosts(host: str) -> None:
    with pytest.raises(ConfigError, match="is no host to fetch media from"):
        Fetcher([host])


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://images.example.org/a", "no http or https URL"),
        ("file:///etc/passwd", "no http or https URL"),
        ("http:///a", "no http or https URL"),
        ("http://user:word@images.example.org/", "user name"),
        ("http://images.example.org@127.0.0.1/", "user name"),
        ("http://@images.example.org/", "user name"),
        ("http://images.example.org\\@127.0.0.1/", "characters"),
        ("http://images.example.org/a b", "characters"),
        ("http://images.example.org/\r\nX: y", "characters"),
        ("http://images.example.org/\t", "characters"),
        ("http://bücher.example/", "characters"),
        ("http://[::1/", "no valid URL"),
        ("http://images.example.org:99999/", "no valid URL"),
        ("http://images.example.org:x/", "no valid URL"),
        ("http://images.example.org/" + "a" * 10_000_000, "more than 2,048 characters"),
    ],
)
def test_urls_that_are_refused(url: str, problem: str) -> None:
    fetch = Fetcher(["images.example.org", "127.0.0.1"], resolver=lambda host, port: pytest.fail("it was resolved"))
    assert problem in refused(fetch, url)


# --- which addresses --------------------------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.5.5", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "100::1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:6440:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::6440:1",
    "64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::", "2001:0:7f00:1::", "2001:0:808:808:0:0:80ff:fffe",
    "4000::1", "", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "010.0.0.1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8", "64:ff9b::808:808",
          "2002:808:808::1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2a00:1450::1"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_public_in_every_wrapping_or_in_none(number: int) -> None:
    v4 = ipaddress.IPv4Address(number)
    wrapped = [0xFFFF << 32 | number, 0x2002 << 112 | number << 80 | 1, 0x64FF9B << 96 | number]
    assert {is_public(str(ipaddress.IPv6Address(value))) for value in wrapped} == {is_public(str(v4))}


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1/a", "127.0.0.1"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("http://100.64.0.1/", "100.64.0.1"),
        ("http://[::1]/", "[::1]"),
        ("http://[::ffff:127.0.0.1]/", "[::ffff:127.0.0.1]"),
        ("http://[64:ff9b::7f00:1]/", "[64:ff9b::7f00:1]"),
        ("http://[64:ff9b:1::7f00:1]/", "[64:ff9b:1::7f00:1]"),
        ("http://[2002:7f00:1::]/", "[2002:7f00:1::]"),
        ("http://0x7f.1/", "0x7f.1"),
        ("http://2130706433/", "2130706433"),
        ("http://127.1/", "127.1"),
        ("http://localhost/", "localhost"),
        ("http://0/", "0"),
    ],
)
def test_addresses_of_this_network_are_refused_listed_or_not(url: str, host: str) -> None:
    """With the system's own resolver, which takes numbers in all their spellings and asks nobody for them."""
    assert "does not fetch from" in refused(Fetcher(["images.example.org"]), url)
    message = refused(Fetcher([host]), url)
    assert "private network" in message or "could not be fetched" in message


@pytest.mark.parametrize("found", [["8.8.8.8", "127.0.0.1"], ["::1", "2a00:1450::1"], ["8.8.8.8"] * 9 + ["10.0.0.1"]])
def test_one_private_address_among_public_ones_is_enough(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it was connected to"))
    fetch = Fetcher(["images.example.org"], resolver=lambda host, port: found)
    assert "private network" in refused(fetch, "https://images.example.org/")


def test_a_name_that_changes_its_meaning_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver says a public address first and 127.0.0.1 from then on; the connection goes to the first."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []
    connected: list[object] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    def create_connection(address: object, timeout: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    fetch = Fetcher(["images.example.org"], resolver=resolver)
    assert "could not be fetched" in refused(fetch, "http://images.example.org/")
    assert asked == ["images.example.org"] and connected == [("93.184.215.14", 80)]
    assert "private network" in refused(fetch, "http://images.example.org/")
    assert len(connected) == 1


def test_the_next_address_is_tried_where_one_does_not_answer(server: Server) -> None:
    fetch = Fetcher(
        [f"images.example.org:{server.port}"],
        resolver=lambda host, port: ["127.0.0.2", "127.0.0.1"],
        public=lambda address: address.startswith("127."),
    )
    assert fetch.fetch(at(server), "image 1", MEGABYTE) == png()


# --- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent", "304 Same"])
@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/a.png", "/a.png", "file:///etc/passwd"])
def test_redirects_are_not_followed(status: str, target: str, server: Server) -> None:
    location = f"Location: {target.format(port=server.port)}\r\n"
    server.gives("/moved", answer(b"", status, location))
    assert "said to lie elsewhere" in refused(fetcher(server), at(server, "/moved"))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oh", "401 Key", "206 Partial", "204 None"])
def test_other_answers_than_a_whole_file(status: str, server: Server) -> None:
    server.gives("/gone", answer(b"", status))
    assert f"is not there (status {status[:3]})" in refused(fetcher(server), at(server, "/gone"))


def test_size_is_limited_as_stated_and_as_it_comes(server: Server) -> None:
    server.gives("/stated", answer(b"", length=10**12))
    server.gives("/endless", b"HTTP/1.1 200 OK\r\n\r\n", *([b"x" * 65536] * 1000))
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    server.gives("/chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *([chunk] * 1000))
    for path in ("/stated", "/endless", "/chunked"):
        assert "more than the 100,000 bytes" in refused(fetcher(server), at(server, path), 100_000)
    assert fetcher(server).fetch(at(server), "image 1", len(png())) == png()
    assert "more than the" in refused(fetcher(server), at(server), len(png()) - 1)


def test_a_body_that_breaks_off(server: Server) -> None:
    server.gives("/half", answer(b"half", length=100))
    assert "broke off" in refused(fetcher(server), at(server, "/half"))


def test_a_packed_body_is_not_unpacked(server: Server) -> None:
    server.gives("/packed", answer(b"\x1f\x8b" + bytes(100), headers="Content-Encoding: gzip\r\n"))
    assert "comes compressed" in refused(fetcher(server), at(server, "/packed"))


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                                  b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000])  # fmt: skip
def test_answers_that_are_no_http(said: bytes, server: Server) -> None:
    server.gives("/odd", said)
    assert "could not be fetched" in refused(fetcher(server), at(server, "/odd"))


def test_a_host_that_does_not_answer_or_does_not_exist(server: Server) -> None:
    server.close()
    assert "could not be fetched" in refused(fetcher(server), at(server))

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    fetch = Fetcher(["images.example.org"], resolver=unknown)
    assert "could not be fetched" in refused(fetch, "http://images.example.org/")


@pytest.mark.parametrize("part", ["header", "body", "chunks"])
def test_what_drips_in_ends_with_the_time(part: str, server: Server) -> None:
    drops = [b"x"] * 200
    if part == "header":
        server.gives("/drip", b"HTTP/1.1 200 OK\r\nX: ", *drops, pause=0.05)
    elif part == "body":
        server.gives("/drip", b"HTTP/1.1 200 OK\r\n\r\n", *drops, pause=0.05)
    else:
        server.gives("/drip", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *([b"0"] * 200), pause=0.05)
    before = threading.active_count()
    started = time.monotonic()
    assert "did not arrive within 0.4 seconds" in refused(fetcher(server, total=0.4), at(server, "/drip"))
    assert time.monotonic() - started < 3
    _ends(before + 1)  # the server's own drips on


def _ends(most: int) -> None:
    """The thread that fetched is gone soon."""
    deadline = time.monotonic() + 5
    while threading.active_count() > most:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_silence_ends_before_the_time_in_all(server: Server) -> None:
    server.gives("/silent", b"HTTP/1.1 200 OK\r\n\r\n", pause=20)
    started = time.monotonic()
    assert "could not be fetched" in refused(fetcher(server, read=0.3), at(server, "/silent"))
    assert time.monotonic() - started < 5


def test_a_resolver_that_hangs_ends_with_the_time() -> None:
    over = threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        over.wait(30)
        return []

    fetch = Fetcher(["images.example.org"], FetchLimits(total=0.2), resolver=hangs)
    assert "did not arrive within 0.2 seconds" in refused(fetch, "http://images.example.org/")
    over.set()


def test_fetching_time_is_counted_over_the_request(server: Server) -> None:
    server.gives("/slow", b"HTTP/1.1 200 OK\r\n", pause=20)
    with Gate(GateLimits(seconds=0.3), fetcher(server)).request() as request:
        with pytest.raises(MediaError, match=r"did not arrive within 0.3 seconds"):
            request.open("image", at(server, "/slow"))
        with pytest.raises(MediaError, match=r"its media take more than 0.3 seconds to fetch"):
            request.open("image", at(server))


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of `images.example.org`, of one's own making."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-days", "2", "-keyout", "-", "-out", "-"]
    names = ["-subj", "/CN=images.example.org", "-addext", "subjectAltName=DNS:images.example.org"]
    try:
        made = subprocess.run([*command, *files, *names], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    path.write_bytes(made.stdout)
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Server(context)
    server.gives("/a.png", answer(png()))
    yield server
    server.close()


def test_certificates_are_checked_against_the_name_and_not_the_address(secure: Server, certificate: Path) -> None:
    def fetch(host: str, context: ssl.SSLContext | None) -> Fetcher:
        return Fetcher(
            [f"{host}:{secure.port}"], resolver=lambda host, port: ["127.0.0.1"], public=loopback, context=context
        )

    known = ssl.create_default_context(cafile=str(certificate))
    url = f"https://images.example.org:{secure.port}/a.png"
    assert fetch("images.example.org", known).fetch(url, "image 1", MEGABYTE) == png()
    assert "could not be fetched" in refused(fetch("images.example.org", None), url)  # nobody vouches for it
    other = f"https://other.example.net:{secure.port}/a.png"
    assert "could not be fetched" in refused(fetch("other.example.net", known), other)
