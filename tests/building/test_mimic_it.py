"""MIMIC-IT's packing: which examples are taken, that none tells the answer, and what the published files say of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.retrieval import picture_features
from mminstruct.building.words import text_features, words
from mminstruct.conversation import Conversation, ImagePart, Media, Message, image, message
from mminstruct.data_builders.worlds.questions import questions
from mminstruct.data_builders.worlds.scenes import Scene, scene
from mminstruct.errors import ConfigError, DataError

SCENES = 40


def build(out: Path, *options: str) -> list[Conversation]:
    run(load_builder("mimic-it", options), out, BuildConfig(on_error="skip"))
    return list(formats.read(out))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    return build(tmp_path_factory.mktemp("mimic-it") / "set", f"scenes={SCENES}", "max_uses=5")


def drawn(one: Conversation | str) -> Scene:
    name = one if isinstance(one, str) else one.id
    return scene(0, int(name.split("/")[3]))


def turns(one: Conversation) -> list[tuple[list[int], str, str]]:
    """(places of pictures, question, answer) of each turn."""
    found = []
    for asked, answered in zip(one.messages[::2], one.messages[1::2], strict=True):
        assert (asked.role, answered.role) == ("user", "assistant")
        found.append(([p.index for p in asked.content if isinstance(p, ImagePart)], asked.text, answered.text))
    return found


def contains(text: str, part: str) -> bool:
    return f" {' '.join(words(part))} " in f" {' '.join(words(text))} "


def test_every_answer_is_true_of_its_picture(packed: list[Conversation]) -> None:
    """Recomputed from the scene that the turn's file is named after; a few kinds by geometry."""
    for one in packed:
        assert one.context_ids is not None
        for (places, question, answer), name in zip(turns(one), [*one.context_ids, one.id], strict=True):
            (place,) = places
            shown = drawn(name)
            assert one.media[place].path == f"images/{shown.id}.png"
            assert (question, answer) in questions(shown)
            if question == "Which shape in the picture is farthest to the left?":
                order = sorted(shown.things, key=lambda thing: thing.box[0] + thing.box[2])
                assert answer == f"That is the {order[0].name}; after it comes the {order[1].name}."
            elif question == "Which shape in the picture is the smallest?":
                assert min(shown.things, key=lambda thing: thing.box[2] - thing.box[0]).name in answer
            elif question.startswith("What colour is the "):
                (thing,) = [thing for thing in shown.things if thing.shape == question.split()[4]]
                assert answer == f"The {thing.shape} is {thing.color}."


def test_examples_are_other_samples_of_other_pictures_and_tell_no_answer(packed: list[Conversation]) -> None:
    by_id = {one.id: one for one in packed}
    uses: Counter[str] = Counter()
    assert len(packed) == 3 * SCENES
    for one in packed:
        assert one.context_ids is not None and one.task == "mimic-it+in-context"
        *examples, (_, _, answer) = turns(one)
        assert len(examples) == len(one.context_ids) == 3
        uses.update(one.context_ids)
        assert [turns(by_id[name])[-1][1:] for name in one.context_ids] == [example[1:] for example in examples]
        assert len({drawn(name).id for name in (*one.context_ids, one.id)}) == 4
        assert not any(contains(told, answer) for _, *pair in examples for told in pair)
    assert max(uses.values()) == 5  # as often as the option allows
    assert one.provenance is not None and len(one.provenance.parents) == 4


@pytest.mark.parametrize("related", ["picture", "instruction"])
def test_examples_are_the_most_alike(related: str, tmp_path: Path) -> None:
    """Against a full sort by features; equals are told apart by the other kind of feature, which counts a hundredth."""
    found = build(tmp_path / "set", "scenes=15", f"related={related}", "shots=1", "max_uses=1000")
    seen = {one.id: picture_features(drawn(one).draw()) for one in found}
    asked = {one.id: text_features(turns(one)[-1][1]) for one in found}
    weights = (1, 0.01) if related == "picture" else (0.01, 1)

    def alike(one: str, other: str) -> float:
        return weights[0] * float(seen[one] @ seen[other]) + weights[1] * float(asked[one] @ asked[other])

    for one in found:
        answer = one.messages[-1].text
        others = [
            other.id
            for other in found
            if drawn(other) != drawn(one) and not any(contains(said.text, answer) for said in other.messages[-2:])
        ]
        assert one.context_ids is not None
        best = max(alike(one.id, other) for other in others)
        assert alike(one.id, one.context_ids[0]) == pytest.approx(best, abs=1e-5)


def test_turns_about_one_picture(tmp_path: Path) -> None:
    found = build(tmp_path / "set", f"scenes={SCENES}", "layout=conversation", "shots=2")
    sizes = Counter(len(one.context_ids or []) for one in found)
    assert sizes[0] >= SCENES and sizes[1] > 0.8 * SCENES and sizes[2] > 0.8 * SCENES
    for one in found:
        assert [media.path for media in one.media] == [f"images/{drawn(one).id}.png"]
        assert [places for places, *_ in turns(one)] == [[0], *[[]] * (len(one.messages) // 2 - 1)]
        assert {drawn(name) for name in one.context_ids or []} <= {drawn(one)}
        answer = one.messages[-1].text
        assert not any(contains(said.text, answer) for said in one.messages[:-1])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Questions about photographs; two are of one picture under two names, and one record has two turns."""
    for name, color in {"a": (250, 0, 0), "b/a": (240, 0, 0), "c": (0, 0, 250), "d": (250, 0, 0)}.items():
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), color).save(path)

    def record(id: str, path: str, *texts: str) -> Conversation:
        messages: list[Message] = []
        for question, answer in zip(texts[::2], texts[1::2], strict=True):
            picture = [image()] if not messages else []
            messages += [message("user", *picture, f"\n{question}"), message("assistant", answer)]
        return Conversation(id=id, messages=messages, media=[Media(path=path)])

    given = [
        record("1", "a.png", "What is it?", "A red wall."),
        record("2", "b/a.png", "What is it?", "A red door, locked.", "Is it open?", "No."),
        record("3", "c.png", "What is there?", "A lake, no boat."),
        record("4", "d.png", "What is that?", "Here is a red wall too."),
    ]
    formats.write(given, tmp_path / "source.json", "llava")
    return tmp_path / "source.json"


def test_a_data_set_of_ones_own(source: Path, tmp_path: Path) -> None:
    found = {one.id: one for one in build(tmp_path / "set", f"source={source}", "shots=9")}
    contexts = {name: {one.partition("/")[2] for one in found[name].context_ids or []} for name in found}
    # 4 is of the same bytes as 1, and tells its answer; of 2's two questions the picture gives one; "No" stands in 3.
    assert contexts == {
        "mimic-it/1": {"2#0", "3"},
        "mimic-it/2#0": {"1", "3"},
        "mimic-it/2#1": {"1"},
        "mimic-it/3": {"1", "2#0"},
        "mimic-it/4": {"2#0", "3"},
    }
    assert found["mimic-it/2#1"].messages[-2].content[0] == image(1)  # its picture was shown with the turn before
    assert found["mimic-it/3"].messages[-2].text == "What is there?"
    paths = [one.path for one in found["mimic-it/1"].media]
    assert all((tmp_path / "set" / path).is_file() for path in paths) and len(set(paths)) == 3
    kept = build(tmp_path / "kept", f"source={source}", "copy_media=false", "same_answer=true", "shots=9")
    assert {one.path for one in kept[-1].media} == {str(source.parent / n) for n in ("b/a.png", "c.png", "d.png")}
    assert not (tmp_path / "kept/images").exists()
    few = build(tmp_path / "few", f"source={source}", "max_words=8")
    assert {len(one.context_ids or []) for one in few} == {1}


def test_a_packed_set_becomes_published_files(source: Path, tmp_path: Path) -> None:
    found = build(tmp_path / "set", f"source={source}", "shots=2")
    out = tmp_path / "AB"
    formats.write(formats.relocate(found, tmp_path / "set", out), out, "mimicit")
    data = json.loads((out / "AB_instructions.json").read_text())["data"]
    links = json.loads((out / "AB_train.json").read_text())
    assert len(data) == len(links) == 5 and len(json.loads((out / "AB.json").read_text())) == 3
    for name, item in data.items():
        assert links[name] == item["rel_ins_ids"] and set(links[name]) <= set(data)
        assert len(item["image_ids"]) == 1
    again = list(formats.read(out))
    assert [one.context_ids for one in again] == [one.context_ids for one in found]
    assert [[said.text for said in one.messages] for one in again] == [
        [said.text for said in one.messages] for one in found
    ]


def test_records_that_cannot_be_packed(source: Path, tmp_path: Path) -> None:
    items = json.loads(source.read_text())
    items[1]["image"] = "none.png"
    items[2]["conversations"].pop()
    (tmp_path / "broken.json").write_text(json.dumps(items))
    found = build(tmp_path / "set", f"source={tmp_path / 'broken.json'}")
    assert [one.id for one in found] == ["mimic-it/1", "mimic-it/4"]
    letters = [json.loads(line) for line in (tmp_path / "set/dead-letters.jsonl").read_text().splitlines()]
    assert [(letter["item"], letter["reason"]) for letter in letters] == [("2", "media"), ("3", "data")]
    assert "none.png is not there; check the path, or set media_root" in letters[0]["problem"]
    assert "'3' is no row of questions and answers; drop it" in letters[1]["problem"]
    with pytest.raises(DataError, match="does not exist"):
        run(load_builder("mimic-it", [f"source={tmp_path / 'nothing.json'}"]), tmp_path / "a")
    formats.write(formats.relocate(found, tmp_path / "set", tmp_path / "AB"), tmp_path / "AB", "mimicit")
    with pytest.raises(ConfigError, match="stand within its files; unpack them by data convert --unpack"):
        run(load_builder("mimic-it", [f"source={tmp_path / 'AB'}"]), tmp_path / "a")


def test_blocks_are_searched_by_themselves(tmp_path: Path) -> None:
    found = build(tmp_path / "set", "scenes=8", "questions=1", "block=4", "shots=2", "same_answer=true")
    for number, one in enumerate(found):
        near = {int(name.split("/")[3]) // 4 for name in one.context_ids or []}
        assert near == {number // 4}
