"""Few-shot VQA: which demonstrations are shown, in which order, and that answers end where OpenFlamingo cuts them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mminstruct.chat_template import TemplateConfig, get
from mminstruct.chat_template.template import around_images
from mminstruct.conversation import Conversation
from mminstruct.errors import ConfigError, DataError, MediaError
from mminstruct.evaluation.benchmark import load_benchmark
from mminstruct.evaluation.demonstrations import Nearest, OfPictures, at_random, of_questions
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.results import run_benchmark
from mminstruct.models import encoders

from .answering import Table, shown
from .official_files import few_shot, picture
from .official_files.few_shot import QUESTION

RANDOM = "demonstrations=random"


def asked(options: Sequence[str], number: int = 0) -> Conversation:
    benchmark = load_benchmark("few-shot-vqa", options)
    return benchmark.conversation(benchmark.questions()[number])


def demonstrations(options: Sequence[str]) -> dict[str, list[str]]:
    items = load_benchmark("few-shot-vqa", options).questions()
    return {item.id: item.facts["demonstrations"] for item in items}


def test_random_ones_belong_to_the_question_and_the_seed(tmp_path: Path) -> None:
    options = [*few_shot.write(tmp_path), RANDOM]
    found = demonstrations([*options, "protocol=open-flamingo-8"])
    assert found == demonstrations([*options, "protocol=open-flamingo-8"])
    assert all(len(set(ids)) == 8 for ids in found.values())
    assert found["1000"] != found["1001"]  # drawn for each question anew
    assert found != demonstrations([*options, "protocol=open-flamingo-8", "seeds=[7]"])
    first = load_benchmark("few-shot-vqa", [*options, "protocol=open-flamingo-8"]).questions(limit=1)
    assert [item.facts["demonstrations"] for item in first] == [found["1000"]]


def test_random_ones_come_out_of_the_query_set(tmp_path: Path) -> None:
    options = [*few_shot.write(tmp_path), RANDOM, "query_set=5", "protocol=open-flamingo-4"]
    shown_ids = {
        name for seed in range(20) for ids in demonstrations([*options, f"seeds=[{seed}]"]).values() for name in ids
    }
    of_one_seed = {name for ids in demonstrations([*options, "seeds=[3]"]).values() for name in ids}
    assert len(of_one_seed) <= 5 < len(shown_ids)


@pytest.mark.parametrize("way", ["random", "rices", "instruction"])
def test_the_questions_own_image_is_never_shown(tmp_path: Path, way: str) -> None:
    """Its training question is the very question that is asked, so each way but the first would take it at once."""
    options = [*few_shot.write(tmp_path), f"demonstrations={way}", "protocol=open-flamingo-32"]
    last = str(1000 + len(few_shot.ALIKE) + few_shot.OTHERS)
    found = demonstrations(options)
    assert len(found["1000"]) == 32 and last not in found["1000"]
    assert "never shown" not in shown(asked(options))


def test_rices_takes_the_pictures_whose_colours_are_nearest(tmp_path: Path) -> None:
    """Against distances of plain colours, computed here: dark red is asked about."""
    options = [*few_shot.write(tmp_path), "demonstrations=rices", "protocol=open-flamingo-4"]
    colours = {number: (0, 40 * (number % 6), 200) for number in range(1, 5 + few_shot.OTHERS)}
    near = {9: (180, 0, 0), 3: (200, 30, 30), 20: (150, 10, 0), 11: (220, 20, 10)}
    for number, colour in (colours | near).items():
        few_shot.paint(tmp_path, "train2014", number, colour, (20 + number, 30))
    few_shot.paint(tmp_path, "val2014", few_shot.OWN_IMAGE, (180, 0, 0), (64, 48))
    found = [int(name) - 999 for name in demonstrations(options)["1000"]]  # question 1000 is on image 1
    assert set(found) == set(near) and found[-1] == 9, "the nearest stands last"
    nearest_first = [*options, "order=nearest-first"]
    assert demonstrations(nearest_first)["1000"] == demonstrations(options)["1000"][::-1]
    shuffled = demonstrations([*options, "order=shuffled"])["1000"]
    assert sorted(shuffled) == sorted(demonstrations(options)["1000"])


def test_features_are_kept_and_found_again(tmp_path: Path) -> None:
    options = [*few_shot.write(tmp_path), "demonstrations=rices"]
    before = demonstrations(options)
    (kept,) = (tmp_path / "train2014_questions.json.features").glob("*.npy")
    rows = np.load(kept)
    assert rows.shape == (len(few_shot.ALIKE) + few_shot.OTHERS + 1, 112)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    np.save(kept, rows[::-1])  # what is kept is what is used
    assert demonstrations(options) != before
    few_shot.paint(tmp_path, "train2014", 1, (1, 2, 3), (50, 50))  # another file: other features, under another name
    demonstrations(options)
    assert len(list(kept.parent.glob("*.npy"))) == 2


TINY_ENCODER = """
vision_encoder:
  source: timm
  name: vit_tiny_patch16_224
  weights: {weights}
  architecture: {{depth: 1, embed_dim: 16, num_heads: 2, img_size: 32, patch_size: 16}}
  image: {{size: 32}}
source: {{name: mine, url: "https://example.org", licences: [MIT], paper: "https://example.org"}}
tiny: {{architecture: {{}}, image_size: 32}}
"""


def test_a_vision_encoder_looks_at_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_ENCODER.format(weights="false"), encoding="utf-8")
    with pytest.raises(ConfigError, match="no single one with weights"):
        OfPictures(str(path))
    path.write_text(TINY_ENCODER.format(weights="true"), encoding="utf-8")
    build = encoders.build

    def without_fetching(config: object, pretrained: bool = False) -> torch.nn.Module:
        assert pretrained
        torch.manual_seed(0)
        return build(config)  # type: ignore[arg-type]

    monkeypatch.setattr(encoders, "build", without_fetching)
    images = [picture(tmp_path / f"{number}.png") for number in range(20)]
    features = OfPictures(str(path))([Item(str(number), (image,)) for number, image in enumerate(images)])
    assert features.shape == (20, 16) and np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    one_by_one = np.concatenate([OfPictures(str(path))([Item("1", (image,))]) for image in images[:3]])
    assert one_by_one == pytest.approx(features[:3], abs=1e-5)


def test_a_chat_template_makes_open_flamingos_prompt(tmp_path: Path) -> None:
    """The whole text as `get_vqa_prompt` of eval/models/open_flamingo.py and evaluate.py join it."""
    template = get(TemplateConfig(name="open_flamingo"), None)
    conversation = asked([*few_shot.write(tmp_path), "protocol=open-flamingo-4", "order=nearest-first"])
    pieces = around_images(template.render(conversation.messages, True), template.image_format)
    text = "".join("<image>" if piece.image is not None else piece.text for piece in pieces)
    assert text == (
        "<image>Question:What color is the big cat? Short answer:black<|endofchunk|>\n"
        "<image>Question:What color is the big dog? Short answer:brown<|endofchunk|>\n"
        "<image>Question:What color is the tree? Short answer:green<|endofchunk|>\n"
        "<image>Question:Color? Short answer:blue<|endofchunk|>\n"
        "<image>Question:What color is the big cat? Short answer:"
    )
    names = [Path(medium.path).name for medium in conversation.media]
    assert names == [f"COCO_train2014_{number:012}.jpg" for number in (1, 2, 3, 4)] + ["COCO_val2014_000000000900.jpg"]


def test_intro_answers_and_texts_without_images(tmp_path: Path) -> None:
    options = few_shot.write(tmp_path)
    intro = [*options, "protocol=turns-4", 'intro="Look at these.\\n"']
    assert shown(asked(intro)).startswith("Look at these.\n<image>\nColor?\nAnswer")
    assert shown(asked([*options, "zero_shot=0", "protocol=open-flamingo-0"])) == (
        f"<image>Question:{QUESTION} Short answer:"
    )
    assert shown(asked([*options, "zero_shot=1", "protocol=turns-0"])) == (
        f"{QUESTION}\nAnswer the question using a single word or phrase.|black|"
        f"<image>\n{QUESTION}\nAnswer the question using a single word or phrase."
    )
    path = tmp_path / "train2014_annotations.json"
    # The first annotator of all says something else than the others.
    path.write_text(re.sub(r'"answers": \[\{"answer": "[^"]*"', '"answers": [{"answer": "odd"', path.read_text()))
    assert shown(asked([*options, "protocol=turns-4"])).split("|")[1::2] == ["odd"] * 4
    usual = [*options, "protocol=turns-4", "answer=most-common"]
    assert shown(asked(usual)).split("|")[1::2] == ["blue", "green", "brown", "black"]


def test_seeds_are_trials_of_the_same_questions(tmp_path: Path) -> None:
    options = [*few_shot.write(tmp_path), RANDOM, "seeds=[1,2]"]
    benchmark = load_benchmark("few-shot-vqa", options)
    items = benchmark.questions()
    assert [item.id for item in items] == ["1000/seed 1", "1000/seed 2", "1001/seed 1", "1001/seed 2"]
    assert items[0].facts["demonstrations"] == demonstrations([*options[:-1], "seeds=[1]"])["1000"]
    texts = {"1000/seed 1": "white", "1001/seed 1": "it is late", "1000/seed 2": "white"}
    numbers = run_benchmark(Table(texts), benchmark, blank=False).numbers()
    assert numbers["score"] == 0.75
    assert {name: row["accuracy"] for name, row in numbers["by_type"].items()} == {"seed 1": 1.0, "seed 2": 0.5}


def test_stop_texts_leave_what_open_flamingo_leaves(tmp_path: Path) -> None:
    stops = load_benchmark("few-shot-vqa", few_shot.write(tmp_path)).protocol.stop
    for text in (
        "red, Question:what",
        "a Shorts, b",
        "yes,no",
        "Answer",
        "two Answers, three",
        "plain",
        "x, y Question",
    ):
        theirs = re.split("Question|Answer|Short", text, maxsplit=1)[0]
        theirs = re.split(", ", theirs, maxsplit=1)[0]
        places = [text.find(stop) for stop in stops if stop in text]
        assert text[: min(places, default=len(text))] == theirs


def test_refusals(tmp_path: Path) -> None:
    options = few_shot.write(tmp_path)
    with pytest.raises(DataError, match="4 examples are to be shown and 3 are about other images"):
        load_benchmark("few-shot-vqa", [*options, RANDOM, "query_set=3"]).questions()
    with pytest.raises(ConfigError, match=r"it has no place \{image_id\}"):
        load_benchmark("few-shot-vqa", [*options, "image_name=a.jpg"])
    with pytest.raises(ConfigError, match=r"it can hold the places \{split\} and \{image_id\} only"):
        load_benchmark("few-shot-vqa", [*options, 'image_name="{name}.jpg"'])
    with pytest.raises(ConfigError, match="a seed stands twice"):
        load_benchmark("few-shot-vqa", [*options, "seeds=[1,1]"])
    with pytest.raises(ConfigError, match="no vision encoder is called 'clip'"):
        load_benchmark("few-shot-vqa", [*options, "demonstrations=rices", "encoder=clip"]).questions()
    (tmp_path / "train2014" / "COCO_train2014_000000000007.jpg").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"COCO_train2014_000000000007\.jpg is not a JPEG"):
        load_benchmark("few-shot-vqa", [*options, "demonstrations=rices", "cache=" + str(tmp_path / "c")]).questions()
    assert not list((tmp_path / "c").glob("*"))  # nothing half done is kept


def test_choices_by_hand() -> None:
    pool = [Item(str(n), question=text, cluster=str(n)) for n, text in enumerate(("a b c", "x y", "a b", "a"))]
    item = Item("q", question="a b c", cluster="0")
    assert [one.id for one in Nearest(pool, of_questions).choose(item, 2)] == ["2", "3"]  # "0" is on its own image
    with pytest.raises(DataError, match="4 examples are to be shown and 3 are"):
        Nearest(pool, of_questions).choose(item, 4)
    assert sorted(one.id for one in at_random(pool, item, 3, seed=0)) == ["1", "2", "3"]


def test_two_questions_on_other_images_draw_differently() -> None:
    pool = [Item(str(number), cluster=str(number)) for number in range(50)]
    one, other = (at_random(pool, Item(name, cluster="elsewhere"), 10, seed=0) for name in ("a", "b"))
    assert {item.id for item in one} != {item.id for item in other}
