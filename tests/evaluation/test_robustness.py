"""The benchmark `robustness`: what is changed and what is not, in pictures, prompts and options."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mminstruct.conversation import ImagePart
from mminstruct.errors import DataError
from mminstruct.eval.robustness import INJECTED, LABELS, TEMPLATES, with_label, with_strip
from mminstruct.evaluation.benchmark import Benchmark, Item, load_benchmark
from mminstruct.evaluation.parsing.plain import plain
from mminstruct.evaluation.scorers import scorer
from mminstruct.media import open_image
from tests.building.test_charts import places


@pytest.fixture
def bench(worlds_cache: Path) -> Benchmark:
    return load_benchmark("robustness", [f"data_cache={worlds_cache}", "count=6", "kinds=[spatial, yes-no]"])


def prompt(benchmark: Benchmark, item: Item) -> str:
    (message,) = benchmark.request(item).conversation.messages
    assert isinstance(message.content[0], ImagePart) and len(benchmark.request(item).conversation.media) == 1
    return message.text


def pixels(path: Path) -> np.ndarray:
    return np.asarray(open_image(path).convert("RGB"), dtype=np.int16)


def groups(items: list[Item]) -> dict[str, dict[str, Item]]:
    found: dict[str, dict[str, Item]] = defaultdict(dict)
    for item in items:
        found[item.group][str(item.facts["form"])] = item
    return dict(found)


def test_each_question_is_asked_in_all_forms(bench: Benchmark) -> None:
    found = groups(bench.questions())
    assert len(found) == 12
    forms = ["clean", *INJECTED, *TEMPLATES, "blank", "shuffled", *LABELS]
    assert all(list(group) == forms for group in found.values())
    assert Counter(item.kind for item in bench.questions()) == {
        "clean": 12, "typographic": 60, "paraphrase": 48, "picture": 24, "options": 48
    }  # fmt: skip


def test_the_injected_answer_is_wrong_and_stands_in_the_picture(bench: Benchmark) -> None:
    for group in groups(bench.questions()).values():
        clean = group["clean"]
        wrong = clean.facts["injected"]
        assert plain(wrong) not in {plain(answer) for answer in clean.answers}
        before = pixels(clean.images[0])
        height, width, _ = before.shape
        for form in INJECTED:
            item = group[form]
            after = pixels(item.images[0])
            assert prompt(bench, item) == prompt(bench, clean) and item.answers == clean.answers
            assert item.facts.get("injected", "") == ("" if "neutral" in form else wrong)
            if form.startswith("strip"):
                assert (after[:height] == before).all() and after.shape[0] > height and after.shape[1] == width
            else:
                changed = (after != before).any(axis=2)
                assert after.shape == before.shape and 0 < changed.mean() < 0.25
            text = {"strip neutral": "recycled"}.get(form, wrong)
            size = max(11, min(40, width // 22))
            assert places(after, text.split()[-1], size, bold=True), (form, text)


def test_the_label_lies_where_it_covers_least() -> None:
    picture = Image.effect_noise((200, 160), 90).convert("RGB")
    picture.paste((255, 255, 255), (100, 80, 200, 160))
    changed = np.argwhere((np.asarray(with_label(picture, "no")) != np.asarray(picture)).any(axis=2))
    assert len(changed) and changed[:, 0].min() >= 80 and changed[:, 1].min() >= 100


@pytest.mark.parametrize("size", [(8, 8), (16, 300), (300, 16), (1200, 900)])
def test_any_size_takes_any_text(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (10, 120, 200))
    for text in ("no", "a very long answer " * 8, "Ж" * 30):
        strip, label = with_strip(picture, text), with_label(picture, text)
        assert strip.width == size[0] and strip.height > size[1] and label.size == size
        assert (np.asarray(strip)[: size[1]] == np.asarray(picture)).all()


def test_paraphrases_ask_the_same_question(bench: Benchmark) -> None:
    for group in groups(bench.questions()).values():
        asked = {prompt(bench, group[form]) for form in ("clean", *TEMPLATES)}
        assert len(asked) == 5 and all(group["clean"].question in text for text in asked)
        assert all(group[form].images == group["clean"].images for form in TEMPLATES)
    first = bench.questions()[0]
    assert prompt(bench, first) == f"\n{first.question}\nAnswer the question using a single word or phrase."


def test_blank_and_shuffled_pictures(bench: Benchmark) -> None:
    for group in groups(bench.questions()).values():
        grey = pixels(group["blank"].images[0])
        assert (grey == 128).all() and grey.shape == pixels(group["clean"].images[0]).shape
        assert group["shuffled"].images != group["clean"].images
        assert group["shuffled"].answers == group["clean"].answers


def test_options_are_the_same_in_other_order_and_with_other_labels(bench: Benchmark) -> None:
    for group in groups(bench.questions()).values():
        letters, turned, numbers, small = (group[form] for form in LABELS)
        assert letters.choices == numbers.choices == small.choices == turned.choices[::-1]
        assert letters.answers[0] in letters.choices and len(set(letters.choices)) == len(letters.choices) >= 2
        first, last = letters.choices[0], letters.choices[-1]
        assert f"\nA. {first}\n" in prompt(bench, letters) and f"\nA. {last}\n" in prompt(bench, turned)
        assert f"\n1. {first}\n" in prompt(bench, numbers) and f"\n(a) {first}\n" in prompt(bench, small)
        assert prompt(bench, numbers).endswith("\nAnswer with the option's number from the given choices directly.")


def test_figures_of_answerers_of_known_weaknesses(bench: Benchmark) -> None:
    """One who knows, one who reads what is written in the picture, one who always takes the first label."""
    items = bench.questions()

    def label(item: Item) -> str:
        return str(item.facts["labels"][item.choices.index(item.answers[0])])

    knows = [label(item) if item.choices else item.answers[0] for item in items]
    reads = [
        item.facts["injected"] if item.kind == "typographic" and "injected" in item.facts else text
        for item, text in zip(items, knows, strict=True)
    ]
    first = [item.facts["labels"][0] if item.choices else text for item, text in zip(items, knows, strict=True)]
    best, fooled, lazy = (scorer("robustness").score(items, texts).figures for texts in (knows, reads, first))
    assert best["score"] == best["clean"] == best["options consistency"] == best["paraphrase consistency"] == 1.0
    assert best["typographic drop"] == best["attack success"] == best["paraphrase spread"] == 0.0
    assert fooled["attack success"] == fooled["typographic drop"] == 1.0 and fooled["score"] == 0.0
    assert fooled["strip neutral drop"] == 0.0
    assert lazy["options consistency"] == 0.0 and lazy["options accuracy"] != 0.0


def test_any_file_of_vqa(tmp_path: Path, questions_file: Path) -> None:
    """Wrong answers are those of other questions of the same type; pictures stay where they are."""
    bench = load_benchmark("robustness", [f"file={questions_file}", f"data_cache={tmp_path / 'c'}", "questions=4"])
    found = groups(bench.questions())
    assert list(found) == ["0", "1", "2", "3"]
    assert [group["clean"].facts["injected"] for group in found.values()] == ["red", "blue", "red", "blue"]
    assert all(group["clean"].facts["votes"] for group in found.values())
    assert [len(group["clean"].answers) for group in found.values()] == [1, 10, 1, 10]
    assert found["1"]["letters"].answers == ("red",) and set(found["1"]["letters"].choices) == {"red", "blue"}
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.png")}
    again = load_benchmark("robustness", [f"file={questions_file}", f"data_cache={tmp_path / 'c'}", "questions=4"])
    assert again.questions() == bench.questions()
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.png")} and stamps


def test_a_question_alone_has_no_wrong_answer(tmp_path: Path, questions_file: Path) -> None:
    path = questions_file.with_name("one.jsonl")
    path.write_text(questions_file.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    items = load_benchmark("robustness", [f"file={path}", f"data_cache={tmp_path}"]).questions()
    assert [item.facts["form"] for item in items] == ["clean", *TEMPLATES, "blank"]


def test_sets_are_chosen_and_pictures_are_needed(tmp_path: Path) -> None:
    options = [f"data_cache={tmp_path}", "count=3"]
    items = load_benchmark("robustness", [*options, "kinds=[spatial]", "sets=[paraphrase]"]).questions()
    assert {item.kind for item in items} == {"clean", "paraphrase"} and "injected" not in items[0].facts
    with pytest.raises(DataError, match="no question is about one picture alone"):
        load_benchmark("robustness", [*options, "kinds=[in-context]"]).questions()
    assert json.loads(json.dumps(dict(items[0].facts))) == dict(items[0].facts)
