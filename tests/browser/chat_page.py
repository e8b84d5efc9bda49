"""The demo's page as a person uses it: what can be done and seen there, found by roles, labels and our own ids.

Every selector that a test needs stands here, so that a change of the page is a change of this file.
"""

from __future__ import annotations

import base64
import contextlib
import mimetypes
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import JSHandle, Locator, Page

from mminstruct.serving.engine import Engine

PATIENCE = 30.0  # seconds that a condition may take on a busy computer


class ChatPage:
    """One open tab of the browser with the demo in it."""

    def __init__(self, view: Page, url: str) -> None:
        self.view = view
        view.add_init_script(WITNESS)
        view.goto(url)
        self.box.wait_for()

    # ---- what is there ---------------------------------------------------------------------------------------------

    @property
    def box(self) -> Locator:
        return self.view.locator("#question textarea")

    @property
    def thumbnails(self) -> Locator:
        return self.view.locator("#question .thumbnail-item")

    @property
    def send_button(self) -> Locator:
        return self.view.locator("#question .submit-button")

    @property
    def stop_button(self) -> Locator:
        return self.view.locator("#question .stop-button")

    @property
    def questions(self) -> Locator:
        """The visitor's messages with words; those with pictures stand before them, in rows of their own."""
        return self.view.locator("#chat .user-row:has(.message-content)")

    @property
    def answers(self) -> Locator:
        """The model's messages, each with the model's name where there are several."""
        return self.view.locator("#chat .bot-row")

    @property
    def answer(self) -> str:
        """The text of the last answer, without the model's name."""
        return self.answers.last.get_by_test_id("bot").first.inner_text()

    @property
    def pictures(self) -> Locator:
        """Pictures in the chat."""
        return self.view.locator("#chat .message img:visible")

    @property
    def status(self) -> str:
        return " ".join(self.view.locator("#status").inner_text().split())

    @property
    def message(self) -> Locator:
        """What pops up when something is refused."""
        return self.view.get_by_test_id("toast-body")

    def button(self, name: str) -> Locator:
        return self.view.get_by_role("button", name=name)

    # ---- what is done ----------------------------------------------------------------------------------------------

    def choose(self, *files: Path) -> None:
        """Choose files, as the paper clip does; whether they are taken is another matter."""
        self.view.locator("#question input[type=file]").set_input_files([str(file) for file in files])

    def upload(self, *files: Path) -> None:
        there = self.thumbnails.count()
        self.choose(*files)
        self.thumbnails.nth(there + len(files) - 1).wait_for()

    def paste(self, file: Path) -> None:
        """Paste a file from the clipboard into the text box."""
        with self._one_more():
            self.box.evaluate(
                "(box, data) => box.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))",
                self._carried(file),
            )

    def drop(self, file: Path) -> None:
        """Drag a file onto the text box and let go."""
        with self._one_more():
            carried = self._carried(file)
            for event in ("dragenter", "dragover", "drop"):
                self.box.dispatch_event(event, {"dataTransfer": carried})

    @contextlib.contextmanager
    def _one_more(self) -> Iterator[None]:
        there = self.thumbnails.count()
        yield
        self.thumbnails.nth(there).wait_for()

    def _carried(self, file: Path) -> JSHandle:
        """The file as a clipboard or a pointer carries it."""
        kind = mimetypes.guess_type(file)[0]
        return self.view.evaluate_handle(
            """([name, type, text]) => {
                const carried = new DataTransfer()
                carried.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name, {type}))
                return carried
            }""",
            [file.name, kind, base64.b64encode(file.read_bytes()).decode()],
        )

    def type(self, question: str) -> None:
        self.box.fill(question)

    def ask(self, question: str, *files: Path) -> None:
        """Type a question, with files, and send it; its answer may not have begun when this returns."""
        if files:
            self.upload(*files)
        there = self.questions.count()
        self.type(question)
        self.box.press("Enter")
        # Until the question is shown, the page looks as if it had answered already.
        self.until(lambda: self.questions.count() > there, "the question to be shown")

    def ask_and_read(self, question: str, *files: Path) -> str:
        """The whole answer to a question."""
        self.ask(question, *files)
        self.until_answered()
        return self.answer

    def longest_answer(self, tokens: int) -> None:
        """Set how many tokens an answer may have."""
        panel = self.view.locator("#tokens")
        if not panel.is_visible():
            self.button("Settings").click()
            panel.wait_for()
        self.fill_slider(panel, tokens)

    def fill_slider(self, panel: Locator, tokens: int) -> None:
        """Type a number into a slider's field; `panel` has just been opened."""
        number, slider = panel.locator("input[type=number]"), panel.locator("input[type=range]")

        def is_set() -> bool:
            # While the panel opens it is drawn anew, and forgets what was typed before.
            number.fill(str(tokens))
            number.press("Tab")
            return slider.input_value() == str(tokens) == number.input_value()

        self.until(is_set)
        self.next_frame()
        self.until(is_set)

    def edit(self, number: int, question: str) -> None:
        """Put the question of this number, counted from 0, in other words, and send it."""
        self.view.locator("#chat").get_by_role("button", name="Edit").nth(number).click()
        chat = self.view.locator("#chat")
        chat.locator("textarea").fill(question)
        chat.get_by_role("button", name="Submit").click()

    def choose_model(self, name: str) -> None:
        self.view.get_by_role("combobox", name="Model", exact=True).click()
        self.view.get_by_role("option", name=name).click()

    def open_panel(self, name: str) -> None:
        """One of the panels beside the chat."""
        self.button(name).click()

    def export(self) -> Path:
        """The file that a click on "Export" brings."""
        self.open_panel("Export and import")
        export = self.view.get_by_role("button", name="Export", exact=True)  # not the panel's own
        with self.view.expect_download() as download:
            export.click()
        return download.value.path()

    def load(self, archive: Path) -> None:
        """Import a conversation."""
        self.open_panel("Export and import")
        self.view.locator("#transfer input[type=file]").set_input_files(archive)

    def open_side_by_side(self) -> SideBySide:
        self.view.get_by_role("tab", name="Side by side").click()
        return SideBySide(self)

    # ---- what is waited for ----------------------------------------------------------------------------------------

    def until_answered(self) -> None:
        """Until nothing is answered any more: a question can be sent, also after the page was drawn once more."""
        for _ in range(2):
            self.send_button.wait_for()
            self.next_frame()

    def next_frame(self) -> None:
        """Until what the page was told so far is drawn."""
        self.view.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def until(self, condition: Callable[[], bool], what: str = "") -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                shown = f"status: {self.status!r}, answers: {self.answers.all_inner_texts()!r:.600}"
                pytest.fail(f"waited in vain{f' for {what}' if what else ''}; {shown}")
            self.view.wait_for_timeout(10)


class SideBySide:
    """The tab in which two models answer one question."""

    def __init__(self, page: ChatPage) -> None:
        self.page, self.view = page, page.view
        self.box = self.view.locator("#compare-question textarea")
        self.send_button = self.view.locator("#compare-question .submit-button")
        self.stop_button = self.view.locator("#compare-question .stop-button")
        self.tally = self.view.locator("#compare-tally")
        self.box.wait_for()

    def answers(self, side: str) -> Locator:
        return self.view.locator(f"#compare-{side} .bot-row")

    def head(self, side: str) -> str:
        """What stands above a chat: whose it is."""
        return self.view.locator(".mm-side").nth(("left", "right").index(side)).inner_text()

    def longest_answers(self, tokens: int) -> None:
        self.page.button("Models and settings").click()
        for number in (1, 2):
            panel = self.view.locator(f"#compare-{number}-tokens")
            panel.wait_for()
            self.page.fill_slider(panel, tokens)

    def ask(self, question: str, *files: Path) -> None:
        if files:
            self.view.locator("#compare-question input[type=file]").set_input_files([str(file) for file in files])
            self.view.locator("#compare-question .thumbnail-item").nth(len(files) - 1).wait_for()
        questions = self.view.locator("#compare-left .user-row:has(.message-content)")
        there = questions.count()
        self.box.fill(question)
        self.box.press("Enter")
        self.page.until(lambda: questions.count() > there, "the question")

    def until_answered(self) -> None:
        for _ in range(2):
            self.send_button.wait_for()
            self.page.next_frame()

    def vote(self, verdict: str) -> None:
        self.page.button(verdict).click()
        self.page.until(lambda: "Your vote is kept" in self.tally.inner_text(), "the vote")


# What is pressed and what is then asked of the server, for whoever wants to know why nothing came of it.
WITNESS = """
    window.happened = []
    const told = (what, where) => window.happened.push([Date.now() / 1000, what, where])
    const named = e => e instanceof Element ? e.tagName + "." + (e.closest("button") ?? e).className : String(e)
    for (const kind of ["pointerdown", "pointerup", "click", "keydown"])
      addEventListener(kind, event => told(kind, named(event.target)), {capture: true})
    const plain = window.fetch
    window.fetch = (...given) => {
      const [url, options] = given
      told("asked", String(url.url ?? url).slice(-40) + " " + String(options?.body ?? "").slice(0, 120))
      const answer = plain(...given)
      answer.then(got => told("answered", got.status + " " + got.url.slice(-40)), error => told("failed", error))
      return answer
    }
"""


def stop_and_measure(button: Locator, engines: Collection[Engine]) -> float:
    """Click on a stop button. Returns the seconds from the click, as the browser saw it, until no engine works."""
    view = button.page
    view.evaluate("window.happened.length = 0")
    before = time.time()
    button.click()
    deadline = time.monotonic() + PATIENCE
    while any(engine.running or engine.waiting for engine in engines):
        if time.monotonic() > deadline:
            happened = [(round(when - before, 3), *what) for when, *what in view.evaluate("window.happened")]
            pytest.fail(f"a click on stop stopped nothing; seconds from before it: {happened}")
        time.sleep(0.002)
    idle = time.time()
    return idle - next(float(when) for when, what, _ in view.evaluate("window.happened") if what == "click")


def until_idle(*engines: Engine) -> None:
    """Until no answer is made: from then on the engines' steps stand still."""
    deadline = time.monotonic() + PATIENCE
    while any(engine.running or engine.waiting for engine in engines):
        if time.monotonic() > deadline:
            pytest.fail(f"still at work: {[(engine.running, engine.waiting) for engine in engines]} (running, waiting)")
        time.sleep(0.002)
