"""A folder of transformers answers in batches what it answers one by one, and what `generate` gives by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from mminstruct.conversation import Conversation, Media, Message, VideoPart, image, text
from mminstruct.errors import CheckpointError, ConfigError, DataError
from mminstruct.evaluation import requests as asking
from mminstruct.evaluation.adapters.transformers_vlm import TransformersAdapter, open_folder
from mminstruct.evaluation.benchmark import Item
from mminstruct.evaluation.facts import checkpoint_files
from mminstruct.evaluation.requests import Reply, Request
from mminstruct.evaluation.runner import evaluate
from mminstruct.media import encode_clip, open_image, open_video
from tests.command import call
from tests.conftest import picture
from tests.models import interop
from tests.models.native import lively

from ..conftest import Mixed

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def save_llava(folder: Path) -> None:
    model = interop.hf_model()
    processor = interop.hf_processor(model)
    processor.chat_template = LLAVA_TEMPLATE
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def save_native(row: str) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        model, processor = lively(row)
        model.save_pretrained(folder)
        processor.native.save_pretrained(folder)

    return save


CHOICES = ("blue", "circle", "What")  # each a token of its own in the tiny vocabulary, or begun by one
FAMILIES = {
    "llava": save_llava,
    "qwen2.5-vl": save_native("qwen2.5-vl-3b"),
    "idefics3": save_native("smolvlm-256m"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "model"
    FAMILIES[request.param](path)
    assert not (path / "mminstruct.json").exists()
    return path


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llava") / "model"
    save_llava(path)
    return path


def by_hand(folder: Path, benchmark: Mixed, items: list[Item]) -> list[str]:
    """transformers' own way, one question at a time, without any code of ours behind the picture's opening."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    answers = []
    for item in items:
        content: list[dict[str, Any]] = [{"type": "image", "image": open_image(path)} for path in item.images]
        talk = [{"role": "user", "content": [*content, {"type": "text", "text": item.question}]}]
        inputs = processor.apply_chat_template(
            talk, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            ids = model.generate(
                **inputs, max_new_tokens=benchmark.protocol.max_new_tokens, do_sample=False, repetition_penalty=1.0
            )
        answers.append(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


def ask(adapter: TransformersAdapter, requests: list[Request]) -> list[Reply]:
    found = dict(pair for batch in adapter.answer(requests) for pair in batch)
    return [found[place] for place in range(len(requests))]


def test_batched_answers_equal_generate_by_hand(folder: Path, pictures: list[Path]) -> None:
    benchmark = Mixed(pictures, count=9)
    expected = by_hand(folder, benchmark, benchmark.questions())
    assert len(set(expected)) > 4, "a model that always says the same cannot show a mix-up"
    for batch_tokens in (1, 16_384):
        found = evaluate(open_folder(folder, batch_tokens=batch_tokens), benchmark, check=2)
        assert found.texts == expected and not found.flips


def test_each_picture_is_opened_once(llava: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    real = asking.open_medium

    def counting(kind: str, path: Path, sampling: object) -> object:
        opened[path.name] += 1
        return real(kind, path, sampling)  # type: ignore[arg-type]

    monkeypatch.setattr(asking, "open_medium", counting)
    items = [Item(f"{path.stem}-{n}", (path,), f"what is {n}?", ("red",)) for path in pictures[:3] for n in range(3)]
    benchmark = Mixed(pictures)
    ask(open_folder(llava), [benchmark.request(item) for item in items])
    assert opened == {path.name: 1 for path in pictures[:3]}


def test_a_video_is_shown_as_its_frames(llava: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(encode_clip([picture(n, (32, 32)) for n in range(5)], 4))
    frames = open_video(clip).frames
    paths = [tmp_path / f"{n}.png" for n in range(len(frames))]
    for frame, path in zip(frames, paths, strict=True):
        frame.save(path)

    def asked(parts: list[Any], media: list[Media]) -> Request:
        said = [Message(role="user", content=[*parts, text("what is it?")])]
        return Request(Conversation(id="clip", messages=said, media=media), max_new_tokens=6)

    whole = asked([VideoPart(index=0)], [Media(kind="video", path=str(clip))])
    single = asked([image(n) for n in range(len(paths))], [Media(path=str(path)) for path in paths])
    other = asked([image(0)], [Media(path=str(paths[0]))])
    found = ask(open_folder(llava), [whole, single, other])
    assert len(frames) == 5 and found[0] == found[1] and found[0].text != found[2].text


def test_stop_texts_and_choices(llava: Path, pictures: list[Path]) -> None:
    adapter = open_folder(llava)
    benchmark = Mixed(pictures, count=6)
    requests = [benchmark.request(item) for item in benchmark.questions()]
    plain = ask(adapter, requests)
    some = next(reply.text for reply in plain if len(reply.text) > 3)
    stop = some[1:3]
    stopped = ask(adapter, [replace(request, stop=(stop,)) for request in requests])
    for before, after in zip(plain, stopped, strict=True):
        assert after.text == before.text.partition(stop)[0].strip()
        assert stop not in before.text or after.finish == "end"
    choices = ask(adapter, [replace(request, choices=CHOICES) for request in requests])
    processor = AutoProcessor.from_pretrained(llava)
    model = AutoModelForImageTextToText.from_pretrained(llava).eval()
    # "ASSISTANT:" and then " blue": the token that the answer begins with holds the blank.
    firsts = {
        word: processor.tokenizer(f"ASSISTANT: {word}")["input_ids"][len(processor.tokenizer("ASSISTANT:").input_ids)]
        for word in CHOICES
    }
    for item, reply in zip(benchmark.questions(), choices, strict=True):
        content: list[dict[str, Any]] = [{"type": "image", "image": open_image(path)} for path in item.images]
        talk = [{"role": "user", "content": [*content, {"type": "text", "text": item.question}]}]
        inputs = processor.apply_chat_template(
            talk, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            chances = model(**inputs).logits[0, -1].log_softmax(-1)
        expected = {word: float(chances[token]) for word, token in firsts.items()}
        assert reply.finish == "choice" and reply.scores == pytest.approx(expected, abs=1e-4)
        assert reply.text == max(expected, key=lambda word: expected[word])


def test_choices_that_begin_alike_are_refused(llava: Path, pictures: list[Path]) -> None:
    question = Mixed(pictures, count=3).request(Item("1", (pictures[0],), "what?", ("x",)))
    with pytest.raises(ConfigError, match="begin with the same token"):
        ask(open_folder(llava), [replace(question, choices=("red", "red"))])


def test_what_does_not_fit_the_processor_is_one_line(llava: Path, pictures: list[Path]) -> None:
    """A question that writes the picture's own token has more places than pictures."""
    talk = Conversation(
        id="odd",
        messages=[Message(role="user", content=[image(0), text("what is <image>?")])],
        media=[Media(path=str(pictures[0]))],
    )
    with pytest.raises(DataError, match="'odd' does not fit"):
        ask(open_folder(llava), [Request(talk, max_new_tokens=2)])


def test_identity_is_of_the_files(llava: Path, tmp_path: Path) -> None:
    save_llava(tmp_path / "a")

    def opened(folder: Path) -> TransformersAdapter:
        return open_folder(folder, files=checkpoint_files(folder))

    first, second = opened(llava), opened(tmp_path / "a")
    assert first.identity == second.identity and first.identity is not None and str(llava) not in str(first.identity)
    template = tmp_path / "a" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert opened(tmp_path / "a").identity != first.identity
    assert open_folder(llava).identity is None


def test_the_command_picks_the_adapter_by_what_the_folder_is(llava: Path, questions_file: Path, tmp_path: Path) -> None:
    arguments = ["vqa", f"file={questions_file}", "--no-blank", "--answers", tmp_path / "answers.sqlite"]
    code, out, error = call("eval", *arguments, "--model", llava, "--out", tmp_path / "out", "--json")
    assert code == 0, error
    report = json.loads(out)
    assert report["model"]["processor"] == "LlavaProcessor" and report["benchmarks"]["vqa"]["n"] == 10


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "holds neither"),
        ({"model_type": "llama"}, "is a 'llama', which is no vision-language model"),
        ({"model_type": "nobody-knows"}, "'nobody-knows', which is no vision-language model"),
    ],
)
def test_other_folders_are_refused(config: Any, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    code, _, error = call("eval", "easy-vqa", "--model", folder, "--out", tmp_path / "out")
    assert code == 2 and message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_without_a_chat_template_or_weights_of_safetensors(llava: Path, tmp_path: Path) -> None:
    save_llava(tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        open_folder(tmp_path / "bare")
    weights = tmp_path / "bare" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(CheckpointError, match="cannot be opened"):
        open_folder(tmp_path / "bare")
