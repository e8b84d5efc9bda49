"""Answers side by side and with kept prompts are those that `generate` gives one by one, anew each time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mminstruct
from mminstruct.conversation import Conversation, Media, Message, VideoPart, image, text
from mminstruct.errors import MemoryLimitError
from mminstruct.media import Video
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.serving.chat import ChatSession, conversation_of
from mminstruct.serving.generator import Generator
from mminstruct.serving.request import Answer
from mminstruct.serving.settings import GenerationSettings, Limits
from mminstruct.serving.side_by_side import SideBySide, _Batch

SETTINGS = GenerationSettings(max_new_tokens=16)
# Every connector whose prompts can be continued; tiles; experts, which are told which places are pictures.
CONTINUED = [
    "nano",
    "nano-average-pool",
    "nano-experts",
    "nano-fused",
    "nano-perceiver",
    "nano-pixel-shuffle",
    "nano-tiles",
]


def made(name: str) -> tuple[VisionLanguageModel, Processor]:
    torch.manual_seed(0)
    model, processor = mminstruct.create(name)
    ends = model.generation_config.eos_token_id
    model.generation_config.suppress_tokens = [*model.generation_config.suppress_tokens, *ends]
    return model.eval(), processor


def noise(seed: int, size: tuple[int, int] = (70, 50)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def alone(
    model: VisionLanguageModel, processor: Processor, conversation: Conversation, media: Sequence[Image.Image | Video],
    count: int = SETTINGS.max_new_tokens,
) -> str:  # fmt: skip
    """The whole prompt anew, by transformers' own loop."""
    batch = processor.collate([processor.prompt(conversation, media)], padding_side="left")
    output = model.generate(**batch, max_new_tokens=count, do_sample=False)
    return str(processor.tokenizer.decode(output[0, batch["input_ids"].shape[1] :], skip_special_tokens=True))


def asked(words: str, *pictures: int) -> Conversation:
    content = [image(place) for place in range(len(pictures))]
    media = [Media(path=f"{number}.png") for number in pictures]
    return Conversation(id="c", messages=[Message(role="user", content=[*content, text(words)])], media=media)


@pytest.fixture(scope="module")
def parts() -> tuple[VisionLanguageModel, Processor]:
    return made("nano")


@pytest.fixture
def generator(parts: tuple[VisionLanguageModel, Processor]) -> Iterator[Generator]:
    with Generator(*parts, Limits(batch=8)) as generator:
        yield generator


@pytest.mark.parametrize("name", CONTINUED)
def test_each_turn_of_a_chat_is_what_generate_gives_for_the_whole_of_it(name: str) -> None:
    model, processor = made(name)
    with Generator(model, processor, Limits(prompt_step=48)) as generator:
        assert isinstance(generator._decoder, SideBySide)
        chat = ChatSession(generator)
        cached = []
        for number, pictures in enumerate([[noise(0), noise(1, (40, 90))], [], [noise(2)]]):
            reply = chat.ask(f"Question {number} about it?", pictures, SETTINGS)
            list(reply)
            usage = reply.turn.usage
            assert usage is not None
            cached.append(usage.cached_tokens)
            conversation, media = conversation_of(chat.turns)
            assert reply.turn.answer == alone(model, processor, conversation, media).lstrip()
    assert cached[0] == 0 and cached[1] > 0 and cached[2] > cached[1]


def test_a_model_whose_prompts_cannot_be_continued_answers_one_by_one() -> None:
    model, processor = made("nano-instruct-q-former")
    conversation = asked("What is it?", 0)
    with Generator(model, processor) as generator:
        assert not isinstance(generator._decoder, SideBySide)
        assert "".join(generator.stream(conversation, [noise(0)], SETTINGS)) == alone(
            model, processor, conversation, [noise(0)]
        )


def test_many_at_once_get_their_own_answers(parts: tuple[VisionLanguageModel, Processor], generator: Generator) -> None:
    """Prompts and answers of many lengths, begun at random moments, some left in the middle."""
    draw = random.Random(0)
    asks = []
    for number in range(24):
        pictures = [draw.randrange(4) for _ in range(draw.randrange(3))]
        words = " ".join(
            draw.choice(["red", "blue", "green", "circle", "where", "is", "it", "now"])
            for _ in range(draw.randrange(1, 40))
        )
        asks.append((asked(f"{number} {words}", *pictures), [noise(one) for one in pictures], draw.randrange(1, 60)))
    expected = [alone(*parts, conversation, media, count) for conversation, media, count in asks]
    got: dict[int, str] = {}

    def ask(number: int) -> None:
        conversation, media, count = asks[number]
        time.sleep(number % 7 * 0.02)
        answer = generator.stream(conversation, media, GenerationSettings(max_new_tokens=count))
        if number % 5 == 4:
            next(answer, None)
            answer.close()
        else:
            got[number] = "".join(answer)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == {number: expected[number] for number in range(len(asks)) if number % 5 != 4}


def test_a_seed_draws_the_same_whoever_asks_beside(generator: Generator) -> None:
    conversation, settings = asked("Tell me more."), GenerationSettings(max_new_tokens=30, temperature=1.0, seed=3)
    first = "".join(generator.stream(conversation, [], settings))
    others = [generator.stream(asked(f"Other {n}"), [], GenerationSettings(max_new_tokens=60)) for n in range(5)]
    assert "".join(generator.stream(conversation, [], settings)) == first
    for other in others:
        list(other)


def test_another_picture_is_not_taken_for_the_one_that_is_known(
    parts: tuple[VisionLanguageModel, Processor], generator: Generator
) -> None:
    words = "What is in this picture, and where does it stand?"
    for pictures in ([0], [1], [0, 0], [0, 1], [0, 0, 1], [0]):
        conversation, media = asked(words, *pictures), [noise(one) for one in pictures]
        answer = generator.stream(conversation, media, SETTINGS)
        assert "".join(answer) == alone(*parts, conversation, media)
        assert answer.usage.prompt_tokens == len(parts[1].prompt(conversation, media)["input_ids"])


def test_the_same_question_again_reads_one_token(generator: Generator) -> None:
    first, again = (generator.stream(asked("What colour is it?", 0), [noise(0)], SETTINGS) for _ in range(2))
    assert "".join(first) == "".join(again)
    third = generator.stream(asked("What colour is it?", 0), [noise(0)], SETTINGS)
    list(third)
    assert third.usage.cached_tokens == third.usage.prompt_tokens - 1


def test_a_video_is_known_by_its_frames(parts: tuple[VisionLanguageModel, Processor], generator: Generator) -> None:
    frames = tuple(noise(number) for number in range(3))
    for shown in (frames, frames[::-1]):
        clip = Video(shown, (0.0, 1.0, 2.0))
        record = Conversation(
            id="v",
            messages=[Message(role="user", content=[VideoPart(index=0), text("What happens?")])],
            media=[Media(kind="video", path="clip.mp4", timestamps=[0.0, 1.0, 2.0])],
        )
        assert "".join(generator.stream(record, [clip], SETTINGS)) == alone(*parts, record, [clip])


def test_without_memory_for_it_nothing_is_kept_and_answers_are_the_same(
    parts: tuple[VisionLanguageModel, Processor],
) -> None:
    conversation, media = asked("What colour is it?", 0), [noise(0)]
    with Generator(*parts, Limits(kept_bytes=0)) as generator:
        answers = [generator.stream(conversation, media, SETTINGS) for _ in range(2)]
        assert {"".join(answer) for answer in answers} == {alone(*parts, conversation, media)}
        assert answers[1].usage.cached_tokens == 0


class _Full:
    """A device that is out of memory the next times that a prompt is read."""

    def __init__(self, generator: Generator, times: int) -> None:
        self.left = times
        language_model = generator.model.language_model
        self._handle = language_model.register_forward_pre_hook(self._fail, with_kwargs=True)

    def _fail(self, module: torch.nn.Module, inputs: object, named: dict[str, torch.Tensor]) -> None:
        if self.left and named["inputs_embeds"].shape[1] > 1:
            self.left -= 1
            raise torch.OutOfMemoryError("no room")

    def remove(self) -> None:
        self._handle.remove()


def test_what_is_kept_gives_way_to_what_is_asked(
    parts: tuple[VisionLanguageModel, Processor], generator: Generator
) -> None:
    list(generator.stream(asked("What colour is it?", 0), [noise(0)], SETTINGS))
    full = _Full(generator, 1)
    try:
        conversation = asked("Something else, with words of its own?")
        assert "".join(generator.stream(conversation, [], SETTINGS)) == alone(*parts, conversation, [])
    finally:
        full.remove()


def test_out_of_memory_fails_the_youngest_and_the_others_go_on(
    parts: tuple[VisionLanguageModel, Processor], generator: Generator
) -> None:
    old = generator.stream(asked("Old"), [], GenerationSettings(max_new_tokens=200))
    next(old)
    full = _Full(generator, 2)
    try:
        young: Answer = generator.stream(asked("Young", 0), [noise(0)], SETTINGS)
        with pytest.raises(MemoryLimitError, match="too little free memory"):
            list(young)
    finally:
        full.remove()
    list(old)
    assert old.usage.new_tokens == 200
    assert "".join(generator.stream(asked("After"), [], SETTINGS)) == alone(*parts, asked("After"), [])


@pytest.mark.parametrize("tokens", [1, 24])
def test_no_memory_for_the_answer_behind_a_prompt_that_was_read(
    parts: tuple[VisionLanguageModel, Processor], monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    """The end of a short answer needs memory to keep it, a longer one to join the others."""
    settings = GenerationSettings(max_new_tokens=tokens)
    conversation, media = asked("Something else, with words of its own?", 0), [noise(0)]
    with Generator(*parts) as generator:
        list(generator.stream(asked("What colour is it?", 0), media, SETTINGS))  # something that can give way
        expected = alone(*parts, conversation, media, tokens)
        failures = []

        def once(call: Callable[..., Any]) -> Callable[..., Any]:
            def failing(*given: Any) -> Any:
                if not failures:
                    failures.append(call)
                    raise torch.OutOfMemoryError("no room")
                return call(*given)

            return failing

        place = (SideBySide, "_keep") if tokens == 1 else (_Batch, "join")
        monkeypatch.setattr(*place, once(getattr(*place)))
        answer = generator.stream(conversation, media, settings)
        assert "".join(answer) == expected
        assert failures and answer.usage.new_tokens == tokens and generator.running == 0


def test_who_looks_never_misses_an_answer_that_runs(
    parts: tuple[VisionLanguageModel, Processor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    join = _Batch.join

    def watched(*given: Any) -> None:
        seen.append(generator.running)
        join(*given)
        seen.append(generator.running)

    monkeypatch.setattr(_Batch, "join", watched)
    with Generator(*parts) as generator:
        answer = generator.stream(asked("What colour is it?", 0), [noise(0)], SETTINGS)
        list(answer)
        assert seen == [1, 1] and generator.running == 0


def test_a_prompt_is_left_between_two_pieces_of_it(parts: tuple[VisionLanguageModel, Processor]) -> None:
    cancel = threading.Event()
    calls = []

    def see(module: torch.nn.Module, inputs: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            cancel.set()

    with Generator(*parts, Limits(prompt_step=16)) as generator:
        handle = parts[0].language_model.register_forward_pre_hook(see)
        try:
            answer = generator.stream(asked("words " * 200), [], SETTINGS, cancel)
            assert list(answer) == []
            list(generator.stream(asked("x"), [], GenerationSettings(max_new_tokens=1)))
        finally:
            handle.remove()
        # two pieces of the one, and the short one's
        assert answer.usage.finish_reason == "cancelled" and len(calls) <= 2 + 4


def test_a_time_limit_ends_an_answer(generator: Generator) -> None:
    answer = generator.stream(asked("Go on"), [], GenerationSettings(max_new_tokens=1900, max_seconds=0.2))
    assert "".join(answer)
    assert answer.usage.finish_reason == "time" and answer.usage.new_tokens < 1900
