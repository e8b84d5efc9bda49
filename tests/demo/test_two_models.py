"""The page of two models in a real browser: which one answers, flags, looks, and that everybody can use it.

Only one page at a time may serve in a process, as Gradio keeps the upload folder in the environment; so this one is the
module's own, and no test here uses the page of the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from mminstruct.demo.app import reserve, running
from mminstruct.demo.page import Page
from mminstruct.serving.models import Models
from tests.demo.conftest import Tab

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flags")


@pytest.fixture(scope="module")
def served_two(two_models: Models, flags: Path) -> Iterator[Page]:
    """A page of two models that takes flags."""
    with running(two_models, reserve(port=0), flags=flags) as page:
        yield page


@pytest.fixture
def open_second(chrome: Browser, served_two: Page) -> Iterator[OpenTab]:
    """Opens tabs of the page with two models."""
    tabs: list[Tab] = []

    def open_tab(path: str = "", **context: Any) -> Tab:
        tabs.append(Tab(chrome, f"{served_two.url}/{path}", **context))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
        assert tab.complaints == []


def answered(tab: Tab, number: int) -> None:
    tab.answers.nth(number).wait_for()
    tab.until_answered()


def test_another_model_goes_on_with_the_chat_and_answers_are_flagged(open_second: OpenTab, flags: Path) -> None:
    tab = open_second("?model=nano-tiles")
    model = tab.view.locator("#model input")
    tab.until(lambda: model.input_value() == "nano-tiles")
    tab.until(lambda: "parameters" in tab.view.locator("#model-facts").inner_text())
    tab.longest_answer(4)
    tab.view.get_by_text("What does the sign say?").click()
    answered(tab, 0)
    assert "nano-tiles" in tab.view.locator("#chat").inner_text()
    model.click()
    tab.view.get_by_role("option", name="nano", exact=True).click()
    tab.ask("And what not?")
    tab.until(lambda: "wrote" in tab.status and tab.questions.count() == 3)  # the picture is one
    tab.until_answered()
    assert "1 picture or video among them" in tab.status

    tab.view.get_by_role("button", name="Flag the answer").click()
    tab.view.get_by_text("reason and the time").wait_for()
    tab.view.locator("#flag-reason textarea").fill("It is no word.")
    tab.view.locator("#flag-send").click()
    tab.view.locator("#flag-told p").wait_for()
    (line,) = (flags / "flags.jsonl").read_text().splitlines()
    extra = json.loads(line)["extra"]
    assert extra["answered_by"] == ["nano-tiles", "nano"]
    assert extra["flag"]["reason"] == "It is no word."


def test_a_model_that_is_not_there_is_told(open_second: OpenTab) -> None:
    tab = open_second("?model=nanno")
    toast = tab.view.get_by_test_id("toast-body")
    toast.wait_for()
    assert "nanno" in toast.inner_text() and "Did you mean" in toast.inner_text()
    assert tab.view.locator("#model input").input_value() == "nano"
