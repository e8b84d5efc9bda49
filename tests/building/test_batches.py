"""Questions in files: answered in rounds, sent once whatever happens, and the same data set as by the chat API."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.building import BuildConfig, Progress, run
from mminstruct.building.clients import BatchClient, BatchConfig, OpenAICompatibleClient
from mminstruct.building.limits import Price
from mminstruct.errors import BudgetError, DataError, RunError
from mminstruct.inspection.cards import card_of
from tests.building.asking_builder import Greys
from tests.building.batch_server import EXPIRED, BatchServer, Outcome, good, refused, serving_batches
from tests.building.chat_server import digest, serving
from tests.building.test_builders import bytes_of
from tests.command import call

COUNT = 9
QUICK = BatchConfig(poll=0.0)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-7")


def says(body: dict[str, Any]) -> str:
    return f"it is {digest(body)}"


def well(body: dict[str, Any], sent: int) -> Outcome:
    return good(says(body))


def build(out: Path, server: BatchServer | None, config: BuildConfig | None = None, **options: Any) -> None:
    settings = options.pop("settings", QUICK)
    client = BatchClient("m", None if server is None else server.url, config=settings)
    run(Greys(Greys.Options(count=COUNT)), out, config, client=client, **options)
    client.close()


@pytest.fixture(scope="module")
def by_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chat") / "set"
    with pytest.MonkeyPatch.context() as patch, serving(says) as server:
        patch.setenv("OPENAI_API_KEY", "any")
        client = OpenAICompatibleClient("m", [server.url])
        run(Greys(Greys.Options(count=COUNT)), out, client=client)
        client.close()
    return out


def test_batches_build_what_the_chat_api_builds_in_two_rounds(by_chat: Path, tmp_path: Path) -> None:
    """The second question of an item needs no reply to the first, but its builder asks one behind the other."""
    with serving_batches(well) as server:
        build(tmp_path / "set", server, BuildConfig(workers=3))
    assert bytes_of(tmp_path / "set") == bytes_of(by_chat)
    assert [len(lines) for lines in server.questions()] == [8, 8]
    assert set(server.sent.values()) == {1} and set(server.headers) == {"Bearer secret-7"}
    first = server.questions()[0][0]
    assert first["method"] == "POST" and first["url"] == "/v1/chat/completions"
    assert first["body"]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    # The log is the chat API's: what batches have paid for costs the chat API nothing.
    with serving(says) as chat:
        client = OpenAICompatibleClient("m", [chat.url])
        config = BuildConfig(calls=tmp_path / "set/calls.sqlite")
        run(Greys(Greys.Options(count=COUNT)), tmp_path / "again", config, client=client)
        client.close()
    assert chat.requests == []


def test_independent_questions_share_a_batch(tmp_path: Path) -> None:
    arguments = ("build", "llava", "scenes=2", "--out", tmp_path / "set", "--backend", "batch", "--model", "m")
    pair = "Question:\nWhat is it?\n===\nAnswer:\nIt is a picture of several coloured shapes.\n===\n"
    with serving_batches(lambda body, sent: good(pair)) as server:
        code, printed, error = call(*arguments, "--base-url", server.url, "--poll", 0)
    assert (code, printed) == (0, f"{tmp_path / 'set'}: 6 conversations, 6 images\n"), error
    assert [len(lines) for lines in server.questions()] == [6]


def test_what_fails_is_sent_again_and_what_is_refused_is_not(by_chat: Path, tmp_path: Path) -> None:
    def outcome(body: dict[str, Any], sent: int) -> Outcome:
        asked = json.dumps(body["messages"])
        if "what is grey/0?" in asked and sent < 3:
            return EXPIRED if sent == 1 else refused(500)
        if "what is grey/1?" in asked:
            return refused(400)
        if "what is grey/2?" in asked:
            return EXPIRED
        return well(body, sent)

    with serving_batches(outcome) as server:
        build(tmp_path / "set", server, BuildConfig(on_error="skip"))
        assert sorted(server.sent.values())[-3:] == [1, 3, 3]
    letters = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
    assert [(letter["item"], letter["reason"]) for letter in letters] == [("grey/1", "server"), ("grey/2", "server")]
    assert "status 400" in letters[0]["problem"] and "too late" in letters[1]["problem"]
    with serving_batches(well) as server:
        build(tmp_path / "set", server, BuildConfig(retry=True))
    assert bytes_of(tmp_path / "set") == bytes_of(by_chat)
    assert len(server.sent) == 4  # both questions of the two that had failed


def test_a_batch_that_was_sent_is_not_sent_again(by_chat: Path, tmp_path: Path) -> None:
    """Killed between sending a batch and noting so, and again while it waits for one."""
    out = tmp_path / "set"
    with serving_batches(well) as server:
        server.forget_answer = True
        with pytest.raises(Exception, match="Connection error"):
            client = BatchClient("m", server.url, config=QUICK)
            assert client._server is not None
            client._server.max_retries = 0
            run(Greys(Greys.Options(count=COUNT)), out, client=client)
        server.forget_answer = False
        assert len(server.batches) == 1
        build(out, server, resume=True)
        assert len(server.batches) == 2 and set(server.sent.values()) == {1}
    assert bytes_of(out) == bytes_of(by_chat)


def test_files_that_somebody_else_has_answered(by_chat: Path, tmp_path: Path) -> None:
    """As with vLLM's run-batch; several files, since one holds only so many."""
    out = tmp_path / "set"
    folder = tmp_path / "set.unfinished/batches"
    settings = BatchConfig(per_file=5)
    for number in (0, 2):
        with pytest.raises(RunError, match=rf"000{number}\.requests\.jsonl, .*000{number}\.replies\.jsonl.*--resume"):
            build(out, None, resume=number > 0, settings=settings)
        for path in sorted(folder.glob("*.requests.jsonl"))[number:]:
            asked = [json.loads(line) for line in path.read_text().splitlines()]
            assert 0 < len(asked) <= 5
            replies = [{"custom_id": one["custom_id"], **well(one["body"], 1)} for one in asked]
            path.with_name(path.name.replace("requests", "replies")).write_text(
                "".join(json.dumps(reply) + "\n" for reply in replies)
            )
    build(out, None, resume=True, settings=settings)
    assert bytes_of(out) == bytes_of(by_chat)
    assert not (out / "batches").exists()
    assert len(list(formats.read(out))) == 8


@pytest.mark.parametrize(
    ("replies", "problem"),
    [
        ('{"custom_id": "abc", "response": {"status_code": 200, "body": {}}}', "replies to abc, which 0000.requests"),
        ("hello", "0000.replies.jsonl:1 is not JSON"),
        ('{"id": 3}', "0000.replies.jsonl:1 is no reply of a batch"),
    ],
)
def test_replies_to_something_else_are_refused(replies: str, problem: str, tmp_path: Path) -> None:
    out = tmp_path / "set"
    with pytest.raises(RunError):
        build(out, None)
    (tmp_path / "set.unfinished/batches/0000.replies.jsonl").write_text(replies + "\n")
    with pytest.raises(DataError, match=problem):
        build(out, None, resume=True)


def test_batches_cost_what_batches_cost(tmp_path: Path) -> None:
    """In the budget, and in the card of a data set whose replies came partly in a batch, partly not."""
    price = Price(read=1e5, cached=2e4, written=4e5, batch=0.25)
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}
    each = (4 * 1e5 + 6 * 2e4 + 5 * 4e5) / 1e6

    def cached(body: dict[str, Any], sent: int) -> Outcome:
        found = well(body, sent)
        found["response"]["body"]["usage"] = usage
        return found

    seen: list[Progress] = []
    with serving_batches(cached) as server:
        for cost, message in ((7.9 * each / 4, "dollars is spent"), (8.1 * each / 4, None)):
            config = BuildConfig.model_validate({"budget": {"cost": cost}})
            out = tmp_path / str(message)
            with pytest.raises(BudgetError, match=message) if message else nullcontext():
                build(out, server, config, price=price, advance=seen.append)
        # Of two rounds of eight questions the second is only sent where the first, known to the server, left money.
        assert [len(lines) for lines in server.questions()] == [8, 8]
    assert seen[-1].cost == pytest.approx(16 * each / 4)
    assert f"cost ${16 * each / 4:,.2f}." in card_of(out, price=price)
    with serving(says) as chat:
        chat.usage = usage
        client = OpenAICompatibleClient("m", [chat.url])
        config = BuildConfig(calls=out / "calls.sqlite")
        run(Greys(Greys.Options(count=COUNT + 2)), tmp_path / "more", config, client=client)
        client.close()
    assert len(chat.requests) == 4
    text = card_of(tmp_path / "more", calls=out / "calls.sqlite", price=price)
    assert f"cost ${16 * each / 4 + 4 * each:,.2f}." in text


def test_a_refusal_in_a_batch_is_sent_again_only_by_trying_again(by_chat: Path, tmp_path: Path) -> None:
    def outcome(body: dict[str, Any], sent: int) -> Outcome:
        refusing = "what is grey/1?" in json.dumps(body["messages"])
        return good("", "content_filter") if refusing else well(body, sent)

    with serving_batches(outcome) as server:
        build(tmp_path / "set", server, BuildConfig(on_error="skip"))
        assert set(server.sent.values()) == {1}
        (letter,) = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
        assert (letter["item"], letter["reason"]) == ("grey/1", "refused")
        server.outcome = well
        sent = sum(server.sent.values())
        build(tmp_path / "set", server, BuildConfig(retry=True))
        assert sum(server.sent.values()) == sent + 2
    ids = [conversation.id for conversation in formats.read(tmp_path / "set")]
    assert ids == [conversation.id for conversation in formats.read(by_chat)]


def test_a_budget_holds_before_a_batch_is_sent(tmp_path: Path) -> None:
    with serving_batches(well) as server:
        with pytest.raises(BudgetError, match="requests is spent"):
            build(tmp_path / "set", server, BuildConfig.model_validate({"budget": {"requests": 7}}))
        assert not server.batches
