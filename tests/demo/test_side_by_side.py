"""Two models side by side in a real browser: both stream, one stop, votes that are kept, names that are hidden."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from playwright.sync_api import Browser, Locator

import mminstruct
from mminstruct.demo.app import reserve, running
from mminstruct.demo.match import Match
from mminstruct.demo.page import Page
from mminstruct.demo.uploads import Uploads
from mminstruct.demo.votes import Contestant, Vote, VoteFile, read_votes
from mminstruct.errors import DataError
from mminstruct.models.factory import read_row
from mminstruct.serving.chat import Framing
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.settings import GenerationSettings
from tests.demo.conftest import Room
from tests.serving.scripted import ScriptedEngine

NAMES = ("runs/red", "runs/blue")


def endless(seed: int) -> Generator:
    """A random nano model that answers until it is stopped."""
    torch.manual_seed(seed)
    row = read_row("nano")[0].model_dump(mode="json")
    row["language_model"]["architecture"]["max_position_embeddings"] = 50_000
    model, processor = mminstruct.create(row)
    ends = model.generation_config.eos_token_id
    model.generation_config.suppress_tokens = [*model.generation_config.suppress_tokens, *ends]
    return Generator(model, processor)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    with Models({name: endless(seed) for seed, name in enumerate(NAMES)}) as models:
        yield models


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("votes") / "votes.jsonl"


@pytest.fixture(scope="module")
def served(models: Models, file: Path) -> Iterator[Page]:
    with running(models, reserve(port=0), votes=file) as page:
        yield page


class Tab(Room):
    """The room "Side by side" as a person sees it."""

    def __init__(self, chrome: Browser, url: str, **context: object) -> None:
        super().__init__(chrome, url, "Side by side", "compare-question", **context)
        self.view.get_by_label("Your question to both", exact=True).wait_for()

    def answers(self, side: str) -> Locator:
        return self.view.locator(f"#compare-{side}").get_by_test_id("bot")

    def last(self, side: str) -> str:
        return self.answers(side).last.inner_text() if self.answers(side).count() else ""

    def status(self, side: str) -> str:
        return " ".join(self.view.locator(f"#compare-status-{side}").inner_text().split())

    @property
    def heads(self) -> list[str]:
        return self.view.locator(".mm-side").all_inner_texts()

    @property
    def tally(self) -> str:
        return " ".join(self.view.locator("#compare-tally").inner_text().split())

    def settings(self, tokens: int | None = None, hide: bool = False) -> None:
        """The longest answer of both, and whether names are hidden."""
        self.view.get_by_role("button", name="Models and settings").click()
        self.view.locator("#compare-model-1").wait_for()
        self.view.wait_for_timeout(300)  # the panel is drawn anew while it opens, and forgets what was typed before
        for number in (1, 2) if tokens is not None else ():
            field = self.view.locator(f"#compare-{number}-tokens input[type=number]")
            field.fill(str(tokens))
            field.press("Tab")
            slider = self.view.locator(f"#compare-{number}-tokens input[type=range]")
            self.until(lambda slider=slider: slider.input_value() == str(tokens))
        if hide:
            self.view.get_by_label("Hide the names").check()
        self.view.get_by_role("button", name="Models and settings").click()

    def until_answered(self, number: int = 1) -> None:
        self.until(lambda: all(self.answers(side).count() == number for side in ("left", "right")))
        self.submit_button.wait_for()


@pytest.fixture
def open_tab(chrome: Browser, served: Page) -> Iterator[Callable[..., Tab]]:
    """Opens tabs; afterwards no request has left this computer and the browser has nothing to complain about."""
    tabs: list[Tab] = []

    def open_tab(page: Page = served, **context: object) -> Tab:
        tabs.append(Tab(chrome, page.url, **context))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
        away = [url for url in tab.requests if urlsplit(url).scheme not in ("data", "blob")]
        assert [url for url in away if urlsplit(url).hostname != "127.0.0.1"] == []
        assert tab.complaints == []


OpenTab = Callable[..., Tab]


def test_turns_regenerate_and_clear(open_tab: OpenTab, models: Models, picture: Path) -> None:
    tab = open_tab()
    tab.settings(tokens=12)
    tab.ask("What is it?", picture)
    tab.until_answered()
    tab.ask("And now?")
    tab.until_answered(2)
    first = [tab.answers(side).all_inner_texts() for side in ("left", "right")]
    assert all("wrote 12 tokens" in tab.status(side) for side in ("left", "right"))
    before = sum(models[name].steps for name in NAMES)
    tab.button("Regenerate").click()
    tab.until(lambda: sum(models[name].steps for name in NAMES) == before + 24)
    tab.until_answered(2)
    tab.until(lambda: [tab.answers(side).all_inner_texts() for side in ("left", "right")] == first)
    tab.button("Clear both").click()
    tab.until(lambda: not any(tab.answers(side).count() for side in ("left", "right")))
    assert tab.heads == ["Left", "Right"] and tab.status("left") == "The conversation is empty"
    tab.ask("Hello?")
    tab.until_answered()
    assert "no pictures" in tab.status("right")


def test_closing_the_tab_stops_both(open_tab: OpenTab, models: Models) -> None:
    tab = open_tab()
    tab.settings(tokens=40_000)
    before = [models[name].steps for name in NAMES]
    tab.ask("Tell me everything.")
    tab.until(lambda: all(models[name].steps > start + 20 for name, start in zip(NAMES, before, strict=True)))
    tab.context.close()
    watching = open_tab()
    steps: list[int] = []

    def still() -> bool:
        last, steps[:] = steps[:], [models[name].steps for name in NAMES]
        watching.view.wait_for_timeout(300)
        return last == steps

    watching.until(still)
    assert all(now < start + 40_000 for now, start in zip(steps, before, strict=True))


def test_a_vote_is_kept_with_both_conversations_and_told(open_tab: OpenTab, file: Path, picture: Path) -> None:
    tab = open_tab()
    tab.settings(tokens=9)
    tab.ask("What is it?", picture)
    tab.until_answered()
    tab.ask("And now?")
    tab.until_answered(2)
    before = len(list(read_votes(file)))
    tab.button("Right is better").focus()
    tab.view.keyboard.press("Enter")
    tab.until(lambda: tab.tally.startswith("Your vote is kept (right is better)."))
    assert "runs/red against runs/blue: 0 won, 1 lost, 0 tied, 0 both bad; wins 0%" in tab.tally
    *_, vote = read_votes(file)
    assert len(list(read_votes(file))) == before + 1
    assert (vote.verdict, vote.question, vote.blind) == ("right", 2, False)
    assert (vote.left.model, vote.right.model) == NAMES
    assert vote.left.settings.max_new_tokens == vote.right.settings.max_new_tokens == 9
    said = [message.text for message in vote.right.conversation.messages]
    assert said[::2] == ["What is it?", "And now?"] and said[3]
    assert (file.parent / vote.left.conversation.media[0].path).is_file()
    assert "127.0.0.1" not in json.dumps(json.loads(file.read_text().splitlines()[-1]))
    assert not tab.button("Tie").is_enabled(), "one vote a question"
    tab.button("Regenerate").click()
    tab.until(lambda: tab.button("Tie").is_enabled())


def test_hidden_names_are_shown_after_the_vote_and_not_before(open_tab: OpenTab, file: Path) -> None:
    tab = open_tab()
    tab.settings(tokens=5, hide=True)
    tab.ask("Hello?")
    tab.until_answered()
    tab.until(lambda: tab.button("Left is better").is_enabled())
    assert tab.heads == ["Left: hidden until the vote", "Right: hidden until the vote"]
    assert tab.tally == "The names are shown after the vote."
    assert not any(name in tab.view.locator("#compare-talk").inner_text() for name in NAMES)
    tab.button("Both are bad").click()
    tab.until(lambda: tab.tally.startswith("Your vote is kept (both are bad)."))
    *_, vote = read_votes(file)
    assert vote.blind and vote.verdict == "both bad"
    assert tab.heads == [f"Left: {vote.left.model}", f"Right: {vote.right.model}"]
    assert {vote.left.model, vote.right.model} == set(NAMES)
    tab.ask("And again?")
    tab.until_answered(2)
    tab.until(lambda: tab.button("Tie").is_enabled())
    tab.button("Tie").click()
    tab.until(lambda: "Your vote is kept (tie)." in tab.tally)
    *_, vote = read_votes(file)
    assert not vote.blind, "who knows the names does not vote blindly"


def test_a_failure_of_one_side_leaves_the_other_and_is_told_with_an_id(
    open_tab: OpenTab, models: Models, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def embed(*_: object, **__: object) -> None:
        raise RuntimeError("secret /home/someone")

    tab = open_tab()
    tab.settings(tokens=8)
    broken = models["runs/blue"]
    assert isinstance(broken, Generator)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, logger="mminstruct.demo"):
        patch.setattr(broken.model, "embed", embed)
        tab.ask("Hello?")
        tab.until_answered()
    assert "Unexpected RuntimeError" in tab.last("right") and "secret" not in tab.last("right")
    assert tab.last("right").split("Error id ")[1].split(";")[0] in caplog.text
    assert "wrote 8 tokens" in tab.status("left")
    assert not tab.button("Tie").is_enabled()
    tab.button("Regenerate").click()
    tab.until(lambda: tab.button("Tie").is_enabled())


def test_without_a_file_votes_are_off_and_one_model_meets_itself(
    chrome: Browser, models: Models, open_tab: OpenTab
) -> None:
    with running(Models({"runs/red": models["runs/red"]}), reserve(port=0)) as page:
        tab = open_tab(page)
        assert tab.tally.startswith("Votes are off: nothing is written.") and "--votes votes.jsonl" in tab.tally
        assert not tab.button("Tie").count()
        told = tab.view.locator("#compare-one").inner_text()
        assert "Only one model is loaded" in told and "mminstruct demo MODEL MODEL" in told
        tab.settings(tokens=6)
        tab.ask("Hello?")
        tab.until_answered()
        assert tab.heads == ["Left: runs/red", "Right: runs/red"]
        assert tab.last("left") == tab.last("right")
        assert not tab.view.get_by_label("Hide the names").count()
        tab.context.close()


# ---- without a browser -----------------------------------------------------------------------------------------------


@pytest.fixture
def match(tmp_path: Path) -> Match:
    engines = {"a": ScriptedEngine("one", "two"), "b": ScriptedEngine("other")}
    return Match(Models(engines), Framing())


def asked(match: Match, tmp_path: Path, text: str = "What?", hide: bool = False, first: str = "a") -> None:
    contestants = [Contestant(model=name, settings=GenerationSettings()) for name in (first, "b")]
    for reply in match.ask(text, [], Uploads(tmp_path), "tab", *contestants, hide):
        list(reply)


def test_sides_are_drawn_by_chance_where_names_are_hidden_only(tmp_path: Path) -> None:
    left: dict[bool, set[str]] = {True: set(), False: set()}
    for hide in left:
        for _ in range(40):
            match = Match(Models({"a": ScriptedEngine("x"), "b": ScriptedEngine("y")}), Framing())
            asked(match, tmp_path, hide=hide)
            left[hide].add(match.seats[0].contestant.model)
    assert left == {True: {"a", "b"}, False: {"a"}}


def test_models_stay_those_of_the_first_question(match: Match, tmp_path: Path) -> None:
    asked(match, tmp_path)
    asked(match, tmp_path, "And?", first="b")
    assert [seat.contestant.model for seat in match.seats] == ["a", "b"]
    assert [turn.answer for turn in match.seats[0].visitor.chat.turns] == ["one", "two"]


def test_a_question_that_one_side_refuses_is_asked_of_neither(
    match: Match, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(match, tmp_path)

    def full(*_: object) -> None:
        raise DataError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(match.seats[1].visitor.chat.engine, "stream", full)
        with pytest.raises(DataError, match="no room"):
            asked(match, tmp_path, "And?")
    assert [len(seat.visitor.chat.turns) for seat in match.seats] == [1, 1]


def test_nothing_is_voted_on_before_both_have_answered_or_twice(match: Match, tmp_path: Path) -> None:
    file = VoteFile(tmp_path / "votes.jsonl")
    with pytest.raises(DataError, match="no two whole answers to vote on"):
        match.vote("tie", file)
    asked(match, tmp_path)
    assert isinstance(match.vote("left", file), Vote)
    with pytest.raises(DataError, match="no two whole answers to vote on"):
        match.vote("left", file)
    assert len(list(read_votes(file.path))) == 1


def test_a_vote_that_could_not_be_written_can_be_given_again(
    match: Match, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = VoteFile(tmp_path / "votes.jsonl")
    asked(match, tmp_path, hide=True)

    def broken(_: Vote) -> None:
        raise DataError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(file, "add", broken)
        with pytest.raises(DataError, match="no room"):
            match.vote("left", file)
    assert match.can_vote and not match.named
    match.vote("left", file)
    assert match.named and match.voted == "left"
