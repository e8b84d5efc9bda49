"""The pages of an evaluation in a real browser: what is found, hostile text, no request, phones, keys, no scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from mminstruct.evaluation.benchmark import Item
from mminstruct.evaluation.page import data, policy
from mminstruct.evaluation.report import write_report
from mminstruct.evaluation.requests import Reply
from mminstruct.evaluation.results import BenchmarkResult, judge
from mminstruct.evaluation.runner import Predictions

from .conftest import Mixed

NASTY = "</script><script>document.title='owned'</script> <img src=http://192.0.2.1/a.png onerror=alert(1)> <!-- "
CHOICES = ("red", "blue", "green")


class Letters(Mixed):
    name = "some-letters"
    primary_scorer = "mmbench"
    further_scorers = ()


def clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), (0, 0, 30 * number)))))
        container.mux(stream.encode())


def questions(pictures: list[Path], video: Path) -> tuple[list[Item], list[Reply]]:
    """Forty: every fourth is right, every fifth cut off, every seventh unparsed, one of a video, two later turns."""
    items, replies = [], []
    for number in range(40):
        gold = "ABC"[number % 3]
        said = gold if number % 4 == 0 else "ABC"[(number + 1) % 3]
        text = "nothing of these" if number % 7 == 3 else said
        items.append(
            Item(
                f"q{number}",
                (pictures[number % 6], pictures[(number + 1) % 6]) if number % 10 == 2 else (pictures[number % 6],),
                f"{NASTY} number {number}?" if number % 2 else f"plain number {number}?",
                (gold,),
                "color" if number % 3 else "shape",
                "odd" if number % 2 else "",
                cluster=str(number % 6),
                choices=CHOICES,
                after=("q0",) if number in (1, 2) else (),
            )
        )
        replies.append(Reply(text=text, tokens=1, finish="length" if number % 5 == 0 else "end"))
    items[39] = Item("film", (), "and in the film?", ("A",), "film", choices=CHOICES, videos=(video,))
    replies[39] = Reply(text="A. red", tokens=3, finish="end")
    return items, replies


@pytest.fixture(scope="module")
def result(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    video = tmp_path_factory.mktemp("video") / "clip.mp4"
    clip(video)
    items, replies = questions(pictures, video)
    benchmark, seen = Letters(pictures), Predictions(items, replies, distinct=40, generated=40, seconds=1.0)
    return BenchmarkResult(benchmark, seen, judge(benchmark, seen), None, {})


@pytest.fixture(scope="module")
def page(result: BenchmarkResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, [result], title=NASTY, model_facts={"folder": NASTY})
    return folder / "report.html"


@pytest.fixture
def tab(page: Path, chrome: Browser) -> Iterator[Page]:
    """The page; at the end nothing was asked for and nothing complained of, whatever was done with it."""
    context = chrome.new_context(viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda note: complaints.append(note.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(page.as_uri())
    yield opened
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()] and complaints == []
    context.close()


def shown(tab: Page) -> list[str]:
    """The ids of the cards, over all pages."""
    found: list[str] = []
    while True:
        found += [text.rpartition(" ")[2] for text in tab.locator(".browse > .cards .tags").all_inner_texts()]
        later = tab.get_by_role("navigation", name="pages", exact=True).get_by_role("button", name="later")
        if later.get_attribute("aria-disabled") == "true":
            return found
        later.click()


def test_filters_show_what_they_say(result: BenchmarkResult, tab: Page) -> None:
    items, replies = result.predictions.items, result.predictions.replies
    unparsed = {i.id for i, r in zip(items, replies, strict=True) if r.text == "nothing of these"}
    cut = {i.id for i, r in zip(items, replies, strict=True) if r.finish == "length"}
    right = {i.id for i, r in zip(items, replies, strict=True) if r.text[0] == i.answers[0]}
    for tag, ids in {"unparsed": unparsed, "cut off": cut, "right": right}.items():
        tab.get_by_role("combobox", name="show").select_option(tag)
        assert set(shown(tab)) == ids and len(ids) > 1, tag
        assert f"{tag} ({len(ids)})" in tab.get_by_role("combobox", name="show").inner_text()
    tab.get_by_role("combobox", name="show").select_option("")
    assert shown(tab) == [item.id for item in items]
    kinds = Counter(name for item in items for name in item.types)
    for name, count in kinds.items():
        tab.get_by_role("combobox", name="type").select_option(name)
        assert set(shown(tab)) == {item.id for item in items if name in item.types} and count > 0


def test_words_find_questions_and_answers(tab: Page) -> None:
    find = tab.get_by_role("searchbox", name="find")
    find.fill("PLAIN 12")
    assert shown(tab) == ["q12"]
    find.fill("<!-- 13")
    assert shown(tab) == ["q13"]
    find.fill("no such words")
    assert shown(tab) == [] and tab.get_by_role("status").inner_text() == "nothing found"
    find.fill("")
    tab.get_by_role("combobox", name="order").select_option("-score")
    scores = [text.startswith("✓") for text in tab.locator(".browse > .cards .head").all_inner_texts()]
    assert scores == sorted(scores, reverse=True) and scores[0] and not scores[-1]


def test_cards_show_images_choices_and_earlier_turns(tab: Page) -> None:
    cards = tab.locator(".browse > .cards > .card")
    assert cards.count() == 12
    two = cards.nth(2)
    assert [image.get_attribute("alt") for image in two.locator("img").all()] == ["image 1 of 2", "image 2 of 2"]
    assert all(width > 0 for width in tab.locator("img").evaluate_all("all => all.map(e => e.naturalWidth)"))
    assert two.locator(".earlier p").all_inner_texts() == ["plain number 0?", "↳ A"]
    assert two.locator(".choices li").all_inner_texts() == ["A. red ← model", "B. blue", "C. green ✓ gold"]
    assert NASTY.strip() in cards.nth(1).inner_text() and "A [cut off]" in cards.nth(0).inner_text()
    tab.get_by_role("combobox", name="type").select_option("film")
    film = cards.first
    assert film.locator("img").get_attribute("alt") == "first frame of the video"
    assert film.locator("img").evaluate("e => e.naturalWidth") == 64 and "read as 'A'" in film.inner_text()


def test_keys_alone_lead_through_the_page(tab: Page) -> None:
    tab.get_by_role("combobox", name="show").focus()
    for _ in range(3):
        tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.type") == "search"
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.get_by_role("status").inner_text() == "13 to 24 of 40"
    assert tab.evaluate("document.activeElement.textContent").startswith("later"), "the focus stays where it is"
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert tab.get_by_role("status").inner_text() == "37 to 40 of 40"
    tab.keyboard.press("ArrowLeft")
    assert tab.get_by_role("status").inner_text() == "25 to 36 of 40"
    names = "all => all.filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).length"
    assert tab.locator("button, input, select").evaluate_all(names) == 0


def test_tables_are_sorted_by_their_heads(tab: Page) -> None:
    table = tab.get_by_role("table", name="score by question type")
    column = table.locator("tbody tr td:nth-child(2)")
    before = [int(text) for text in column.all_inner_texts()]
    head = table.get_by_role("button", name="questions")
    head.click()
    assert [int(text) for text in column.all_inner_texts()] == sorted(before) != before
    head.press("Enter")
    assert [int(text) for text in column.all_inner_texts()] == sorted(before, reverse=True)
    assert table.locator("th[aria-sort=descending]").inner_text().startswith("questions")


def test_hostile_text_stays_text(tab: Page, page: Path) -> None:
    assert tab.title() == NASTY.strip() and tab.locator("script").count() == 2
    assert tab.locator("img[src^=http], iframe, link, form[action]").count() == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script") == 2


@pytest.mark.parametrize("dark", [False, True])
def test_phones_scroll_down_only_in_light_and_dark(page: Path, chrome: Browser, dark: bool) -> None:
    context = chrome.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark" if dark else "light")
    tab = context.new_page()
    tab.goto(page.as_uri())
    width, inner = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= inner == 390
    colours = tab.evaluate(
        "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/[0-9]+/g).map(Number))"
    )
    ink, ground = (sum(colour[:3]) for colour in colours)
    assert (ink > 600 and ground < 100) if dark else (ink < 100 and ground > 700)
    context.close()


def test_without_scripts_a_few_are_still_shown(page: Path, chrome: Browser) -> None:
    context = chrome.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.as_uri())
    heads = tab.locator(".still .head").all_inner_texts()
    assert sorted(heads) == ["✓ right"] * 8 + ["✗ wrong"] * 8
    assert tab.get_by_role("table", name="score by question type").is_visible()
    assert tab.get_by_text("With scripts switched on").is_visible() and tab.locator(".controls").count() == 0
    context.close()


def test_data_cannot_end_what_holds_them() -> None:
    import json

    value = {"a": f"{NASTY}\u2028\u2029&amp;"}
    text = str(data(value))
    assert json.loads(text) == value and not set("<>&\u2028\u2029") & set(text)
    assert policy("a") != policy("b") and "default-src 'none'" in policy("a") and "http" not in policy("a")
