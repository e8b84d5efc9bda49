"""Two models answer one question, and a vote is written to the file."""

from __future__ import annotations

import json
from pathlib import Path

from mminstruct.serving.models import Models
from tests.browser.audit import PHONE, sideways
from tests.browser.chat_page import stop_and_measure
from tests.browser.conftest import LONG, OpenPage


def lines(votes: Path) -> list[dict[str, object]]:
    if not votes.exists():
        return []
    return [json.loads(line) for line in votes.read_text(encoding="utf-8").splitlines()]


def test_both_models_answer_and_the_vote_is_written(
    open_page: OpenPage, models: Models, votes: Path, pictures: list[Path]
) -> None:
    both = open_page().open_side_by_side()
    both.longest_answers(12)
    steps, before = [engine.steps for engine in models.values()], lines(votes)
    both.ask("What is it?", pictures[0])
    both.until_answered()
    assert [engine.steps for engine in models.values()] == [count + 12 for count in steps]
    assert "first" in both.head("left") and "second" in both.head("right")
    left, right = (both.answers(side).inner_text() for side in ("left", "right"))
    assert left and right and left != right, "two models with other weights say other things"
    both.vote("Right is better")
    (vote,) = lines(votes)[len(before) :]
    assert vote["verdict"] == "right" and vote["question"] == 1
    assert (vote["left"]["model"], vote["right"]["model"]) == ("first", "second")  # type: ignore[index]
    said = [vote[side]["conversation"]["messages"][-1] for side in ("left", "right")]  # type: ignore[index]
    assert left.strip() in json.dumps(said[0], ensure_ascii=False) and "What is it?" in json.dumps(vote)


def test_names_are_hidden_until_the_vote_on_a_phone(open_page: OpenPage, votes: Path) -> None:
    both = open_page(size=PHONE).open_side_by_side()
    both.longest_answers(4)
    both.view.get_by_label("Hide the names").check()
    before = lines(votes)
    both.ask("Who are you?")
    both.until_answered()
    text = both.view.locator("body").inner_text()
    assert both.head("left").endswith("hidden until the vote") and both.head("right").endswith("hidden until the vote")
    assert sideways(both.view) == 0 and text
    both.vote("Tie")
    assert {both.head("left"), both.head("right")} in (
        {"Left: first", "Right: second"},
        {"Left: second", "Right: first"},
    )
    (vote,) = lines(votes)[len(before) :]
    assert vote["blind"] is True and vote["verdict"] == "tie"


def test_stop_stops_both(open_page: OpenPage, models: Models) -> None:
    both = open_page().open_side_by_side()
    both.longest_answers(LONG)
    both.ask("Tell me everything.")
    both.page.until(lambda: all(engine.running == 1 for engine in models.values()))
    stop_and_measure(both.stop_button, models.values())
    steps = [engine.steps for engine in models.values()]
    both.until_answered()
    assert both.page.button("Tie").is_disabled(), "a stopped answer is none to vote on"
    assert [engine.steps for engine in models.values()] == steps
