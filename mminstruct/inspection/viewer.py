"""The server behind `mminstruct data view`: pages of conversations and their media, for this computer's browser.

    GET /?from=20&text=bus    a page of conversations          GET /media/20/0    the first medium of number 20

It answers nothing else. A medium is served only if a record names it and its first bytes are those of a picture or a
video, so no other file of this computer can be read through a record that names one; and only to pages that were
reached by an address of this computer, so no site elsewhere can ask through a name of its own (DNS rebinding).
"""

from __future__ import annotations

import http.server
import io
import ipaddress
import re
import threading
import urllib.parse
from http import HTTPStatus
from typing import Any, BinaryIO

from mminstruct.building.logged import LoggedCalls
from mminstruct.errors import ConfigError, DataError, MediaError, RunError
from mminstruct.formats import media_source
from mminstruct.inspection.page import POLICY, render, served, shown
from mminstruct.inspection.records import Records, Wanted, find
from mminstruct.media import decode_base64, image_suffix, open_image

HOST = "127.0.0.1"
_SAMPLE = 2000  # records whose tasks are offered
_SHOWN_BY_BROWSERS = (".png", ".jpeg", ".webp", ".gif", ".bmp")
_VIDEOS = (
    (re.compile(rb"....ftyp", re.DOTALL), "video/mp4"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "video/webm"),
    (re.compile(rb"OggS"), "video/ogg"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "video/x-msvideo"),
    (re.compile(rb"\x00\x00\x01[\xb3\xba]"), "video/mpeg"),
)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK = 1 << 16


class Viewer:
    """What the pages show.

    Args:
        each: conversations on a page.
    """

    def __init__(self, records: Records, title: str, calls: LoggedCalls | None = None, each: int = 10) -> None:
        self.records, self.title, self.calls, self.each = records, title, calls, each
        tasks = set()
        for number in range(min(len(records), _SAMPLE)):
            try:
                tasks.add(records[number].task or "")
            except DataError:
                continue
        self.tasks = sorted(tasks - {""})

    def page(self, query: dict[str, str]) -> str:
        """The page of a query: `text`, `task`, `id`, and `from` or `until`, the number that it begins or ends at."""
        wanted = Wanted(query.get("task", ""), query.get("text", ""), query.get("id", ""))
        backwards = "until" in query
        start = _number(query.get("until" if backwards else "from", "0"), len(self.records))
        found = find(self.records, wanted, start, self.each, backwards=backwards)
        first = found.shown[0][0] if found.shown else start
        last = found.shown[-1][0] if found.shown else found.ended_at
        low, high = (found.ended_at, start) if backwards else (start, found.ended_at)
        if len(found.shown) == self.each:
            low, high = 0 if not backwards and start == 0 else first, last
        return render(
            title=self.title,
            total=len(self.records),
            found=[shown(number, one, served, self.calls) for number, one in found.shown],
            wanted=wanted,
            tasks=self.tasks,
            earlier=_address(query, "until", low - 1) if low > 0 else None,
            later=_address(query, "from", high + 1) if high + 1 < len(self.records) else None,
        )

    def medium(self, number: int, index: int) -> tuple[str, BinaryIO]:
        """(type, stream) of a medium. Raises `MediaError`, `DataError` or `IndexError` where it is not to be had."""
        medium = self.records[number].media[index]
        source = media_source(medium.path, self.records.media_root)
        if isinstance(source, str):
            stream: BinaryIO = io.BytesIO(decode_base64(source.partition(",")[2]))
        else:
            try:
                if not source.is_file():
                    raise MediaError(f"{source} is no file; check the path")
                stream = source.open("rb")
            except (OSError, ValueError):
                raise MediaError(f"{medium.path!r} cannot be read; check the path and its rights") from None
        beginning = stream.read(16)
        stream.seek(0)
        suffix = image_suffix(beginning)
        if suffix in _SHOWN_BY_BROWSERS:
            return f"image/{suffix[1:]}", stream
        if suffix:
            stream.close()
            converted = io.BytesIO()
            open_image(source).save(converted, "PNG")
            converted.seek(0)
            return "image/png", converted
        kind = next((kind for magic, kind in _VIDEOS if magic.match(beginning)), None)
        if kind is None:
            stream.close()
            raise MediaError(f"{medium.path!r} is neither a picture nor a video")
        return kind, stream


def _number(text: str, count: int) -> int:
    return min(int(text), max(count - 1, 0)) if re.fullmatch(r"\d{1,18}", text) else 0


def _address(query: dict[str, str], name: str, number: int) -> str:
    kept = {key: query[key] for key in ("text", "task", "id") if query.get(key)}
    return "/?" + urllib.parse.urlencode(kept | {name: number})


class Server(http.server.ThreadingHTTPServer):
    """The server of a viewer; `url` is its address. Port 0 picks a free one.

    Raises:
        ConfigError: the host is not this computer only and `allow_public` was not given.
        RunError: the port is taken, or the host is not an address of this computer.
    """

    daemon_threads = True

    def __init__(self, viewer: Viewer, host: str = HOST, port: int = 0, allow_public: bool = False) -> None:
        self.viewer = viewer
        self.public = allow_public
        if not (_is_loopback(host) or allow_public):
            raise ConfigError(
                f"--host {host} shows the data set to other computers; leave it out, or add --allow-public if that is "
                f"what you want"
            )
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise RunError(f"port {port} on {host} cannot be used ({error}); give another --port") from None
        self.url = f"http://{host}:{self.server_address[1]}/"

    def start(self) -> threading.Thread:
        """Serve in a thread of its own, until `shutdown`."""
        thread = threading.Thread(target=self.serve_forever, name="viewer", daemon=True)
        thread.start()
        return thread


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "mminstruct"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what somebody looks at is nobody's business."""

    def _answer(self, body: bool) -> None:
        host = self.headers.get("Host", "")
        if not self.server.public and not _is_loopback(re.sub(r":\d+$", "", host)):
            self._text(HTTPStatus.FORBIDDEN, "this page is for this computer only", body)
            return
        parts = urllib.parse.urlsplit(self.path)
        media = re.fullmatch(r"/media/(\d{1,18})/(\d{1,6})", parts.path)
        if media is not None:
            self._media(int(media[1]), int(media[2]), body)
        elif parts.path == "/":
            query = dict(urllib.parse.parse_qsl(parts.query, errors="replace"))
            page = self.server.viewer.page(query).encode("utf-8", "replace")
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", len(page))
            if body:
                self.wfile.write(page)
        elif parts.path == "/favicon.ico":
            self._send(HTTPStatus.OK, "image/x-icon", 0)  # none, but every browser asks for it
        else:
            self._text(HTTPStatus.NOT_FOUND, "there is no such page", body)

    def _media(self, number: int, index: int, body: bool) -> None:
        try:
            kind, stream = self.server.viewer.medium(number, index)
        except (MediaError, DataError, IndexError) as error:
            self._text(HTTPStatus.NOT_FOUND, f"no such medium: {error}", body)
            return
        with stream:
            size = stream.seek(0, io.SEEK_END)
            start, end = 0, size - 1
            asked = _RANGE.fullmatch(self.headers.get("Range", ""))
            status = HTTPStatus.OK
            more = {"Accept-Ranges": "bytes"}
            if asked is not None and (asked[1] or asked[2]):
                start = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
                end = min(end, int(asked[2])) if asked[1] and asked[2] else end
                if start > end:
                    self._text(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "the file is shorter", body)
                    return
                status = HTTPStatus.PARTIAL_CONTENT
                more["Content-Range"] = f"bytes {start}-{end}/{size}"
            self._send(status, kind, end - start + 1, more)
            stream.seek(start)
            left = end - start + 1 if body else 0
            while left > 0 and (piece := stream.read(min(_CHUNK, left))):
                self.wfile.write(piece)
                left -= len(piece)

    def _text(self, status: HTTPStatus, text: str, body: bool) -> None:
        data = text.encode("utf-8", "replace")
        self._send(status, "text/plain; charset=utf-8", len(data))
        if body:
            self.wfile.write(data)

    def _send(self, status: HTTPStatus, kind: str, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(length),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for name, value in (headers | (more or {})).items():
            self.send_header(name, value)
        self.end_headers()
