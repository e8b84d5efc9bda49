"""MM-RAIT: true answers, what is retrieved beside them, the form of prompts, and files in M2RAG's layout."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import BuildConfig, load_builder, run
from mminstruct.building.retrieval import picture_features
from mminstruct.building.words import words
from mminstruct.conversation import Conversation, ImagePart
from mminstruct.data_builders.worlds.exhibits import FACTS, Exhibit, exhibit
from mminstruct.data_builders.worlds.m2rag import Museum
from mminstruct.data_builders.worlds.questions import questions
from mminstruct.errors import ConfigError, DataError, MediaError, MminstructError
from tests.building.test_retrieval import slow_bm25

COUNT, CORPUS, TOP_K = 30, 80, 5
EXHIBITS = [exhibit(0, number) for number in range(CORPUS)]
TITLED = {one.title: one for one in EXHIBITS}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mm-rait") / "set"
    run(load_builder("mm-rait", [f"count={COUNT}", f"corpus={CORPUS}"]), out)
    return out


def of_task(built: Path, task: str) -> list[Conversation]:
    return [one for one in formats.read(built) if one.task == f"mm-rait+{task}"]


def number_of(one: Conversation) -> int:
    return int(one.id.rpartition("/")[2])


def slot(one: Conversation, name: str) -> str:
    """What stands behind a slot's name, up to the end of its line."""
    return re.findall(rf"^{name}: (.*)$", one.messages[0].text, re.MULTILINE)[0]


def numbered(texts: list[str]) -> str:
    return " ".join(f"[{number}] {text}" for number, text in enumerate(texts, start=1)) or "null"


def shown(one: Conversation) -> list[str]:
    """The files of the prompt's pictures, in the order of their places."""
    return [one.media[part.index].path for part in one.messages[0].content if isinstance(part, ImagePart)]


def asked_fact(text: str, kind_of: str, subject: str) -> tuple[str, str]:
    """(fact, value) of a sentence that one of the museum's wordings gives."""
    found = set()
    for fact, ways in FACTS.items():
        for way in getattr(ways, kind_of):
            pattern = re.escape(way.format(subject=subject, value="\0")).replace("\0", "(.+)")
            match = re.fullmatch(pattern, text, re.IGNORECASE)
            if match:
                found.add((fact, match[1] if kind_of == "statements" else ""))
    # "x is by y" and "x is a y" could be one another's, but no technique begins with a name.
    (only,) = found
    return only


def title_in(text: str) -> Exhibit:
    (title,) = set(re.findall(r"“(.+?)”", text))
    return TITLED[title]


def slowly_found(query: str, corpus: list[str], k: int) -> list[int]:
    scores = slow_bm25([words(text) for text in corpus], words(query))
    order = sorted(range(len(corpus)), key=lambda n: (-round(scores[n], 9), n))
    return [number for number in order if scores[number] > 0][:k]


def test_captions_come_with_the_pictures_that_look_most_alike(built: Path) -> None:
    found = of_task(built, "image_cap")
    assert [number_of(one) for one in found] == list(range(COUNT))
    features = np.stack([picture_features(one.scene.draw()) for one in EXHIBITS])
    for one in found:
        new = exhibit(0, CORPUS + number_of(one)).scene
        assert one.messages[1].text == new.captions()[0]
        near = np.argsort(-(features @ picture_features(new.draw())), kind="stable")[:TOP_K]
        assert shown(one) == [f"images/{new.id}.png", *(f"images/scenes/0/{number}.png" for number in near)]
        captions = [EXHIBITS[number].scene.captions()[0] for number in near]
        assert one.passages == captions and slot(one, "Retrieved captions") == numbered(captions)
        with Image.open(built / one.media[0].path) as picture:
            assert picture.convert("RGB").tobytes() == new.draw().convert("RGB").tobytes()


def test_answers_are_true_and_their_evidence_was_retrieved(built: Path) -> None:
    kinds = Counter()
    for one in of_task(built, "mmqa"):
        question, answer = slot(one, "Question"), one.messages[1].text
        about = title_in(question)
        assert one.passages is not None
        if number_of(one) % 2:
            assert (question, answer) in questions(about.scene, about.name)
            assert f"images/{about.scene.id}.png" in shown(one) and about.caption in one.passages
        else:
            fact, _ = asked_fact(question, "questions", about.name)
            assert asked_fact(answer, "statements", about.name) == (fact, about.facts[fact])
            assert about.passage in one.passages and about.facts[fact] in about.passage
        kinds[number_of(one) % 2] += 1
    assert min(kinds.values()) > COUNT // 2 - 4


def test_what_is_retrieved_is_what_a_slow_search_finds(built: Path) -> None:
    corpus = [one.passage for one in EXHIBITS] + [one.caption for one in EXHIBITS]
    for one in of_task(built, "mmqa"):
        found = slowly_found(slot(one, "Question"), corpus, TOP_K)
        captions = [corpus[number] for number in found if number >= CORPUS]
        texts = [corpus[number] for number in found if number < CORPUS]
        assert one.passages == [*captions, *texts]
        assert slot(one, "Retrieved captions") == numbered(captions)
        assert slot(one, "Retrieved texts") == numbered(texts)
        assert shown(one) == [f"images/scenes/0/{number - CORPUS}.png" for number in found if number >= CORPUS]


def test_claims_are_what_their_three_labels_say(built: Path) -> None:
    found = of_task(built, "fact_verify")
    collapsed = {
        "Support_Text": "Support",
        "Support_Multimodal": "Support",
        "Insufficient_Text": "Insufficient",
        "Insufficient_Multimodal": "Insufficient",
        "Refute": "Refute",
    }
    assert Counter((one.extra or {})["category"] for one in found) == dict.fromkeys(collapsed, COUNT // 5)
    assert Counter(one.messages[1].text for one in found) == {"Support": 12, "Insufficient": 12, "Refute": 6}
    for one in found:
        category, label = (one.extra or {})["category"], one.messages[1].text
        assert label == collapsed[category] and one.options == ["Support", "Insufficient", "Refute"]
        about = title_in(slot(one, "Claim"))
        fact, value = asked_fact(slot(one, "Claim"), "statements", about.name)
        assert slot(one, "Document") == about.passage and about.passage not in (one.passages or [])
        assert (fact in about.told) == (label != "Insufficient")
        assert (value == about.facts[fact]) == (label != "Refute")
        if label == "Insufficient":
            assert value not in about.passage
        claimed, documented = shown(one)[:2]
        assert documented == f"images/{about.scene.id}.png"
        if label != "Refute":
            assert (claimed == documented) == category.endswith("Multimodal")


def test_the_described_picture_stands_in_each_place_equally_often(built: Path) -> None:
    found = of_task(built, "image_rerank")
    places = []
    for one in found:
        new = exhibit(0, CORPUS + number_of(one)).scene
        caption = slot(one, "Caption")
        assert caption == new.captions()[0]
        pictures = shown(one)
        assert len(set(pictures)) == TOP_K
        places.append(pictures.index(f"images/{new.id}.png") + 1)
        assert one.messages[1].text == f"[{places[-1]}]"
        assert f"[{places[-1]}] " in one.messages[0].text
        others = [path for path in pictures if path != f"images/{new.id}.png"]
        corpus = [other.scene.captions()[0] for other in EXHIBITS]
        near = [number for number in slowly_found(caption, corpus, TOP_K + 6) if corpus[number] != caption]
        assert others == [f"images/scenes/0/{number}.png" for number in near[: TOP_K - 1]]
        assert one.passages == []
    assert Counter(places) == dict.fromkeys(range(1, TOP_K + 1), COUNT // TOP_K)


def test_pictures_stand_before_the_named_slot(built: Path) -> None:
    slots = {"image_cap": "Picture:", "mmqa": "Question:", "fact_verify": "Claim picture:", "image_rerank": "Caption:"}
    for task, name in slots.items():
        wordings = set()
        for one in of_task(built, task):
            content = one.messages[0].content
            last = max((place for place, part in enumerate(content) if isinstance(part, ImagePart)), default=-1)
            if last >= 0:
                assert content[last + 1].text.startswith(f"\n{name}")  # type: ignore[union-attr]
            wordings.add(one.messages[0].text.split("\n")[0])
        assert len(wordings) == 2
    assert all("{" not in one.messages[0].text for one in formats.read(built))


def test_the_set_goes_into_both_published_layouts(built: Path, tmp_path: Path) -> None:
    given = list(formats.read(built))
    for name in ("minicpmv", "llamafactory"):
        formats.write(given, tmp_path / f"{name}.json", name)
        assert list(formats.read(tmp_path / f"{name}.json")) == given
    item = json.loads((tmp_path / "minicpmv.json").read_text())[0]
    assert list(item["image"]) == [f"<image_0{number}>" for number in range(6)]
    assert "<image_00>\n<image_01>\n" in item["conversations"][0]["content"]


def test_nothing_is_asked_twice() -> None:
    """Drawn at random, 300 questions and claims about 100 exhibits would meet."""
    museum = Museum(0, 100, 3)
    questions = [one.slots["question"] for one in museum.queries("mmqa", 300)]
    claims = [one.slots["claim"] for one in museum.queries("fact_verify", 300)]
    assert len(set(questions)) == len(set(claims)) == 300
    # A museum that has no more repeats itself rather than to search for ever.
    assert len(list(Museum(0, 10, 3).queries("fact_verify", 300))) == 300


def test_without_retrieval_and_without_evidence(tmp_path: Path) -> None:
    run(
        load_builder("mm-rait", ["count=5", "corpus=10", "top_k=0", "tasks=[image_cap,mmqa,fact_verify]"]),
        tmp_path / "a",
    )
    plain = list(formats.read(tmp_path / "a"))
    assert len(plain) == 15 and {len(one.media) for one in plain} == {0, 1, 2}
    assert not any("etrieved" in one.messages[0].text for one in plain) and not any(one.passages for one in plain)
    with pytest.raises(ConfigError, match="let top_k be 2 at least"):
        run(load_builder("mm-rait", ["top_k=1", "count=2", "corpus=10", "tasks=[image_rerank]"]), tmp_path / "b")
    run(load_builder("mm-rait", ["top_k=1", "count=20", "corpus=20", "tasks=[mmqa]"]), tmp_path / "c")
    run(
        load_builder("mm-rait", ["top_k=1", "count=20", "corpus=20", "tasks=[mmqa]", "require_gold=false"]),
        tmp_path / "d",
    )
    supported, all_of_them = (len(list(formats.read(tmp_path / name))) for name in "cd")
    assert supported < all_of_them == 20  # every other question is about a picture; the text comes first


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Files in M2RAG's layout."""
    folder = tmp_path / "m2rag"
    (folder / "pictures").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (8, 6), (40 * number, 0, 0)).save(folder / f"pictures/{number}.png")
    many = " ".join(f"w{number}" for number in range(900))
    write(
        folder / "mmqa.jsonl",
        {"id": "train_0", "query": "Who sails {it}?", "answer": ["Ann sails it.", "Ann."], "pos_text": many},
        {"id": "train_1", "query": "Where?", "answer": ["There."], "pos_image_caption": "not found"},
        {"id": "train_2", "query": "When?", "answer": "Now."},
    )
    picture = {"image_path": "pictures/1.png", "image_caption": "A boat"}
    write(
        folder / "mmqa_retrieved.jsonl",
        {"id": "train_2", "cands": []},
        {"id": "train_1", "cands": ["x"]},
        {"id": "train_0", "cands": ["short  text", picture, many, "four", "five", "six", "seven"]},
    )
    claim = {"claim": "It sails.", "claim_image": "pictures/2.png", "document_image": "pictures/3.png"}
    write(
        folder / "claims.jsonl",
        {"id": 0, **claim, "document": many, "category": "Insufficient_Multimodal"},
        {"id": 1, **claim, "document": "It sinks.", "category": "Refute"},
        {"id": 2, **claim, "document": "It sails.", "category": "Support"},
    )
    write(folder / "texts.jsonl", {"id": "text_0", "text": "It sails far."}, {"id": "text_1", "text": "Trees."})
    write(
        folder / "pictures.jsonl",
        *({"image_id": n, "image_path": f"pictures/{n}.png", "caption": f"Sails of {n}"} for n in range(5)),
    )
    write(folder / "caps.jsonl", {"id": "c0", "image_path": "pictures/5.png", "caption": "Sails of five"})
    return folder


def build(out: Path, *options: str) -> dict[str, Conversation]:
    run(load_builder("mm-rait", options), out)
    return {one.id: one for one in formats.read(out)}


def test_retrieved_texts_are_cut_and_numbered(own: Path, tmp_path: Path) -> None:
    options = (f"mmqa.queries={own}/mmqa.jsonl", f"mmqa.retrieved={own}/mmqa_retrieved.jsonl")
    found = build(tmp_path / "a", *options)
    assert set(found) == {"mm-rait/mmqa/train_0", "mm-rait/mmqa/train_2"}  # the evidence of 1 was not retrieved
    first, last = found.values()
    texts = ["short text", " ".join(f"w{number}" for number in range(400)), "four", "five"]
    assert slot(first, "Retrieved texts") == numbered(texts) and slot(first, "Retrieved captions") == "[1] A boat"
    assert first.passages == ["A boat", *texts] and slot(first, "Question") == "Who sails {it}?"
    assert (first.messages[1].text, first.answers) == ("Ann sails it.", ["Ann sails it.", "Ann."])
    with Image.open(tmp_path / "a" / first.media[0].path) as picture:
        assert picture.getpixel((0, 0)) == (40, 0, 0)
    assert slot(last, "Retrieved texts") == slot(last, "Retrieved captions") == "null" and last.media == []
    assert len(build(tmp_path / "b", *options, "require_gold=false")) == 3


def test_documents_are_cut_and_labels_are_three(own: Path, tmp_path: Path) -> None:
    files = (f"fact_verify.queries={own}/claims.jsonl", f"fact_verify.texts={own}/texts.jsonl")
    found = build(tmp_path / "a", *files, f"fact_verify.pictures={own}/pictures.jsonl", "top_k=3")
    assert [one.messages[1].text for one in found.values()] == ["Insufficient", "Refute", "Support"]
    first = found["mm-rait/fact_verify/0"]
    assert slot(first, "Document") == " ".join(f"w{number}" for number in range(500))
    assert first.passages == ["It sails far."] and len(shown(first)) == 2 + 2  # what BM25 finds for "It sails."


def test_pictures_of_ones_own_are_searched_by_colours_and_captions(own: Path, tmp_path: Path) -> None:
    files = [
        f"{task}.{key}={own}/{name}"
        for task in ("image_cap", "image_rerank")
        for key, name in (("queries", "caps.jsonl"), ("pictures", "pictures.jsonl"))
    ]
    found = build(tmp_path / "a", *files, "top_k=2")
    captioned, ranked = found["mm-rait/image_cap/c0"], found["mm-rait/image_rerank/c0"]
    assert slot(captioned, "Retrieved captions") == "[1] Sails of 4 [2] Sails of 3"  # the reds that are nearest to 5's
    assert captioned.messages[1].text == "Sails of five"
    assert ranked.messages[1].text == "[1]" and len(shown(ranked)) == 2
    assert shown(ranked)[0] == shown(captioned)[0]


@pytest.mark.parametrize(
    ("line", "error", "cause"),
    [
        ({"id": "1"}, DataError, r"claims\.jsonl:4: 'category' must be a text"),
        (
            {"id": "1", "category": "Perhaps"},
            DataError,
            r"claims\.jsonl:4: category is 'Perhaps'; it is one of Support_T",
        ),
        ({"id": "1", "category": "Refute"}, DataError, r"claims\.jsonl:4: 'claim' must be a text"),
        ([1], DataError, r"claims\.jsonl:4 is a list; a line is an object"),
    ],
)
def test_broken_lines_are_told_with_their_place(
    line: Any, error: type[MminstructError], cause: str, own: Path, tmp_path: Path
) -> None:
    with (own / "claims.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    with pytest.raises(error, match=cause):
        build(tmp_path / "a", f"fact_verify.queries={own}/claims.jsonl", f"fact_verify.texts={own}/texts.jsonl")


def test_missing_lines_and_pictures(own: Path, tmp_path: Path) -> None:
    write(own / "few.jsonl", {"id": "train_0", "cands": []})
    with pytest.raises(DataError, match=r"few\.jsonl has no line of the id 'train_1'; search again"):
        build(tmp_path / "a", f"mmqa.queries={own}/mmqa.jsonl", f"mmqa.retrieved={own}/few.jsonl")
    write(own / "few.jsonl", {"id": "train_0", "cands": "x"})
    with pytest.raises(DataError, match=r"few\.jsonl:1: 'cands' must be a list"):
        build(tmp_path / "b", f"mmqa.queries={own}/mmqa.jsonl", f"mmqa.retrieved={own}/few.jsonl")
    (own / "pictures/2.png").unlink()
    options = [f"fact_verify.queries={own}/claims.jsonl", f"mmqa.queries={own}/mmqa.jsonl", "require_gold=false"]
    with pytest.raises(MediaError, match=r"claims\.jsonl:1 names the picture .*2\.png, which is not there"):
        build(tmp_path / "c", *options)
    manifest = run(load_builder("mm-rait", options), tmp_path / "d", BuildConfig(on_error="skip"))
    assert manifest.conversations == 3
