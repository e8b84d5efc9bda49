"""GQA: four ways to compare an answer, and the official script's figures, by hand and against a slow re-statement."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, metric

from .files import score, write_json, write_lines


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        # (official, llava, lmms-eval, vlmevalkit)
        ("yes", "yes", (1, 1, 1, 1)),
        ("Yes", "yes", (0, 1, 1, 1)),
        ("yes.", "yes", (0, 1, 1, 0)),
        ("yes...", "yes", (0, 1, 1, 0)),
        (" yes", "yes", (0, 0, 0, 1)),
        ("Yes.\n", "yes", (0, 0, 0, 0)),
        ("t-shirt", "tshirt", (0, 0, 1, 0)),
        ("t shirt", "t-shirt", (0, 0, 0, 0)),
        ("x", "X", (0, 0, 1, 1)),  # LLaVA's script leaves the gold as it is
        ("", "", (1, 1, 1, 1)),
    ],
)
def test_variants_differ(text: str, gold: str, expected: tuple[int, ...]) -> None:
    items = [Item(id="1", answers=(gold,))]
    assert tuple(variant.score(items, [text]).score for variant in metric("gqa").variants) == expected


def test_variants_equal_slow_ones() -> None:
    draw = random.Random(0)
    pieces = ["Yes", "no", ".", " ", "-", "'", "é", "\n", "3", "", ",", "İ"]
    for _ in range(1000):
        text, gold = ("".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4))) for _ in range(2))
        text = draw.choice([text, gold, gold + ".", gold.upper()])

        def bare(each: str) -> str:
            return re.sub("[" + re.escape(string.punctuation) + "]", "", each.lower())

        expected = (
            text == gold,
            re.sub(r"\.+\Z", "", text).lower() == gold,
            bare(text) == bare(gold),
            text.lower().strip() == gold.lower().strip(),
        )
        items = [Item(id="1", answers=(gold,))]
        found = tuple(bool(variant.score(items, [text]).score) for variant in metric("gqa").variants)
        assert found == expected, (text, gold)


def question(text: str, answer: str, structural: str, **more: Any) -> dict[str, Any]:
    return {
        "semantic": [
            {"operation": "select", "dependencies": [], "argument": "dog (1)"},
            {"operation": "query", "dependencies": [0], "argument": "name"},
            {"operation": "filter color", "dependencies": [0], "argument": "red"},
        ],
        "entailed": [],
        "equivalent": [],
        "question": text,
        "imageId": "n1",
        "isBalanced": True,
        "groups": {"global": None, "local": "x"},
        "answer": answer,
        "types": {"detailed": "existAttr", "semantic": "attr", "structural": structural},
        "fullAnswer": answer + ".",
    } | more


def questions() -> dict[str, Any]:
    group = {"groups": {"global": "color", "local": ""}}
    return {
        "01": question("Is it red?", "yes", "verify", entailed=["01", "02", "05"]),
        "02": question("What color is it?", "red", "query", **group),
        "03": question("Which color?", "blue", "query", **group),
        "04": question("Same?", "no", "compare", types={"detailed": "xCommon", "semantic": "obj", "structural": "x"}),
        "05": question("Is it blue?", "no", "verify", isBalanced=False),
    }


CHOICES = {
    "01": {"valid": ["yes", "no"], "plausible": ["yes"]},
    "02": {"valid": ["red", "blue"], "plausible": ["red"]},
    "03": {"valid": ["red", "blue"], "plausible": ["blue"]},
    "04": {"valid": ["yes", "no"], "plausible": ["yes", "no"]},
}
ANSWERS = {"01": "yes", "02": "red", "03": "red", "04": "color", "05": "yes"}


def test_the_official_files(tmp_path: Path) -> None:
    folder = tmp_path / "gold"
    folder.mkdir()
    gold = write_json(folder / "val_all_questions.json", questions())
    lines = [{"questionId": key, "prediction": text} for key, text in ANSWERS.items()]
    predicted = write_json(tmp_path / "predictions.json", lines)
    found = score("gqa", gold, predicted)
    # Balanced are 01 to 04, of which 01 and 02 are right.
    assert found["score"] == 0.5 and found["n"] == 5
    figures = found["figures"]
    assert figures["binary"] == 0.5 and figures["open"] == 0.5
    # 01 is right and entails 02 (right) and 05 (wrong); 02 entails none.
    assert figures["consistency"] == 0.5
    assert "validity" not in figures and "plausibility" not in figures
    # In the group: right once red and once blue, given twice red. ((2-1)^2/1 + (0-1)^2/1) * 2 / 2 / 100
    assert figures["distribution"] == pytest.approx(0.02)
    assert figures["accuracyPerStructuralType verify"] == 1.0 and figures["accuracyPerStructuralType x"] == 0.0
    assert figures["accuracyPerSemanticType attr"] == pytest.approx(2 / 3)
    assert figures["accuracyPerSteps 2"] == 0.5, "'query: name' is no step"
    assert figures["accuracyPerLength 3"] == 1.0 and figures["accuracyPerLength 4"] == 1.0
    write_json(folder / "val_choices.json", CHOICES)
    figures = score("gqa", folder, predicted)["figures"]
    # valid: yes, red, red, and "color" where the detailed type is Common; plausible: not red for the blue one.
    assert figures["validity"] == 1.0 and figures["plausibility"] == 0.75


def test_only_balanced_questions_need_answers(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "val_balanced_questions.json", questions())
    lines = [{"question_id": key, "prompt": "p", "text": ANSWERS[key].title() + "."} for key in list(ANSWERS)[:4]]
    predicted = write_lines(tmp_path / "llava.jsonl", [*lines, {"question_id": "77", "prompt": "p", "text": "x"}])
    found = score("gqa.llava", gold, predicted)
    assert found["score"] == 0.5 and found["n"] == 4 and "consistency" not in found["figures"]
    assert score("gqa", gold, predicted)["score"] == 0.0
    assert score("gqa.vlmevalkit", gold, predicted)["score"] == 0.0
    assert score("gqa.lmms-eval", gold, predicted)["score"] == 0.5


def test_tables_of_vlmevalkit(tmp_path: Path) -> None:
    table = tmp_path / "GQA_TestDev_Balanced.tsv"
    table.write_text(
        "index\timage\tquestion\tanswer\tprediction\n0\tAA==\tIs it?\tyes\tYes\n1\tAA==\tWhat?\tred\tred.\n"
    )
    assert score("gqa.vlmevalkit", table, table)["score"] == 0.5


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "questions.json", questions())
    predicted = write_json(tmp_path / "predictions.json", [{"questionId": "01", "prediction": "yes"}])
    with pytest.raises(DataError, match=r"predictions.json lacks the ids '02', '03', '04' of the gold file"):
        score("gqa", gold, predicted)
    with pytest.raises(DataError, match=r"has the id '9', which the gold file lacks"):
        score("gqa", gold, write_json(tmp_path / "other.json", [{"questionId": "9", "prediction": "yes"}]))
    with pytest.raises(DataError, match=r"bad.json: '01': answer: Field required"):
        score("gqa", write_json(tmp_path / "bad.json", {"01": {"question": "q"}}), predicted)
    with pytest.raises(DataError, match=r"holds an array and not a JSON object"):
        score("gqa", write_json(tmp_path / "list.json", []), predicted)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has 0 files \*questions.json"):
        score("gqa", tmp_path / "empty", predicted)
    folder = tmp_path / "half"
    folder.mkdir()
    write_json(folder / "questions.json", questions())
    write_json(folder / "choices.json", {"01": CHOICES["01"]})
    with pytest.raises(DataError, match=r"'02': the choices file lacks this question"):
        score("gqa", folder, predicted)
    table = tmp_path / "table.tsv"
    table.write_text("index\tprediction\n0\tyes\n")
    with pytest.raises(DataError, match=r"table.tsv:2: a table needs the columns index and answer"):
        score("gqa", table, table)


def slow_figures(items: dict[str, Any], given: dict[str, str]) -> dict[str, float]:
    """The loop of the official script, on plain dictionaries."""
    right = [(key, float(given[key] == value["answer"])) for key, value in items.items() if value["isBalanced"]]
    shares, groups = [], {}
    for key, is_right in right:
        others = [name for name in items[key]["entailed"] if name != key]
        if is_right and others:
            shares.append(sum(given[name] == items[name]["answer"] for name in others) / len(others))
        group = items[key]["groups"]["global"]
        if group is not None:
            groups.setdefault(group, []).append(key)
    chi = 0.0
    for keys in groups.values():
        golds = [items[key]["answer"] for key in keys]
        answers = [given[key] for key in keys]
        chi += len(keys) * sum((answers.count(a) - golds.count(a)) ** 2 / golds.count(a) for a in sorted(set(golds)))
    found = {"score": sum(each for _, each in right) / len(right)}
    if shares:
        found["consistency"] = sum(shares) / len(shares)
    if groups:
        found["distribution"] = chi / sum(len(keys) for keys in groups.values()) / 100
    return found


def test_figures_equal_the_slow_ones(tmp_path: Path) -> None:
    draw = random.Random(1)
    for _ in range(8):
        items = {
            str(number): question(
                "q",
                draw.choice("abc"),
                draw.choice(["query", "verify"]),
                isBalanced=number == 0 or draw.random() < 0.7,
                entailed=[str(draw.randrange(40)) for _ in range(draw.randrange(3))],
                groups={"global": draw.choice([None, "g", "h"]), "local": ""},
            )
            for number in range(40)
        }
        given = {key: draw.choice("abc") for key in items}
        gold = write_json(tmp_path / "questions.json", items)
        lines = [{"questionId": key, "prediction": text} for key, text in given.items()]
        found = score("gqa", gold, write_json(tmp_path / "predicted.json", lines))
        figures = found["figures"] | {"score": found["score"]}
        for name, expected in slow_figures(items, given).items():
            assert figures[name] == pytest.approx(expected, abs=1e-12), name
