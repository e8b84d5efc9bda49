"""A server's model: what it is sent, how it may fail, and that nothing is paid for twice."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct.building.asking import AskingConfig
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.conversation import Conversation, Media, Message, VideoPart, image, text
from mminstruct.errors import ConfigError, ServerError
from mminstruct.evaluation.adapters.endpoint import EndpointAdapter, EndpointConfig
from mminstruct.evaluation.answer_cache import AnswerCache
from mminstruct.evaluation.requests import BLANK_COLOUR, Reply, Request
from mminstruct.evaluation.results import run_benchmark
from mminstruct.evaluation.runner import evaluate
from mminstruct.media import encode_clip, open_image
from tests.building.chat_server import ChatServer, digest, often, serving
from tests.building.loopback import Handler, Server, running
from tests.command import call
from tests.conftest import picture

from ..conftest import Mixed

QUICK = AskingConfig(server_attempts=6, first_wait=0.01, longest_wait=0.02, stop_unanswered=False)
TWICE = QUICK.model_copy(update={"server_attempts": 2})
SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@contextlib.contextmanager
def adapter(*urls: str, timeout: float = 5.0, **changes: Any) -> Iterator[EndpointAdapter]:
    config = EndpointConfig(**{"asking": QUICK, "concurrency": 4, **changes})
    with contextlib.closing(OpenAICompatibleClient("eyes", urls, timeout=timeout)) as client:
        yield EndpointAdapter(client, urls, config)


def ask(found: EndpointAdapter, *requests: Request) -> list[Reply]:
    replies = dict(pair for batch in found.answer(requests) for pair in batch)
    return [replies[place] for place in range(len(requests))]


def about(*paths: Path, words: str = "what?", kind: str = "image", **changes: Any) -> Request:
    parts = [VideoPart(index=i) if kind == "video" else image(i) for i in range(len(paths))]
    media = [Media(kind=kind, path=str(path)) for path in paths]  # type: ignore[arg-type]
    talk = Conversation(id="q", messages=[Message(role="user", content=[*parts, text(words)])], media=media)
    return replace(Request(talk, max_new_tokens=7), **changes)


def sent_pictures(body: dict[str, Any]) -> list[Image.Image]:
    parts = [part for message in body["messages"] for part in message["content"] if not isinstance(part, str)]
    return [open_image(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_question_is_sent_greedy_with_its_own_bytes(pictures: list[Path]) -> None:
    with serving(digest) as server, adapter(server.url) as found:
        (reply,) = ask(found, about(*pictures[:2], stop=("zzz",)))
    (body,) = server.requests
    assert reply == Reply(text=digest(body), tokens=5, finish="end")
    assert {key: value for key, value in body.items() if key != "messages"} == {
        "model": "eyes",
        "temperature": 0,
        "max_tokens": 7,
        "stop": ["zzz"],
    }
    (message,) = body["messages"]
    uris = [f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in pictures[:2]]
    expected = [{"type": "image_url", "image_url": {"url": uri}} for uri in uris]
    assert message == {"role": "user", "content": [*expected, {"type": "text", "text": "what?"}]}


def test_pictures_that_servers_may_not_read_are_written_anew(tmp_path: Path) -> None:
    """TIFF, a picture on its side by EXIF, one that is too large, and the grey control."""
    shown = picture(1, (60, 40))
    shown.save(tmp_path / "a.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6
    shown.save(tmp_path / "b.jpg", exif=exif, quality=95)
    with serving(digest) as server, adapter(server.url, max_pixels=600, concurrency=1) as found:
        ask(found, about(tmp_path / "a.tiff"))
    with serving(digest) as exact, adapter(exact.url, concurrency=1) as found:
        requests = [about(tmp_path / name) for name in ("a.tiff", "b.jpg")]
        ask(found, *requests, replace(requests[0], blank=True))
    (small,) = sent_pictures(server.requests[0])
    assert small.size == (30, 20)
    same, upright, grey = (sent_pictures(body)[0] for body in exact.requests)
    assert same.tobytes() == shown.tobytes() and upright.size == (40, 60)
    assert upright.tobytes() == open_image(tmp_path / "b.jpg").tobytes()
    assert grey.size == (60, 40) and grey.getcolors() == [(2400, BLANK_COLOUR)]


def test_a_video_goes_as_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_clip([Image.new("RGB", (32, 32), (20 * n, 0, 0)) for n in range(12)], 4))
    with serving(digest) as server, adapter(server.url) as found:
        ask(found, about(path, kind="video"))
    frames = sent_pictures(server.requests[0])
    reds = [frame.getpixel((5, 5))[0] for frame in frames]  # type: ignore[index]
    assert len(frames) == 8 and reds == sorted(reds) and reds[-1] > 150


# --- what comes back --------------------------------------------------------------------------------------------------


def test_stop_texts_that_a_server_leaves_in_are_cut(pictures: list[Path]) -> None:
    with serving(lambda body: "red.\nUser: more") as server, adapter(server.url) as found:
        assert ask(found, about(pictures[0], stop=("\n",)))[0] == Reply(text="red.", tokens=5, finish="end")
    with serving(digest, lambda number: "cut") as server, adapter(server.url) as found:
        assert ask(found, about(pictures[0]))[0].finish == "length"


class _Scores(Handler):
    """Answers with log probabilities of first tokens, or with none where the server has none."""

    server: Any

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.body())
        self.server.bodies.append(body)
        listed = [{"token": token, "logprob": chance, "bytes": None} for token, chance in self.server.listed]
        logprobs = {"content": [listed[0] | {"top_logprobs": listed}]} if listed else None
        choice = {"index": 0, "message": {"content": "The"}, "finish_reason": "length", "logprobs": logprobs}
        self.give_json({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@contextlib.contextmanager
def scoring(*listed: tuple[str, float]) -> Iterator[Any]:
    server: Any = Server(_Scores)
    server.listed, server.bodies = listed, []
    with running(server):
        yield server


def test_choices_are_scored_by_logprobs_of_the_first_token(pictures: list[Path]) -> None:
    asked = about(pictures[0], choices=("A", "B", "C"))
    with scoring(("The", -0.1), ("B", -2.5), (" B", -2.0), ("A", -3.0)) as server, adapter(server.url) as found:
        assert ask(found, asked)[0] == Reply(text="B", tokens=1, finish="choice", scores={"B": -2.0, "A": -3.0})
        (body,) = server.bodies
        assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
    with scoring(("The", -0.1)) as server, adapter(server.url) as found:
        assert ask(found, asked)[0] == Reply(text="", tokens=1, finish="choice", scores={})
    with scoring() as server, adapter(server.url) as found, pytest.raises(ConfigError, match="gives no logprobs"):
        ask(found, asked)


# --- how it fails -----------------------------------------------------------------------------------------------------


def test_servers_that_fail_now_and_then_answer_in_the_end(mixed: Mixed) -> None:
    with serving(digest) as calm, adapter(calm.url) as found:
        expected = evaluate(found, mixed)
    with (
        serving(digest, often(0.3)) as first,
        serving(digest, often(0.3, seed=1)) as second,
        adapter(first.url, second.url) as found,
    ):
        first.silence = second.silence = 0.05  # it then hangs up; a time limit would be the machine's load's to break
        stormy = evaluate(found, mixed)
    assert stormy.texts == expected.texts and stormy.distinct == expected.distinct < len(mixed.questions())
    assert first.answered and second.answered and first.faults["429"] + second.faults["429"] > 0
    assert max((first.answered + second.answered).values()) == 1


def test_as_many_are_on_their_way_as_are_allowed(mixed: Mixed) -> None:
    """The first three questions are answered only once all three are there; a fourth never is beside them."""
    together = threading.Barrier(3)

    def answer(body: dict[str, Any]) -> str:
        if together.n_waiting < 3 and not done.is_set():
            together.wait(timeout=30)
            done.set()
        return digest(body)

    done = threading.Event()
    with serving(answer) as server, adapter(server.url, concurrency=3, timeout=60) as found:
        evaluate(found, mixed, limit=9)
    assert done.is_set() and server.most_at_once == 3


def test_a_question_that_fails_for_good_stops_the_run_and_keeps_the_others(mixed: Mixed, tmp_path: Path) -> None:
    fails = threading.Event()
    fails.set()
    with (
        serving(digest, lambda number: "400" if number == 9 and fails.is_set() else None) as server,
        adapter(server.url) as found,
        AnswerCache(tmp_path / "answers.sqlite") as answers,
    ):
        with pytest.raises(ServerError, match=r"answered with status 400 \(") as error:
            evaluate(found, mixed, answers=answers)
        assert "\n" not in str(error.value)
        before = sum(server.answered.values())
        fails.clear()
        done = evaluate(found, mixed, answers=answers)
        assert before >= 9 and done.generated == done.distinct - before
    assert set(server.answered.values()) == {1} and sum(server.answered.values()) == done.distinct


def test_what_is_skipped_counts_as_missing_and_is_asked_again(mixed: Mixed, tmp_path: Path) -> None:
    broken = threading.Event()
    broken.set()
    with (
        serving(digest, lambda number: "500" if number >= 12 and broken.is_set() else None) as server,
        adapter(server.url, on_error="skip", concurrency=1, asking=TWICE) as found,
        AnswerCache(tmp_path / "answers.sqlite") as answers,
    ):
        first = run_benchmark(found, mixed, blank=False, answers=answers, folder=tmp_path)
        missing = [reply.finish == "missing" for reply in first.predictions.replies]
        assert sum(missing) == first.numbers()["missing_answers"] > 5
        assert first.numbers()["unparsed"] == sum(missing)  # of a missing answer nothing can be read
        lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
        assert [line["finish"] == "missing" for line in lines] == missing
        broken.clear()
        second = run_benchmark(found, mixed, blank=False, answers=answers)
        assert second.numbers()["missing_answers"] == 0
    assert set(server.answered.values()) == {1}


def test_a_server_that_refuses_every_question_stops_it_even_where_errors_are_skipped(mixed: Mixed) -> None:
    with (
        serving(digest, lambda number: "401") as server,
        adapter(server.url, on_error="skip") as found,
        pytest.raises(ConfigError, match="refuses with status 401"),
    ):
        evaluate(found, mixed)


# --- identity and secrets ---------------------------------------------------------------------------------------------


def test_no_secret_is_kept_or_shown(mixed: Mixed, tmp_path: Path) -> None:
    with serving(digest) as server, AnswerCache(tmp_path / "answers.sqlite") as answers:
        url = server.url.replace("http://", "http://user:hidden-word@") + "/?token=hidden-too"
        with adapter(url) as found, adapter(server.url) as plain:
            assert found.identity == plain.identity and plain.identity is not None
            assert plain.identity["server"] == server.url and plain.identity["model"] == "eyes"
            evaluate(plain, mixed, limit=5, answers=answers)
            assert not any(word in str(found.facts()) for word in (SECRET, "hidden"))
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in content and b"hidden" not in content
    with (
        serving(digest, lambda number: "400") as server,
        adapter(server.url.replace("http://", "http://user:hidden-word@")) as found,
        pytest.raises(ServerError) as error,
    ):
        evaluate(found, mixed)
    assert "hidden" not in str(error.value)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_asks_a_server(questions_file: Path, tmp_path: Path) -> None:
    with serving(lambda body: "red") as server:
        code, out, error = call(
            "eval", "vqa", f"file={questions_file}", "--base-url", server.url, "--model", "lab/eyes-7b", "--no-blank",
            "--out", tmp_path / "out", "--answers", tmp_path / "answers.sqlite", "--json",
        )  # fmt: skip
    assert code == 0, error
    report = json.loads(out)
    assert report["model"] == {"model": "lab/eyes-7b", "server": server.url, "chat_template": "the server's"}
    assert report["benchmarks"]["vqa"]["accuracy"] == 0.5 and report["benchmarks"]["vqa"]["batch_checked"] == 0
    assert len(server.requests) == 10


def test_the_command_says_what_is_wrong(questions_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["eval", "vqa", f"file={questions_file}", "--model", "eyes"]
    code, _, error = call(*base, "--on-error", "skip")
    assert code == 2 and "--on-error skip is of questions to a server" in error
    code, _, error = call(*base, "--base-url", "http://127.0.0.1:9/v1", "--api-key-env", "NOT_SET")
    assert code == 2 and error == "error: NOT_SET is not set; export it (any text for a server that asks for no key)\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_and_pays_for_nothing_twice(how: int, questions_file: Path, tmp_path: Path) -> None:
    def slowly(body: dict[str, Any]) -> str:
        time.sleep(0.05)
        return digest(body)

    with serving(slowly) as server:
        arguments = [
            "eval", "vqa", f"file={questions_file}", "--base-url", server.url, "--model", "eyes", "--no-blank",
            "--concurrency", "2", "--out", str(tmp_path / "out"), "--answers", str(tmp_path / "answers.sqlite"),
        ]  # fmt: skip
        command = [sys.executable, "-m", "mminstruct", *arguments]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            _wait_for(server, 5)
            process.send_signal(how)
        before = sum(server.answered.values())
        assert 5 <= before < 10
        with AnswerCache(tmp_path / "answers.sqlite") as answers:
            (kept,) = answers._connection.execute("SELECT count(*) FROM replies").fetchone()
        # Killed in the act, those on their way are lost; asked to stop, they are waited for.
        assert before - kept <= (2 * 2 if how == signal.SIGKILL else 0)
        code, _, error = call(*arguments)
        assert code == 0, error
    assert sum(server.answered.values()) == 10 + before - kept and len(server.answered) == 10


def _wait_for(server: ChatServer, count: int) -> None:
    end = time.monotonic() + 60
    while sum(server.answered.values()) < count:
        assert time.monotonic() < end
        time.sleep(0.005)
