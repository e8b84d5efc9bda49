"""VQA accuracy equals its three published behaviours: hand-computed cases and a slow literal re-statement."""

from __future__ import annotations

import random
import re

import pytest

from mminstruct.evaluation.parsing.vqa_normalise import (
    CONTRACTIONS,
    MARKS,
    NUMBERS,
    digits_articles_contractions,
    punctuation,
)
from mminstruct.evaluation.scorers.vqa import (
    evalai,
    evalai_answer,
    leave_one_out,
    official_2016,
    official_2021,
)

VQA = {"official-2021": official_2021, "official-2016": official_2016, "evalai": evalai}


def normal(text: str) -> str:
    return digits_articles_contractions(punctuation(text))


# --- VQA accuracy: the formula ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VQA)
@pytest.mark.parametrize(
    ("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (7, 1.0), (10, 1.0)]
)
def test_closed_form_for_ten_golds(name: str, matches: int, expected: float) -> None:
    golds = ["red"] * matches + [f"other{i}" for i in range(10 - matches)]
    random.Random(matches).shuffle(golds)
    assert VQA[name]("red", golds) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("golds", "expected"),
    [
        (["red"], 1.0),
        (["blue"], 0.0),
        (["red", "red"], 1.0),
        (["red", "blue"], 0.5),
        (["red", "red", "red"], 1.0),
        (["red", "red", "blue"], (0.5 + 0.5 + 1.0) / 3),
        (["red", "blue", "green"], (0.0 + 0.5 + 0.5) / 3),
        (["red"] * 4, 1.0),
        (["red"] * 3 + ["blue"], (3 * (2 / 3) + 1.0) / 4),
        (["red"] * 4 + ["blue"] * 16, 1.0),
        (["red"] * 2 + ["blue"] * 18, (2 * (1 / 3) + 18 * (2 / 3)) / 20),
    ],
)
def test_other_numbers_of_golds(golds: list[str], expected: float) -> None:
    assert leave_one_out("red", golds) == pytest.approx(expected, abs=1e-12)


def slow_leave_one_out(prediction: str, golds: list[str]) -> float:
    """The definition, annotator by annotator."""
    if len(golds) == 1:
        return float(golds[0] == prediction)
    accuracies = []
    for left_out in range(len(golds)):
        others = [gold for place, gold in enumerate(golds) if place != left_out]
        accuracies.append(min(1.0, sum(other == prediction for other in others) / min(3, len(others))))
    return sum(accuracies) / len(accuracies)


def test_formula_equals_the_definition() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        golds = [draw.choice("abcd") for _ in range(draw.randrange(1, 15))]
        assert leave_one_out("a", golds) == pytest.approx(slow_leave_one_out("a", golds), abs=1e-12)


def test_no_golds_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one gold"):
        leave_one_out("red", [])


# --- VQA accuracy: what each variant normalises -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "golds", "since_2021", "before", "by_evalai"),
    [
        # Unanimous golds stand as they are since 2021: case and full stop cost everything.
        ("Black.", ["black"] * 10, 0.0, 1.0, 1.0),
        ("black", ["Black."] * 10, 0.0, 0.0, 1.0),
        ("Black.", ["Black."] * 10, 1.0, 0.0, 1.0),
        (" black\n", ["black"] * 10, 1.0, 1.0, 1.0),
        ("black", ["black "] * 10, 1.0, 0.0, 1.0),
        # One dissenter, and both sides are normalised in full (2021) or the golds' punctuation only is (2016).
        ("Black.", ["black"] * 9 + ["grey"], 1.0, 1.0, 1.0),
        ("black", ["The black"] * 9 + ["grey"], 1.0, 0.0, 1.0),
        ("black", ["black!"] * 9 + ["grey"], 1.0, 0.0, 1.0),
        ("black", ["black;"] * 9 + ["grey"], 1.0, 0.0, 1.0),
        ("2", ["two"] * 9 + ["3"], 1.0, 0.0, 1.0),
        ("two", ["2"] * 9 + ["3"], 1.0, 1.0, 1.0),
        # An article alone is an empty answer, and so is another article.
        ("a", ["the"] * 9 + ["x"], 1.0, 0.0, 1.0),
        # EvalAI deletes commas and question marks before anything else.
        ("1,000-2,000", ["10002000"] * 9 + ["x"], 1.0, 1.0, 0.0),
        ("1,000-2,000", ["1000 2000"] * 9 + ["x"], 0.0, 0.0, 1.0),
        ("yes,it is", ["yes it is"] * 9 + ["x"], 1.0, 1.0, 0.0),
        ("the cat's hat", ["cat 's hat"] * 9 + ["x"], 0.0, 0.0, 1.0),
    ],
)
def test_variants_differ(prediction: str, golds: list[str], since_2021: float, before: float, by_evalai: float) -> None:
    found = {name: VQA[name](prediction, golds) for name in VQA}
    assert found == pytest.approx({"official-2021": since_2021, "official-2016": before, "evalai": by_evalai})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.", "2"),
        (".5", ".5"),
        ("3.5", "3.5"),
        ("U.S.A.", "usa"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # digit-comma-digit anywhere deletes every mark everywhere
        ("yes,it is", "yes it is"),  # no blank beside the comma: it becomes one
        ("yes, it is", "yes it is"),
        ("well-known", "well known"),
        ("well- known", "well known"),
        ("a-b - c", "ab c"),  # one blank beside one dash deletes all dashes
        ("10:30", "10:30"),
        ("$5 & 10%", "$5 & 10%"),
        ("#1*~", "#1*~"),
        ("None of the above", "0 of above"),
        ("Ten men", "10 men"),
        ("eleven", "eleven"),
        ("A cat and an owl", "cat and owl"),
        ("a", ""),
        ("it's", "it's"),
        ("Dont", "don't"),
        ("Im", "im"),  # its key has a capital I and is never reached
        ("Ive", "ive"),
        ("somebody'd", "somebodyd"),
        ("let's", "let's"),
        ("she's", "she's"),
        ("  many   blanks\there ", "many blanks here"),
        ("what?", "what"),
        ("{x}", "x"),
        ("\\_/", ""),
    ],
)
def test_official_normalisation(text: str, expected: str) -> None:
    assert normal(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,000-2,000", "1000 2000"),
        ("yes,it is", "yesit is"),
        ("the cat's hat", "cat 's hat"),
        ("let's", "let 's"),
        ("Dont know?", "don't know"),
        ("no\tway\n", "no way"),
    ],
)
def test_evalai_normalisation(text: str, expected: str) -> None:
    assert evalai_answer(text) == expected


def test_only_the_first_32_full_stops_go() -> None:
    assert punctuation("a." * 40) == "a" * 32 + "a." * 8


def test_contractions_table() -> None:
    assert len(CONTRACTIONS) == 114
    for written, meant in CONTRACTIONS.items():
        assert written == written.lower() and written != meant
        if written != "somebody'd":
            assert meant.replace("'", "") == written.replace("'", "") and meant.count("'") > written.count("'")
    assert not set(CONTRACTIONS) & set(NUMBERS)


def slow_normal(text: str) -> str:
    """The official steps with the official expressions, written out one at a time."""
    out = text
    for mark in list(MARKS):
        comma_strip = re.search(r"(\d)(\,)(\d)", text)
        if text.find(mark + " ") != -1 or text.find(" " + mark) != -1 or comma_strip is not None:
            out = "".join(character for character in out if character != mark)
        else:
            out = "".join(" " if character == mark else character for character in out)
    out = re.sub(r"(?!<=\d)(\.)(?!\d)", "", out, count=32)
    words = []
    for word in out.lower().split():
        number = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
        number |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10"}
        word = number.get(word, word)
        if word in ("a", "an", "the"):
            continue
        words.append(CONTRACTIONS.get(word, word))
    return " ".join(words)


PIECES = [
    *MARKS,
    *" .'\t:$%&",
    "1",
    "22",
    "a",
    "the",
    "None",
    "two",
    "dont",
    "Im",
    "somebody'd",
    "Cat",
    "s",
    "1,5",
    "é",
]


def test_normalisation_equals_the_slow_one() -> None:
    draw = random.Random(1)
    for _ in range(5000):
        text = "".join(draw.choice(PIECES) for _ in range(draw.randrange(0, 14)))
        assert normal(text) == slow_normal(text), repr(text)


@pytest.mark.parametrize("name", VQA)
def test_vqa_scorer_equals_the_slow_one(name: str) -> None:
    draw = random.Random(2)
    answers = ["Red.", "red", "the red", "Two", "2", "dont", "don't", "cat's", "cat 's", "1,000", "1000", "no-one", ""]
    for _ in range(1500):
        golds = [draw.choice(answers[: draw.randrange(1, 14)]) for _ in range(10)]
        prediction = draw.choice(answers)
        if name == "evalai":
            expected = slow_leave_one_out(slow_evalai(prediction), [slow_evalai(gold) for gold in golds])
        elif name == "official-2021" and len(set(golds)) == 1:
            expected = slow_leave_one_out(prediction, golds)
        elif name == "official-2021":
            expected = slow_leave_one_out(slow_normal(prediction), [slow_normal(gold) for gold in golds])
        else:
            seen = golds if len(set(golds)) == 1 else [punctuation(gold) for gold in golds]
            expected = slow_leave_one_out(slow_normal(prediction), seen)
        assert VQA[name](prediction, golds) == pytest.approx(expected, abs=1e-12)


def slow_evalai(text: str) -> str:
    text = re.sub("[,?]", "", text.lower())
    return slow_normal(text.replace("'s", " 's").strip())
