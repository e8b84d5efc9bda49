"""VLR-IF: answers come from the gold passage alone, gold places are balanced, and without one the answer says so."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders import vlr_if
from mminstruct.data_builders.worlds.exhibits import FACTS, exhibit
from mminstruct.errors import ConfigError, MediaError, ReplyError
from tests.building.chat_server import serving
from tests.command import call

COUNT = 60


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Conversation]]:
    out = tmp_path_factory.mktemp("vlr-if") / "set"
    run(load_builder("vlr-if", [f"count={COUNT}", "kinds=[V,I,II,VI,VII]"]), out)
    found: dict[str, list[Conversation]] = {}
    for one in formats.read(out):
        found.setdefault(str(one.task).removeprefix("vlr-if+"), []).append(one)
    return found


def number_of(one: Conversation) -> int:
    return int(one.id.split("/")[3])


def test_each_kind_has_its_passages_and_each_place_is_gold_equally_often(built: dict[str, list[Conversation]]) -> None:
    sizes = {"V": 1, "I": 1, "II": 2, "VI": 2, "VII": 3}
    assert {kind: len(found) for kind, found in built.items()} == dict.fromkeys(sizes, COUNT)
    for kind, found in built.items():
        assert {len(one.passages or []) for one in found} == {sizes[kind]}
        places = Counter((one.extra or {})["gold"] for one in found)
        if kind in ("I", "II"):
            assert places == {None: COUNT}
        else:
            assert places == {place: COUNT // sizes[kind] for place in range(sizes[kind])}


def test_passages_are_those_of_the_pictures_that_are_named(built: dict[str, list[Conversation]]) -> None:
    for kind, found in built.items():
        for one in found:
            assert one.extra is not None and one.passages is not None and one.provenance is not None
            named = [exhibit(0, int(name.rpartition("/")[2])) for name in one.extra["passage_ids"]]
            assert one.passages == [other.passage for other in named]
            assert all(passage in one.messages[0].text for passage in one.passages)
            own = number_of(one)
            numbers = [other.number for other in named]
            assert len(set(numbers)) == len(numbers)
            assert [place for place, number in enumerate(numbers) if number == own] == (
                [] if kind in ("I", "II") else [one.extra["gold"]]
            )
            assert set(one.provenance.parents) == {f"exhibits/0/{number}" for number in (own, *numbers)}
            assert isinstance(one.messages[0].content[0], ImagePart)
            assert len(one.provenance.call_ids) == len(set(numbers) | {own})


def test_answers_are_told_by_the_gold_passage_alone(built: dict[str, list[Conversation]]) -> None:
    """The value that is asked for is looked up in the museum by the wording of the question."""
    for kind in ("V", "VI", "VII"):
        for one in built[kind]:
            shown = exhibit(0, number_of(one))
            (asked,) = {
                fact
                for fact, ways in FACTS.items()
                for way in ways.questions
                if way.format(subject="this picture") in one.messages[0].text
            }
            answer = one.messages[1].text
            assert one.answers == [answer]
            assert answer.startswith(f"This is “{shown.title}”. ") and shown.facts[asked] in answer
            assert one.passages is not None and one.extra is not None
            telling = [place for place, passage in enumerate(one.passages) if f"“{shown.title}”" in passage]
            assert telling == [one.extra["gold"]] and shown.facts[asked] in one.passages[telling[0]]


def test_without_a_fitting_passage_the_answer_says_so(built: dict[str, list[Conversation]]) -> None:
    said = {one.messages[1].text for kind in ("I", "II") for one in built[kind]}
    assert said == set(vlr_if.prompt_file().passage.unanswerable)
    answered = {one.messages[1].text for kind in ("V", "VI", "VII") for one in built[kind]}
    assert not said & answered


def test_invalid_passages_describe_something_else_that_is_alike(built: dict[str, list[Conversation]]) -> None:
    shared = []
    for one in built["VII"]:
        own = exhibit(0, number_of(one)).scene
        things = {thing.name for thing in own.things}
        assert one.extra is not None
        for name in one.extra["passage_ids"]:
            other = exhibit(0, int(name.rpartition("/")[2])).scene
            if other is not own and other.id != own.id:
                others = {thing.name for thing in other.things}
                assert (others, other.ground) != (things, own.ground)
                shared.append(len(things & others))
    far = [
        len({t.name for t in exhibit(0, a).scene.things} & {t.name for t in exhibit(0, b).scene.things})
        for a in range(20)
        for b in range(20, 40)
    ]
    assert sum(shared) / len(shared) > 2 * sum(far) / len(far)


def test_the_prompt_keeps_to_its_own_form() -> None:
    facts = vlr_if.Facts(id="1", image="1.png", captions=["A cat sleeps.", "It is white."])
    asked = vlr_if.Asked(facts, "Korean", True)
    messages = vlr_if.PASSAGE.messages(asked)
    assert "Write in Korean." in messages[0].text and '{"passage": "...", ' in messages[0].text
    assert isinstance(messages[-1].content[0], ImagePart) and messages[-1].text == "A cat sleeps.\nIt is white."
    for example in messages[2:-1:2]:
        assert vlr_if.PASSAGE.parse(example.text, asked)


GOOD = {"passage": "word " * 20, "question": "Why?", "answer": "So.", "unanswerable": "It is not told."}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"passage": "Too short."}, "shorter than 15 words"),
        ({"question": "Tell me."}, "does not end with a question mark"),
        ({"answer": " "}, "'answer' is empty"),
        ({"unanswerable": "so"}, "'answer' and 'unanswerable' say the same"),
        ({"passage": None}, "passage: "),
    ],
)
def test_replies_of_another_form_are_refused(change: dict[str, Any], problem: str) -> None:
    asked = vlr_if.Asked(vlr_if.Facts(id="1", image="1.png", captions=["A cat."]), "English", False)
    assert vlr_if.PASSAGE.parse(json.dumps(GOOD), asked).answer == "So."
    with pytest.raises(ReplyError, match=problem):
        vlr_if.PASSAGE.parse(json.dumps(GOOD | change), asked)
    chinese = {"passage": "这是一段关于图片的文字，它说明图片里有什么。", "question": "为什么？"}
    assert vlr_if.PASSAGE.parse(json.dumps(GOOD | chinese), asked)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    captions = ["A red bus on a road.", "A blue bus on a road.", "A red car on a road.", "A dog in a park."]
    path = tmp_path / "facts.jsonl"
    rows = []
    for number, caption in enumerate(captions):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append({"id": f"00{number}", "image": f"{number}.png", "captions": [caption], "instances": []})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_model_writes_of_pictures_of_ones_own(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question a picture, however many conversations use its passage; a broken reply is passed over."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")

    def writes(body: dict[str, Any]) -> str:
        picture, told = body["messages"][3]["content"]  # behind system and example
        caption = told["text"] if picture["type"] == "image_url" else ""
        if "blue" in caption:
            return "no JSON"
        return json.dumps(GOOD | {"passage": f"{caption} 这是一段关于图片的文字它说明图片里有什么", "answer": caption})

    out = tmp_path / "set"
    with serving(writes) as server:
        code, _, error = call(
            *("build", "vlr-if", f"facts={photographs}", "language=Chinese", "show_picture=true", "--out", out),
            *("--backend", "openai", "--model", "m", "--base-url", server.url, "--on-error", "skip"),
        )
    assert code == 0, error
    found = {one.id: one for one in formats.read(out)}
    assert set(found) == {f"vlr-if/{name}/{kind}" for name in ("000", "002", "003") for kind in ("V", "I", "VI", "VII")}
    assert not any("001" in (one.extra or {})["passage_ids"] for one in found.values())
    one = found["vlr-if/000/I"]
    assert all("Write in Chinese." in str(request["messages"][0]) for request in server.requests)
    assert one.extra == {"gold": None, "passage_ids": ["002"]} and "段落1：A red car" in one.messages[0].text
    asked = Counter(str(request["messages"][-1]) for request in server.requests if len(request["messages"]) == 4)
    assert len(asked) == 4 and set(asked.values()) == {1}
    letters = [json.loads(line) for line in (out / "dead-letters.jsonl").read_text().splitlines()]
    assert [letter["item"] for letter in letters] == ["001"]


def test_templates_of_captions_alone_and_what_they_cannot(photographs: Path, tmp_path: Path) -> None:
    run(load_builder("vlr-if", [f"facts={photographs}", "passage_words=15"]), tmp_path / "a")
    found = [one for one in formats.read(tmp_path / "a") if one.task == "vlr-if+V"]
    assert found[0].messages[1].text == "A red bus on a road."
    assert all(len(passage.split()) <= 15 for one in formats.read(tmp_path / "a") for passage in one.passages or [])
    with pytest.raises(ConfigError, match="templates write English; ask a model"):
        run(load_builder("vlr-if", ["language=Korean"]), tmp_path / "b")


def test_broken_facts_and_pictures(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "2.png").unlink()
    with pytest.raises(MediaError, match=r"facts\.jsonl:3 names the picture .*2\.png, which is not there"):
        run(load_builder("vlr-if", [f"facts={photographs}"]), tmp_path / "a")
    settings = BuildConfig(on_error="skip")
    run(load_builder("vlr-if", [f"facts={photographs}"]), tmp_path / "b", settings)
    assert len(re.findall("002", (tmp_path / "b/dead-letters.jsonl").read_text())) >= 1
    with photographs.open("a") as stream:
        stream.write('{"id": "3", "image": "a.png", "captions": []}\n')
    run(load_builder("vlr-if", [f"facts={photographs}"]), tmp_path / "c", settings)
    letters = (tmp_path / "c/dead-letters.jsonl").read_text()
    assert re.search(r"facts\.jsonl:5: captions: .*mend or drop it", letters)
