"""What cannot be done is told in words a person can act on, and leaves nothing behind."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mminstruct.demo.page import Page
from mminstruct.serving.models import Models
from tests.browser.chat_page import ChatPage
from tests.browser.conftest import MAX_FILE_SIZE, OpenPage
from tests.demo.conftest import files_below


def uploaded(served: Page) -> set[Path]:
    """The files of visitors on the disk of the server."""
    return files_below(served.context.uploads.folder)


def refused(page: ChatPage, *words: str) -> str:
    """The message that pops up, which has these words and neither a path nor a traceback."""
    page.message.first.wait_for()
    told = page.message.first.inner_text()
    for word in words:
        assert word in told
    assert "/tmp" not in told and "Traceback" not in told
    return told


def test_a_file_that_is_too_large_is_refused_and_not_kept(open_page: OpenPage, served: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(MAX_FILE_SIZE))
    page, before = open_page(), uploaded(served)
    page.choose(large)
    refused(page, "large.png")
    assert page.thumbnails.count() == 0 and not uploaded(served) - before


def test_a_file_of_another_kind_is_refused_and_not_kept(open_page: OpenPage, served: Page, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    page, before = open_page(), uploaded(served)
    page.choose(notes)
    refused(page, "Invalid file type")
    assert page.thumbnails.count() == 0 and not uploaded(served) - before


def test_a_picture_that_is_none_is_explained_and_the_question_stays(
    open_page: OpenPage, served: Page, models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture" * 20)
    page, before = open_page(), models["first"].steps
    with caplog.at_level(logging.WARNING, logger="mminstruct.demo"):
        page.upload(broken)
        page.type("What is it?")
        page.box.press("Enter")
        told = refused(page, "Media problem", "broken.png")
    error_id = told.split("error id ")[1].split(")")[0]
    assert any(record.message.startswith(error_id) for record in caplog.records)
    assert page.box.input_value() == "What is it?" and page.answers.count() == 0
    assert models["first"].steps == before


def test_a_failure_of_the_model_shows_its_cause_and_an_id_of_the_log(
    open_page: OpenPage, models: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def embed(*_: object, **__: object) -> None:
        raise RuntimeError("secret /home/someone/path")

    page = open_page()
    page.longest_answer(8)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, logger="mminstruct.demo"):
        patch.setattr(models["first"].model, "embed", embed)  # type: ignore[attr-defined]
        told = page.ask_and_read("Hello?")
    assert "Unexpected RuntimeError" in told and "Try again" in told
    assert "secret" not in told and "Traceback" not in told
    error_id = told.split("Error id ")[1].split(";")[0]
    (record,) = [record for record in caplog.records if record.message.startswith(error_id)]
    assert "secret" in record.message
    page.button("Retry").click()
    page.until(lambda: "wrote 8 tokens" in page.status)
    assert page.answers.count() == 1 and "RuntimeError" not in page.answer
