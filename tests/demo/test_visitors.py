"""Visitors: one chat per tab, bounded in number and size, answers stopped when they are overtaken or left."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from mminstruct.demo.page import Page
from mminstruct.demo.visitors import MAX_MEDIA, MAX_VISITORS, Run, Visitors
from mminstruct.errors import MediaError
from mminstruct.media import Video
from mminstruct.serving.chat import NO_FRAMING, Turn
from mminstruct.serving.models import Models

SETTINGS = (5, 0, 1, 0, 0, 1, "", "", "")


def visitor(tab: str) -> Any:
    """A request of this tab."""
    return SimpleNamespace(session_hash=tab)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_each_tab_has_its_own_chat(models: Models) -> None:
    visitors = Visitors(models, NO_FRAMING)
    assert visitors.get("a") is visitors.get("a") is not visitors.get("b")


def test_the_longest_unused_chat_goes_first_and_its_answer_stops(models: Models) -> None:
    visitors = Visitors(models, NO_FRAMING)
    first, second = visitors.get("0"), visitors.get("1")
    runs = [Run(), Run()]
    first.begin(runs[0])
    second.begin(runs[1])
    for number in range(2, MAX_VISITORS):
        visitors.get(str(number))
    visitors.get("0")
    visitors.get("one more")
    assert runs[1].cancel.is_set() and not runs[0].cancel.is_set()
    assert visitors.get("0") is first
    assert visitors.get("1") is not second


def test_a_new_answer_stops_the_one_before(models: Models) -> None:
    visitor = Visitors(models, NO_FRAMING).get("a")
    first, second = Run(), Run()
    visitor.begin(first)
    visitor.begin(second)
    assert first.cancel.is_set() and not second.cancel.is_set()
    visitor.end(first)
    assert visitor.current is second
    visitor.end(second)
    assert visitor.current is None


def test_a_closed_tab_stops_its_answer_and_an_unknown_one_is_no_error(models: Models) -> None:
    visitors = Visitors(models, NO_FRAMING)
    run = Run()
    visitors.get("a").begin(run)
    visitors.gone("b")
    visitors.gone("a")
    assert run.cancel.is_set()


def test_a_visitor_who_left_is_forgotten_unless_the_tab_comes_back(models: Models) -> None:
    forgotten: list[str] = []
    visitors = Visitors(models, NO_FRAMING, grace=0.05, forgotten=forgotten.append)
    first, second = visitors.get("a"), visitors.get("b")
    visitors.grace = 30
    visitors.gone("b")
    assert visitors.get("b") is second
    visitors.grace = 0.05
    visitors.gone("a")
    until(lambda: forgotten == ["a"])
    assert visitors.get("a") is not first
    assert visitors.get("b") is second


def test_media_of_a_chat_are_bounded(models: Models) -> None:
    visitor = Visitors(models, NO_FRAMING).get("a")
    small = Image.new("1", (10, 10))
    visitor.chat.turns = [Turn("?", media=[small] * (MAX_MEDIA - 1))]
    visitor.require_room([small])
    with pytest.raises(MediaError, match=f"limit of {MAX_MEDIA}"):
        visitor.require_room([small, small])
    frame = Image.new("1", (4000, 4000))
    visitor.chat.turns = []
    visitor.require_room([Video((frame,) * 4, (0.0, 1.0, 2.0, 3.0))])
    with pytest.raises(MediaError, match="million pixels"):
        visitor.require_room([Video((frame,) * 4, (0.0, 1.0, 2.0, 3.0)), small])


def test_a_made_up_path_is_never_read(served: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client of one's own could send it: outside of the uploads, or through a link out of them."""
    toasts: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: toasts.append(message))
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    uploads = served.context.uploads.folder
    link = uploads / "link.png"
    link.symlink_to(secret)
    for path in (secret, link, uploads / "nothing.png", uploads / ".." / ".." / "etc" / "passwd"):
        updates = list(served.chat.send(visitor("made-up"), {"text": "?", "files": [str(path)]}, "nano", *SETTINGS))
        assert len(updates) == 1
        assert "no upload of this page" in toasts.pop()
    assert served.chat.visitors.get("made-up").chat.turns == []
    link.unlink()


@pytest.mark.parametrize(
    ("model", "place", "value", "told"),
    [
        ("nano", 0, -5, "Longest answer"),
        ("nano", 1, "hot", "Temperature"),
        ("nano", 6, "1.5", "Seed"),
        ("nano", 7, "a\n" * 17, "17 stop texts"),
        ("nano", 8, "x" * 20_001, "system text"),
        ("nanno", 0, 5, "no model is called"),
        (None, 0, 5, "no model is chosen"),
    ],
)
def test_settings_that_no_control_gives_are_refused(
    served: Page, monkeypatch: pytest.MonkeyPatch, model: Any, place: int, value: Any, told: str
) -> None:
    toasts: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: toasts.append(message))
    values = [*SETTINGS]
    values[place] = value
    updates = list(served.chat.send(visitor("settings"), {"text": "Hello?", "files": []}, model, *values))
    assert len(updates) == 1
    assert told.lower() in toasts.pop().lower()
    assert served.chat.visitors.get("settings").chat.turns == []


def send(page: Page, tab: str, text: str, *files: Path) -> list[Any]:
    return list(page.chat.send(visitor(tab), {"text": text, "files": [str(file) for file in files]}, "nano", *SETTINGS))


def test_files_go_with_their_chat(served: Page) -> None:
    folder = served.context.uploads.folder
    upload = folder / "hash" / "upload.png"
    upload.parent.mkdir()
    Image.new("RGB", (2000, 1000), "green").save(upload)
    before = set(folder.iterdir())
    send(served, "pictures", "?", upload)
    (new,) = set(folder.iterdir()) - before
    (shown,) = new.rglob("shown/*")
    assert max(Image.open(shown).size) == 1024
    served.chat.clear(visitor("pictures"))
    gc.collect()
    assert set(folder.iterdir()) == before


def test_uploads_are_deleted_after_the_session_but_not_those_that_another_visitor_sent(
    served: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.chat.visitors, "grace", 0.05)
    folder = served.context.uploads.folder
    own, shared = folder / "own" / "a.png", folder / "shared" / "b.png"
    for path in (own, shared):
        path.parent.mkdir()
        Image.new("RGB", (20, 20), "green").save(path)
    send(served, "leaves", "?", own, shared)
    send(served, "stays", "?", shared)
    questions = {path for path in folder.iterdir() if path.name.startswith("question-")}
    served._gone(visitor("leaves"))
    until(lambda: not own.exists())
    assert not own.parent.exists()
    assert shared.exists()
    gc.collect()
    assert len(questions & set(folder.iterdir())) == len(questions) - 1
    served._gone(visitor("stays"))
    until(lambda: not shared.exists())


def test_an_undone_question_keeps_its_files_until_another_is_asked(served: Page) -> None:
    upload = served.context.uploads.folder / "undone.png"
    Image.new("RGB", (20, 20), "green").save(upload)
    send(served, "undo", "What?", upload)
    box = served.chat.undo(visitor("undo"))[1]
    (file,) = box["value"]["files"]
    assert box["value"]["text"] == "What?" and Path(file).is_file()
    send(served, "undo", "And now?", Path(file))
    assert not Path(file).exists()
    assert served.chat.visitors.get("undo").chat.turns[0].attachment.files[0].is_file()
    served.chat.clear(visitor("undo"))
    upload.unlink()
