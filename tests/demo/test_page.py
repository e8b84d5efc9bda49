"""The page in a real browser: upload, stream, stop, retry, undo, clear, errors, looks. Nothing leaves this computer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mminstruct.serving.generator import Generator
from tests.demo.conftest import Tab

OpenTab = Callable[..., Tab]


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
