"""The panels beside the chat: what the model saw, a conversation out and in again, light and dark."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from mminstruct.serving.models import Models
from tests.browser.audit import PHONE
from tests.browser.conftest import OpenPage

NATURAL_WIDTHS = "all => all.map(picture => picture.complete ? picture.naturalWidth : 0)"


def test_the_panel_shows_the_pictures_as_the_model_sees_them(open_page: OpenPage, pictures: list[Path]) -> None:
    page = open_page()
    page.longest_answer(5)
    page.ask_and_read("What is different?", *pictures)
    page.open_panel("What the model saw")
    tiles = page.view.locator("#seen-view .mm-tiles img")
    page.until(lambda: tiles.count() == 2)
    for tile in tiles.all():
        tile.scroll_into_view_if_needed()
    page.until(lambda: all(width > 0 for width in tiles.evaluate_all(NATURAL_WIDTHS)), "the tiles to be loaded")
    assert all(tile.get_attribute("alt") for tile in tiles.all())
    assert "What is different?" in page.view.get_by_label("Prompt", exact=True).inner_text()


def test_a_conversation_is_exported_imported_and_gone_on_with(
    open_page: OpenPage, models: Models, pictures: list[Path], tmp_path: Path
) -> None:
    page = open_page()
    page.longest_answer(24)
    for question, files in (("What is it?", pictures[:1]), ("And is it red?", [])):
        assert "empty answer" not in page.ask_and_read(question, *files), "those are left out of training data"
    questions, answers = page.questions.all_inner_texts(), page.answers.all_inner_texts()
    archive = tmp_path / "conversation.zip"
    archive.write_bytes(page.export().read_bytes())
    with zipfile.ZipFile(archive) as opened:
        assert any(name.startswith("images/") for name in opened.namelist())

    other = open_page(size=PHONE)
    other.load(archive)
    other.until(lambda: other.questions.count() == 2, "the conversation")
    assert other.questions.all_inner_texts() == questions
    assert other.answers.all_inner_texts() == answers
    other.until(lambda: other.pictures.count() == 1)
    before = models["first"].steps
    other.longest_answer(6)
    other.ask_and_read("What else?")
    assert models["first"].steps == before + 6 and "1 picture" in other.status


def test_what_is_no_conversation_is_not_imported(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    archive = tmp_path / "other.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("../outside.json", json.dumps({"a": 1}))
    page.load(archive)
    page.message.wait_for()
    told = page.message.inner_text()
    assert "/tmp" not in told and "Traceback" not in told and "problem" in told
    assert page.questions.count() == 0


def test_dark_and_light_change_at_a_click_and_are_kept(open_page: OpenPage) -> None:
    page = open_page()
    is_dark = "document.body.classList.contains('dark')"
    assert page.view.evaluate(is_dark) is False
    page.button("Use dark colors").click()
    assert page.view.evaluate(is_dark) is True
    page.view.reload()
    page.button("Use light colors").wait_for()
    assert page.view.evaluate(is_dark) is True
    page.button("Use light colors").click()
    assert page.view.evaluate(is_dark) is False
