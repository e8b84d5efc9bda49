"""The demo for everybody: axe, light and dark, wide and narrow, with the keyboard alone."""

from __future__ import annotations

from pathlib import Path

from mminstruct.serving.models import Models
from tests.browser.audit import each_look, sideways, violations
from tests.browser.chat_page import ChatPage
from tests.browser.conftest import LONG, OpenPage


def assert_for_everybody(page: ChatPage, what: str) -> None:
    """axe finds nothing serious and nothing lies beyond the edge, in each look."""
    for look in each_look(page.view):
        page.next_frame()
        assert violations(page.view) == [], f"{what}, {look}"
        assert sideways(page.view) == 0, f"{what}, {look}"


def test_the_chat_is_for_everybody(open_page: OpenPage, pictures: list[Path]) -> None:
    page = open_page()
    assert_for_everybody(page, "empty")
    page.longest_answer(5)
    for panel in ("What the model saw", "Export and import", "Flag the answer"):
        page.open_panel(panel)
    page.ask_and_read("What is different?", *pictures)
    page.view.locator("#seen-view img").first.wait_for()
    page.upload(pictures[0])
    assert_for_everybody(page, "answered, all panels open")


def test_side_by_side_is_for_everybody(open_page: OpenPage, pictures: list[Path]) -> None:
    both = open_page().open_side_by_side()
    both.longest_answers(5)
    both.ask("What is it?", pictures[0])
    both.until_answered()
    assert_for_everybody(both.page, "side by side")


def test_tools_are_for_everybody(open_page: OpenPage) -> None:
    page = open_page()
    page.view.get_by_role("tab", name="Tools").click()
    page.view.locator("#tools-question textarea").wait_for()
    assert_for_everybody(page, "tools")


def test_keys_alone_reach_everything_send_and_stop(open_page: OpenPage, models: Models) -> None:
    page, engine = open_page(), models["first"]
    page.longest_answer(LONG)
    page.view.locator("body").click(position={"x": 2, "y": 2})
    reached = walk(page)
    missed = set(named_controls(page)) - reached
    assert missed == set(), f"the Tab key does not reach {missed}"
    before = engine.steps
    page.box.focus()
    page.view.keyboard.type("Tell me everything.")
    page.view.keyboard.press("Enter")
    page.until(lambda: engine.steps > before + 20 and page.stop_button.is_visible())
    page.view.keyboard.press("Escape")
    page.until_answered()
    made = engine.steps - before
    assert 20 < made < LONG and "stopped" in page.status
    page.view.keyboard.type("Once more.")
    page.view.keyboard.press("Shift+Enter")
    page.view.keyboard.type("On two lines.")
    assert page.box.input_value() == "Once more.\nOn two lines." and engine.steps == before + made


# What a person can act on, visible and not switched off, each with a number of its own.
_CONTROLS = """() => {
  const all = [...document.querySelectorAll("button, input, select, textarea, a[href], [tabindex]")];
  return all.filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0).map((one) => {
    one.dataset.walked ??= String(++window.walked || (window.walked = 1));
    return `${one.dataset.walked} ${one.tagName} ${one.ariaLabel || one.textContent.trim().slice(0, 40) || one.id}`;
  });
}"""
_FOCUSED = "document.activeElement.dataset.walked"


def named_controls(page: ChatPage) -> list[str]:
    return list(page.view.evaluate(_CONTROLS))


def walk(page: ChatPage) -> set[str]:
    """The controls that the Tab key comes to."""
    controls = {name.split()[0]: name for name in named_controls(page)}
    assert len(controls) > 10
    reached: set[str] = set()
    for _ in range(2 * len(controls)):
        page.view.keyboard.press("Tab")
        number = page.view.evaluate(_FOCUSED)
        if number in controls:
            reached.add(controls[number])
    return reached
