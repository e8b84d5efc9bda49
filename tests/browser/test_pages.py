"""Reports of evaluations and the view of a data set for everybody: axe, light and dark, wide and narrow, no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext

import mminstruct
from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Preference, VideoPart, image, message
from mminstruct.inspection.records import open_records
from mminstruct.inspection.viewer import Server, Viewer
from mminstruct.models.checkpoint import save
from tests.browser.audit import Watch, each_look, sideways, violations
from tests.command import call

NewContext = Callable[..., BrowserContext]


@pytest.fixture(scope="module")
def runs(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What `mminstruct eval` writes of two models, and `mminstruct compare` of the two."""
    folder = tmp_path_factory.mktemp("runs")
    lines = []
    for number in range(16):
        picture = pictures[number % 2]
        answers = ["red"] * 10 if number % 4 else ["blue"]
        kind = "color" if number % 3 else "shape"
        lines.append(
            {"id": number, "image": str(picture), "question": f"What is {number}?", "answers": answers, "type": kind}
        )
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        save(folder / name / "model", *mminstruct.create("nano"))
        asked = ("eval", "vqa", f"file={questions}", "--model", folder / name / "model", "--device", "cpu")
        code, _, error = call(*asked, "--out", folder / name / "eval")
        assert code == 0, error
    both = ("--compare", folder / "a/eval", "--compare", folder / "b/eval")
    code, _, error = call("eval", *both, "--out", folder / "comparison")
    assert code == 0, error
    return folder / "a/eval/report.html", folder / "comparison/comparison.html"


@pytest.fixture(scope="module")
def data_set(pictures: list[Path], clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mminstruct data view` over a turn with boxes and a pair, a video, and a question with choices."""
    folder = tmp_path_factory.mktemp("data-set")
    asked, answered = message("user", image(), "What is it?"), message("assistant", "A disk.")
    facts = {
        "instances": [{"category": "disk", "bbox": [0.25, 0.2, 0.75, 0.8]}],
        "lines": [{"text": "STOP", "quad": [[0.1, 0.1], [0.3, 0.2], [0.3, 0.3], [0.1, 0.2]]}],
        "captions": ["A red disk."],
    }
    pair = Preference(chosen=[message("assistant", "A red disk.")], rejected=[message("assistant", "A house.")])
    given = [
        Conversation(
            id="boxes",
            messages=[asked, answered],
            media=[Media(path=str(pictures[0]))],
            task="detail",
            extra={"facts": facts},
            preference=pair,
        ),
        Conversation(
            id="film",
            messages=[message("user", VideoPart(index=0), "What happens?"), message("assistant", "It grows red.")],
            media=[Media(kind="video", path=str(clip))],
        ),
        Conversation(id="choices", messages=[message("user", "Which?"), answered], options=["A disk.", "A house."]),
    ]
    formats.write(given, folder / "set", "native")
    with Server(Viewer(open_records(folder / "set", folder / "cache"), "a set", each=3), port=0) as server:
        thread = server.start()
        yield server.url
        server.shutdown()
        thread.join()


def test_reports_of_evaluations_are_for_everybody(new_context: NewContext, runs: tuple[Path, Path]) -> None:
    for page in runs:
        view = new_context().new_page()
        view.goto(page.as_uri())
        view.locator(".browse > .cards > .card").first.wait_for()
        for _ in each_look(view):
            assert violations(view) == []
            assert sideways(view) == 0


def test_the_view_of_a_data_set_is_for_everybody(new_context: NewContext, data_set: str) -> None:
    view = new_context().new_page()
    view.goto(data_set)
    assert view.locator("article").count() == 3
    for summary in view.locator("summary").all():
        summary.click()
    for _ in each_look(view):
        assert violations(view) == []
        assert sideways(view) == 0


def test_what_the_other_tests_rely_on_is_not_blind(chrome: Browser) -> None:
    watch = Watch()
    context = chrome.new_context(viewport={"width": 390, "height": 844})
    watch.over(context)
    view = context.new_page()
    view.set_content(
        '<main><h1>a</h1><p style="width: 500px; color: #eee; background: #fff">pale</p><button></button>'
        '<img src="http://192.0.2.1/a.png" alt="far away"></main><script>console.error("bad")</script>'
    )
    assert {line.split()[0] for line in violations(view)} >= {"button-name", "color-contrast"}
    assert sideways(view) > 100
    assert watch.elsewhere == ["http://192.0.2.1/a.png"] and "bad" in watch.complaints
    view.wait_for_function("document.images[0].complete")
    assert any("ERR_PROXY_CONNECTION_FAILED" in line for line in watch.complaints), "what is elsewhere was looked for"
    context.close()
