"""The real page with a random tiny model whose answers go on for as long as they are allowed to, and a real browser."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Locator

import mminstruct
from mminstruct.demo.app import reserve, running
from mminstruct.demo.page import Page
from mminstruct.models.factory import read_row
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.settings import Limits


@pytest.fixture(scope="session")
def generator() -> Iterator[Generator]:
    torch.manual_seed(0)
    row = read_row("nano")[0].model_dump(mode="json")
    row["language_model"]["architecture"]["max_position_embeddings"] = 50_000
    model, processor = mminstruct.create(row)
    model.generation_config.suppress_tokens = [
        *model.generation_config.suppress_tokens,
        *model.generation_config.eos_token_id,
    ]
    with Generator(model, processor, Limits(batch=1)) as generator:  # so that one question waits for another
        yield generator


@pytest.fixture(scope="session")
def models(generator: Generator) -> Models:
    return Models({"nano": generator})


@pytest.fixture(scope="session")
def served(models: Models) -> Iterator[Page]:
    with running(models, reserve(port=0)) as page:
        yield page


@pytest.fixture(scope="session")
def two_models(generator: Generator) -> Iterator[Models]:
    """The one of `models`, and one that cuts pictures into tiles."""
    torch.manual_seed(1)
    model, processor = mminstruct.create("nano-tiles")
    with Generator(model, processor) as other:
        yield Models({"nano": generator, "nano-tiles": other})


def files_below(folder: Path) -> set[Path]:
    """All files, also while folders are being deleted, where `rglob` ends with an error."""
    return {Path(where) / name for where, _, names in os.walk(folder) for name in names}


class Room:
    """An open browser tab in one of the page's rooms: what all of them have.

    Args:
        room: what the room's tab says; None for the first one.
        question: the id of the box for questions.
    """

    def __init__(self, chrome: Browser, url: str, room: str | None, question: str, **context: object) -> None:
        self.context = chrome.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.view = self.context.new_page()
        self.view.set_default_timeout(30_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.view.on("console", lambda note: self.complaints.append(note.text) if note.type == "error" else None)
        self.view.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.view.goto(url)
        if room is not None:
            self.view.get_by_role("tab", name=room).click()
        self._question = self.view.locator(f"#{question}")
        self.textbox = self._question.locator("textarea")
        self.textbox.wait_for()

    @property
    def submit_button(self) -> Locator:
        return self._question.locator(".submit-button")

    def button(self, name: str) -> Locator:
        return self.view.get_by_role("button", name=name, exact=True)

    def upload(self, *files: Path) -> None:
        self._question.locator("input[type=file]").set_input_files([str(file) for file in files])
        self._question.locator(".thumbnail-item").nth(len(files) - 1).wait_for()

    def ask(self, question: str, *files: Path) -> None:
        if files:
            self.upload(*files)
        self.textbox.fill(question)
        self.textbox.press("Enter")

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(600):
            if condition():
                return
            self.view.wait_for_timeout(50)
        pytest.fail(f"waited in vain; the page says {self.view.locator('body').inner_text()!r:.1500}")


class Tab(Room):
    """The room "Chat": what a person does there, by what a person sees of it."""

    def __init__(self, chrome: Browser, url: str, **context: object) -> None:
        super().__init__(chrome, url, None, "question", **{"viewport": {"width": 1100, "height": 800}, **context})

    @property
    def answers(self) -> Locator:
        return self.view.get_by_test_id("bot")

    @property
    def questions(self) -> Locator:
        return self.view.get_by_test_id("user")

    @property
    def stop_button(self) -> Locator:
        return self.view.locator(".stop-button")

    @property
    def status(self) -> str:
        return " ".join(self.view.locator("#status").inner_text().split())

    @property
    def last_answer(self) -> str:
        return self.answers.last.inner_text()

    def longest_answer(self, tokens: int) -> None:
        field = self.view.get_by_label("number input for Longest answer")
        if not field.is_visible():
            self.view.get_by_role("button", name="Settings").click()
            field.wait_for()
        self.view.wait_for_timeout(200)  # the panel is drawn anew while it opens, and forgets what was typed before
        field.fill(str(tokens))
        field.press("Tab")
        slider = self.view.get_by_label("range slider for Longest answer")
        self.until(lambda: slider.input_value() == str(tokens))

    def until_answered(self) -> None:
        self.submit_button.wait_for()


@pytest.fixture
def open_tab(chrome: Browser, served: Page) -> Iterator[Callable[..., Tab]]:
    """Opens tabs; afterwards no request has left this computer and the browser has nothing to complain about."""
    tabs: list[Tab] = []

    def open_tab(**context: object) -> Tab:
        tabs.append(Tab(chrome, served.url, **context))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
        away = [url for url in tab.requests if urlsplit(url).scheme not in ("data", "blob")]
        away = [url for url in away if urlsplit(url).hostname != "127.0.0.1"]
        assert away == []
        assert tab.complaints == []


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (160, 120), (200, 40, 40)).save(path)
    return path


@pytest.fixture(autouse=True)
def _quiet_gradio() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
