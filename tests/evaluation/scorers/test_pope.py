"""POPE: what each script takes for a yes, its figures, and how its files go together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.yes_no import first_sentence, only_one, whole
from mminstruct.evaluation.scorers import Item, metric

from .files import score, score_text, write_json, write_lines


@pytest.mark.parametrize(
    ("text", "official", "lmms_eval", "vlmevalkit"),
    [
        ("yes", "yes", "yes", "yes"),
        ("No", "no", "no", "no"),
        ("no", "no", "no", "no"),
        ("NO", "yes", "no", "no"),
        ("No.", "no", None, "no"),
        ("No!", "yes", None, "no"),
        ("No\n", "yes", "no", "no"),
        (" no ", "no", "no", "no"),
        ("", "yes", None, None),
        ("maybe", "yes", None, None),
        ("There isn't", "yes", None, None),
        ("There is not a dog. Yes", "no", None, "yes"),
        ("Yes, there is no doubt", "no", None, None),
        ("Yes. There is no dog", "yes", None, None),
        ("No, there is not", "no", None, "no"),
        ("Not at all", "yes", None, None),
        ("nothing", "yes", None, None),
        ("'no'", "yes", None, None),
        ("no-one", "yes", None, "no"),
        ("it is;no", "yes", None, "no"),
        (".no", "yes", None, "no"),
    ],
)
def test_what_is_a_yes(text: str, official: str, lmms_eval: str | None, vlmevalkit: str | None) -> None:
    assert (first_sentence(text), whole(text), only_one(text)) == (official, lmms_eval, vlmevalkit)


def slow_figures(labels: list[str], answers: list[str]) -> tuple[float, ...] | None:
    """evaluate.py of the data set, step by step: f1, accuracy, precision, recall, yes ratio; None where it stops."""
    found = []
    for text in answers:
        if text.find(".") != -1:
            text = text[: text.find(".")]
        words = [word for word in "".join(c for c in text if c != ",").split(" ")]
        found.append(0 if any(word in ("No", "not", "no") for word in words) else 1)
    truth = [0 if label == "no" else 1 for label in labels]
    pairs = list(zip(found, truth, strict=True))
    tp, fp, tn, fn = pairs.count((1, 1)), pairs.count((1, 0)), pairs.count((0, 0)), pairs.count((0, 1))
    if tp + fp == 0 or tp + fn == 0 or tp == 0:
        return None
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    f1 = 2 * precision * recall / (precision + recall)
    return f1, (tp + tn) / len(pairs), precision, recall, found.count(1) / len(found)


def test_official_equals_the_slow_one() -> None:
    draw, variant = random.Random(0), metric("pope").variant("official")
    pieces = ["Yes", "No", "no", "not", " ", ",", ".", "\n", "é", "NO", "nothing", "there is"]
    for _ in range(1000):
        size = draw.randrange(1, 12)
        labels = [draw.choice(["yes", "no"]) for _ in range(size)]
        answers = ["".join(draw.choice(pieces) for _ in range(draw.randrange(0, 5))) for _ in range(size)]
        items = [Item(id=str(number), answers=(label,)) for number, label in enumerate(labels)]
        figures = variant.score(items, answers).figures
        expected = slow_figures(labels, answers)
        names = ("f1", "accuracy", "precision", "recall", "yes_ratio")
        if expected is None:
            assert figures["f1"] is None
        else:
            assert [figures[name] for name in names] == pytest.approx(expected, abs=1e-12)
            assert figures["score"] == figures["f1"]


def test_other_programs_equal_slow_ones() -> None:
    draw = random.Random(1)
    pieces = ["Yes", "no", " ", ".", "\n", "yes", "NO", "maybe"]
    for _ in range(1000):
        size = draw.randrange(1, 10)
        labels = [draw.choice(["yes", "no"]) for _ in range(size)]
        answers = ["".join(draw.choice(pieces) for _ in range(draw.randrange(0, 3))) for _ in range(size)]
        items = [Item(id=str(number), answers=(label,)) for number, label in enumerate(labels)]
        found = metric("pope").variant("lmms-eval").score(items, answers).figures
        clean = [text.lower().strip() for text in answers]
        tp = sum(a == b == "yes" for a, b in zip(clean, labels, strict=True))
        fp = sum(a == "yes" and b == "no" for a, b in zip(clean, labels, strict=True))
        fn = sum(a == "no" and b == "yes" for a, b in zip(clean, labels, strict=True))
        precision, recall = tp / (tp + fp) if tp + fp else 0, tp / (tp + fn) if tp + fn else 0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        expected = (f1, sum(a == b for a, b in zip(clean, labels, strict=True)) / size, labels.count("yes") / size)
        assert (found["f1"], found["accuracy"], found["yes_ratio"]) == pytest.approx(expected, abs=1e-12)
        found = metric("pope").variant("vlmevalkit").score(items, answers).figures
        joined = [{"yes", "no"} & set(text.lower().replace(".", "").split()) for text in answers]
        given = [next(iter(each)) if len(each) == 1 else "Unknown" for each in joined]
        tp = sum(a == b == "yes" for a, b in zip(given, labels, strict=True))
        yes, asked = given.count("yes"), labels.count("yes")
        expected_f1 = 2 * tp / (yes + asked) if tp else 0
        assert found["f1"] == pytest.approx(expected_f1, abs=1e-12)


def rows(name: str, labels: str, first: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "question_id": number,
            "image": f"COCO_val2014_{number}.jpg",
            "text": f"Is there a {name} in the image?",
            "label": {"y": "yes", "n": "no"}[label],
        }
        for number, label in enumerate(labels, start=first)
    ]


def test_one_set_by_order_and_by_id(tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "coco_pope_random.json", rows("dog", "yynn"))
    said = ["Yes", "No", "yes, it is", "no"]
    by_order = write_lines(tmp_path / "answers.json", [{"question": "is there?", "answer": text} for text in said])
    found = score("pope", gold, by_order)
    # Of two yes one is found; of the two that are called yes one is: all figures are one half.
    expected = {"f1": 0.5, "accuracy": 0.5, "precision": 0.5, "recall": 0.5, "yes_ratio": 0.5}
    assert found["score"] == 0.5 and found["figures"] == expected
    lines = [{"question_id": number, "answer": text} for number, text in enumerate(said, start=1)]
    by_id = write_json(tmp_path / "by_id.json", lines[::-1])
    assert score("pope", gold, by_id)["figures"] == expected
    array = tmp_path / "gqa_pope_seem_random.json"
    write_json(array, rows("dog", "yynn"))
    array.write_text(array.read_text().replace("}, {", "},\n {"))
    assert score("pope", array, by_order)["figures"] == expected
    own_ids = write_lines(tmp_path / "own_ids.jsonl", [{"question_id": f"q{n}", "text": t} for n, t in enumerate(said)])
    assert score("pope", gold, own_ids)["figures"] == expected
    assert "f1: 50.00 %" in score_text("pope", gold, by_order)
    # "yes, it is" is neither for lmms-eval: one of one found is right, one of two.
    found = score("pope.lmms-eval", gold, by_order)
    assert found["score"] == pytest.approx(2 / 3) and found["unparsed"] == 1 and found["figures"]["yes_ratio"] == 0.5
    both = [row | {"answer": text} for row, text in zip(rows("dog", "yynn"), said, strict=True)]
    together = write_lines(tmp_path / "together.jsonl", both)
    assert score("pope", together, together)["figures"] == expected


def three_sets(tmp_path: Path) -> Path:
    folder = tmp_path / "coco"
    folder.mkdir()
    write_lines(folder / "coco_pope_adversarial.json", rows("dog", "yn"))
    write_lines(folder / "coco_pope_popular.json", rows("cat", "yny"))
    write_lines(folder / "coco_pope_random.json", rows("cup", "yn"))
    return folder


SAID = {"adversarial": ["Yes", "Yes"], "random": ["Yes", "No"], "popular": ["Yes", "No", "No"]}
F1 = {"adversarial": 2 / 3, "random": 1.0, "popular": 2 / 3}


def test_three_sets_with_llavas_file(tmp_path: Path) -> None:
    gold, start = three_sets(tmp_path), {"adversarial": 1, "random": 10_000_001, "popular": 20_000_001}
    lines = [
        {"question_id": number, "prompt": "Is there a dog?\nAnswer", "text": text, "answer_id": "x", "metadata": {}}
        for name, said in SAID.items()
        for number, text in enumerate(said, start=start[name])
    ]
    predicted = write_lines(tmp_path / "llava.jsonl", lines)
    found = score("pope", gold, predicted)
    assert found["score"] == pytest.approx(sum(F1.values()) / 3) and found["n"] == 7
    assert {name: found["figures"][f"{name} f1"] for name in SAID} == pytest.approx(F1)
    assert found["figures"]["accuracy"] == pytest.approx((0.5 + 1.0 + 2 / 3) / 3)
    assert found["figures"]["popular recall"] == 0.5
    # Pooled: labels yes 4, found yes 4, of which 3 are right.
    assert score("pope.lmms-eval", gold, predicted)["score"] == pytest.approx(0.75)
    assert score("pope.vlmevalkit", gold, predicted)["score"] == pytest.approx(0.75)
    one = score("pope", gold / "coco_pope_popular.json", predicted)
    assert one["score"] == pytest.approx(2 / 3) and one["n"] == 3


def test_three_sets_with_a_folder_of_answers(tmp_path: Path) -> None:
    gold, folder = three_sets(tmp_path), tmp_path / "answers"
    folder.mkdir()
    for name, said in SAID.items():
        write_lines(folder / f"model_{name}.jsonl", [{"question": "?", "answer": text} for text in said])
    assert score("pope", gold, folder)["score"] == pytest.approx(sum(F1.values()) / 3)
    for name, said in SAID.items():
        lines = [{"question_id": number, "answer": text} for number, text in enumerate(said, start=1)]
        write_lines(folder / f"model_{name}.jsonl", lines[::-1])
    assert score("pope", gold, folder)["score"] == pytest.approx(sum(F1.values()) / 3)


def test_a_table_of_several_categories(tmp_path: Path) -> None:
    table = tmp_path / "POPE.tsv"
    head = "index\timage\timage_path\tquestion\tanswer\tcategory\tprediction\n"
    table.write_text(
        head + "0\tAA==\ta.jpg\tq\tYes\tadversarial,popular\tYes\n1\tAA==\ta.jpg\tq\tNo\tpopular\tit is\n"
        "2\tAA==\tb.jpg\tq\tYes\trandom\tNo.\n"
    )
    found = score("pope.vlmevalkit", table, table)
    # Rows by category: (yes, yes) twice, (no, unknown), (yes, no).
    assert found["score"] == pytest.approx(2 * (1.0 * 2 / 3) / (1.0 + 2 / 3))
    assert found["figures"]["accuracy"] == 0.5
    assert found["figures"]["popular f1"] == 1.0 and found["figures"]["random f1"] == 0.0


@pytest.mark.parametrize(
    ("name", "gold", "lines", "message"),
    [
        (
            "a.json",
            rows("x", "yn"),
            [{"answer": "Yes"}],
            r"has 1 answers for 2 questions; POPE takes both in",
        ),
        ("a.json", rows("x", "yn"), [{"question_id": 1, "answer": "Yes"}], r"lacks the id '2' of the gold file"),
        ("a.json", [{"question_id": 1}], [{"answer": "x"}], r"a.json:1: label"),
        ("a.json", [], [{"answer": "x"}], r"the gold file holds no questions"),
        (
            "random.json",
            rows("x", "y"),
            [{"question_id": 20_000_001, "text": "x"}],
            r"answers of the sets popular;",
        ),
        ("random.json", rows("x", "y"), [{"question_id": 90_000_001, "text": "x"}], r"end before 30000000"),
        (
            "random.json",
            rows("x", "yy"),
            [{"question_id": 10_000_001, "text": "x"}],
            r"1 answers of the set random for",
        ),
    ],
)
def test_wrong_files_are_refused(name: str, gold: Any, lines: Any, message: str, tmp_path: Path) -> None:
    paths = write_lines(tmp_path / name, gold), write_lines(tmp_path / "predicted.jsonl", lines)
    with pytest.raises(DataError, match=message):
        score("pope", *paths)


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    gold = three_sets(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no file \*random\*.json"):
        score("pope", tmp_path / "empty", gold)
    write_lines(gold / "other_popular.json", rows("x", "y"))
    with pytest.raises(DataError, match=r"has 2 files of the set popular"):
        score("pope", gold, gold)
