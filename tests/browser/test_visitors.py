"""Several visitors at once: the queue moves on when a tab is closed, and those who wait see where they stand."""

from __future__ import annotations

from mminstruct.serving.models import Models
from tests.browser.chat_page import until_idle
from tests.browser.conftest import LONG, OpenPage


def test_a_tab_closed_in_the_middle_of_an_answer_frees_the_model(open_page: OpenPage, models: Models) -> None:
    engine = models["first"]
    page = open_page()
    page.longest_answer(LONG)
    before = engine.steps
    page.ask("Tell me everything.")
    page.until(lambda: engine.steps > before + 100)
    page.view.context.close()
    until_idle(engine)
    made = engine.steps - before
    assert made < LONG
    following = open_page()
    following.longest_answer(10)
    following.ask_and_read("And me?")
    assert engine.steps == before + made + 10
