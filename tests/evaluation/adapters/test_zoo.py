"""A model of the zoo answers in batches, behind shared prefixes, what it answers one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import mminstruct
from mminstruct.conversation import Conversation, Media, Message, image, text
from mminstruct.evaluation import requests as asking
from mminstruct.evaluation.adapters.zoo import ZooAdapter
from mminstruct.evaluation.benchmark import Item, Protocol
from mminstruct.evaluation.requests import BLANK_COLOUR, Reply, Request
from mminstruct.evaluation.runner import evaluate
from mminstruct.media import open_image
from mminstruct.models import prefix

from ..conftest import Mixed, Pair


def one_by_one(pair: Pair, benchmark: Mixed, items: list[Item] | None = None) -> list[str]:
    """Each item on its own, by the plainest road from an item to an answer."""
    model, processor = pair
    model.eval()
    answers = []
    for item in items or benchmark.questions():
        prompt = processor.prompt(benchmark.conversation(item), [open_image(path) for path in item.images])
        batch = processor.collate([prompt])
        with torch.no_grad():
            ids = model.generate(**batch, max_new_tokens=benchmark.protocol.max_new_tokens, do_sample=False)
        answers.append(processor.decode(ids[0, batch["input_ids"].shape[1] :]))
    return answers


def ask(adapter: ZooAdapter, requests: list[Request]) -> list[Reply]:
    found = dict(pair for batch in adapter.answer(requests) for pair in batch)
    return [found[place] for place in range(len(requests))]


@pytest.mark.parametrize("batch_tokens", [1, 120, 400, 16_384])
def test_batched_answers_equal_one_by_one(pair: Pair, mixed: Mixed, batch_tokens: int) -> None:
    expected = one_by_one(pair, mixed)
    assert len(set(expected)) > 5, "a model that always says the same cannot show a mix-up"
    assert evaluate(ZooAdapter(*pair, batch_tokens=batch_tokens), mixed, check=3).texts == expected


@pytest.mark.parametrize("row", [name for name in mminstruct.list_models("nano-*") if name != "nanovlm-222m"])
def test_every_kind_of_model_answers_as_one_by_one(row: str, pictures: list[Path]) -> None:
    """Tiles, experts, resamplers, connectors that read the question or stand beside the prompt."""
    torch.manual_seed(0)
    pair: Pair = mminstruct.create(row)
    benchmark = Mixed(pictures, count=9)
    items = [item for item in benchmark.questions() if len(item.images) == 1]
    found = ask(ZooAdapter(*pair, batch_tokens=600), [benchmark.request(item) for item in items])
    assert [reply.text for reply in found] == one_by_one(pair, benchmark, items)


def test_a_prefix_is_read_once(pair: Pair, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class ByImage(Mixed):
        def items(self) -> Iterator[Item]:
            for path in self.pictures:
                for number in range(5):
                    yield Item(f"{path.stem}-{number}", (path,), "what " * (number + 1), ("red",))

    opened: Counter[str] = Counter()
    encoded: list[int] = []
    real = asking.open_medium

    def counting(kind: str, path: Path, sampling: object) -> object:
        opened[path.name] += 1
        return real(kind, path, sampling)  # type: ignore[arg-type]

    model, processor = pair
    monkeypatch.setattr(asking, "open_medium", counting)
    hook = model.vision_encoder.register_forward_pre_hook(lambda module, inputs: encoded.append(len(inputs[0])))
    found = evaluate(ZooAdapter(model, processor), ByImage(pictures))
    hook.remove()
    assert opened == dict.fromkeys((path.name for path in pictures), 1) and sum(encoded) == len(pictures)
    assert found.texts == one_by_one(pair, ByImage(pictures))


def test_common_prefix() -> None:
    def sample(*ids: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor(ids)}

    assert prefix.common_prefix([sample(1, 9, 9, 2, 3), sample(1, 9, 9, 2, 4)], 9) == 4
    assert prefix.common_prefix([sample(1, 9, 9, 2, 3)], 9) == 4
    assert prefix.common_prefix([sample(1, 9, 9, 2), sample(1, 9, 9, 2)], 9) == 3, "each has one token left"
    assert prefix.common_prefix([sample(1, 9, 9, 2), sample(1, 9, 9, 2, 5)], 9) == 3
    assert prefix.common_prefix([sample(1, 2, 9, 9, 3), sample(1, 4, 9, 9, 3)], 9) is None, "pictures behind it"
    assert prefix.common_prefix([sample(1, 2), sample(3, 2)], 9) is None
    assert prefix.common_prefix([sample(1, 9, 9)], 9) is None, "a picture is the last token"


def test_a_picture_in_the_middle_and_at_the_end(pair: Pair, pictures: list[Path]) -> None:
    def asked(*parts: object) -> Request:
        conversation = Conversation(
            id="x",
            messages=[Message(role="user", content=list(parts))],  # type: ignore[arg-type]
            media=[Media(path=str(pictures[0]))],
        )
        return Request(conversation, max_new_tokens=6)

    requests = [
        asked(text("what is this?"), image(0), text("say it")),
        asked(text("is it red?"), image(0), text("say it")),
        asked(text("the color is"), image(0)),
        asked(image(0), text("what?")),
    ]
    model, processor = pair
    alone = []
    for request in requests:
        batch = processor.collate([processor.prompt(request.conversation, [open_image(pictures[0])])])
        ids = model.eval().generate(**batch, max_new_tokens=6, do_sample=False)
        alone.append(processor.decode(ids[0, batch["input_ids"].shape[1] :]))
    assert [reply.text for reply in ask(ZooAdapter(*pair), requests)] == alone


def test_an_answer_ends_at_the_first_end_token(pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = pair
    whole = evaluate(ZooAdapter(*pair), mixed)
    assert all(reply.finish == "length" and reply.tokens == 6 for reply in whole.replies)
    request = mixed.request(whole.items[0])
    batch = processor.collate([processor.prompt(request.conversation, [open_image(p) for p in whole.items[0].images])])
    third = int(model.generate(**batch, max_new_tokens=6, do_sample=False)[0, batch["input_ids"].shape[1] + 2])
    monkeypatch.setattr(model.generation_config, "eos_token_id", [third, 1])
    found = evaluate(ZooAdapter(*pair), mixed)
    assert found.texts == one_by_one(pair, mixed)
    ended = [reply for reply in found.replies if reply.finish == "end"]
    assert ended and all(reply.tokens < 6 for reply in ended) and found.replies[0] in ended


@pytest.mark.parametrize("shared", [True, False])
def test_stop_texts_end_an_answer(shared: bool, pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shared:
        monkeypatch.setattr(prefix, "shares_prefixes", lambda model: False)
    whole = evaluate(ZooAdapter(*pair), mixed).texts
    stop = next(answer[len(answer) // 2 :][:2] for answer in whole if len(answer) > 6)
    monkeypatch.setattr(Mixed, "protocols", (Protocol("own", "this file", max_new_tokens=6, stop=(stop,)),))
    found = evaluate(ZooAdapter(*pair), Mixed(mixed.pictures))
    assert found.texts == [answer.partition(stop)[0].strip() for answer in whole] != whole
    for answer, reply in zip(whole, found.replies, strict=True):
        assert reply.finish == ("end" if stop in answer else "length")


@pytest.mark.parametrize("shared", [True, False])
def test_first_tokens_are_compared(shared: bool, pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is the one whose answer, written by the chat template, begins with the most probable token."""
    if not shared:
        monkeypatch.setattr(prefix, "shares_prefixes", lambda model: False)
    model, processor = pair
    model.eval()
    items = [replace(item, choices=("x", "y", "z")) for item in mixed.questions(limit=12)]
    protocol = Protocol("first", "this file", max_new_tokens=1, first_token=True)
    monkeypatch.setattr(mixed, "protocol", protocol)
    found = ask(ZooAdapter(*pair), [mixed.request(item) for item in items])
    for item, reply in zip(items, found, strict=True):
        pictures = [open_image(path) for path in item.images]
        asked = mixed.conversation(item)
        prompt = processor.prompt(asked, pictures)
        with torch.no_grad():
            logits = model(**processor.collate([prompt])).logits[0, -1]
        chances = torch.log_softmax(logits, -1)
        for letter in "ABC":
            answered = asked.model_copy(
                update={"messages": [*asked.messages, Message(role="assistant", content=[text(letter)])]}
            )
            token = processor.training_sample(answered, pictures)["input_ids"][len(prompt["input_ids"])]
            assert reply.scores is not None
            assert reply.scores[letter] == pytest.approx(float(chances[token]), abs=1e-4)
        assert reply.text == max("ABC", key=lambda letter: reply.scores[letter]) and reply.finish == "choice"  # type: ignore[index]


def test_blank_control_shows_grey_of_the_same_size(pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = pair
    shown: list[Image.Image] = []
    prepare = processor.prepare

    def watching(picture: Image.Image) -> object:
        if isinstance(picture, Image.Image):
            shown.append(picture)
        return prepare(picture)

    monkeypatch.setattr(processor, "prepare", watching)
    found = evaluate(ZooAdapter(model, processor), mixed, blank_images=True)
    assert found.blank_images
    sizes = {open_image(path).size for path in mixed.pictures}
    assert {picture.size for picture in shown} == sizes
    assert all(picture.getcolors() == [(picture.width * picture.height, BLANK_COLOUR)] for picture in shown)


def test_modes_and_gradients_are_as_before(pair: Pair, mixed: Mixed) -> None:
    model, processor = pair
    model.train()
    model.vision_encoder.eval()  # a frozen encoder, as training leaves it
    before = {name: module.training for name, module in model.named_modules()}
    evaluate(ZooAdapter(model, processor), mixed, limit=2)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_a_generation_config_cannot_make_it_sample(pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = pair
    expected = evaluate(ZooAdapter(model, processor), mixed).texts
    for name, value in {"do_sample": True, "temperature": 2.0, "repetition_penalty": 1.5, "num_beams": 3}.items():
        monkeypatch.setattr(model.generation_config, name, value)
    assert evaluate(ZooAdapter(model, processor), mixed).texts == expected
    monkeypatch.setattr(prefix, "shares_prefixes", lambda model: False)
    assert evaluate(ZooAdapter(model, processor), mixed).texts == expected


def test_a_batch_that_does_not_fit_is_halved(pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(ZooAdapter(*pair), mixed).texts
    real, sizes = prefix.answer, list[int]()

    def small(model: object, prefixes: object, rows: list[int], rests: object, **settings: object) -> object:
        sizes.append(len(rows))
        if len(rows) > 5:
            raise torch.OutOfMemoryError("no room")
        return real(model, prefixes, rows, rests, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(prefix, "answer", small)
    assert evaluate(ZooAdapter(*pair), mixed).texts == expected
    assert max(sizes) > 5 and sizes[-1] <= 5


@pytest.mark.parametrize("shared", [True, False])
def test_a_place_of_a_picture_is_never_generated(
    shared: bool, pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it generated, the next step would look for a picture that is not there."""
    model, _ = pair
    if not shared:
        monkeypatch.setattr(prefix, "shares_prefixes", lambda model: False)
    places = model.generation_config.suppress_tokens
    assert model.config.image_token_id in places

    def wished(module: torch.nn.Module, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_fill(-1, torch.tensor(places), 1e4)

    handle = model.get_output_embeddings().register_forward_hook(wished)
    try:
        replies = evaluate(ZooAdapter(*pair), mixed).replies
    finally:
        handle.remove()
    assert all(reply.tokens == 6 for reply in replies)
