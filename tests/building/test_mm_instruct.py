"""MM-Instruct's three builders: expansion, clusters, matched and answered instructions; true texts, and every rule."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mminstruct import formats
from mminstruct.building import load_builder, run
from mminstruct.building.clients import OpenAICompatibleClient
from mminstruct.building.clusters import distances, first_centres, k_means
from mminstruct.building.words import content_words, numbers, similarity, support, text_vectors, words
from mminstruct.config import load_yaml
from mminstruct.conversation import Conversation, message
from mminstruct.data_builders import mm_instruct, mm_instruct_bank, mm_instruct_expand
from mminstruct.data_builders.worlds.compositions import FORMS
from mminstruct.data_builders.worlds.scenes import NUMBERS, Thing, scene
from mminstruct.errors import CheckpointError, ConfigError, DataError, ReplyError
from mminstruct.evidence.facts import facts_of
from mminstruct.formats.native import write
from tests.building.chat_server import serving

NAME = r"(\w+ (?:circle|square|triangle|diamond))"


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    out = tmp_path_factory.mktemp("mm-instruct") / "set"
    run(load_builder("mm-instruct", ["scenes=150"]), out)
    return list(formats.read(out))


def part(thing: Thing) -> str:
    left, top, right, bottom = thing.box
    rows = ["top", "", "bottom"][(3 * (top + bottom) > 672) + (3 * (top + bottom) > 1344)]
    columns = ["left", "", "right"][(3 * (left + right) > 672) + (3 * (left + right) > 1344)]
    return f"at the {rows} {columns}".replace("  ", " ").strip() if rows or columns else "in the middle"


# --- texts of templates -----------------------------------------------------------------------------------------------


def check(kind: str, told: str, things: dict[str, Thing]) -> None:
    """That a text of a kind is true, and whole, of what the scene's boxes say."""
    across = sorted(things, key=lambda name: things[name].box[0] + things[name].box[2])
    down = sorted(things, key=lambda name: things[name].box[1] + things[name].box[3])
    said = re.findall(NAME, told)
    for article, name in re.findall(rf"\b(an?) {NAME}", told, re.IGNORECASE):
        assert (article.lower() == "an") == (name[0] in "aeiou")
    place = r"((?:at the|in the) (?:top|bottom|left|right|middle)(?: left| right)?)"
    # Wherever a place follows a name, or a name a place, they belong together.
    for name, where in re.findall(rf"{NAME}(?:,| \|| is|,? which you see)? {place}", told):
        assert where == part(things[name]), told
    if kind in ("inventory", "table", "drawing", "tour", "postcard"):
        listed = [name for name, _ in re.findall(rf"{NAME}(?:,| \|| is|,? which you see)? {place}", told)]
        assert listed[: len(across)] == across
    if kind == "drawing":
        assert [int(number) for number in re.findall(r"^(\d+)\. ", told, re.MULTILINE)] == [*range(1, len(things) + 3)]
        assert said[-2:] == [across[0], across[-1]]
    elif kind == "riddle":
        left, count, top, name = re.findall(rf"number (\d+) of (\d+).*number (\d+)\..*\n.*the {NAME}", told)[0]
        assert (across.index(name) + 1, len(things), down.index(name) + 1) == (int(left), int(count), int(top))
        assert re.findall(rf"I am {place}", told) == [part(things[name])]
    elif kind == "introduction":
        (name,) = re.findall(rf"I am the {NAME}", told)
        at = across.index(name)
        assert re.findall(rf"(?:place is|live|find me) {place}", told) == [part(things[name])]
        assert re.findall(rf"On my left I have the {NAME}", told) == across[max(0, at - 1) : at]
        assert re.findall(rf"On my right there is the {NAME}", told) == across[at + 1 : at + 2]
        assert ("further to the left" in told) == (at == 0)
    elif kind == "quiz":
        answers = {
            "How many objects are there?": NUMBERS[len(things)].capitalize(),
            "Which object is furthest to the left?": f"The {across[0]}",
            "Which object is furthest to the right?": f"The {across[-1]}",
            "Which object is the highest?": f"The {down[0]}",
            "Which object is the lowest?": f"The {down[-1]}",
        } | {f"Where is the {name}?": part(thing).capitalize() for name, thing in things.items()}
        lines = [re.fullmatch(r"\d\. (.+\?) (.+)\.", line) for line in told.split("\n")]
        assert len(lines) == 3 and all(line is not None and answers[line[1]] == line[2] for line in lines)
    elif kind == "dialogue":
        lines_ = [line.split(": ", 1) for line in told.split("\n")]
        assert [who for who, _ in lines_] == [lines_[0][0], lines_[1][0]] * 3 and lines_[0][0] != lines_[1][0]
        assert lines_[1][1].startswith(f"{NUMBERS[len(things)].capitalize()}. The one furthest to the left")
        assert said[0] == across[0] and said[2:] == [down[0], down[-1]]
        assert lines_[3][1] == f"It is {part(things[said[1]])}."
    elif kind == "poem":
        *verses, last = told.split("\n")
        assert [re.findall(NAME, verse)[0] for verse in verses] == down and last.startswith("and")
        assert all(verse.lower().startswith(part(things[name])) for verse, name in zip(verses, down, strict=True))
    elif kind == "directions":
        assert said == across[: len(said)] and len(said) >= 2
        assert told.endswith(f"the next one is the {said[-1]}, {part(things[said[-1]])}.")
    elif kind == "postcard":
        assert f"has {NUMBERS[len(things)]} objects" in told and told.split("\n")[-1].startswith("Yours,")
    elif kind == "title":
        title, below = told.split("\n")
        assert re.findall(NAME, below) == across and below.endswith("from left to right.")
        named = [name.lower() for name in re.findall(r"the (\w+ \w+)", title, re.IGNORECASE)]
        assert set(named) <= set(things) or title == f"{NUMBERS[len(things)].capitalize()} Objects"


@pytest.mark.parametrize("kind", FORMS)
def test_every_text_of_a_template_is_true(kind: str) -> None:
    texts = set()
    for number in range(150):
        drawn = scene(0, number)
        things = {thing.name: thing for thing in drawn.things}
        told = FORMS[kind](drawn.boxes(), random.Random(number))
        check(kind, told, things)
        texts.add(told)
    assert len(texts) >= 145


def test_every_answer_is_true_and_of_the_kind_that_is_asked_for(answered: list[Conversation]) -> None:
    assert {check_answer(one, int(one.id.split("/")[3])) for one in answered} == set(FORMS)
    by_picture = Counter(one.id.rsplit("/", 1)[0] for one in answered)
    assert set(by_picture.values()) == {2} and len(by_picture) == 150


def check_answer(one: Conversation, number: int) -> str:
    """That a record about a scene answers truly, and has its boxes; the kind of it."""
    drawn = scene(0, number)
    instruction = one.messages[0].text.strip()
    (kind,) = [kind for kind, words_ in SIGNS.items() if re.search(words_, instruction)]
    check(kind, one.messages[1].text, {thing.name: thing for thing in drawn.things})
    facts = facts_of(one)
    assert facts is not None and [(each.category, each.bbox) for each in facts.instances] == drawn.boxes()
    return kind


def test_pictures_of_another_builder_whose_things_are_known(tmp_path: Path) -> None:
    """Captions of scenes carry their boxes, so templates can do what is asked about them; not where two look alike."""
    run(load_builder("captioning", ["items=40", "kinds=[detailed]"]), tmp_path / "captions")
    captions = list(formats.read(tmp_path / "captions"))
    run(load_builder("mm-instruct", [f"descriptions={tmp_path / 'captions'}"]), tmp_path / "set")
    found = list(formats.read(tmp_path / "set"))
    assert len(found) == 80
    for one in found:
        number = int(one.id.split("/")[2])
        check_answer(one, number)
        assert one.extra is not None and one.extra["description"] == captions[number].messages[1].text
    run(load_builder("mm-instruct-expand", [f"descriptions={tmp_path / 'captions'}"]), tmp_path / "expanded")
    for one, caption in zip(formats.read(tmp_path / "expanded"), captions, strict=True):
        assert one.extra is not None and caption.extra is not None and one.extra["facts"] == caption.extra["facts"]
    twins = [{"category": "cat", "bbox": [0, 0, 0.5, 0.5]}, {"category": "cat", "bbox": [0.5, 0.5, 1, 1]}]
    for name, instances in {"twins": twins, "broken": [{"category": "cat", "bbox": [0, 0, 2, 1]}]}.items():
        changed = captions[0].model_copy(update={"extra": {"facts": {"instances": instances}}})
        write([changed], tmp_path / name)
    media = f"media_root={tmp_path / 'captions'}"
    with pytest.raises(DataError, match="no things of the picture are known"):
        run(load_builder("mm-instruct", [f"descriptions={tmp_path / 'twins'}", media]), tmp_path / "a")
    with pytest.raises(DataError, match=r"extra\.facts.*places are shares of the picture"):
        run(load_builder("mm-instruct", [f"descriptions={tmp_path / 'broken'}", media]), tmp_path / "b")


SIGNS = {
    "inventory": "inventory|list of all",
    "drawing": "drawing",
    "riddle": "riddle",
    "introduction": "would say of itself|introduce itself",
    "table": "table",
    "quiz": "quiz|set of questions",
    "dialogue": "dialogue|conversation",
    "poem": "poem",
    "tour": "tour|museum guide",
    "directions": "directions|the way to",
    "postcard": "postcard|letter",
    "title": "title",
}


# --- the bank ---------------------------------------------------------------------------------------------------------


def test_the_default_bank_is_what_the_templates_build(tmp_path: Path) -> None:
    run(load_builder("mm-instruct-bank"), tmp_path / "bank")
    records = list(formats.read(tmp_path / "bank"))
    built = [record.extra["instruction"] for record in records if record.extra]
    assert load_yaml(mm_instruct.BANK)["instructions"] == built
    assert not any(re.search(NAME, instruction) for instruction in built)  # general ones name nothing of a picture
    for record in records:  # clusters are of one kind, nearly all of them
        (signs,) = [signs for signs in SIGNS.values() if re.search(signs, record.messages[1].text)]
        members = record.messages[0].text.split("\n")[1:]
        assert sum(bool(re.search(signs, member)) for member in members) >= 0.9 * len(members)
    assert {kind for kind in SIGNS if any(re.search(SIGNS[kind], one) for one in built)} == set(SIGNS)


def test_three_steps_build_on_each_other(tmp_path: Path) -> None:
    run(load_builder("mm-instruct-expand", ["scenes=60"]), tmp_path / "expanded")
    run(load_builder("mm-instruct-bank", [f"expanded={tmp_path / 'expanded'}", "clusters=12"]), tmp_path / "bank")
    run(load_builder("mm-instruct", [f"bank={tmp_path / 'bank'}", "scenes=5"]), tmp_path / "set")
    expanded = {one.id: one for one in formats.read(tmp_path / "expanded")}
    for one in expanded.values():
        assert one.extra is not None and len(one.extra["instructions"]) == 4
        listed = [line.partition(". ")[2] for line in one.messages[1].text.split("\n")]
        assert listed == one.extra["instructions"]
    bank = list(formats.read(tmp_path / "bank"))
    assert sum(one.extra["members"] for one in bank if one.extra) <= 240
    assert all(one.provenance and set(one.provenance.parents) <= set(expanded) for one in bank)
    general = {one.messages[1].text for one in bank}
    assert {one.messages[0].text.strip() for one in formats.read(tmp_path / "set")} <= general


def test_seeds_of_ones_own(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.yaml"
    seeds.write_text(
        "instructions: [Ask me a riddle about a thing here., Send my friend a letter that tells of the picture.]\n"
    )
    run(load_builder("mm-instruct-expand", [f"seeds={seeds}", "scenes=20", "each=2"]), tmp_path / "set")
    for one in formats.read(tmp_path / "set"):
        assert one.extra is not None and len(one.extra["seeds"]) == 2
        kinds = {kind for kind in SIGNS for text in one.extra["instructions"] if re.search(SIGNS[kind], text)}
        assert kinds == {"riddle", "postcard"}


def test_rules_of_expansion() -> None:
    seed = "Write a quiz of three questions about the picture, with the answers."
    rules = {
        "Go on.": "an instruction is too short",
        " ".join(["word"] * 61): "an instruction is too long",
        "Shorten the description to one line of verse.": "an instruction speaks of the description",
        seed.upper(): "an instruction copies a seed",
        "Turn what you see into a recipe.": None,
    }
    assert {text: mm_instruct_expand.unfit(text, [seed]) for text in rules} == rules


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("Write a poem.", "there is no <I1>"),
        ("<I1>Write a poem.</I1><I2>Draw", "there are 1 tasks; write 2"),
        ("<I1>Write a poem.</I1><I2>write a poem.</I2>", "stands twice"),
        ("<I1>Write a poem.</I1><I3>Draw a cat.</I3>", "<I2> is missing"),
    ],
)
def test_replies_of_another_form_are_refused(reply: str, problem: str) -> None:
    facts = mm_instruct_expand.Expanding("A cat.", (), ["Write."], 2)
    with pytest.raises(ReplyError, match=problem):
        mm_instruct_expand.EXPAND.parse(reply, facts)


def test_summaries_are_one_instruction() -> None:
    facts = mm_instruct_bank.Cluster("1", ["Tell what the red cat does."], ["red cat"], [])
    prompt = mm_instruct_bank.SUMMARISE
    assert prompt.parse('"Tell a story of it."', facts) == "Tell a story of it."
    assert prompt.template(facts, random.Random(0)) == "Tell what one of the objects does."
    for reply, problem in (
        ("Tell a story.\nOr a joke.", "more than one line"),
        ("Tell.", "has 1 words; write 4 to 60"),
    ):
        with pytest.raises(ReplyError, match=problem):
            prompt.parse(reply, facts)


# --- clusters and words -----------------------------------------------------------------------------------------------


def slow_k_means(vectors: list[list[int]], centres: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Lloyd's steps in plain Python from given centres."""
    labels: list[int] = []
    while True:
        away = [[sum((a - b) ** 2 for a, b in zip(row, one, strict=True)) for one in centres] for row in vectors]
        nearest = [row.index(min(row)) for row in away]
        if nearest == labels:
            return labels, centres
        labels = nearest
        for cluster in range(len(centres)):
            members = [row for row, label in zip(vectors, labels, strict=True) if label == cluster]
            if members:
                centres[cluster] = [round(sum(column) / len(members)) for column in zip(*members, strict=True)]


def test_k_means_is_lloyds() -> None:
    chance = random.Random(1)
    for seed in range(20):
        vectors = [[chance.randint(-30, 30) for _ in range(3)] for _ in range(40)]
        array = np.array(vectors, np.float32)
        first = [[int(value) for value in row] for row in first_centres(array, 5, seed)]
        assert all(row in vectors for row in first) and len({tuple(row) for row in first}) == 5
        labels, centres = k_means(array, 5, seed)
        assert (labels.tolist(), centres.astype(int).tolist()) == slow_k_means(vectors, first)
        assert (distances(array, centres).argmin(axis=1) == labels).all()


def test_k_means_finds_what_is_apart() -> None:
    """Three groups far from each other: k-means++ takes one centre of each, whatever the seed."""
    vectors = np.array([[base + step, step] for base in (0, 1000, 2000) for step in range(5)], np.float32)
    for seed in range(50):
        labels, _ = k_means(vectors, 3, seed)
        assert [len(set(labels[start : start + 5])) for start in (0, 5, 10)] == [1, 1, 1] and len(set(labels)) == 3
    labels, centres = k_means(np.array([[1, 1]] * 4 + [[2, 2]], np.float32), 4)
    assert len(centres) == 2 and len(set(labels[:4])) == 1 and labels[0] != labels[4]
    with pytest.raises(ValueError, match="0 vectors"):
        k_means(np.zeros((0, 2), np.float32), 2)


def test_words_and_their_vectors() -> None:
    assert words("Two dogs' leashes, 1,200 m long: the one isn't red.") == [
        *("2", "dogs", "leashes", "1200", "m", "long", "the", "one", "isn't", "red")
    ]
    assert numbers("Three of 4.5 and one") == {"3", "4.5"}
    assert content_words("The widest plant was planted wider.") == content_words("wide plants")
    assert support("a red bag", content_words("Her bag is red.")) == 1.0
    assert support("a red zebra", content_words("Her bag is red.")) == 0.5
    assert support("it is", content_words("")) == 1.0
    vectors = text_vectors(["Write a poem.", "Write poems!", "Count the boats", "!"])
    assert (vectors == np.rint(vectors)).all() and not vectors[3].any()
    alike = similarity(vectors, vectors)
    assert alike[0, 0] == pytest.approx(1) and alike[0, 1] > 0.3 > alike[0, 2] and alike[0, 3] == 0


# --- matching, answers, rules -----------------------------------------------------------------------------------------


def test_instructions_are_drawn_by_similarity_and_no_two_alike() -> None:
    alike = np.eye(4)
    fits = [0.1, 0.4, 0.2, 0.3]
    assert mm_instruct.drawn(fits, alike, 3, 0, random.Random(0)) == [1, 3, 2]
    alike[1, 3] = alike[3, 1] = 0.5
    assert mm_instruct.drawn(fits, alike, 3, 0, random.Random(0)) == [1, 2, 0]
    chance = random.Random(0)
    first = Counter(mm_instruct.drawn(fits, np.eye(4), 1, 0.1, chance)[0] for _ in range(4000))
    weights = np.exp(np.array(fits) / 0.1)
    expected = 4000 * weights / weights.sum()
    assert sum((first[row] - expected[row]) ** 2 / expected[row] for row in range(4)) < 16.27  # 0.1 % at 3 degrees


def test_rules_of_answers() -> None:
    instruction = "Write a note that someone left here."
    rules = {
        "I'm sorry, but I cannot see the cat.": "the answer refuses",
        "The description has a cat in it.": "the answer speaks of the description",
        "Write a note, that someone left here: the cat sleeps.": "the answer repeats the instruction",
        "The cat sleeps here now. " * 3: "the answer repeats itself",
        "Nobody knows volcanoes like a dinosaur.": "the answer has too little of the description",
        "Do not wake the cat.": None,
    }
    evidence = content_words("A cat sleeps. Do not wake it.")
    found = {answer: mm_instruct.broken_rule(instruction, answer, support(answer, evidence), 0.2) for answer in rules}
    assert found == rules


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A data set of LLaVA's form with two pictures and their descriptions."""
    rows = []
    for number, told in enumerate(["A cat sleeps on a red sofa.", "Three boats lie in a harbor."]):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": told}]
        rows.append({"id": f"p{number}", "image": f"{number}.png", "conversations": turns})
    path = tmp_path / "told.json"
    path.write_text(json.dumps(rows))
    return path


def test_a_model_answers_with_pairs_in_context_and_is_asked_again(
    described: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    bank = tmp_path / "bank.yaml"
    bank.write_text("instructions: [Count the boats in the harbor., Say where the cat sleeps.]\n")

    def writes(body: dict[str, Any]) -> str:
        if body["messages"][-1]["role"] == "user" and body["messages"][-1]["content"].startswith("Your reply"):
            return "I cannot see any boats or cats here."
        told = body["messages"][-1]["content"]
        return "Short." if "boats lie" in told else "The cat sleeps on the sofa, which is red."

    with serving(writes) as server:
        client = OpenAICompatibleClient("m", [server.url])
        overrides = [f"descriptions={described}", f"bank={bank}", "each=1", "temperature=0"]
        run(load_builder("mm-instruct", overrides), tmp_path / "set", client=client)
        client.close()
    assert [len(request["messages"]) for request in server.requests] == [6, 6, 8]
    assert "fewer than 5 words" in server.requests[2]["messages"][-1]["content"]
    questions = [request["messages"][5]["content"] for request in server.requests[:2]]
    assert "Task: Say where the cat sleeps." in questions[0] and "Task: Count the boats" in questions[1]
    shots = {shot.answer for shot in mm_instruct_expand.prompt_file().answer.shots}
    assert {server.requests[0]["messages"][place]["content"] for place in (2, 4)} <= shots
    (one,) = formats.read(tmp_path / "set")
    assert one.id == "mm-instruct/told/0/0" and one.scores is not None and one.scores["match"] > 0.1
    build = json.loads((tmp_path / "set/manifest.json").read_text())["builder"]
    assert build["dropped"] == {"the answer refuses": 1}


def test_templates_answer_only_of_things_that_they_know(described: Path, tmp_path: Path) -> None:
    run(load_builder("mm-instruct-expand", [f"descriptions={described}"]), tmp_path / "expanded")
    first, second = formats.read(tmp_path / "expanded")
    assert first.extra and second.extra and first.extra["instructions"] != second.extra["instructions"]
    with pytest.raises(DataError, match="no things of the picture are known, so no template can do"):
        run(load_builder("mm-instruct", [f"descriptions={described}"]), tmp_path / "set")


def test_a_clip_model_of_a_folder_matches(tmp_path: Path) -> None:
    """A tiny one of random weights; the folder is what open_clip itself reads."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    folder = tmp_path / "clip"
    folder.mkdir()
    model = open_clip.model.CLIP(**config)
    save_file(
        {name: value.clone() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    means = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": means}))
    options = mm_instruct.MMInstructAnswers.Options(scenes=4, clip=folder, temperature=0, each=1)
    run(mm_instruct.MMInstructAnswers(options), tmp_path / "set")
    bank = mm_instruct.load_bank(mm_instruct.BANK)
    tokens = open_clip.get_tokenizer("ViT-B-32")(bank)
    model.eval()
    for number, one in enumerate(formats.read(tmp_path / "set")):
        picture = scene(0, number).draw().convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        pixels = torch.tensor(np.asarray(picture)).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.inference_mode():
            cosines = torch.cosine_similarity(model.encode_image(pixels), model.encode_text(tokens))
        assert one.messages[0].text.strip() == bank[int(cosines.argmax())]
        assert one.scores is not None and one.scores["match"] == pytest.approx(float(cosines.max()), abs=2e-3)
    with pytest.raises(CheckpointError, match=r"has no open_clip_config\.json"):
        options = mm_instruct.MMInstructAnswers.Options(scenes=4, clip=tmp_path / "set")
        run(mm_instruct.MMInstructAnswers(options), tmp_path / "b")


def test_banks_and_sources_that_do_not_fit(described: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank.yaml"
    bank.write_text("instructions: [Write a poem., Write a  poem!, Count the boats.]\n")
    assert mm_instruct.load_bank(bank) == ["Write a poem.", "Count the boats."]
    with pytest.raises(DataError, match="the bank has 2 instructions, fewer than each=3"):
        run(load_builder("mm-instruct", [f"bank={bank}", "each=3"]), tmp_path / "e")
    bank.write_text("instruction: [Write a poem.]\n")
    with pytest.raises(ConfigError, match=r"bank\.yaml: unknown key 'instruction'\. Did you mean 'instructions'"):
        run(load_builder("mm-instruct", [f"bank={bank}"]), tmp_path / "a")
    with pytest.raises(DataError, match="'p0' has no instruction in extra; give a data set of mm-instruct-bank"):
        run(load_builder("mm-instruct", [f"bank={described}"]), tmp_path / "b")
    with pytest.raises(DataError, match="'p0' has no instructions in extra; give a data set of mm-instruct-expand"):
        run(load_builder("mm-instruct-bank", [f"expanded={described}"]), tmp_path / "c")
    record = Conversation(
        id="x", messages=[message("user", "Hi."), message("assistant", "Hello.")], media=[], extra=None
    )
    formats.write([record], tmp_path / "texts", "native")
    with pytest.raises(DataError, match="'x' has 0 media and a description; give records of one picture"):
        run(load_builder("mm-instruct", [f"descriptions={tmp_path / 'texts'}"]), tmp_path / "d")
