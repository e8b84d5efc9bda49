"""The runner: the same answers for every batch size, in the items' order; each image decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from mminstruct.errors import DataError, MediaError
from mminstruct.evaluation import runner
from mminstruct.evaluation.benchmark import Item
from mminstruct.evaluation.runner import BLANK_COLOUR, evaluate
from mminstruct.media import open_image

from .conftest import Mixed, Pair


def one_by_one(pair: Pair, benchmark: Mixed) -> list[str]:
    """Each item on its own, by the plainest road from an item to an answer."""
    model, processor = pair
    model.eval()
    answers = []
    for item in benchmark.questions():
        prompt = processor.prompt(benchmark.conversation(item), [open_image(path) for path in item.images])
        batch = processor.collate([prompt])
        with torch.no_grad():
            ids = model.generate(**batch, max_new_tokens=benchmark.max_new_tokens, do_sample=False)
        answers.append(processor.decode(ids[0, batch["input_ids"].shape[1] :]))
    return answers


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_batched_answers_equal_one_by_one(pair: Pair, mixed: Mixed, batch_size: int) -> None:
    expected = one_by_one(pair, mixed)
    assert len(set(expected)) > 5, "a model that always says the same cannot show a mix-up"
    found = evaluate(*pair, mixed, batch_size=batch_size)
    assert found.texts == expected
    assert [item.id for item in found.items] == [item.id for item in mixed.items()]


def test_windows_do_not_change_the_answers(pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(*pair, mixed, batch_size=64).texts
    monkeypatch.setattr(runner, "BATCHES_PER_WINDOW", 1)
    assert evaluate(*pair, mixed, batch_size=4).texts == whole


def test_same_request_is_generated_once(pair: Pair, mixed: Mixed) -> None:
    found = evaluate(*pair, mixed, batch_size=8)
    assert found.generated == len(found.items) - 1
    assert found.texts[-1] == found.texts[-2]


def test_each_image_is_decoded_once(pair: Pair, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class ByImage(Mixed):
        def items(self) -> Iterator[Item]:
            for path in self.pictures:
                for number in range(5):
                    yield Item(f"{path.stem}-{number}", (path,), "what " * (number + 1), ("red",))

    opened: Counter[str] = Counter()

    def counting(path: Path) -> Image.Image:
        opened[str(path)] += 1
        return open_image(path)

    monkeypatch.setattr(runner, "open_image", counting)
    for blank_images in (False, True):
        opened.clear()
        evaluate(*pair, ByImage(pictures), batch_size=3, blank_images=blank_images)
        assert opened == dict.fromkeys(map(str, pictures), 1)


def test_blank_control_shows_grey_of_the_same_size(pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = pair
    shown: dict[str, list[Image.Image]] = {}
    prompt = processor.prompt

    def watching(conversation, images):  # type: ignore[no-untyped-def]
        shown[conversation.id] = list(images)
        return prompt(conversation, images)

    monkeypatch.setattr(processor, "prompt", watching)
    found = evaluate(model, processor, mixed, batch_size=8, blank_images=True)
    assert found.blank_images
    for item in found.items:
        if item.id in shown:
            assert [image.size for image in shown[item.id]] == [open_image(path).size for path in item.images]
            assert all(image.getcolors() == [(image.width * image.height, BLANK_COLOUR)] for image in shown[item.id])


def test_blank_control_answers_a_question_once_per_image_size(pair: Pair, tmp_path: Path) -> None:
    class SameSize(Mixed):
        def items(self) -> Iterator[Item]:
            for number, path in enumerate(self.pictures):
                yield Item(str(number), (path,), "what is it?", ("red",))

    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        Image.new("RGB", (16, 16 if number < 3 else 17), (60 * number, 0, 0)).save(path)
    assert evaluate(*pair, SameSize(paths), batch_size=8).generated == 4
    assert evaluate(*pair, SameSize(paths), batch_size=8, blank_images=True).generated == 2


def test_modes_and_gradients_are_as_before(pair: Pair, mixed: Mixed) -> None:
    model, processor = pair
    model.train()
    model.vision_encoder.eval()  # a frozen encoder, as training leaves it
    before = {name: module.training for name, module in model.named_modules()}
    evaluate(model, processor, mixed, batch_size=8, limit=2)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_modes_are_restored_after_an_error(pair: Pair, tmp_path: Path) -> None:
    model, processor = pair
    model.train()
    with pytest.raises(MediaError, match="does not exist"):
        evaluate(model, processor, Mixed([tmp_path / "missing.png"]), batch_size=8)
    assert model.training
    model.eval()


def test_a_generation_config_cannot_make_it_sample(pair: Pair, mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = pair
    expected = evaluate(model, processor, mixed, batch_size=8).texts
    for name, value in {"do_sample": True, "temperature": 2.0, "repetition_penalty": 1.5, "num_beams": 3}.items():
        monkeypatch.setattr(model.generation_config, name, value)
    assert evaluate(model, processor, mixed, batch_size=8).texts == expected


def test_limit_and_progress(pair: Pair, mixed: Mixed) -> None:
    calls: list[tuple[int, int]] = []
    found = evaluate(*pair, mixed, batch_size=3, limit=7, progress=lambda done, total: calls.append((done, total)))
    assert [item.id for item in found.items] == [item.id for item in mixed.items()][:7]
    assert calls[-1] == (7, 7) and [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert found.texts == evaluate(*pair, mixed, batch_size=8).texts[:7]
    assert found.seconds > 0


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
    ]:
        with pytest.raises(DataError, match=message):
            benchmark.questions()
