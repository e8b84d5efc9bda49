"""The runner: each distinct request asked once, its reply kept and found again, all replies in the items' order."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct.conversation import Conversation
from mminstruct.errors import DataError, MediaError
from mminstruct.evaluation.adapters import Adapter
from mminstruct.evaluation.answer_cache import AnswerCache
from mminstruct.evaluation.benchmark import Item, one_question
from mminstruct.evaluation.requests import Reply, Request
from mminstruct.evaluation.runner import evaluate

from .conftest import Mixed


class Echo(Adapter):
    """Answers with what it was asked, counts, and stops where it is told to."""

    def __init__(self, identity: Mapping[str, str] | None, stop_after: int | None = None, aside: str = "") -> None:
        self._identity, self.stop_after, self.aside = identity, stop_after, aside
        self.asked: list[Request] = []

    @property
    def identity(self) -> Mapping[str, str] | None:
        return self._identity

    def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        order = sorted(range(len(requests)), key=lambda place: requests[place].conversation.messages[0].text)
        for first in range(0, len(order), 3):
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            batch = order[first : first + 3]
            self.asked += [requests[place] for place in batch]
            yield [(place, self._reply(requests[place])) for place in batch]

    def _reply(self, request: Request) -> Reply:
        media = " ".join(Path(medium.path).name for medium in request.conversation.media)
        aside = self.aside if request.alone else ""
        return Reply(text=f"{request.conversation.messages[0].text} {media}{aside}", tokens=3, finish="end")

    def facts(self) -> dict[str, Any]:
        return {}


MODEL = {"checkpoint": "a"}


def expected(benchmark: Mixed) -> list[str]:
    return [f"{item.question} {' '.join(path.name for path in item.images)}" for item in benchmark.items()]


def test_replies_stand_in_the_items_order(mixed: Mixed) -> None:
    found = evaluate(Echo(None), mixed)
    assert found.texts == expected(mixed) and [item.id for item in found.items] == [item.id for item in mixed.items()]
    assert found.distinct == found.generated == len(found.items) - 1 and found.seconds > 0


def test_requests_about_the_same_media_stand_together(mixed: Mixed) -> None:
    class Watching(Echo):
        def answer(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
            self.seen = [tuple(medium.path for medium in request.conversation.media) for request in requests]
            return super().answer(requests)

    adapter = Watching(None)
    evaluate(adapter, mixed)
    seen = [media for media in adapter.seen if media]
    changes = sum(a != b for a, b in itertools.pairwise(seen))
    assert changes == len(set(seen)) - 1


def test_a_reply_is_kept_and_never_asked_again(mixed: Mixed, tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "answers.sqlite") as answers:
        first, second, other = Echo(MODEL), Echo(MODEL), Echo({"checkpoint": "b"})
        one = evaluate(first, mixed, answers=answers)
        again = evaluate(second, mixed, answers=answers)
        assert again.texts == one.texts and again.generated == 0 and not second.asked
        assert evaluate(other, mixed, answers=answers).generated == one.generated, "another model is asked"
        assert evaluate(Echo(MODEL), mixed, answers=answers, blank_images=True).generated > 0, (
            "grey pictures are others"
        )
        assert evaluate(Echo(None), mixed, answers=answers).generated == one.distinct, "who has no name keeps nothing"


def test_a_changed_picture_is_another_request(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"

    class One(Mixed):
        def items(self) -> Iterator[Item]:
            yield Item("1", (path,), "what?", ("red",))

    with AnswerCache(tmp_path / "answers.sqlite") as answers:
        for colour, generated in [("red", 1), ("red", 0), ("blue", 1)]:
            Image.new("RGB", (8, 8), colour).save(path)
            assert evaluate(Echo(MODEL), One([path]), answers=answers).generated == generated


@pytest.mark.parametrize("after", [0, 1, 4, 7, 12, 20])
def test_a_stopped_run_goes_on_and_asks_nothing_twice(after: int, mixed: Mixed, tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    stopped, resumed = Echo(MODEL, stop_after=after), Echo(MODEL)
    with AnswerCache(path) as answers, pytest.raises(KeyboardInterrupt):
        evaluate(stopped, mixed, answers=answers, check=4)
    with AnswerCache(path) as answers:
        found = evaluate(resumed, mixed, answers=answers, check=4)
    assert found.texts == expected(mixed)
    asked = [request.model_key for request in map(_Comparable, stopped.asked + resumed.asked)]
    assert len(asked) == len(set(asked)) == found.distinct + 4


class _Comparable:
    def __init__(self, request: Request) -> None:
        self.model_key = (request.conversation.model_dump_json(exclude={"id", "task"}), request.alone)


@pytest.mark.parametrize("damage", ["reply = 'x'", "reply = replace(reply, 'what', 'that')", "checksum = ''"])
def test_a_damaged_entry_is_asked_again_and_replaced(damage: str, mixed: Mixed, tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with AnswerCache(path) as answers:
        evaluate(Echo(MODEL), mixed, answers=answers)
    with sqlite3.connect(path) as connection:
        query = f"UPDATE replies SET {damage} WHERE key IN (SELECT key FROM replies WHERE reply LIKE '%what%' LIMIT 2)"
        assert connection.execute(query).rowcount == 2
    connection.close()
    with AnswerCache(path) as answers:
        found = evaluate(Echo(MODEL), mixed, answers=answers)
        assert found.texts == expected(mixed) and found.generated == 2
        assert evaluate(Echo(MODEL), mixed, answers=answers).generated == 0


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_text("no database, but long enough to be looked at as one " * 10)
    with pytest.raises(DataError, match=r"answers\.sqlite is no file of answers"):
        AnswerCache(tmp_path / "answers.sqlite")


def test_answers_alone_are_compared(mixed: Mixed) -> None:
    same, other = evaluate(Echo(None), mixed, check=5), evaluate(Echo(None, aside="!"), mixed, check=5)
    assert (same.checked, same.flips) == (5, ()) and other.checked == 5 and len(set(other.flips)) == 5
    assert other.texts == expected(mixed), "the answer in a batch is the one that counts"
    assert evaluate(Echo(None), mixed, check=1000).checked == same.distinct


def test_limit_and_progress(mixed: Mixed) -> None:
    calls: list[tuple[int, int]] = []
    found = evaluate(Echo(None), mixed, limit=7, progress=lambda done, total: calls.append((done, total)))
    assert found.texts == expected(mixed)[:7]
    assert calls[-1] == (7, 7) and [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"missing\.png cannot be read"):
        evaluate(Echo(None), Mixed([tmp_path / "missing.png"]))


def test_blank_pictures_of_one_size_are_one_request(tmp_path: Path) -> None:
    class SameSize(Mixed):
        def items(self) -> Iterator[Item]:
            for number, path in enumerate(self.pictures):
                yield Item(str(number), (path,), "what is it?", ("red",))

    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        Image.new("RGB", (16, 16 if number < 3 else 17), (60 * number, 0, 0)).save(path)
    assert evaluate(Echo(None), SameSize(paths)).generated == 4
    assert evaluate(Echo(None), SameSize(paths), blank_images=True).generated == 2


def test_questions_are_checked(pictures: list[Path]) -> None:
    class Odd(Mixed):
        def __init__(self, *items: Item) -> None:
            super().__init__(pictures)
            self.given = items

        def items(self) -> Iterator[Item]:
            yield from self.given

    def item(name: str, *answers: str) -> Item:
        return Item(name, (pictures[0],), "what?", answers)

    assert len(Odd(item("a", "x"), item("b", "x")).questions()) == 2
    for benchmark, message in [
        (Odd(), "no questions"),
        (Odd(item("a", "x"), item("a", "y")), "'a'; ids must differ"),
        (Odd(item("a")), "'a' has no gold answers"),
        (Odd(replace(item("a", "x"), after=("b",)), item("b", "x")), "'a' comes before its earlier turns"),
    ]:
        with pytest.raises(DataError, match=message):
            benchmark.questions()


def test_later_turns_hold_what_the_model_said_before(pictures: list[Path], tmp_path: Path) -> None:
    class Chats(Mixed):
        def items(self) -> Iterator[Item]:
            for chat in "ab":
                names: list[str] = []
                for turn in range(3):
                    yield Item(f"{chat}{turn}", (pictures[0],), f"{chat} {turn}", ("x",), after=tuple(names))
                    names.append(f"{chat}{turn}")

        def conversation_after(self, item: Item, replies: Sequence[str]) -> Conversation:
            return one_question(item, " / ".join([*replies, item.question]))

    with AnswerCache(tmp_path / "answers.sqlite") as answers:
        found = evaluate(Echo(MODEL), Chats(pictures), answers=answers, check=2)
        again = evaluate(Echo(MODEL), Chats(pictures), answers=answers, check=2)
    assert [item.id for item in found.items] == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert found.texts[2] == "a 0 0.png / a 0 0.png / a 1 0.png / a 2 0.png"
    assert again.texts == found.texts and again.generated == 0 and found.distinct == 6 and found.checked == 2
