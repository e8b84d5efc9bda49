"""A model behind a server: what is asked, how the answer comes, how it is stopped, and how a server may fail."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mminstruct.conversation import Conversation, Media, Message, VideoPart, image, message, text
from mminstruct.errors import BusyError, ConfigError, DataError, MminstructError, RunError, ServerError
from mminstruct.media import Video, open_image, open_video
from mminstruct.media.encode_frames import encode_frames
from mminstruct.serving.remote import RemoteEngine, remote_models
from mminstruct.serving.remote_chat import RemoteConfig
from mminstruct.serving.request import Answer
from mminstruct.serving.settings import GenerationSettings
from tests.serving.streaming_server import Script, StreamingServer, Talk, serving

SECRET = "sk-very-secret"
STOP_SECONDS = 0.3
QUESTION = Conversation(id="q", messages=[message("user", "What is it?")])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@contextlib.contextmanager
def asking(script: Script, **config: Any) -> Iterator[tuple[RemoteEngine, StreamingServer]]:
    with serving(script) as server, RemoteEngine(server.url, "eyes", config=RemoteConfig(**config)) as engine:
        yield engine, server


def hello(talk: Talk) -> None:
    talk.piece("")
    talk.piece("Good ")
    talk.piece("day")
    talk.piece(None, "stop")
    talk.end({"prompt_tokens": 40, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 32}})


def noise(size: tuple[int, int], seed: int) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(picture: Image.Image) -> bytes:
    return picture.convert("RGB").tobytes()


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> float:
    """Seconds until it holds."""
    start = time.perf_counter()
    while not condition():
        assert time.perf_counter() - start < seconds, "waited in vain"
        time.sleep(0.005)
    return time.perf_counter() - start


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_a_plain_question_is_sent_as_text_with_the_key_of_the_environment() -> None:
    framed = Conversation(id="q", messages=[message("system", "Be brief."), message("user", "What ", "is it?")])
    with asking(hello) as (engine, server):
        list(engine.stream(framed, []))
    assert server.bodies == [
        {
            "model": "eyes",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is it?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 512,
            "temperature": 0.0,
            "top_p": 1.0,
        }
    ]
    assert server.keys == [f"Bearer {SECRET}"]


def test_pictures_go_to_their_places_with_every_pixel() -> None:
    pictures = [noise((31, 17), 0), noise((8, 40), 1)]
    talk = Conversation(
        id="q",
        messages=[
            Message(role="user", content=[text("First "), image(0), text(" what?")]),
            message("assistant", "A dot."),
            Message(role="user", content=[image(1), text("And "), image(0), text("again?")]),
        ],
        media=[Media(path="a"), Media(path="b")],
    )
    with asking(hello) as (engine, server):
        list(engine.stream(talk, pictures))
    first, answer, second = (one["content"] for one in server.bodies[0]["messages"])
    assert [part["type"] for part in first] == ["text", "image_url", "text"]
    assert answer == "A dot."
    assert [part.get("text") for part in second] == [None, "And ", None, "again?"]
    sent = [open_image(part["image_url"]["url"]) for part in (first[1], second[0], second[2])]
    assert [pixels(one) for one in sent] == [pixels(pictures[place]) for place in (0, 1, 0)]


def test_a_picture_beyond_the_limit_is_sent_smaller() -> None:
    talk = Conversation(id="q", messages=[Message(role="user", content=[image(0)])], media=[Media(path="a")])
    with asking(hello, max_pixels=100) as (engine, server):
        list(engine.stream(talk, [noise((40, 40), 0)]))
    assert open_image(server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]).size == (10, 10)


def video_and_its_question() -> tuple[Video, Conversation]:
    video = Video(tuple(noise((33, 21), seed) for seed in range(3)), (0.0, 0.52, 2.0))
    media = [Media(kind="video", path="v")]
    return video, Conversation(
        id="q", messages=[Message(role="user", content=[VideoPart(index=0), text("What happens?")])], media=media
    )


def test_a_video_goes_as_its_frames_each_after_its_time() -> None:
    video, talk = video_and_its_question()
    with asking(hello) as (engine, server):
        list(engine.stream(talk, [video]))
    parts = server.bodies[0]["messages"][0]["content"]
    assert [part.get("text") for part in parts] == [
        "A video, 3 frames of it, each after its time:",
        *("\n0.0 s: ", None),
        *("\n0.5 s: ", None),
        *("\n2.0 s: ", None),
        "\n",
        "What happens?",
    ]
    sent = [open_image(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
    assert [pixels(one) for one in sent] == [pixels(frame) for frame in video.frames]


def test_a_video_as_a_file_has_the_same_frames_at_the_same_times(tmp_path: Any) -> None:
    video, talk = video_and_its_question()
    with asking(hello, videos="video_url") as (engine, server):
        list(engine.stream(talk, [video]))
    part, _ = server.bodies[0]["messages"][0]["content"]
    assert part["video_url"]["url"].startswith("data:video/mp4;base64,")
    path = tmp_path / "video.mp4"
    path.write_bytes(encode_frames(video))
    again = open_video(path)
    assert [pixels(frame) for frame in again.frames] == [pixels(frame) for frame in video.frames]
    assert again.timestamps == video.timestamps


def test_settings_go_by_the_names_of_the_api() -> None:
    settings = GenerationSettings(
        max_new_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        min_p=0.1,
        repetition_penalty=1.2,
        presence_penalty=0.3,
        frequency_penalty=-0.4,
        logit_bias={5: 2.0},
        stop=("\n", "END"),
        seed=3,
        logprobs=2,
    )
    with asking(hello) as (engine, server):
        list(engine.stream(QUESTION, [], settings))
    assert {name: value for name, value in server.bodies[0].items() if name not in ("messages", "model")} == {
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": -0.4,
        "logit_bias": {"5": 2.0},
        "stop": ["\n", "END"],
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 2,
    }


# --- how the answer comes ---------------------------------------------------------------------------------------------


def test_pieces_are_handed_on_as_they_come_and_counted() -> None:
    more = threading.Event()

    def slow(talk: Talk) -> None:
        talk.piece("Good ")
        assert more.wait(5)
        talk.piece("day")
        talk.piece(None, "stop")
        talk.end({"prompt_tokens": 40, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 32}})

    with asking(slow) as (engine, _):
        answer = engine.stream(QUESTION, [])
        assert next(answer) == "Good "  # while the server holds the rest back
        assert answer.usage.first_token_seconds is not None
        assert (engine.running, engine.waiting, answer.usage.finish_reason) == (1, 0, "running")
        more.set()
        assert list(answer) == ["day"]
        usage = answer.usage
        assert (usage.prompt_tokens, usage.cached_tokens, usage.new_tokens) == (40, 32, 5)
        assert usage.finish_reason == "end"
        assert 0 < usage.first_token_seconds < usage.seconds
        assert engine.steps == 5
        wait_until(lambda: engine.running == 0)


@pytest.mark.parametrize(
    ("finish", "further", "reason"),
    [("stop", {}, "end"), ("length", {}, "length"), ("stop", {"stop_reason": "END"}, "stop")],
)
def test_why_an_answer_ended_is_said_in_our_words(finish: str, further: dict[str, Any], reason: str) -> None:
    def script(talk: Talk) -> None:
        talk.piece("x", finish, **further)
        talk.end()

    with asking(script) as (engine, _):
        answer = engine.stream(QUESTION, [])
        assert list(answer) == ["x"]
        assert answer.usage.finish_reason == reason
        assert engine.steps == answer.usage.new_tokens == 1  # where the server counts nothing, pieces are counted


def test_log_probabilities_are_read_with_their_bytes() -> None:
    top = [{"token": "é", "logprob": -0.5, "bytes": [195, 169]}, {"token": "b", "logprob": -1.5}]

    def script(talk: Talk) -> None:
        talk.piece("é", logprobs={"content": [{**top[0], "top_logprobs": top}]})
        talk.piece(None, "stop")
        talk.end()

    with asking(script) as (engine, _):
        answer = engine.stream(QUESTION, [], GenerationSettings(logprobs=2))
        assert list(answer) == ["é"]
    (token,) = answer.tokens
    assert (token.text, token.data, token.logprob) == ("é", "é".encode(), -0.5)
    assert [(one.text, one.data, one.logprob) for one in token.top] == [("é", b"\xc3\xa9", -0.5), ("b", b"b", -1.5)]


# --- how it is stopped ------------------------------------------------------------------------------------------------


def stop_by_event(answer: Answer, cancel: threading.Event) -> None:
    cancel.set()


def stop_by_closing(answer: Answer, cancel: threading.Event) -> None:
    answer.close()


@pytest.mark.parametrize("stop", [stop_by_event, stop_by_closing])
def test_a_cancelled_answer_closes_its_connection(stop: Callable[[Answer, threading.Event], None]) -> None:
    with asking(lambda talk: talk.go_on_until_left()) as (engine, server):
        cancel = threading.Event()
        answer = engine.stream(QUESTION, [], cancel=cancel)
        next(answer)
        stop(answer, cancel)
        assert server.left.wait(STOP_SECONDS)
        wait_until(lambda: engine.running == 0)
        steps = engine.steps
        assert answer.usage.finish_reason == "cancelled"
        time.sleep(0.1)
        assert engine.steps == steps


def test_an_answer_is_cancelled_while_the_server_is_still_silent() -> None:
    gone = threading.Event()

    def silent(talk: Talk) -> None:
        # What the asker's closed connection looks like to one who only reads.
        gone.set() if talk._handler.rfile.read(1) == b"" else None

    with asking(silent) as (engine, server):
        answer = engine.stream(QUESTION, [])
        wait_until(lambda: bool(server.bodies))
        answer.close()
        assert gone.wait(STOP_SECONDS)


def test_time_runs_out() -> None:
    with asking(lambda talk: talk.go_on_until_left()) as (engine, server):
        answer = engine.stream(QUESTION, [], GenerationSettings(max_seconds=0.2))
        assert "".join(answer).startswith("more more ")
        assert answer.usage.finish_reason == "time"
        assert 0.2 <= answer.usage.seconds < 0.2 + STOP_SECONDS
        assert server.left.wait(STOP_SECONDS)


def test_more_than_may_stream_wait_and_more_than_may_wait_are_refused() -> None:
    with asking(lambda talk: talk.go_on_until_left(), concurrent=1, waiting=1) as (engine, server):
        first = engine.stream(QUESTION, [])
        next(first)
        second = engine.stream(QUESTION, [])
        assert (second.position, engine.waiting, engine.running) == (1, 1, 1)
        with pytest.raises(BusyError, match="1 questions wait for this model"):
            engine.stream(QUESTION, [])
        second.close()
        third = engine.stream(QUESTION, [])  # the place of one that has left is free
        first.close()
        assert next(third) == "more "
        assert len(server.bodies) == 2  # what left while it waited was never asked


def test_closing_cancels_what_streams_and_refuses_what_waits() -> None:
    with serving(lambda talk: talk.go_on_until_left()) as server:
        engine = RemoteEngine(server.url, "eyes", config=RemoteConfig(concurrent=1))
        first, second = engine.stream(QUESTION, []), engine.stream(QUESTION, [])
        next(first)
        engine.close()
        engine.close()
        assert server.left.wait(STOP_SECONDS)
        assert not engine.alive
        list(first)
        assert first.usage.finish_reason == "cancelled"
        with pytest.raises(RunError, match="closed before this question's turn"):
            next(second)
        with pytest.raises(RunError, match="closed"):
            engine.stream(QUESTION, [])
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("mminstruct-remote")]


# --- how a server may fail --------------------------------------------------------------------------------------------


def failure(message: str, **further: str) -> bytes:
    return json.dumps({"error": {"message": message, **further}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, failure("slow down"), BusyError, "has no room now: status 429 .*slow down"),
        (503, b"overloaded", BusyError, "has no room now: status 503"),
        (400, failure("too long", code="context_length_exceeded"), DataError, "too long for the server's model"),
        (400, failure("is 8", type="exceed_context_size_error"), DataError, "too long for the server's model"),
        (400, failure("This model's maximum context length is 8 tokens."), DataError, "too long for the server's"),
        (400, failure("no pictures, please"), ServerError, "refuses with status 400 .*no pictures, please"),
        (401, failure("who are you?"), ServerError, "refuses with status 401 .*check the key"),
        (404, failure("no model is called so"), ServerError, "refuses with status 404"),
        (500, b"<html>" + b"oh " * 1000, ServerError, "refuses with status 500"),
    ],
)
def test_a_refusal_is_one_line_of_ours(status: int, body: bytes, kind: type[MminstructError], words: str) -> None:
    with asking(lambda talk: talk.refuse(status, body)) as (engine, _):
        answer = engine.stream(QUESTION, [])
        with pytest.raises(kind, match=words) as caught:
            next(answer)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400 and SECRET not in line
    assert answer.usage.finish_reason == "error"


def dies(talk: Talk) -> None:
    talk.piece("Good ")
    talk.die()


def ends_early(talk: Talk) -> None:
    talk.piece("Good ")
    talk.end()


def no_json(talk: Talk) -> None:
    talk.piece("Good ")
    talk.event('{"choices": [{"delta"')


def no_utf8(talk: Talk) -> None:
    talk.piece("Good ")
    talk.write(b"data: \xff\xfe\n\n")


def no_event(talk: Talk) -> None:
    talk.piece("Good ")
    talk.event({"hello": 1})


def no_text(talk: Talk) -> None:
    talk.piece("Good ")
    talk.piece([1, 2])  # type: ignore[arg-type]


def no_byte(talk: Talk) -> None:
    talk.piece("Good ")
    talk.piece("x", logprobs={"content": [{"token": "x", "logprob": 0, "bytes": [1000]}]})


def strange_end(talk: Talk) -> None:
    talk.piece("Good ")
    talk.piece(None, "content_filter")


def told(talk: Talk) -> None:
    talk.piece("Good ")
    talk.event({"error": {"message": "the device is on fire", "code": 500}})


def told_too_long(talk: Talk) -> None:
    talk.piece("Good ")
    talk.event({"error": {"message": "no more", "code": "context_length_exceeded"}})


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (dies, ServerError, "broke off"),
        (ends_early, ServerError, "broke off in the middle"),
        (no_json, ServerError, "no answer of a chat API"),
        (no_utf8, ServerError, "no answer of a chat API"),
        (no_event, ServerError, "no answer of a chat API"),
        (no_text, ServerError, "no answer of a chat API"),
        (no_byte, ServerError, "no answer of a chat API"),
        (strange_end, ServerError, "ended the answer by 'content_filter'"),
        (told, ServerError, "broke off an answer .*on fire"),
        (told_too_long, DataError, "too long for the server's model"),
    ],
)
def test_what_goes_wrong_in_the_middle_comes_behind_the_text_before_it(
    script: Script, kind: type[MminstructError], words: str
) -> None:
    with asking(script) as (engine, server):
        answer = engine.stream(QUESTION, [])
        assert next(answer) == "Good "
        with pytest.raises(kind, match=words) as caught:
            next(answer)
        assert "\n" not in str(caught.value)
        assert answer.usage.finish_reason == "error"
        server.script = hello  # the engine lives on
        assert "".join(engine.stream(QUESTION, [])) == "Good day"


def test_a_page_in_place_of_an_answer_is_no_answer() -> None:
    with asking(lambda talk: talk.refuse(200, b"<html>Welcome</html>")) as (engine, _), pytest.raises(ServerError):
        list(engine.stream(QUESTION, []))


def test_silence_ends_an_answer() -> None:
    silence = threading.Event()
    with asking(lambda talk: bool(silence.wait(5)), silence=0.2) as (engine, _):
        with pytest.raises(ServerError, match=r"was silent for 0.2 s"):
            next(engine.stream(QUESTION, []))
        silence.set()


def test_a_server_that_is_not_there() -> None:
    with serving(hello) as server:
        url = server.url
    with RemoteEngine(url, "eyes") as engine, pytest.raises(ServerError, match="cannot be reached"):
        next(engine.stream(QUESTION, []))
    with pytest.raises(ServerError, match="cannot be reached"):
        remote_models(url)


def test_a_missing_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        RemoteEngine("http://127.0.0.1:9/v1", "eyes")


def test_an_address_is_shown_without_its_password() -> None:
    with RemoteEngine("http://me:secret@127.0.0.1:9/v1?key=secret", "eyes", context_length=4096) as engine:
        assert engine.facts == ["at http://127.0.0.1:9/v1", "context of 4,096 tokens"]


# --- the models of a server -------------------------------------------------------------------------------------------


def test_models_are_those_that_the_server_lists_or_those_that_are_named() -> None:
    with serving(hello) as server:
        server.models = b'{"data": [{"id": "b", "max_model_len": 4096}, {"id": "a", "object": "model"}]}'
        with remote_models(server.url) as models:
            assert list(models) == ["b", "a"] and models.first == "b"
            assert [engine.context_length for engine in models.values()] == [4096, None]
            assert "".join(models["a"].stream(QUESTION, [])) == "Good day"
            assert server.bodies[0]["model"] == "a"
        with remote_models(server.url, ["c"]) as models:
            assert list(models) == ["c"]


@pytest.mark.parametrize(
    ("listed", "kind", "words"),
    [
        (b'{"data": []}', ConfigError, "lists no model; name one"),
        (b"<html>", ServerError, "no list of models"),
        (b'{"data": [{"name": "x"}]}', ServerError, "no list of models"),
    ],
)
def test_a_list_of_models_that_is_none(listed: bytes, kind: type[MminstructError], words: str) -> None:
    with serving(hello) as server:
        server.models = listed
        with pytest.raises(kind, match=words):
            remote_models(server.url)
