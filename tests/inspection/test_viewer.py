"""`mminstruct data view`: what a page shows and finds, what the server gives out, and the page in a real browser."""

from __future__ import annotations

import base64
import http.client
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.building.logged import LoggedCalls
from mminstruct.conversation import Conversation, Media, Preference, VideoPart, image, message
from mminstruct.errors import ConfigError, DataError
from mminstruct.inspection.records import Wanted, find, open_records
from mminstruct.inspection.viewer import Server, Viewer
from tests.command import call
from tests.evaluation.test_report import Page as ReportPage

NASTY = "<script>document.title='owned'</script> <img src=http://192.0.2.1/a.png> \"quoted\" & {{ 7 * 7 }}"
BOX = (0.25, 0.5, 0.75, 0.9)


class Page(ReportPage):
    VOID = (*ReportPage.VOID, "input")  # type: ignore[assignment]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("view") / "set"
    run(load_builder("llava", ["scenes=12"]), out)
    return out


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile texts, evidence, a pair, a secret that a record names, a picture in a data URI, one that is not there."""
    out = tmp_path_factory.mktemp("nasty") / "set"
    folder = out.parent
    picture = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(picture).rectangle((50, 50, 150, 90), fill="navy")
    picture.save(folder / "a.png")
    picture.save(folder / "a.tiff")
    (folder / "secret.txt").write_text("the secret")
    (folder / "page.html").write_text("<script>alert(1)</script>")
    uri = "data:image/png;base64," + base64.b64encode((folder / "a.png").read_bytes()).decode()
    facts = {
        "instances": [{"category": f"box {NASTY}", "bbox": list(BOX)}],
        "lines": [{"text": "STOP", "quad": [[0.1, 0.1], [0.3, 0.2], [0.3, 0.3], [0.1, 0.2]]}],
        "captions": ["A blue box."],
    }
    turns = [message("user", image(), NASTY), message("assistant", "Blue.")]
    sides = Preference(
        chosen=[message("assistant", "The better one.")], rejected=[message("assistant", "The worse one.")]
    )
    given = [
        Conversation(
            id=f"<b>{NASTY}",
            messages=turns,
            media=[Media(path="../a.png")],
            task=NASTY,
            extra={"facts": facts},
            preference=sides,
        )
    ]
    for number, path in enumerate(("../secret.txt", "../page.html", "../missing.png", uri, "../a.tiff", "/etc/passwd")):
        given.append(Conversation(id=f"m{number}", messages=turns, media=[Media(path=path)], options=["Blue.", "Red."]))
    formats.write(given, out, "native")
    return out


def texts(page: str) -> list[str]:
    """The ids of the articles; the whole page is well formed."""
    Page(page)
    return re.findall(r'<article id="n(\d+)">', page)


def viewer(path: Path, tmp_path: Path, **options: int) -> Viewer:
    return Viewer(open_records(path, tmp_path / "cache"), "a set", **options)  # type: ignore[arg-type]


def test_pages_lead_through_the_set_and_back(built: Path, tmp_path: Path) -> None:
    shown = viewer(built, tmp_path, each=10)
    seen: list[str] = []
    query: dict[str, str] = {}
    for _ in range(4):
        page = shown.page(query)
        seen += texts(page)
        later = re.search(r'class="later" href="/\?from=(\d+)"', page)
        query = {"from": later[1]} if later else {}
    assert seen == [str(number) for number in range(36)] and not query
    back = re.search(r'class="earlier" href="/\?until=(\d+)"', page)
    assert back is not None and texts(shown.page({"until": back[1]})) == [str(number) for number in range(20, 30)]
    assert texts(shown.page({"from": "999"})) == ["35"] and texts(shown.page({"from": "x"}))[0] == "0"


def test_what_is_looked_for_is_found_with_its_links(built: Path, tmp_path: Path) -> None:
    shown = viewer(built, tmp_path, each=5)
    given = list(formats.read(built))
    wanted = [str(n) for n, one in enumerate(given) if one.task == "llava+detail"]
    first = shown.page({"task": "DETAIL"})
    assert texts(first) == wanted[:5] and shown.tasks == ["llava+conversation", "llava+detail", "llava+reasoning"]
    later = re.search(r'class="later" href="/\?task=DETAIL&amp;from=(\d+)"', first)
    assert later is not None and texts(shown.page({"task": "DETAIL", "from": later[1]})) == wanted[5:10]
    word = given[7].messages[1].text.split()[-1].rstrip(".")
    hits = [str(n) for n, one in enumerate(given) if any(word.lower() in m.text.lower() for m in one.messages)]
    assert texts(shown.page({"text": word.upper()})) == hits[:5] and "7" in hits
    assert texts(shown.page({"id": "/11/reasoning"})) == ["35"]
    assert "Nothing here" in shown.page({"text": "no such text"})


def test_records_of_other_formats_and_broken_ones(built: Path, tmp_path: Path) -> None:
    given = list(formats.read(built))[:6]
    formats.write(formats.relocate(given, built, tmp_path), tmp_path / "set.json", "llava")
    records = open_records(tmp_path / "set.json", tmp_path / "cache")
    assert [one.id for _, one in find(records, Wanted(), 0, 9).shown if isinstance(one, Conversation)] == [
        g.id for g in given
    ]
    formats.write(given, tmp_path / "set", "native")
    shard = tmp_path / "set/shard-00000.jsonl"
    lines = shard.read_text().splitlines(keepends=True)
    shard.write_text(lines[0] + "{broken\n" + lines[2])
    records = open_records(tmp_path / "set", tmp_path / "cache")
    assert isinstance(find(records, Wanted(), 0, 9).shown[1][1], DataError) and len(records) == 3
    page = viewer(tmp_path / "set", tmp_path).page({})
    assert texts(page) == ["0", "1", "2"] and "shard-00000.jsonl:2 is not JSON" in page


def test_a_page_shows_evidence_pairs_and_what_was_asked(built: Path, nasty: Path, tmp_path: Path) -> None:
    page = viewer(nasty, tmp_path).page({})
    assert '<polygon class="c0" points="25.00,50.00 75.00,50.00 75.00,90.00 25.00,90.00">' in page
    assert '<polygon class="c1" points="10.00,10.00 30.00,20.00 30.00,30.00 10.00,20.00">' in page
    assert page.count("<polygon") == 2 and "A blue box." in page
    assert (
        page.index("chosen</h3>")
        < page.index("The better one.")
        < page.index("rejected</h3>")
        < page.index("The worse one.")
    )
    log = LoggedCalls(built / "calls.sqlite")
    page = Viewer(open_records(built, tmp_path / "cache"), "a set", log).page({"id": "scenes/0/3/detail"})
    (asked,) = re.findall(r'<details class="call">.*?</details>', page, re.DOTALL)
    assert "llava/detail@2, template (template)" in asked and "Describe the picture in one full paragraph" in asked
    (one,) = [one for one in formats.read(built) if one.id == "llava/scenes/0/3/detail"]
    assert one.messages[1].text in asked


def test_nothing_of_a_record_is_markup(nasty: Path, tmp_path: Path) -> None:
    page = viewer(nasty, tmp_path).page({"text": "{{ 7 * 7 }}", "id": "<b>"})
    found = Page(page)
    assert "script" not in found.tags and "49" not in page
    assert [address for address in found.addresses if address not in ("/", "/media/0/0")] == []


@pytest.fixture(scope="module")
def served(nasty: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    records = open_records(nasty, tmp_path_factory.mktemp("cache"))
    with Server(Viewer(records, "a set")) as server:
        server.start()
        yield server
        server.shutdown()


def get(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def test_only_pictures_and_videos_that_records_name_are_served(served: Server, nasty: Path) -> None:
    status, headers, body = get(served, "/media/0/0")
    assert (status, headers["content-type"], body) == (200, "image/png", (nasty.parent / "a.png").read_bytes())
    assert headers["x-content-type-options"] == "nosniff" and "default-src 'none'" in headers["content-security-policy"]
    assert get(served, "/media/4/0")[2] == body  # the data URI
    assert get(served, "/media/5/0")[2].startswith(b"\x89PNG")  # TIFF, which browsers do not show
    for path in ("/media/1/0", "/media/2/0", "/media/3/0", "/media/6/0", "/media/0/1", "/media/99/0"):
        status, _, body = get(served, path)
        assert status == 404 and b"secret" not in body.replace(b"secret.txt", b"") and b"root:" not in body
    for path in ("/../a.png", "/media/0/0/../../secret.txt", "/secret.txt", "/media/-1/0", "/a.ico"):
        assert get(served, path)[0] == 404
    assert get(served, "/")[0] == 200 and get(served, "/?from=1%00&text=%ff&until=3")[0] == 200


def test_a_part_of_a_file_is_served_as_players_ask_for_it(served: Server, nasty: Path) -> None:
    whole = (nasty.parent / "a.png").read_bytes()
    for asked, start, end in (
        ("bytes=0-9", 0, 10),
        ("bytes=5-", 5, len(whole)),
        ("bytes=-7", len(whole) - 7, len(whole)),
    ):
        status, headers, body = get(served, "/media/0/0", Range=asked)
        assert (status, body) == (206, whole[start:end])
        assert headers["content-range"] == f"bytes {start}-{end - 1}/{len(whole)}"
    assert get(served, "/media/0/0", Range="bytes=999999-")[0] == 416


def test_other_computers_and_other_names_get_nothing(served: Server, nasty: Path, tmp_path: Path) -> None:
    assert (
        get(served, "/", Host="evil.example")[0] == 403 and get(served, "/media/0/0", Host="evil.example:80")[0] == 403
    )
    assert get(served, "/", Host="localhost:7861")[0] == 200
    with pytest.raises(ConfigError, match="add --allow-public"):
        Server(viewer(nasty, tmp_path), host="0.0.0.0")


def test_a_page_of_its_own_needs_no_server(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    code, printed, _ = call("data", "view", built, "--export", out, "--samples", 5)
    assert (code, printed) == (0, f"{out}: 5 of 36 conversations\n")
    page = Page(out.read_text(encoding="utf-8"))
    assert len(page.addresses) == 5 and all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert texts(out.read_text(encoding="utf-8")) == ["0", "7", "14", "21", "28"]
    assert call("data", "view", built, "--export", out)[0] == 2


def test_a_video_is_a_player_and_in_a_copy_its_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (30 * number, 0, 0)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    turns = [message("user", VideoPart(index=0), "What?"), message("assistant", "It grows red.")]
    given = Conversation(id="clip", messages=turns, media=[Media(kind="video", path="../clip.mp4")])
    formats.write([given], tmp_path / "set", "native")
    shown = viewer(tmp_path / "set", tmp_path)
    assert 'src="/media/0/0"' in shown.page({}) and "<video controls" in shown.page({})
    kind, stream_ = shown.medium(0, 0)
    with stream_:
        assert kind == "video/mp4" and stream_.read() == (tmp_path / "clip.mp4").read_bytes()
    assert call("data", "view", tmp_path / "set", "--export", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").read_text().count('<img src="data:image/') == 4


def test_the_page_in_a_browser(served: Server, chrome: Browser) -> None:
    """Hostile text is text, boxes lie where they are, the search works, and no request leaves this computer."""
    context = chrome.new_context(viewport={"width": 1000, "height": 900})
    tab = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda note: complaints.append(note.text) if note.type == "error" else None)
    tab.goto(served.url)
    assert tab.title() == "a set"
    assert NASTY in tab.locator("#n0 .said").first.inner_text() and NASTY in tab.locator("#n0 .marks").inner_text()
    picture = tab.locator("#n0 .picture img")
    assert picture.evaluate("e => e.naturalWidth") == 200
    outer, drawing = picture.bounding_box(), tab.locator("#n0 svg").bounding_box()
    assert outer is not None and drawing == pytest.approx(outer, abs=1)
    box = tab.locator("#n0 polygon").first.evaluate(
        "e => (b => [b.x, b.y, b.x + b.width, b.y + b.height])(e.getBBox())"
    )
    assert [edge / 100 for edge in box] == pytest.approx(BOX, abs=0.001)
    if target := os.environ.get("MMINSTRUCT_SCREENSHOT"):
        tab.screenshot(path=target)
    tab.locator("input[name=id]").fill("m3")
    tab.get_by_role("button", name="find").click()
    assert tab.locator("article").count() == 1 and "m3" in tab.locator("article h2").inner_text()
    assert [url for url in requests if not url.startswith((served.url, "data:"))] == []
    # Media that are not there are all that the browser may complain of, and the icon that nobody has.
    assert all("404" in note for note in complaints), complaints
    width, inner = tab.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.documentElement)")
    assert width <= inner
    context.close()
