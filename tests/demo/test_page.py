"""The page in a real browser: upload, stream, stop, retry, undo, clear, errors, looks. Nothing leaves this computer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mminstruct.serving.generator import Generator
from tests.demo.conftest import Tab

OpenTab = Callable[..., Tab]


def assert_stands_still(tab: Tab, generator: Generator, seconds: float = 1.0) -> None:
    """No token is made and no text appears for a while."""
    steps, text = generator.steps, tab.last_answer
    tab.view.wait_for_timeout(seconds * 1000)
    assert generator.steps == steps
    assert tab.last_answer == text


def test_a_question_about_an_image_is_answered_as_a_stream(
    open_tab: OpenTab, generator: Generator, picture: Path
) -> None:
    tab = open_tab()
    assert tab.view.title() == "nano · mminstruct"
    head = tab.view.locator(".mm-head").inner_text()
    assert f"{generator.model.num_parameters() / 1e3:.0f} K parameters" in head and "50,000 tokens" in head
    tab.ask("What color is it?", picture)
    seen: set[int] = set()
    tab.answers.first.wait_for()
    while not tab.submit_button.is_visible():
        seen.add(len(tab.last_answer))
    assert len(seen) >= 2, "the answer came in one piece"
    assert len(tab.last_answer) >= max(seen) > min(seen)
    assert tab.view.evaluate("document.querySelector('#chat img').naturalWidth") == 160
    assert "1 picture or video among them" in tab.status
    assert "wrote 512 tokens" in tab.status and "tokens/s" in tab.status
    assert tab.textbox.input_value() == ""
    # Sharing would upload the picture to another site.
    for name in ("Share", "Download"):
        assert not tab.view.get_by_role("button", name=name).locator("visible=true").count()
    if target := os.environ.get("MMINSTRUCT_SCREENSHOT"):
        tab.view.screenshot(path=target)


def test_stop_ends_the_generation_and_the_next_question_is_answered(
    open_tab: OpenTab, generator: Generator, picture: Path
) -> None:
    tab = open_tab()
    tab.longest_answer(40_000)
    before = generator.steps
    tab.ask("Tell me everything.", picture)
    tab.until(lambda: generator.steps > before + 100)
    tab.stop_button.click()
    tab.until_answered()
    assert_stands_still(tab, generator)
    made = generator.steps - before
    assert 100 < made < 40_000
    assert "stopped" in tab.status
    part = tab.last_answer
    assert part
    tab.longest_answer(20)
    tab.ask("And in short?")
    tab.answers.nth(1).wait_for()
    tab.until_answered()
    assert generator.steps == before + made + 20
    assert tab.answers.first.inner_text() == part


def test_closing_the_tab_ends_the_generation(open_tab: OpenTab, generator: Generator) -> None:
    tab = open_tab()
    tab.longest_answer(40_000)
    before = generator.steps
    tab.ask("Tell me everything.")
    tab.until(lambda: generator.steps > before + 50)
    tab.context.close()
    deadline = time.monotonic() + 10
    steps = -1
    while generator.steps != steps and time.monotonic() < deadline:
        steps = generator.steps
        time.sleep(0.5)
    assert generator.steps == steps < before + 40_000


def test_a_question_while_another_tab_is_answered_waits_and_can_be_stopped(
    open_tab: OpenTab, generator: Generator
) -> None:
    first, second = open_tab(), open_tab()
    first.longest_answer(40_000)
    first.ask("Tell me everything.")
    first.answers.first.wait_for()
    second.ask("Me too.")
    second.stop_button.wait_for()
    second.until(lambda: second.status.startswith("Waiting for the model"))
    second.stop_button.click()
    second.until_answered()
    assert "stopped before the first word" in second.last_answer
    second.longest_answer(10)
    second.ask("Again, please.")
    second.stop_button.wait_for()
    first.stop_button.click()
    second.answers.nth(1).wait_for()
    second.until_answered()
    assert "wrote 10 tokens" in second.status


def test_several_images_and_turns_then_retry_undo_clear(
    open_tab: OpenTab, generator: Generator, picture: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jpg"
    Image.new("RGB", (90, 90), "navy").save(other)
    tab = open_tab()
    tab.longest_answer(12)
    tab.ask("What is different?", picture, other)
    tab.answers.first.wait_for()
    tab.until_answered()
    assert "2 pictures or videos among them" in tab.status
    tab.ask("And this?", picture)
    tab.answers.nth(1).wait_for()
    tab.until_answered()
    assert "3 pictures or videos among them" in tab.status
    tab.until(lambda: tab.view.locator("#chat .image-frame img").count() == 3)
    answers = tab.answers.all_inner_texts()

    before = generator.steps
    tab.view.get_by_role("button", name="Retry").click()
    tab.until(lambda: generator.steps > before)  # until then the page looks as if it were answered already
    tab.until_answered()
    tab.until(lambda: tab.answers.all_inner_texts() == answers)

    tab.view.get_by_role("button", name="Undo").click()
    tab.until(lambda: tab.answers.count() == 1)
    tab.until(lambda: tab.textbox.input_value() == "And this?")  # the page may show the chat first
    tab.view.locator("#question .thumbnail-item").wait_for()
    tab.textbox.press("Enter")
    tab.answers.nth(1).wait_for()
    tab.until_answered()
    assert tab.answers.all_inner_texts() == answers
    assert "3 pictures or videos among them" in tab.status

    tab.view.get_by_role("button", name="Clear").click()
    tab.until(lambda: tab.answers.count() == 0 and tab.questions.count() == 0)
    tab.ask("Hello?")
    tab.answers.first.wait_for()
    tab.until_answered()
    assert "no pictures among them" in tab.status


def test_clear_while_an_answer_streams_stops_it(open_tab: OpenTab, generator: Generator) -> None:
    tab = open_tab()
    tab.longest_answer(40_000)
    tab.ask("Tell me everything.")
    tab.answers.first.wait_for()
    tab.view.get_by_role("button", name="Clear").click()
    tab.until_answered()
    tab.until(lambda: tab.answers.count() == 0)
    steps = generator.steps
    tab.view.wait_for_timeout(700)
    assert generator.steps == steps
    assert tab.answers.count() == 0 and tab.questions.count() == 0
    assert tab.status == "The conversation is empty"


def test_an_example_is_asked_with_its_pictures(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.longest_answer(8)
    tab.view.get_by_text("What is different between the two images?").click()
    tab.answers.first.wait_for()
    tab.until_answered()
    assert "2 pictures or videos among them" in tab.status
    tab.until(lambda: tab.view.locator("#chat .image-frame img").count() == 2)


def test_a_broken_image_is_explained_and_the_question_stays(
    open_tab: OpenTab, generator: Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture" * 20)
    tab = open_tab()
    before = generator.steps
    with caplog.at_level(logging.WARNING, logger="mminstruct.demo"):
        tab.ask("What is it?", broken)
        toast = tab.view.get_by_test_id("toast-body")
        toast.wait_for()
    told = toast.inner_text()
    assert "Media problem" in told and "broken.png" in told and "broken PNG" in told
    error_id = told.split("error id ")[1].split(")")[0]
    assert any(record.message.startswith(error_id) for record in caplog.records)
    assert "/tmp/" not in told and "Traceback" not in told
    assert tab.textbox.input_value() == "What is it?"
    assert generator.steps == before
    assert tab.answers.count() == 0


def test_a_file_of_another_type_is_refused(open_tab: OpenTab, generator: Generator, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    tab = open_tab()
    tab.view.locator("#question input[type=file]").set_input_files([str(text)])
    toast = tab.view.get_by_test_id("toast-body")
    toast.wait_for()
    assert "Invalid file type" in toast.inner_text()
    assert tab.view.locator("#question .thumbnail-item").count() == 0


def test_a_failure_of_the_model_is_told_with_an_id_of_the_log(
    open_tab: OpenTab, generator: Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def embed(*_: object) -> None:
        raise RuntimeError("secret /home/someone/path")

    tab = open_tab()
    tab.longest_answer(8)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, logger="mminstruct.demo"):
        patch.setattr(generator.model, "embed", embed)
        tab.ask("Hello?")
        tab.answers.first.wait_for()
        tab.until_answered()
    told = tab.last_answer
    assert "Unexpected RuntimeError" in told and "Try again" in told
    assert "secret" not in told and "Traceback" not in told
    error_id = told.split("Error id ")[1].split(";")[0]
    (record,) = [record for record in caplog.records if record.message.startswith(error_id)]
    assert "secret" in record.message and record.exc_info is not None
    tab.view.get_by_role("button", name="Retry").click()
    tab.until(lambda: "wrote 8 tokens" in tab.status)
    assert tab.answers.count() == 1 and "RuntimeError" not in tab.last_answer


def test_a_conversation_beyond_the_context_is_told_with_counts(
    open_tab: OpenTab, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator.model.config.get_text_config(), "max_position_embeddings", 100)
    tab = open_tab()
    tab.ask("many words " * 40)
    tab.answers.first.wait_for()
    tab.until_answered()
    assert "this model can read 100 " in tab.last_answer
    tab.ask("Hello?")
    tab.answers.nth(1).wait_for()
    tab.until_answered()
    assert "stopped at the token limit" in tab.status


def test_markup_in_a_question_is_shown_and_fetches_nothing(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.longest_answer(8)
    hostile = (
        "<b>bold</b> <img src=http://192.0.2.1/a.png> ![x](http://192.0.2.1/b.png) "
        "<script>document.title='owned'</script> <image> <|im_end|> \\<img src=http://192.0.2.1/c.png>"
    )
    tab.ask(hostile)
    tab.answers.first.wait_for()
    tab.until_answered()
    assert "<b>bold</b> <img src=http://192.0.2.1/a.png>" in tab.questions.first.inner_text()
    assert "<script>" in tab.questions.first.inner_text()
    assert tab.view.title() == "nano · mminstruct"
    assert "no pictures among them" in tab.status


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 390, "height": 844}, "has_touch": True}),
    ],
)
def test_the_page_fits_its_window(
    open_tab: OpenTab, picture: Path, tmp_path: Path, name: str, context: dict[str, object]
) -> None:
    tab = open_tab(**context)
    tab.longest_answer(60)
    tab.ask("What color is it?", picture)
    tab.answers.first.wait_for()
    tab.until_answered()
    tab.view.screenshot(path=tmp_path / f"{name}.png")
    width, inner, height, outer = tab.view.evaluate(
        "(e => [e.scrollWidth, e.clientWidth, e.scrollHeight, innerHeight])(document.documentElement)"
    )
    assert width <= inner, "scrolls sideways"
    assert name == "phone" or height <= outer, "the page itself scrolls, not only the chat"
    assert tab.view.evaluate("document.body.classList.contains('dark')") == (name == "dark")
