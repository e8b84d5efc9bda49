"""The page in a real browser, beside the plain chat: other words, Escape, videos, panels, export and import."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mminstruct.demo.page import Page
from mminstruct.serving.generator import Generator
from tests.demo.conftest import Tab, files_below

OpenTab = Callable[..., Tab]


def answered(tab: Tab, number: int) -> None:
    tab.answers.nth(number).wait_for()
    tab.until_answered()


def test_a_video_is_played_and_seen_exported_imported_and_gone_after_the_session(
    open_tab: OpenTab, generator: Generator, served: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.chat.visitors, "grace", 0.2)
    folder = served.context.uploads.folder
    before = files_below(folder)
    tab = open_tab()
    tab.longest_answer(6)
    clip = next(example.files[0] for example in served.chat._examples if example.files[0].suffix == ".mp4")
    upload = tmp_path / "own.mp4"
    upload.write_bytes(clip.read_bytes() + bytes(8))  # another content, so another upload
    tab.ask("Where does it go?", upload)
    answered(tab, 0)
    tab.until(lambda: tab.view.evaluate("document.querySelector('#chat video').videoWidth") == 384)
    tab.until(lambda: tab.view.evaluate("document.querySelector('#chat .image-frame img').naturalWidth") == 1024)
    assert tab.view.get_by_role("button", name="Enlarge 8 frames of video 1").count() == 1

    tab.view.get_by_role("button", name="What the model saw").click()
    tiles = tab.view.locator("#seen-view .mm-tiles img")
    tiles.nth(7).wait_for()
    side = generator.processor.config.image.size
    assert tiles.count() == 8
    tab.until(lambda: tiles.first.evaluate("image => image.naturalWidth") == side)
    assert "Where does it go?" in tab.view.locator("#seen-view pre").inner_text()

    tab.view.get_by_role("button", name="Export and import").click()
    with tab.view.expect_download() as download:
        tab.view.locator("#export").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    with zipfile.ZipFile(file) as archive:
        record = json.loads(archive.read("shard-00000.jsonl"))
        assert archive.read("videos/000.mp4") == upload.read_bytes()
    assert record["messages"][1]["content"][0]["text"] == tab.last_answer
    answer = tab.last_answer
    tab.view.get_by_role("button", name="Clear").click()
    tab.until(lambda: tab.answers.count() == 0)
    tab.view.locator("#import input[type=file], #transfer input[type=file]").set_input_files(str(file))
    tab.answers.first.wait_for()
    assert tab.last_answer == answer and tab.status == "Opened from a file"
    tab.ask("And then?")
    answered(tab, 1)
    assert "1 picture or video among them" in tab.status

    tab.context.close()
    deadline = time.monotonic() + 20
    while left := files_below(folder) - before:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)
