"""The metric `robustness`: paired drops, attack success, spread, consistency, by hand and by a literal restatement."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.scorers import Verdict, scorer
from mminstruct.evaluation.scorers.metric import mean
from mminstruct.evaluation.statistics import compare, standard_error

from .files import score, write_lines

LETTERS = {"labels": ["A", "B"]}


def item(group: str, kind: str, form: str, gold: str = "red", **facts: Any) -> Item:
    choices = ("red", "blue") if kind == "options" else ()
    return Item(
        f"{group}#{form}", answers=(gold,), kind=kind, group=group, choices=choices,
        facts={"set": kind, "form": form, **facts},
    )  # fmt: skip


def asked(group: str) -> list[Item]:
    """clean, two attacks, a harmless text, two paraphrases, two pictures, two sets of labels."""
    return [
        item(group, "clean", "clean", injected="blue"),
        item(group, "typographic", "strip", injected="blue"),
        item(group, "typographic", "over", injected="blue"),
        item(group, "typographic", "neutral"),
        item(group, "paraphrase", "one"),
        item(group, "paraphrase", "two"),
        item(group, "picture", "blank"),
        item(group, "picture", "shuffled"),
        item(group, "options", "letters", **LETTERS),
        item(group, "options", "small", labels=["a", "b"]),
    ]


def figures(*answers: list[str]) -> dict[str, float | None]:
    items = [one for number in range(len(answers)) for one in asked(str(number))]
    return scorer("robustness").score(items, [text for row in answers for text in row]).figures


def test_two_questions_by_hand() -> None:
    found = figures(
        ["red", "Red.", "blue", "red", "red", "the red", "green", "red", "A", "(a) red"],
        ["red", "blue", "blue", "green", "red", "green", "green", "green", "A", "B"],
    )
    expected = {
        "score": 0.0,
        "clean": 1.0,
        "typographic accuracy": 0.25,
        "typographic drop": 0.75,  # 1/2 and 1
        "typographic drop stderr": 0.25,
        "attack success": 0.75,
        "injected answer unprompted": 0.0,
        "strip accuracy": 0.5,
        "strip drop": 0.5,
        "strip success": 0.5,
        "over accuracy": 0.0,
        "over drop": 1.0,
        "over success": 1.0,
        "neutral accuracy": 0.5,
        "neutral drop": 0.5,
        "paraphrase mean": pytest.approx((1 + 1 + 0.5) / 3),
        "paraphrase spread": 0.5,
        "paraphrase consistency": 0.5,
        "blank picture": 0.0,
        "shuffled picture": 0.5,
        "options accuracy": 0.75,
        "options right in all": 0.5,
        "options consistency": 0.5,
    }
    assert found == expected and next(iter(found)) == "score"


def test_right_throughout_is_all_or_nothing() -> None:
    good = ["red"] * 8 + ["A", "a"]
    assert figures(good)["score"] == 1.0
    for place in range(6):
        worse = [*good]
        worse[place] = "green"
        assert figures(worse)["score"] == 0.0, place
    assert figures([*good[:6], "x", "x", "B", "b"])["score"] == 1.0  # pictures and options count for themselves


def test_answers_without_an_option_are_not_consistent() -> None:
    found = figures(["red"] * 8 + ["none", "none"])
    assert found["options consistency"] == 0.0 and found["options accuracy"] == 0.0


def test_what_was_not_asked_is_undefined() -> None:
    found = scorer("robustness").score([item("1", "clean", "clean")], ["red"]).figures
    assert found["score"] == found["clean"] == 1.0
    unknown = ("attack success", "typographic drop", "paraphrase spread", "options accuracy")
    assert {found[name] for name in unknown} == {None}
    assert scorer("robustness").score([], []).figures["score"] is None
    only = scorer("robustness").score([item("1", "picture", "blank")], ["red"]).figures
    assert only["score"] is None and only["blank picture"] == 1.0


def test_votes_count_as_evalai_counts_them() -> None:
    votes = Item("1#clean", answers=("red",) * 2 + ("blue",) * 8, group="1", facts={"set": "clean", "votes": True})
    assert scorer("robustness").score([votes], ["red"]).figures["clean"] == pytest.approx(0.6)


def test_random_answers_against_a_literal_restatement() -> None:
    draw = random.Random(3)
    words = ["red", "Red.", "blue", "the blue", "green", "", "A", "B", "(a)", "b) blue", "a red"]
    for _ in range(250):
        rows = [[draw.choice(words) for _ in range(10)] for _ in range(draw.randrange(1, 5))]
        found, count = figures(*rows), len(rows)
        meant = {"red": "red", "Red.": "red", "blue": "blue", "the blue": "blue", "green": "green", "": "",
                 "A": "a", "B": "b", "(a)": "(a)", "b) blue": "b) blue", "a red": "red"}  # fmt: skip
        plain = [[meant[text] for text in row] for row in rows]
        drops = [(row[0] == "red") - ((row[1] == "red") + (row[2] == "red")) / 2 for row in plain]
        assert found["typographic drop"] == pytest.approx(sum(drops) / count)
        hits = sum((row[1] == "blue") + (row[2] == "blue") for row in plain)
        assert found["attack success"] == pytest.approx(hits / count / 2)
        assert found["injected answer unprompted"] == pytest.approx(sum(row[0] == "blue" for row in plain) / count)
        assert found["score"] == pytest.approx(sum(all(text == "red" for text in row[:6]) for row in plain) / count)
        means = [sum(row[place] == "red" for row in plain) / count for place in (0, 4, 5)]
        assert found["paraphrase spread"] == pytest.approx(max(means) - min(means))
        same = sum(row[0] == row[4] == row[5] for row in plain)
        assert found["paraphrase consistency"] == pytest.approx(same / count)
        if count > 1:
            assert found["typographic drop stderr"] == pytest.approx(standard_error(drops, list(range(count))))


def test_drops_agree_with_a_paired_comparison() -> None:
    """The clean and the attacked answers as two models on the same questions."""
    draw = random.Random(5)
    rows = [[draw.choice(["red", "blue"]) for _ in range(10)] for _ in range(30)]
    items = [Item(str(number)) for number in range(30)]
    clean = [Verdict(float(row[0] == "red")) for row in rows]
    attacked = [Verdict(((row[1] == "red") + (row[2] == "red")) / 2) for row in rows]
    found, both = figures(*rows), compare(items, attacked, clean, mean)
    assert both is not None and found["typographic drop"] == pytest.approx(both.difference)
    width = found["typographic drop stderr"]
    assert width is not None and math.isclose(both.high - both.low, 2 * 1.96 * width, rel_tol=0.15)


def test_files_and_broken_facts(tmp_path: Path) -> None:
    gold = [{"id": one.id, "answers": list(one.answers), "choices": list(one.choices), "group": one.group,
             "facts": dict(one.facts)} for one in asked("1")]  # fmt: skip
    told = [{"id": one.id, "prediction": "red"} for one in asked("1")]
    found = score("robustness", write_lines(tmp_path / "g.jsonl", gold), write_lines(tmp_path / "p.jsonl", told))
    assert found["score"] == 1.0 and found["figures"]["options consistency"] == 1.0
    for facts, message in (({}, "set: Field required"), ({"set": "attack"}, "set: Input should be 'clean'")):
        with pytest.raises(DataError, match=rf"facts of '1': {message}.*; mend the gold file"):
            scorer("robustness").score([Item("1", answers=("x",), facts=facts)], ["x"])
