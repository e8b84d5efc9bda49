"""A judge is asked once, read strictly, and where it fails nothing is scored."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mminstruct.building.asking import AskingConfig
from mminstruct.building.call_log import CallLog
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.building.clients.base import Call
from mminstruct.building.limits import Price
from mminstruct.building.request import Completion
from mminstruct.conversation import Message
from mminstruct.errors import ConfigError, ReplyError, UnreachableError
from mminstruct.evaluation.judges import Judge, JudgePrompt, Told, both_orders, fill, preferred, read_told, tally
from tests.building.chat_server import serving

QUICK = AskingConfig(server_attempts=2, first_wait=0.01, longest_wait=0.01, stop_unanswered=False)
TOLD = Told(version="3", source="this file", system="Be fair.", user="{first} or {second}?")


@dataclass(frozen=True)
class Two:
    first: str
    second: str


class Which(JudgePrompt[Two, tuple[float, float]]):
    name = "test/which"
    version = TOLD.version

    def messages(self, facts: Two) -> list[Message]:
        return TOLD.messages(first=facts.first, second=facts.second)

    def parse(self, reply: str, facts: Two) -> tuple[float, float]:
        try:
            one, two = (float(part) for part in reply.split())
        except ValueError:
            raise ReplyError("two numbers, please") from None
        return one, two


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-judge")


@contextlib.contextmanager
def judging(url: str, path: Path, model: str = "wise", price: Price | None = None, **options: Any) -> Iterator[Judge]:
    client = OpenAICompatibleClient(model, [url], timeout=options.pop("timeout", 5.0))
    with contextlib.closing(client), CallLog(path) as log:
        yield Judge(client, log, price=price, asking=QUICK, **options)


def lengths(body: dict[str, Any]) -> str:
    """Scores by the lengths of the two answers of the question: what a fair judge would say."""
    first, second = body["messages"][1]["content"].removesuffix("?").split(" or ")
    return f"{len(first)} {len(second)}"


def test_each_question_is_asked_once_and_found_again(tmp_path: Path) -> None:
    pairs = [Two("a" * n, "bb") for n in range(1, 8)] * 2
    price = Price(read=1.0, written=2.0)
    with serving(lengths) as server:
        for _ in range(2):
            with judging(server.url, tmp_path / "log", price=price) as judge:
                assert judge.ask(Which(), pairs) == [(float(len(pair.first)), 2.0) for pair in pairs]
                facts = judge.facts()
        assert len(server.requests) == 7
        assert server.requests[0]["messages"][0] == {"role": "system", "content": "Be fair."}
        with judging(server.url, tmp_path / "log", model="wiser") as other:
            other.ask(Which(), pairs[:1])
        with judging(server.url, tmp_path / "log") as judge:
            judge.ask(Which(), pairs[:1], draw=1)
        assert len(server.requests) == 9  # another model and another draw are other questions
    # What it took is told the same, whether the replies were known or not.
    assert facts == {
        "model": "wise",
        "prompts": ["test/which@3"],
        "replies": 7,
        "tokens_read": 70,
        "tokens_written": 35,
        "cost": pytest.approx((70 * 1.0 + 35 * 2.0) / 1e6),
        "failures": {},
    }


def test_another_version_or_content_is_another_question(tmp_path: Path) -> None:
    class Newer(Which):
        version = "4"

    with serving(lengths) as server, judging(server.url, tmp_path / "log") as judge:
        judge.ask(Which(), [Two("a", "b")])
        judge.ask(Newer(), [Two("a", "b")])
        judge.ask(Which(), [Two("a", "c")])
        assert len(server.requests) == 3


def test_garbage_is_asked_three_times_and_then_no_judgement(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> str:
        if "mute" in body["messages"][1]["content"]:
            return "I would rather not"
        if "slow" in body["messages"][1]["content"] and len(body["messages"]) < 6:
            return "hm"
        return "4 5"

    pairs = [Two("mute", "b"), Two("slow", "b"), Two("a", "b")]
    with serving(answer) as server, judging(server.url, tmp_path / "log") as judge:
        assert judge.ask(Which(), pairs) == [None, (4.0, 5.0), (4.0, 5.0)]
        assert judge.failures == {"reply": 1} and len(server.requests) == 7
        repairs = [body["messages"][-1]["content"] for body in server.requests if len(body["messages"]) > 2]
        assert all("two numbers, please" in repair for repair in repairs)


def test_refusals_and_silence_give_no_judgement(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(lengths) as server, judging(server.url, tmp_path / "log") as judge:
        server.refusal = lambda body: "refused" if "bad" in str(body) else None
        assert judge.ask(Which(), [Two("bad", "b"), Two("a", "b")]) == [None, (1.0, 1.0)]
        assert judge.failures == {"refused": 1}
    with (
        serving(lengths, lambda number: "silence") as server,
        judging(server.url, tmp_path / "log2", timeout=0.2) as judge,
    ):
        assert judge.ask(Which(), [Two("a", "b")]) == [None] and judge.failures == {"server": 1}
        assert judge.facts()["replies"] == 0
    warned = [record.message.partition(":")[0] for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ["wise could not judge an answer, which is in no figure"] * 2


class Counting(OpenAICompatibleClient):
    """A client that counts what it is asked."""

    asked = 0

    def complete(self, call: Call) -> Completion:
        self.asked += 1
        return super().complete(call)


def test_where_nobody_listens_few_questions_try_and_what_is_known_is_judged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(lengths) as server:
        url = server.url
        with judging(url, tmp_path / "log") as judge:
            judge.ask(Which(), [Two("known", "b")])
    pairs = [*(Two("a" * number, "b") for number in range(1, 40)), Two("known", "b")]
    client = Counting("wise", [url], timeout=5.0)  # the server is gone: its port is closed
    with contextlib.closing(client), CallLog(tmp_path / "log") as log:
        judge = Judge(client, log, asking=QUICK, concurrency=3)
        assert judge.ask(Which(), pairs) == [None] * 39 + [(5.0, 1.0)]
        assert judge.failures == {"server": 39}
        tries = client.asked
        assert 6 <= tries <= 8  # two of each of the three on their way; one may be under way when it is given up
        assert judge.anew().ask(Which(), pairs[:5]) == [None] * 5 and client.asked == tries
    [given_up] = [record.message for record in caplog.records if "no more" in record.message]
    assert given_up.startswith(f"wise: {url} did not answer (APIConnectionError), 6 times in a row;")


def test_a_server_that_answers_in_between_is_asked_on(tmp_path: Path) -> None:
    class Flickering(Counting):
        def complete(self, call: Call) -> Completion:
            if self.asked % 3:
                self.asked += 1
                raise UnreachableError("nobody", again=True)
            return super().complete(call)

    pairs = [Two("a" * number, "b") for number in range(1, 20)]
    with serving(lengths) as server, CallLog(tmp_path / "log") as log:
        client = Flickering("wise", [server.url])
        with contextlib.closing(client):
            judge = Judge(client, log, asking=QUICK.model_copy(update={"server_attempts": 3}), concurrency=1)
            assert judge.ask(Which(), pairs) == [(float(number), 1.0) for number in range(1, 20)]


def test_a_wrong_key_stops_it(tmp_path: Path) -> None:
    with (
        serving(lengths, lambda number: "401") as server,
        judging(server.url, tmp_path / "log") as judge,
        pytest.raises(ConfigError, match="status 401"),
    ):
        judge.ask(Which(), [Two("a", "b")])


# --- pairs ------------------------------------------------------------------------------------------------------------


def swap(pair: Two) -> Two:
    return Two(pair.second, pair.first)


def test_pairs_are_judged_in_both_orders(tmp_path: Path) -> None:
    pairs = [Two("aaa", "b"), Two("a", "bbb"), Two("a", "b"), Two("mute", "b")]

    def fair(body: dict[str, Any]) -> str:
        return "?" if "mute" in str(body["messages"][1]) and body["messages"][1]["content"][0] == "b" else lengths(body)

    with serving(fair) as server, judging(server.url, tmp_path / "log") as judge:
        found = both_orders(judge, Which(), pairs, swap)
    assert found == [((3, 1), (3, 1)), ((1, 3), (1, 3)), ((1, 1), (1, 1)), ((4, 1), None)]
    ended = tally(found)
    assert (ended.first, ended.second, ended.tie, ended.disagreed, ended.judge_failed) == (1, 1, 1, 0, 1)


def test_a_judge_that_always_prefers_the_first_place_gives_ties_only(tmp_path: Path) -> None:
    pairs = [Two("a" * n, "b" * (9 - n)) for n in range(1, 9)]
    with serving(lambda body: "9 2") as server, judging(server.url, tmp_path / "log") as judge:
        ended = tally(both_orders(judge, Which(), pairs, swap))
    assert (ended.first, ended.second, ended.tie, ended.disagreed) == (0, 0, 8, 8)


def test_preferred_against_every_pair_of_signs() -> None:
    values = {1: (2.0, 1.0), 0: (3.0, 3.0), -1: (1.0, 4.0)}
    for one, first in values.items():
        for other, second in values.items():
            expected = ("first" if one > 0 else "second") if one == other and one else "tie"
            assert preferred(first, second) == (expected, {one, other} == {1, -1})


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_what_fills_a_place_is_not_filled_again() -> None:
    draw = random.Random(0)
    pieces = ["{first}", "{second}", "{", "}", "x", "\\1", "{third}"]
    for _ in range(300):
        values = {name: "".join(draw.choices(pieces, k=4)) for name in ("first", "second")}
        assert fill("<{first}|{second}>", values) == f"<{values['first']}|{values['second']}>"
    with pytest.raises(KeyError):
        fill("{third}", {"first": "a"})


def test_prompt_files(tmp_path: Path) -> None:
    path = tmp_path / "told.yaml"
    path.write_text(json.dumps({"version": "1", "source": "me", "user": "{a}"}))
    assert [one.role for one in read_told(path).messages(a="b")] == ["user"]
    path.write_text(json.dumps({"source": "me", "user": "{a}"}))
    with pytest.raises(ConfigError, match=r"told\.yaml: the key 'version' is missing"):
        read_told(path)
