"""The engine: the same bytes however a build is run, and nothing asked twice that was answered."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BadItem, BuildConfig, Job, Progress, load_builder, run
from mminstruct.building.asking import AskingConfig
from mminstruct.building.call_log import CallLog
from mminstruct.building.clients import OpenAICompatibleClient, ReplayClient
from mminstruct.building.join import join
from mminstruct.building.limits import BudgetConfig, Price, Rate, RateConfig
from mminstruct.building.request import Completion
from mminstruct.building.unfinished import unfinished
from mminstruct.conversation import Conversation, image, message
from mminstruct.errors import BudgetError, ConfigError, DataError, MediaError, RefusedError, ReplyError, RunError
from mminstruct.inspection.cards import card_of
from tests.building.asking_builder import Grey, Greys
from tests.building.chat_server import ChatServer, Refusal, digest, often, serving
from tests.forking import FORKED

QUICK = AskingConfig(server_attempts=12, first_wait=0.001, longest_wait=0.01)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a data set but the log, which notes calls in the order that they came."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("calls.sqlite")
    }


def answer(body: dict[str, Any]) -> str:
    return f"it is {digest(body)}"


def ask_server(server: ChatServer, out: Path, *, count: int = 30, resume: bool = False, **config: Any) -> None:
    client = OpenAICompatibleClient("m", [server.url], timeout=0.3)
    settings = BuildConfig(**{"asking": QUICK, "per_shard": 8, **config})
    run(Greys(Greys.Options(count=count)), out, settings, client=client, resume=resume)
    client.close()


def test_workers_and_shards_of_the_work_change_no_byte(tmp_path: Path) -> None:
    def slow(body: dict[str, Any]) -> str:
        time.sleep(0.01)  # so that others ask meanwhile
        return answer(body)

    with serving(slow) as server:
        for workers in (1, 8):
            ask_server(server, tmp_path / str(workers), workers=workers)
        assert server.most_at_once > 1
    one, eight = (contents(tmp_path / name) for name in ("1", "8"))
    assert one == eight
    assert sorted(name for name in one if name.startswith("shard")) == [f"shard-0000{n}.jsonl" for n in range(4)]
    manifest = json.loads(one["manifest.json"])
    assert manifest["conversations"] == 26 and manifest["builder"]["dropped"] == {"sevens": 4}
    assert manifest["builder"]["model"] == {"backend": "openai", "name": "m", "parameters": {}}


def test_every_reply_is_in_the_log_under_the_keys_that_records_name(tmp_path: Path) -> None:
    with serving(answer) as server:
        ask_server(server, tmp_path / "set", count=5)
    with CallLog(tmp_path / "set/calls.sqlite") as log:
        calls = {key: (request, reply) for key, request, reply in log.calls()}
    for conversation in formats.read(tmp_path / "set"):
        assert conversation.provenance is not None
        shade, more = (calls.pop(key) for key in conversation.provenance.call_ids)
        assert [shade[1].text, more[1].text] == [message.text for message in conversation.messages[1::2]]
        assert shade[0].prompt == "greys/shade@1" and shade[1].tokens == (10, 5)
        assert shade[0].media[0].sha256 == conversation.media[0].sha256
    assert not calls


def test_a_log_alone_builds_the_same(tmp_path: Path) -> None:
    with serving(answer) as server:
        ask_server(server, tmp_path / "set")
    calls = tmp_path / "calls.sqlite"
    shutil.copy(tmp_path / "set/calls.sqlite", calls)
    settings = BuildConfig(calls=calls, per_shard=8, workers=3)
    with CallLog(calls) as log:
        run(Greys(Greys.Options(count=30)), tmp_path / "again", settings, client=ReplayClient(log))
        assert contents(tmp_path / "again") == contents(tmp_path / "set")
        with pytest.raises(Exception, match="has no reply to a request of greys/shade@1; build it with a model"):
            run(Greys(Greys.Options(count=31)), tmp_path / "more", settings, client=ReplayClient(log))
    with CallLog(tmp_path / "new") as log, pytest.raises(ConfigError, match="holds replies of no model"):
        ReplayClient(log)


def _build(url: str, out: Path, seed: int) -> None:
    client = OpenAICompatibleClient("m", [url], timeout=0.3)
    settings = BuildConfig(asking=QUICK, per_shard=8, workers=4)
    run(Greys(Greys.Options(count=60)), out, settings, client=client, resume=True)


def test_a_build_killed_at_twenty_moments_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """With a server that fails in every fifth request. What the log held at a kill is never asked again."""
    with serving(answer) as calm:
        ask_server(calm, tmp_path / "calm", count=60)
    out = tmp_path / "out"
    chance = random.Random(3)
    with serving(answer, often(0.2)) as server:
        server.silence = 0.35
        kills = 0
        known: dict[str, int] = {}
        while not out.exists():
            process = FORKED.Process(target=_build, args=(server.url, out, kills))
            process.start()
            if kills < 20:
                before = sum(server.answered.values())
                wanted = before + chance.randint(1, 3)  # few, so that twenty kills come before the end
                while process.is_alive() and sum(server.answered.values()) < wanted:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, 0.01))
                process.kill()
                kills += 1
            process.join()
            with server.lock:
                answered = dict(server.answered)
            assert all(answered[key] == count for key, count in known.items())
            if not out.exists() and (unfinished(out) / "calls.sqlite").exists():
                with CallLog(unfinished(out) / "calls.sqlite") as log:
                    known = {key: answered[key] for key, _, _ in log.calls()}
        assert kills == 20 and server.faults["None"] < sum(server.faults.values()) * 0.95
        assert all(server.faults[fault] for fault in ("429", "500", "silence", "truncated", "garbage"))
    assert contents(out) == contents(tmp_path / "calm")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]


def test_going_on_needs_the_flag_and_the_same_options(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(answer) as server:
        with pytest.raises(BudgetError, match=r"the budget of 10 requests is spent; .* run again with --resume"):
            ask_server(server, out, budget=BudgetConfig(requests=10))
        assert len(server.requests) == 10
        with pytest.raises(RunError, match="is a build that did not end; add --resume to go on with it, or remove it"):
            ask_server(server, out)
        with pytest.raises(
            RunError, match=r'was begun with options {"count": 30, "broken": .*, now it is {"count": 31'
        ):
            ask_server(server, out, count=31, resume=True)
        ask_server(server, out, resume=True)
        assert len(server.requests) == 52 and set(server.answered.values()) == {1}
        ask_server(server, tmp_path / "other")
    assert contents(out) == contents(tmp_path / "other")
    with pytest.raises(RunError, match="already exists and is not empty"):
        ask_server(server, out, resume=True)


@pytest.mark.parametrize("half", ["line", "shard", "picture"])
def test_what_a_killed_run_left_half_written_is_made_again(tmp_path: Path, half: str) -> None:
    """Each of the three things that are written before a part is done."""
    whole = tmp_path / "whole"
    settings = BuildConfig(per_shard=8)
    run(Greys(Greys.Options(count=30)), whole, settings)
    out = tmp_path / "out"
    shutil.copytree(whole, unfinished(out))
    folder = unfinished(out)
    (folder / "manifest.json").unlink()
    lines = (folder / "build.jsonl").read_text().splitlines(keepends=True)
    (folder / "build.jsonl").write_text("".join(lines[:3]) + (lines[3][:20] if half == "line" else ""))
    (folder / "shard-00003.jsonl").unlink()
    (folder / "shard-00002.jsonl").write_text("half" if half == "shard" else "")
    if half == "picture":
        (folder / "images/grey/29.png").rename(folder / "images/grey/.29.png.abc.tmp")
    run(Greys(Greys.Options(count=30)), out, settings, resume=True)
    assert contents(out) == contents(whole)


def test_a_reply_that_cannot_be_read_is_repaired(tmp_path: Path) -> None:
    """The model is shown its reply and what is wrong with it."""
    with serving(answer, lambda number: "broken" if number == 0 else "cut" if number == 3 else None) as server:
        ask_server(server, tmp_path / "set", count=2)
    asked = [request["messages"] for request in server.requests]
    assert [len(messages) for messages in asked] == [1, 3, 1, 1, 3, 1]
    assert asked[1][:1] == asked[0] and asked[1][1] == {"role": "assistant", "content": "no answer at all"}
    assert "it does not begin with 'it is'" in asked[1][2]["content"]
    assert "cut off at its greatest length" in asked[4][2]["content"]
    first, _ = formats.read(tmp_path / "set")
    assert first.provenance is not None and len(first.provenance.call_ids) == 3
    assert first.messages[1].text == f"it is {digest(server.requests[1])}"


def test_three_broken_replies_are_a_dead_letter_that_can_be_tried_again(tmp_path: Path) -> None:
    out, builder = tmp_path / "set", Greys(Greys.Options(count=30))
    settings = BuildConfig(asking=QUICK, per_shard=8, on_error="skip")
    broken = {"what is grey/10?", "what more of grey/21?"}

    def sometimes(body: dict[str, Any]) -> str:
        said = body["messages"][0]["content"]
        said = said if isinstance(said, str) else said[-1]["text"]
        return "no" if said in broken else answer(body)

    with serving(sometimes) as server:
        client = OpenAICompatibleClient("m", [server.url])
        manifest = run(builder, out, settings, client=client)
        assert (manifest.conversations, manifest.builder and manifest.builder["failed"]) == (24, 2)
        letters = [json.loads(line) for line in (out / "dead-letters.jsonl").read_text().splitlines()]
        assert [(one["item"], one["reason"], len(one["call_ids"])) for one in letters] == [
            ("grey/10", "reply", 3),
            ("grey/21", "reply", 4),
        ]
        assert "no reply to greys/shade could be used; of the last: it does not begin" in letters[0]["problem"]
        with pytest.raises(ReplyError, match="no reply to greys/shade could be used"):
            run(builder, tmp_path / "raised", settings.model_copy(update={"on_error": "raise"}), client=client)

        broken.remove("what is grey/10?")  # now the model knows one of them
        paid = len(server.requests)
        retry = settings.model_copy(update={"retry": True})
        before = contents(out)
        with pytest.raises(RunError, match="was begun with options"):
            run(Greys(Greys.Options(count=31)), out, retry, client=client)
        assert contents(out) == before  # a mistyped option leaves the data set what and where it is
        manifest = run(builder, out, retry, client=client)
        assert manifest.conversations == 25 and len(server.requests) == paid + 2 + 3
        broken.clear()
        spent = retry.model_copy(update={"budget": BudgetConfig(requests=0)})
        with pytest.raises(BudgetError):
            run(builder, out, spent, client=client)
        assert unfinished(out).is_dir() and not out.exists()
        manifest = run(builder, out, retry, client=client)  # goes on with that
        assert manifest.conversations == 26 and len(server.requests) == paid + 2 + 3 + 1
        assert not (out / "dead-letters.jsonl").exists() and "failed" not in (manifest.builder or {})
        with pytest.raises(RunError, match=r"no item of .* had failed; there is nothing to try again"):
            run(builder, out, retry, client=client)
        # A build anew over this log finds all of it, by the same way.
        shutil.copy(out / "calls.sqlite", tmp_path / "calls")
        run(builder, tmp_path / "anew", settings.model_copy(update={"calls": tmp_path / "calls"}), client=client)
        assert len(server.requests) == paid + 6 and contents(tmp_path / "anew") == contents(out)
        client.close()


@pytest.mark.parametrize("kind", ["refused", "filtered"])
def test_a_refusal_is_a_failure_that_only_trying_again_asks_again(kind: Refusal, tmp_path: Path) -> None:
    """It is shown to no model as broken, and no run but that of --retry-failed sends its question once more."""
    out, builder = tmp_path / "set", Greys(Greys.Options(count=4))
    settings = BuildConfig(asking=QUICK, on_error="skip")
    refusing = True
    with serving(answer) as server:
        server.refusal = lambda body: kind if refusing and "what more of grey/2?" in str(body["messages"]) else None
        client = OpenAICompatibleClient("m", [server.url])
        with pytest.raises(RefusedError, match="the model refused to answer greys/more"):
            run(builder, out, settings.model_copy(update={"on_error": "raise"}), client=client)
        assert len(server.requests) == 6
        manifest = run(builder, out, settings, client=client, resume=True)
        assert (manifest.conversations, len(server.requests)) == (3, 8)  # the refusal was paid for, and is kept
        (letter,) = [json.loads(line) for line in (out / "dead-letters.jsonl").read_text().splitlines()]
        said = ": I will not look at this." if kind == "refused" else ""
        assert (letter["item"], letter["reason"]) == ("grey/2", "refused")
        assert letter["problem"] == f"the model refused to answer greys/more{said}" and len(letter["call_ids"]) == 2
        refused = json.loads(json.dumps(server.requests[5]))

        retry = settings.model_copy(update={"retry": True})
        assert run(builder, out, retry, client=client).conversations == 3 and len(server.requests) == 9
        refusing = False
        manifest = run(builder, out, retry, client=client)
        assert manifest.conversations == 4 and len(server.requests) == 10
        assert server.requests[8] == server.requests[9] == refused  # the same question, with nothing said about it
        first = next(one for one in formats.read(out) if one.id == "grey/2")
        assert first.messages[-1].text == answer(refused)
        client.close()


def test_card_manifest_and_progress_count_what_the_log_holds(tmp_path: Path) -> None:
    """Replies of what was kept, dropped and failed, repaired and cut off, in four runs; each once."""

    class Choosy(Greys):
        def make(self, item: Grey, job: Job) -> Iterator[Conversation]:
            found = list(super().make(item, job))
            if item.value % 3 == 1:
                job.drop("thirds")  # after both questions
                return
            yield from found

    out, builder = tmp_path / "set", Choosy(Choosy.Options(count=20))
    price = Price(read=3.0, cached=1.0, written=7.0)
    seen: list[Progress] = []
    mute = True

    def sometimes(body: dict[str, Any]) -> str:
        said = json.dumps(body["messages"][0])
        return "no" if mute and ("is grey/5?" in said or "more of grey/9?" in said) else answer(body)

    def go(server: ChatServer, *, resume: bool = False, **config: Any) -> None:
        client = OpenAICompatibleClient("m", [server.url])
        settings = BuildConfig(**{"asking": QUICK, "per_shard": 3, "on_error": "skip", "workers": 3, **config})
        try:
            run(builder, out, settings, client=client, price=price, resume=resume, advance=seen.append)
        finally:
            client.close()

    def agree() -> None:
        with CallLog(out / "calls.sqlite") as log:
            replies = [reply for _, _, reply in log.calls()]
        read, written = (sum(column) for column in zip(*(reply.tokens for reply in replies), strict=True))
        cached = 4 * len(replies)
        manifest = json.loads((out / "manifest.json").read_text())
        counts = {"replies": len(replies), "read": read, "cached": cached, "written": written}
        assert manifest["builder"]["usage"] == counts
        cost = ((read - cached) * 3 + cached * 1 + written * 7) / 1e6
        end = seen[-1]
        assert (end.replies, end.tokens, end.items) == (len(replies), read + written, 20)
        assert end.cost == pytest.approx(cost)
        text = (out / "README.md").read_text()
        rows = re.findall(r"^\| greys/\w+@1 \| m \(openai\)" + r" \| (\d+)" * 4 + r" \| 0 \|$", text, re.MULTILINE)
        sums = [sum(map(int, column)) for column in zip(*rows, strict=True)]
        assert sums == [len(replies), read, cached, written]
        dear = Price(read=3e4, cached=1e4, written=7e4, date="2026-01-31", source="a")
        assert f"By the prices of 2026-01-31 (a) these replies cost ${1e4 * cost:,.2f}." in card_of(out, price=dear)

    with serving(sometimes) as server:
        server.usage = {"prompt_tokens": 11, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
        with pytest.raises(BudgetError):
            go(server, budget=BudgetConfig(requests=9))
        before = len(server.requests)
        go(server, resume=True)
        assert seen[-1].requests == len(server.requests) - before
        agree()
        assert len(server.requests) == seen[-1].replies == 2 * 18 + (3 - 2) + (1 + 3 - 2)  # sevens are not asked
        mute = False
        go(server, retry=True)
        agree()
        assert seen[-1].replies == 2 * 18 + 3 + 3  # of the two that had failed all six broken ones count


def test_items_that_cannot_be_used(tmp_path: Path) -> None:
    builder = Greys(Greys.Options(count=10, broken=(3, 4)))
    with pytest.raises(MediaError, match="grey/3 is broken"):
        run(builder, tmp_path / "a", BuildConfig(workers=2))
    assert not unfinished(tmp_path / "a").exists() or (unfinished(tmp_path / "a") / "calls.sqlite").exists()
    manifest = run(builder, tmp_path / "b", BuildConfig(on_error="skip", workers=2))
    assert manifest.conversations == 7
    letters = [json.loads(line) for line in (tmp_path / "b/dead-letters.jsonl").read_text().splitlines()]
    assert [(one["item"], one["reason"]) for one in letters] == [("grey/3", "media"), ("grey/4", "media")]
    with pytest.raises(RunError, match="more than 1 items cannot be used, the last one 'grey/4': grey/4 is broken"):
        run(builder, tmp_path / "c", BuildConfig(on_error="skip", max_errors=1))
    with pytest.raises(DataError, match="there are no conversations to write"):
        run(Greys(Greys.Options(count=0)), tmp_path / "d")


def test_an_item_that_stops_the_build_loses_no_reply_on_its_way(tmp_path: Path) -> None:
    """The server answers only once the broken item has been seen."""
    seen = threading.Event()

    class Late(Greys):
        def make(self, item: Grey, job: Job) -> Iterator[Conversation]:
            if item.value == 0:
                while len(server.requests) < 3:  # the others' questions are at the server
                    time.sleep(0.001)
                threading.Timer(0.05, seen.set).start()
                raise MediaError("broken")
            yield from super().make(item, job)

    def late(body: dict[str, Any]) -> str:
        seen.wait(10)
        return answer(body)

    with serving(late) as server:
        client = OpenAICompatibleClient("m", [server.url])
        with pytest.raises(MediaError, match="broken"):
            run(Late(), tmp_path / "set", BuildConfig(workers=4), client=client)
        client.close()
        with CallLog(unfinished(tmp_path / "set") / "calls.sqlite") as log:
            assert {key for key, _, _ in log.calls()} == set(server.answered) and len(server.answered) >= 3


def test_a_budget_in_money(tmp_path: Path) -> None:
    """Of which cached tokens cost what they cost; batches have a test of their own (test_batches)."""
    price = Price(read=2.0, cached=0.5, written=10.0, batch=0.5)
    each = (4 * 2 + 6 * 0.5 + 5 * 10) / 1e6
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}
    assert price.of(Completion(text="", usage=usage)) == pytest.approx(each)
    assert price.of(Completion(text="", usage=usage, batch=True)) == pytest.approx(each / 2)
    full = Price(read=2.0, written=10.0)  # where nothing is said of cached tokens they cost what others do
    assert full.of(Completion(text="", usage=usage)) == pytest.approx((10 * 2 + 5 * 10) / 1e6)
    assert full.of(Completion(text="", usage={"prompt_tokens_details": None})) == 0
    with serving(answer) as server:
        server.usage = usage
        client = OpenAICompatibleClient("m", [server.url])
        with pytest.raises(ConfigError, match="a limit in money needs the model's price"):
            run(Greys(), tmp_path / "a", BuildConfig(budget=BudgetConfig(cost=1)), client=client)
        settings = BuildConfig(budget=BudgetConfig(cost=4.5 * each))
        with pytest.raises(BudgetError, match="dollars is spent"):
            run(Greys(), tmp_path / "b", settings, client=client, price=price)
        assert len(server.requests) == 5
        client.close()


def test_a_rate_spreads_requests_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    # Not `time.monotonic` itself: an event loop of another test's server, asked in between, would sleep for hours.
    monkeypatch.setattr("mminstruct.building.limits.monotonic", lambda: now[0])
    rate = Rate(RateConfig(requests=120, tokens=6000))  # two requests, a hundred tokens a second
    assert [rate.before(10) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    now[0] += 10  # rested, but no more than a second's worth is there
    assert rate.before(100) == 0.0
    rate.after(100, Completion(text="", usage={"prompt_tokens": 200, "completion_tokens": 100}))
    assert rate.before(0) == pytest.approx(2.0)  # 200 tokens more than was thought
    assert Rate(RateConfig()).before(10**9) == 0.0


def test_two_processes_do_not_build_one_folder(tmp_path: Path) -> None:
    from filelock import FileLock

    unfinished(tmp_path / "out").mkdir()
    with (
        FileLock(unfinished(tmp_path / "out") / ".lock"),
        pytest.raises(RunError, match="another process is building"),
    ):
        run(Greys(), tmp_path / "out")


def test_a_builder_of_a_file_says_that_it_asks() -> None:
    path = Path(__file__).parent / "asking_builder.py"
    assert load_builder(str(path)).asks and not load_builder("easy-vqa").asks


class Pairs(Greys):
    """Two pictures an item, of which the second is missing for every third; both show that of the item before."""

    asks = False

    def make(self, item: Grey, job: Job) -> Iterator[Conversation]:
        before = job.save(Image.new("L", (4, 4), max(item.value - 1, 0)), f"{max(item.value - 1, 0)}/first")
        first = job.save(Image.new("L", (4, 4), item.value), f"{item.value}/first")
        if item.value % 3 == 2:
            raise MediaError("the second picture is missing; mend it")
        if item.value % 5 == 4:
            job.drop("fives")
            return
        second = job.save(Image.new("L", (4, 4), 255 - item.value), f"{item.value}/second")
        turns = [message("user", image(0), image(1), image(2), "Which?"), message("assistant", "None.")]
        yield Conversation(id=item.id, messages=turns, media=[before, first, second])


def test_no_file_is_left_of_items_that_failed_or_were_dropped(tmp_path: Path) -> None:
    """But for those that another item shows; whatever was killed, and in shares that are joined."""

    def built(name: str, workers: int = 1, **how: Any) -> Path:
        settings = BuildConfig(on_error="skip", workers=workers, per_shard=4)
        run(Pairs(Pairs.Options(count=30)), tmp_path / name, settings, **how)
        return tmp_path / name

    out = built("set", workers=4)
    shown = {one.path for conversation in formats.read(out) for one in conversation.media}
    assert {path.relative_to(out).as_posix() for path in out.glob("images/**/*.png")} == shown
    assert "images/2/first.png" in shown and "images/4/first.png" not in shown and "images/5/first.png" in shown
    assert all(any(folder.iterdir()) for folder in out.glob("images/*"))
    assert contents(built("alone")) == contents(out)

    def stop(progress: Progress) -> None:
        if progress.items == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built("killed", workers=4, advance=stop)
    assert contents(built("killed", resume=True)) == contents(out)
    join([built("a", share=(0, 2)), built("b", share=(1, 2))], tmp_path / "joined")
    assert contents(tmp_path / "joined") == contents(out)


def test_a_bad_item_is_a_dead_letter_in_its_place_and_stops_a_build_otherwise(tmp_path: Path) -> None:
    class Holed(Greys):
        asks = False

        def items(self) -> Iterator[Grey | BadItem]:
            for item in super().items():
                yield BadItem("file:3", DataError("file:3 is broken")) if item.value == 3 else item

        def make(self, item: Grey, job: Job) -> Iterator[Conversation]:
            media = job.save(Image.new("L", (4, 4), item.value), item.id)
            turns = [message("user", image(), "Which?"), message("assistant", "None.")]
            yield Conversation(id=item.id, messages=turns, media=[media])

    builder = Holed(Holed.Options(count=6))
    with pytest.raises(DataError, match=r"^file:3 is broken$"):
        run(builder, tmp_path / "raised")
    run(builder, tmp_path / "set", BuildConfig(on_error="skip", workers=2))
    assert [one.id for one in formats.read(tmp_path / "set")] == [f"grey/{value}" for value in (0, 1, 2, 4, 5)]
    (letter,) = (json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines())
    assert letter == {"item": "file:3", "reason": "data", "problem": "file:3 is broken", "call_ids": []}
