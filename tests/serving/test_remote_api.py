"""RemoteEngine and our own API with a real model behind it: what comes back is what the model says when asked here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.conversation import Conversation, ImagePart, Media, Message, Part, VideoPart, image, message, text
from mminstruct.errors import BusyError, DataError, MminstructError, ServerError
from mminstruct.evaluation.adapters.endpoint import EndpointAdapter, EndpointConfig
from mminstruct.evaluation.requests import Request as Asked
from mminstruct.media import Video
from mminstruct.media.gate import Gate
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.serving.api.app import create_app
from mminstruct.serving.doors import Doors, doors
from mminstruct.serving.generator import Generator
from mminstruct.serving.lock import read_keys
from mminstruct.serving.models import Models
from mminstruct.serving.remote import RemoteEngine, remote_models
from mminstruct.serving.remote_chat import RemoteConfig
from mminstruct.serving.request import Usage
from mminstruct.serving.server import reserve, served
from mminstruct.serving.settings import GenerationSettings, Limits
from tests.serving.test_remote import STOP_SECONDS, noise, wait_until

# Drawn, because a random model's likeliest tokens are the same ones whatever it is asked.
DRAWN = GenerationSettings(max_new_tokens=24, temperature=1.0, seed=1)
LONG = GenerationSettings(max_new_tokens=1500)
Medium = Image.Image | Video


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")


@pytest.fixture(scope="module")
def url(generator: Generator) -> Iterator[str]:
    address = reserve("127.0.0.1", 0)
    with served(create_app(Models({"far/nano": generator}), Gate()), address, grace=1):
        yield f"{address.url}/v1"


@pytest.fixture
def far(url: str) -> Iterator[RemoteEngine]:
    with remote_models(url) as models:
        engine = models["far/nano"]
        assert isinstance(engine, RemoteEngine)
        yield engine


def user(*parts: Part) -> Message:
    return Message(role="user", content=list(parts))


def record(*messages: Message, media: Sequence[Medium] = ()) -> Conversation:
    kinds = ["video" if isinstance(one, Video) else "image" for one in media]
    described = [Media(kind=kind, path=str(place)) for place, kind in enumerate(kinds)]  # type: ignore[arg-type]
    return Conversation(id="q", messages=list(messages), media=described)


def said(
    engine: Generator | RemoteEngine,
    talk: Conversation,
    media: Sequence[Medium] = (),
    settings: GenerationSettings = DRAWN,
) -> tuple[str, Usage]:
    """The answer as chats keep it, and what it took."""
    answer = engine.stream(talk, media, settings)
    return "".join(answer).lstrip(), answer.usage


def assert_same(
    far: RemoteEngine, near: Generator, talk: Conversation, media: Sequence[Medium] = (), **settings: object
) -> str:
    drawn = GenerationSettings.model_validate({**DRAWN.model_dump(), **settings})
    expected, counted = said(near, talk, media, drawn)
    found, usage = said(far, talk, media, drawn)
    assert found == expected != ""
    assert (usage.prompt_tokens, usage.new_tokens) == (counted.prompt_tokens, counted.new_tokens)
    return found


def test_the_server_says_its_model_and_its_context(far: RemoteEngine, generator: Generator) -> None:
    assert far.context_length == generator.context_length


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_text_is_the_same(temperature: float, far: RemoteEngine, generator: Generator) -> None:
    talk = record(message("system", "Be brief."), message("user", "What color?"), message("assistant", "Red."))
    talk.messages.append(message("user", "And <image> the <|im_end|> shape?"))
    assert_same(far, generator, talk, temperature=temperature)


def test_a_drawn_answer_is_the_same(far: RemoteEngine, generator: Generator) -> None:
    talk = record(message("user", "Tell me."))
    drawn = {"temperature": 0.9, "top_p": 0.95, "top_k": 30, "min_p": 0.01, "seed": 3, "repetition_penalty": 1.1}
    assert assert_same(far, generator, talk, **drawn) != assert_same(far, generator, talk, **{**drawn, "seed": 4})


def test_two_pictures_are_seen_in_their_places(far: RemoteEngine, generator: Generator) -> None:
    red, spotted = Image.new("RGB", (80, 60), (200, 30, 30)), noise((61, 33), 0)
    talk = record(
        user(text("First "), image(0), text(" what is it?")),
        message("assistant", "A square."),
        user(image(1), text("And "), image(0), text(" again?")),
        media=[red, spotted],
    )
    there = assert_same(far, generator, talk, [red, spotted])
    assert there != assert_same(far, generator, talk, [spotted, red])


def video() -> Video:
    return Video(tuple(noise((48, 36), seed) for seed in range(3)), (0.0, 0.5, 1.25))


def test_a_video_as_a_file_is_seen_as_it_is(url: str, generator: Generator) -> None:
    talk = record(user(VideoPart(index=0), text("What happens?")), media=[video()])
    with RemoteEngine(url, "far/nano", config=RemoteConfig(videos="video_url")) as far:
        assert_same(far, generator, talk, [video()])


def test_a_video_as_frames_is_seen_as_pictures_and_times(far: RemoteEngine, generator: Generator) -> None:
    found, _ = said(far, record(user(VideoPart(index=0), text("What happens?")), media=[video()]), [video()])
    parts: list[Part] = [text("A video, 3 frames of it, each after its time:\n0.0 s: "), ImagePart(index=0)]
    parts += [text("\n0.5 s: "), ImagePart(index=1), text("\n1.2 s: "), ImagePart(index=2), text("\nWhat happens?")]
    expected, _ = said(generator, record(user(*parts), media=video().frames), video().frames)
    assert found == expected


def test_a_second_turn_says_how_much_of_it_was_kept(far: RemoteEngine) -> None:
    picture = noise((64, 64), 5)
    first = user(image(0), text("What do you see in this picture of many colors?"))
    answer, _ = said(far, record(first, media=[picture]), [picture])
    again = record(first, message("assistant", answer), message("user", "And now?"), media=[picture])
    _, usage = said(far, again, [picture])
    assert 0 < usage.cached_tokens < usage.prompt_tokens


def test_why_it_ended_and_log_probabilities_are_the_same(far: RemoteEngine, generator: Generator) -> None:
    talk = record(message("user", "Tell me more."))
    settings = GenerationSettings(max_new_tokens=6, logprobs=3)
    answers = [engine.stream(talk, [], settings) for engine in (generator, far)]
    texts = ["".join(answer).lstrip() for answer in answers]
    near, remote = (answer.tokens for answer in answers)
    assert texts[0] == texts[1]
    assert [(one.text, one.data) for one in near] == [(one.text, one.data) for one in remote]
    assert np.allclose([one.logprob for one in near], [one.logprob for one in remote], atol=1e-4)
    assert [[two.text for two in one.top] for one in near] == [[two.text for two in one.top] for one in remote]
    assert [answer.usage.finish_reason for answer in answers] == ["length", "length"]


def test_a_cancelled_answer_stops_the_far_model(far: RemoteEngine, generator: Generator) -> None:
    cancel = threading.Event()
    answer = far.stream(record(message("user", "Tell me a long story.")), [], LONG, cancel)
    next(answer)
    cancel.set()
    start = time.perf_counter()
    wait_until(lambda: generator.running == 0)
    assert time.perf_counter() - start < STOP_SECONDS
    steps = generator.steps
    time.sleep(0.2)
    assert generator.steps == steps


def test_many_at_once_get_each_their_own(far: RemoteEngine, generator: Generator) -> None:
    asked = [
        (record(message("user", f"Tell me about {seed}.")), [], DRAWN.model_copy(update={"seed": seed}))
        for seed in range(12)
    ]
    expected = [said(generator, *one)[0] for one in asked]
    assert len(set(expected)) == len(asked)
    answers = [far.stream(*one) for one in asked]
    assert ["".join(answer).lstrip() for answer in answers] == expected


# --- an evaluation by the API -----------------------------------------------------------------------------------------


def test_an_evaluation_by_the_api_reads_what_the_model_says(url: str, generator: Generator, tmp_path: Path) -> None:
    noise((40, 30), 7).save(tmp_path / "a.png")
    talk = Conversation(
        id="q", messages=[user(image(0), text("What is it?"))], media=[Media(path=str(tmp_path / "a.png"))]
    )
    requests = [Asked(talk, max_new_tokens=7), Asked(talk, max_new_tokens=1, choices=("A", "B"))]
    with contextlib.closing(OpenAICompatibleClient("far/nano", [url])) as client:
        found = EndpointAdapter(client, [url], EndpointConfig(on_error="raise")).answer(requests)
        spoken, chosen = (reply for _, reply in sorted(pair for batch in found for pair in batch))
    expected, _ = said(generator, talk, [noise((40, 30), 7)], GenerationSettings(max_new_tokens=7))
    assert (spoken.text, spoken.tokens, spoken.finish) == (expected.strip(), 7, "length")
    assert chosen.finish == "choice"  # the log probabilities of first tokens came


# --- refusals of the real server --------------------------------------------------------------------------------------


def test_a_conversation_that_is_too_long_is_the_askers_affair(far: RemoteEngine) -> None:
    with pytest.raises(DataError, match="too long for the server's model"):
        said(far, record(message("user", "long " * 3000)))
    with pytest.raises(DataError, match="too long for the server's model"):
        said(far, record(message("user", "long " * 200_000)))


def test_a_model_that_is_not_there(url: str) -> None:
    with RemoteEngine(url, "far/nanu") as engine, pytest.raises(ServerError, match=r"404 .*nanu"):
        said(engine, record(message("user", "Hello.")))


def test_a_wrong_key(generator: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("sesame-open-sesame\n")
    address = reserve("127.0.0.1", 0)
    entrance = doors(Doors.of("127.0.0.1", keys=read_keys(tmp_path / "keys")))
    with served(create_app(Models({"far": generator}), Gate(), middleware=entrance), address, grace=1):
        monkeypatch.setenv("OPENAI_API_KEY", "sesame-shut-sesame")
        with (
            RemoteEngine(f"{address.url}/v1", "far") as engine,
            pytest.raises(ServerError, match="check the key") as error,
        ):
            said(engine, record(message("user", "Hello.")))
        assert "shut" not in str(error.value)
        with pytest.raises(ServerError, match="status 401"):
            remote_models(f"{address.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sesame-open-sesame")
        with remote_models(f"{address.url}/v1") as models:
            assert list(models) == ["far"]


def test_a_server_with_no_room(model_and_processor: tuple[VisionLanguageModel, Processor]) -> None:
    address = reserve("127.0.0.1", 0)
    limits = Limits(waiting=0, batch=1)
    with (
        Generator(*model_and_processor, limits) as generator,
        served(create_app(Models({"far": generator}), Gate()), address, grace=1),
        RemoteEngine(f"{address.url}/v1", "far") as engine,
    ):
        first = engine.stream(record(message("user", "Tell me a long story.")), [], LONG)
        next(first)
        with pytest.raises(BusyError, match="has no room now: status 429"):
            said(engine, record(message("user", "Hello.")))
        first.close()
        wait_until(lambda: generator.running == 0)
        assert said(engine, record(message("user", "Hello.")))[0]


def test_a_server_that_ends_in_the_middle_of_an_answer(
    model_and_processor: tuple[VisionLanguageModel, Processor],
) -> None:
    address = reserve("127.0.0.1", 0)
    with Generator(*model_and_processor) as generator, RemoteEngine(f"{address.url}/v1", "far") as engine:
        with served(create_app(Models({"far": generator}), Gate()), address, grace=0):
            answer = engine.stream(record(message("user", "Tell me a long story.")), [], LONG)
            next(answer)
        with pytest.raises(MminstructError) as caught:
            for _ in answer:
                pass
        assert isinstance(caught.value, ServerError)
        assert answer.usage.finish_reason == "error"
        with pytest.raises(ServerError, match="cannot be reached"):
            said(engine, record(message("user", "Hello.")))
