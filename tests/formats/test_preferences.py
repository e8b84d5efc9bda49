"""Preference pairs: both forms come back as they were, TRL's own code takes what is written, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mminstruct import formats
from mminstruct.conversation import Conversation, Media, Preference, VideoPart, image, message
from mminstruct.errors import ConfigError, DataError
from mminstruct.files import sha256

Make = Callable[..., list[Conversation]]

PAIR = Conversation(
    id="1",
    messages=[message("system", "Be short."), message("user", image(0), "What is in ", image(1), "?")],
    media=[Media(path="a.png"), Media(path="b.png", width=4)],
    preference=Preference(chosen=[message("assistant", "A cat.")], rejected=[message("assistant", "A dog.")]),
    task="t",
    extra={"source": "mine"},
)


def file_of(path: Path, *items: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["preferences", "llava-preferences"])
def test_a_pair_comes_back_as_it_was(name: str, tmp_path: Path, random_conversations: Make) -> None:
    pairs = [one for seed in range(9) for one in random_conversations(seed) if one.preference is not None]
    given = [PAIR]
    for number, one in enumerate(pairs):
        # LLaVA's form asks for a question in front of the two answers.
        turns = one.messages if name == "preferences" else [*one.messages, message("user", "And?")]
        named = one.model_copy(update={"id": f"{one.id}/{number}", "messages": turns, "extra": {"k": [number]}})
        try:
            formats.write([named], tmp_path / f"{number}.json", name)
        except DataError as error:
            assert name == "llava-preferences" and "in an answer" in str(error)
            continue
        given.append(named)
    assert len(given) > 20, len(pairs)
    formats.write(given, tmp_path / "a.jsonl", name)
    assert list(formats.read(tmp_path / "a.jsonl")) == given  # seen by content
    formats.write(formats.read(tmp_path / "a.jsonl"), tmp_path / "b.jsonl", name)
    assert sha256(tmp_path / "a.jsonl") == sha256(tmp_path / "b.jsonl")


def test_what_is_written_for_trl_is_what_its_trainer_takes(tmp_path: Path) -> None:
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    formats.write([PAIR, PAIR.model_copy(update={"id": "2"})], tmp_path / "a.jsonl", "preferences")
    example = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert is_conversational(example)
    pictures = ["first", "second"]
    prompt = prepare_multimodal_messages(example["prompt"], images=pictures)
    assert [part.get("image") for part in prompt[1]["content"] if part["type"] == "image"] == pictures
    for key, answer in (("chosen", "A cat."), ("rejected", "A dog.")):
        (said,) = prepare_multimodal_messages(example[key], images=[])
        assert said == {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    assert example["images"] == ["a.png", "b.png"]


def test_pairs_about_videos_are_llavas(tmp_path: Path) -> None:
    clip = Media(path="a.mp4", kind="video", width=32)
    asked = [message("user", VideoPart(index=0), "\nWhat happens?")]
    answers = Preference(chosen=[message("assistant", "Rain.")], rejected=[message("assistant", "Snow.")])
    given = Conversation(id="1", messages=asked, media=[clip], preference=answers, task="videosavi+temporal")
    formats.write([given], tmp_path / "a.json", "llava-preferences")
    (item,) = json.loads((tmp_path / "a.json").read_text())
    assert item["video"] == "a.mp4" and item["conversations"][0]["value"] == "<video>\nWhat happens?"
    assert list(formats.read(tmp_path / "a.json")) == [given]
    texts = {"id": "1", "video": "a.mp4", "chosen": "Rain.", "rejected": "Snow."}
    for number, prompt in enumerate(("What happens?", "<video>\nWhat happens?", "<image>\nWhat happens?")):
        (found,) = formats.read(file_of(tmp_path / f"{number}.jsonl", texts | {"prompt": prompt}))
        assert (found.messages, found.preference, found.media) == (asked, answers, [Media(path="a.mp4", kind="video")])
    with pytest.raises(DataError, match="'1' has a video, which the format preferences has no place for"):
        formats.write([given], tmp_path / "b.json", "preferences")


def test_trls_plain_texts_put_the_pictures_where_its_trainer_does(tmp_path: Path) -> None:
    from trl.data_utils import prepare_multimodal_messages

    prompt = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Which?"}]
    turn = {"role": "assistant", "content": "Left."}
    item = {"prompt": prompt, "chosen": [turn], "rejected": [turn], "images": ["a.png", "b.png"]}
    (found,) = formats.read(file_of(tmp_path / "a.jsonl", item))
    theirs = prepare_multimodal_messages(prompt, images=["a.png", "b.png"])
    assert [[part.type for part in one.content] for one in found.messages] == [
        [part["type"] for part in one["content"]] for one in theirs
    ]
    assert [one.path for one in found.media] == ["a.png", "b.png"]


def test_llavas_forms_are_read(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "<image>\nWhat?"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "Sure?"},
    ]
    rlhf = {"id": 7, "image": "a.png", "conversations": turns, "output_1": {"from": "llava", "value": "No."}}
    rlhf |= {"output_2": {"from": "llava", "value": "Yes."}, "preference": 2, "hallucination": True}
    open_end = rlhf | {"id": 8, "conversations": [*turns, {"from": "gpt", "value": ""}], "preference": 1}
    texts = {"id": "9", "image": "b.png", "prompt": "What?", "chosen": "A bus.", "rejected": "A tram."}
    path = file_of(tmp_path / "a.jsonl", rlhf, open_end, texts)
    second, first, plain = formats.read(path)
    assert second.preference is not None and first.preference is not None and plain.preference is not None
    assert [second.preference.chosen[0].text, second.preference.rejected[0].text] == ["Yes.", "No."]
    assert first.preference.chosen[0].text == "No." and len(first.messages) == len(second.messages) == 3
    assert second.extra == {"hallucination": True} and second.id == "7"
    assert plain.messages == [message("user", image(), "\nWhat?")] and plain.preference.chosen[0].text == "A bus."


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"images": ["a.png"]}, r"prompt .*2 bare .* places and 1 path|has 2 bare"),
        ({"chosen": []}, "has no turns under 'chosen'"),
        ({"chosen": [{"role": "asistant", "content": "x"}]}, r"chosen, turn 0 has the role 'asistant'. Did you mean"),
        ({"videos": ["a.mp4"]}, "has a video"),
    ],
)
def test_broken_pairs(change: dict[str, Any], cause: str, tmp_path: Path) -> None:
    formats.write([PAIR], tmp_path / "a.jsonl", "preferences")
    item = json.loads((tmp_path / "a.jsonl").read_text())
    with pytest.raises(DataError, match=cause):
        list(formats.read(file_of(tmp_path / "b.jsonl", item | change)))


def test_what_is_no_pair_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'1' has no preference .* drop it, or write messages"):
        formats.write([PAIR.model_copy(update={"preference": None})], tmp_path / "a.json", "preferences")
    with pytest.raises(ConfigError, match=r"ends in \.jsonl"):
        formats.write([PAIR], tmp_path / "a.txt", "preferences")
    two = Preference(chosen=PAIR.preference.chosen * 2, rejected=PAIR.preference.rejected)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="not one answer"):
        formats.write([PAIR.model_copy(update={"preference": two})], tmp_path / "a.json", "llava-preferences")
    tie = {"conversations": [{"from": "human", "value": "?"}], "output_1": "a", "output_2": "b", "preference": 0}
    with pytest.raises(DataError, match="'preference' is 1 or 2"):
        list(formats.read(file_of(tmp_path / "c.jsonl", tie)))
