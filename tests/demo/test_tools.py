"""The room "Tools" in a real browser: calls are shown, run and answered, and a person runs tools as well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator

from mminstruct.data_builders.worlds.scenes import scene
from mminstruct.demo.app import reserve, running
from mminstruct.demo.page import Page
from mminstruct.demo.tools_display import call, code, listed, marked, messages
from mminstruct.formats.llava_plus import ToolTurn, serialise
from mminstruct.serving.chat import Turn
from mminstruct.serving.models import Models
from mminstruct.serving.request import Usage
from mminstruct.serving.tools import Result
from tests.demo.conftest import Room
from tests.serving.scripted import ScriptedEngine

OpenTab = Callable[..., "Tab"]


def action(name: str, **params: Any) -> dict[str, Any]:
    return {"API_name": name, "API_params": params}


def answer(thought: str, *actions: dict[str, Any], value: str) -> str:
    return serialise(ToolTurn(thought, list(actions), value))


DETECT = answer("I look closely.", action("shape_detector", caption="object"), value="One moment.")
CROP = answer("I want it larger.", action("crop", box=[0.6, 0.2, 1, 0.5]), value="Closer.")
FINAL = answer("Now I know.", value="On the right.")


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    """A stand-in for a trained model: whether one calls a tool cannot be relied on, and is not what is tested here."""
    return ScriptedEngine("-")


@pytest.fixture(scope="module")
def served(engine: ScriptedEngine) -> Iterator[Page]:
    with running(Models({"runs/scripted": engine}), reserve(port=0)) as page:
        yield page


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.png"
    scene(0, 1).draw().convert("RGB").save(path)
    return path


class Tab(Room):
    """The room "Tools" as a person sees it."""

    def __init__(self, chrome: Browser, url: str, **context: object) -> None:
        super().__init__(chrome, url, "Tools", "tools-question", **context)
        self.view.get_by_label("Your question, for a model with tools", exact=True).wait_for()

    @property
    def chat(self) -> Locator:
        return self.view.locator("#tools-chat")

    @property
    def text(self) -> str:
        return self.chat.inner_text()

    @property
    def status(self) -> str:
        return " ".join(self.view.locator("#tools-status").inner_text().split())

    @property
    def pictures(self) -> Locator:
        return self.chat.locator(".image-frame img")

    def choose(self, tool: str) -> None:
        self.view.get_by_label("Tool", exact=True).click()
        self.view.get_by_role("option", name=tool).click()


@pytest.fixture
def open_tab(chrome: Browser, served: Page, engine: ScriptedEngine) -> Iterator[OpenTab]:
    tabs: list[Tab] = []

    def open_tab(*script: str | Exception, pause: float = 0.0, **context: object) -> Tab:
        engine.script, engine.pause = list(script), pause
        engine.asked.clear()
        tabs.append(Tab(chrome, served.url, **context))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
        away = [url for url in tab.requests if urlsplit(url).scheme not in ("data", "blob")]
        assert [url for url in away if urlsplit(url).hostname != "127.0.0.1"] == []
        assert tab.complaints == []


def test_thoughts_calls_outputs_and_the_answer_are_shown(
    open_tab: OpenTab, engine: ScriptedEngine, shapes: Path
) -> None:
    tab = open_tab(DETECT, CROP, FINAL)
    tab.ask("Where is the black circle?", shapes)
    tab.until(lambda: "On the right." in tab.text)
    told = " ".join(tab.text.split())
    for part in (
        'Where is the black circle? Thought I look closely. Action shape_detector(caption="object")',
        "One moment. Tool shape_detector purple square (logits 1.0) black circle (logits 0.99)",
        'Thought I want it larger. Action crop(box=[0.6, 0.2, 1, 0.5]) Closer. Tool crop {"boxes"',
        "Thought Now I know. On the right.",
    ):
        assert part in told, told
    assert "thoughts🤔" not in told and "API_name" not in told
    tab.until(lambda: tab.pictures.count() == 4)  # the question's, two with boxes, the crop
    widths = [tab.pictures.nth(number).evaluate("image => image.naturalWidth") for number in range(4)]
    assert widths == [336, 336, 336, 135]
    _, media = engine.asked[2]
    assert [medium.size for medium in media] == [(336, 336), (135, 101)]


def test_a_person_runs_a_tool_and_gives_it_to_a_model_that_calls_none(
    open_tab: OpenTab, engine: ScriptedEngine, shapes: Path
) -> None:
    tab = open_tab("I see shapes.", "Two of them.")
    assert not tab.button("Give it to the model").is_enabled()
    tab.ask("How many?", shapes)
    tab.until(lambda: "I see shapes." in tab.text)
    tab.choose("shape_detector")
    arguments = tab.view.get_by_label("Arguments")
    tab.until(lambda: arguments.input_value() == '{"caption": "red circle . square"}')
    arguments.fill('{"caption": "circle"}')
    tab.button("Run on the picture").click()
    tab.until(lambda: tab.button("Give it to the model").is_enabled())
    assert "black circle" in tab.view.locator("#tools-result").inner_text()
    tab.view.locator("#tools-gallery img").first.wait_for()
    assert len(engine.asked) == 1, "running a tool asks nothing"
    tab.button("Give it to the model").focus()
    tab.view.keyboard.press("Enter")
    tab.until(lambda: "Two of them." in tab.text)
    assert "Tool shape_detector (run by hand)" in tab.text and 'shape_detector(caption="circle")' in tab.text
    conversation, _ = engine.asked[1]
    assert conversation.messages[-1].text.endswith("Answer my first question: How many?")
    assert not tab.button("Give it to the model").is_enabled()


def test_wrong_arguments_and_a_missing_picture_are_told(open_tab: OpenTab) -> None:
    tab = open_tab("Hello.")
    arguments = tab.view.get_by_label("Arguments")
    arguments.fill("{box")
    tab.button("Run on the picture").click()
    toast = tab.view.get_by_test_id("toast-body")
    toast.wait_for()
    assert "The arguments are no JSON; write them as" in toast.inner_text()
    arguments.fill('{"box": [0, 0, 1, 1]}')
    tab.button("Run on the picture").click()
    result = tab.view.locator("#tools-result")
    tab.until(lambda: "It failed: the chat has no picture that a tool could look at; add one" in result.inner_text())


def test_stop_ends_answer_and_rounds(open_tab: OpenTab, engine: ScriptedEngine, shapes: Path) -> None:
    long = answer("I look.", action("crop", box=[0, 0, 1, 1]), value="word " * 500)
    tab = open_tab(long, pause=0.02)
    tab.ask("What?", shapes)
    tab.until(lambda: "word word" in tab.text)
    tab.view.locator("#tools-question .stop-button").click()
    tab.view.locator("#tools-question .submit-button").wait_for()
    steps = engine.steps
    tab.view.wait_for_timeout(500)
    assert engine.steps == steps and len(engine.asked) == 1 and "Tool crop" not in tab.text
    assert "stopped" in tab.status


def test_calls_without_end_stop_and_say_so_and_retry_undo_and_clear_work(
    open_tab: OpenTab, engine: ScriptedEngine, shapes: Path
) -> None:
    tab = open_tab(DETECT)
    tab.ask("What?", shapes)
    tab.until(lambda: tab.status == "Stopped: tools were called 4 times for this question, as often as they may be.")
    assert len(engine.asked) == 5
    engine.script = [FINAL]
    tab.view.get_by_role("button", name="Retry").click()
    tab.until(lambda: "On the right." in tab.text and "Tool shape_detector" not in tab.text)
    tab.view.get_by_role("button", name="Undo").click()
    tab.until(lambda: tab.textbox.input_value() == "What?")
    tab.view.locator("#tools-question .thumbnail-item").wait_for()
    tab.textbox.press("Enter")
    tab.until(lambda: "On the right." in tab.text)
    tab.view.get_by_role("button", name="Clear").click()
    tab.until(lambda: "On the right." not in tab.text)


def test_a_failure_of_the_model_is_told_with_an_id_of_the_log(
    open_tab: OpenTab, caplog: pytest.LogCaptureFixture
) -> None:
    tab = open_tab(RuntimeError("secret /home/someone"))
    with caplog.at_level(logging.ERROR, logger="mminstruct.demo"):
        tab.ask("Hello?")
        tab.until(lambda: "Unexpected RuntimeError" in tab.text)
    assert "secret" not in tab.text
    assert tab.text.split("Error id ")[1].split(";")[0] in caplog.text


# ---- without a browser -----------------------------------------------------------------------------------------------


def shown(told: str, reason: str = "running") -> str:
    turn = Turn("What?", answer=told, usage=Usage(finish_reason=reason))  # type: ignore[arg-type]
    return "\n".join(part["text"] for one in messages([turn], {}, lambda _: [])[1:] for part in one["content"])


def test_an_answer_is_shown_in_parts_from_its_first_word_on() -> None:
    for end in range(len('"thoughts🤔" '), len(DETECT)):
        told = shown(DETECT[:end])
        assert "🤔" not in told and told.startswith("**Thought**"), DETECT[:end]
    assert shown("A plain answer.") == "A plain answer." and shown("") == ""


def test_markup_in_thoughts_names_and_outputs_is_shown_as_it_is() -> None:
    hostile = "<img src=http://192.0.2.1/a.png> ```"
    told = shown(answer(hostile, action(f"a{hostile}", x="````"), value=hostile), "end")
    assert "&lt;img" in told.split("**Action**")[0] and told.count("`````\n") == 2
    result = Result(hostile, {}, {"texts": [hostile], "boxes": [[0, 0, 1, 1]]})
    assert listed(result).startswith("1. &lt;img")
    assert code("a ```` b").startswith("`````\n")
    assert call("crop", {"box": [0, 1]}) == "crop(box=[0, 1])" and call("crop", None) == "crop()"


def test_boxes_are_drawn_where_they_lie() -> None:
    white = Image.new("RGB", (200, 100), "white")
    boxes = [[0.5, 0.5, 1.0, 1.0], ["no", 0, 1, 1]]
    ((picture, name),) = marked(Result("../t", {}, {"boxes": boxes, "phrases": ["a", "b"]}, picture=white))
    assert name == "boxes of  t"
    assert picture.getpixel((150, 50)) != (255, 255, 255) and picture.getpixel((100, 75)) != (255, 255, 255)
    assert picture.getpixel((150, 75)) == (255, 255, 255) and picture.getpixel((20, 20)) == (255, 255, 255)
    assert marked(Result("t", {}, {"error": "x"}, failed=True, picture=white)) == []
