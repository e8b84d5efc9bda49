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


def test_who_waits_sees_the_queue_and_can_leave_it(open_page: OpenPage, models: Models) -> None:
    engine = models["first"]
    first, second, third = open_page(), open_page(), open_page()
    first.longest_answer(LONG)
    third.longest_answer(10)
    first.ask("Tell me everything.")
    first.until(lambda: engine.running == 1)
    second.ask("Me too.")
    second.until(lambda: "1 question ahead" in second.status)
    third.ask("And me.")
    third.until(lambda: "2 questions ahead" in third.status)
    second.stop_button.click()
    second.until_answered()
    assert "stopped" in second.status
    first.stop_button.click()
    third.until_answered()
    assert "wrote 10 tokens" in third.status
    first.until_answered()
