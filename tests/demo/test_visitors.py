"""Visitors: one chat per tab, bounded in number and size, answers stopped when they are overtaken or left."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from mminstruct.demo.page import Page
from mminstruct.demo.visitors import MAX_IMAGES, MAX_PIXELS, MAX_VISITORS, Run, Visitors
from mminstruct.errors import MediaError
from mminstruct.serving.chat import NO_FRAMING, Turn
from mminstruct.serving.generator import Generator


def test_each_tab_has_its_own_chat(generator: Generator) -> None:
    visitors = Visitors(generator, NO_FRAMING)
    assert visitors.get("a") is visitors.get("a") is not visitors.get("b")


def test_the_longest_unused_chat_goes_first_and_its_answer_stops(generator: Generator) -> None:
    visitors = Visitors(generator, NO_FRAMING)
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


def test_a_new_answer_stops_the_one_before(generator: Generator) -> None:
    visitor = Visitors(generator, NO_FRAMING).get("a")
    first, second = Run(), Run()
    visitor.begin(first)
    visitor.begin(second)
    assert first.cancel.is_set() and not second.cancel.is_set()
    visitor.end(first)
    assert visitor.current is second
    visitor.end(second)
    assert visitor.current is None


def test_a_closed_tab_stops_its_answer_and_an_unknown_one_is_no_error(generator: Generator) -> None:
    visitors = Visitors(generator, NO_FRAMING)
    run = Run()
    visitors.get("a").begin(run)
    visitors.gone("b")
    visitors.gone("a")
    assert run.cancel.is_set()


def test_images_of_a_chat_are_bounded(generator: Generator) -> None:
    visitor = Visitors(generator, NO_FRAMING).get("a")
    visitor.chat.turns = [Turn("?", media=[Image.new("1", (10, 10))] * (MAX_IMAGES - 1))]
    visitor.require_room(1, 100)
    with pytest.raises(MediaError, match=f"limit of {MAX_IMAGES}"):
        visitor.require_room(2, 100)
    with pytest.raises(MediaError, match="million pixels"):
        visitor.require_room(1, MAX_PIXELS)


def test_a_made_up_path_is_never_read(served: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client of one's own could send it: outside of the uploads, or through a link out of them."""
    toasts: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: toasts.append(message))
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    link = served._uploads / "link.png"
    link.symlink_to(secret)
    request = SimpleNamespace(session_hash="made-up")
    for path in (secret, link, served._uploads / "nothing.png", served._uploads / ".." / ".." / "etc" / "passwd"):
        updates = list(served.send({"text": "?", "files": [str(path)]}, 5, 0, 1, request))
        assert len(updates) == 1
        assert "no upload of this page" in toasts.pop()
    assert served.visitors.get("made-up").chat.turns == []
    link.unlink()


def test_settings_from_a_client_of_ones_own_are_clamped(served: Page) -> None:
    request = SimpleNamespace(session_hash="clamped")
    updates = list(served.send({"text": "Hello?", "files": []}, -5, -1, 99, request))
    assert "wrote <b>1</b> tokens" in updates[-1][2]


def test_pictures_go_with_their_chat(served: Page) -> None:
    folder = served._pictures
    before = set(folder.iterdir())
    upload = served._uploads / "upload.png"
    Image.new("RGB", (2000, 1000), "green").save(upload)
    request = SimpleNamespace(session_hash="pictures")
    list(served.send({"text": "?", "files": [str(upload)]}, 3, 0, 1, request))
    (new,) = set(folder.iterdir()) - before
    assert max(Image.open(new).size) == 1024
    served.clear(request)
    gc.collect()
    assert set(folder.iterdir()) == before
