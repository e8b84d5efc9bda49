"""VQA accuracy equals its three published behaviours: hand-computed cases and a slow literal re-statement."""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.vqa_normalise import (
    CONTRACTIONS,
    MARKS,
    NUMBERS,
    digits_articles_contractions,
    punctuation,
)
from mminstruct.evaluation.parsing.vqa_votes import leave_equal_out
from mminstruct.evaluation.scorers.vqa import (
    evalai,
    evalai_answer,
    leave_one_out,
    lmms_eval,
    lmms_eval_2024,
    official_2016,
    official_2021,
    vlmevalkit,
    vlmevalkit_2024,
)

from .files import score, score_text, write_json, write_lines

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


@functools.cache
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


@functools.cache
def slow_evalai(text: str) -> str:
    text = re.sub("[,?]", "", text.lower())
    return slow_normal(text.replace("'s", " 's").strip())


# --- VQA accuracy: the other programs' variants -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        # (lmms-eval, lmms-eval-2024, vlmevalkit, vlmevalkit-2024)
        ("Black.", ["black"] * 10, (1.0, 1.0, 1.0, 1.0)),
        ("black", ["Black."] * 10, (1.0, 0.0, 1.0, 1.0)),  # unanimous golds stand as they are in the old lmms-eval
        ("2.", ["2"] * 10, (1.0, 1.0, 0.0, 1.0)),  # VLMEvalKit keeps the full stop after a digit
        ("2.", ["2."] * 9 + ["3"], (1.0, 1.0, 1.0, 1.0)),
        ("the cat's hat", ["cat's hat"] * 9 + ["x"], (1.0, 0.0, 1.0, 1.0)),  # the old one writes "cat 's hat"
        ("thirty;one", ["thirty 1"] * 9 + ["x"], (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_other_programs_differ(prediction: str, golds: list[str], expected: tuple[float, ...]) -> None:
    found = tuple(scorer(prediction, golds) for scorer in (lmms_eval, lmms_eval_2024, vlmevalkit, vlmevalkit_2024))
    assert found == pytest.approx(expected)


@functools.cache
def slow_vlmevalkit(text: str) -> str:
    """`slow_normal` with the mended look-behind, character by character."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    out = text
    for mark in MARKS:
        near = any(mark + " " == text[i : i + 2] or " " + mark == text[i : i + 2] for i in range(len(text)))
        out = out.replace(mark, "" if near or re.search(r"\d,\d", text) else " ")
    kept, dropped = "", 0
    for place, character in enumerate(out):
        before, after = out[place - 1 : place] if place else "", out[place + 1 : place + 2]
        if character == "." and dropped < 32 and not before.isdecimal() and not after.isdecimal():
            dropped += 1
        else:
            kept += character
    return slow_normal_words(kept)


def slow_normal_words(text: str) -> str:
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in {"a", "an", "the"})


def test_other_programs_equal_the_slow_ones() -> None:
    draw = random.Random(3)
    pieces = ["Red", "2.", ".5", "two", " ", ",", "1,0", "cat's", "-", "the", "é", "\n", "?", "dont", "U.S."]
    pool = ["".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4))) for _ in range(60)]
    for _ in range(1000):
        some = draw.sample(pool, draw.randrange(1, 5))
        golds, prediction = [draw.choice(some) for _ in range(10)], draw.choice(some)

        def clean(text: str) -> str:
            return slow_normal(text.replace("\n", " ").replace("\t", " ").strip())

        both = slow_leave_one_out(clean(prediction), [clean(gold) for gold in golds])
        assert lmms_eval(prediction, golds) == pytest.approx(both, abs=1e-12)
        assert vlmevalkit_2024(prediction, golds) == pytest.approx(both, abs=1e-12)
        kept = slow_leave_one_out(slow_vlmevalkit(prediction), [slow_vlmevalkit(gold) for gold in golds])
        assert vlmevalkit(prediction, golds) == pytest.approx(kept, abs=1e-12)
        lines = [gold.replace("\n", " ").replace("\t", " ").strip() for gold in golds]
        once = slow_evalai(prediction)
        old = slow_leave_one_out(once, lines)
        if len(set(lines)) > 1:
            old = slow_leave_one_out(clean(once), [clean(gold) for gold in lines])
        assert lmms_eval_2024(prediction, golds) == pytest.approx(old, abs=1e-12)


# --- VQA accuracy: annotators that the official scorer cannot tell apart ----------------------------------------------


def slow_leave_equal_out(prediction: str, records: list[dict[str, Any]]) -> float:
    """The official loop: whoever's record equals the annotator's goes with him."""
    total = 0.0
    for annotator in records:
        others = [other for other in records if other != annotator]
        total += min(1.0, len([other for other in others if other["answer"] == prediction]) / 3)
    return total / len(records)


def test_equal_records_go_together() -> None:
    assert leave_equal_out("red", ["red"] * 10, ["yes"] * 10) == 0.0
    assert leave_equal_out("red", ["red"] * 10, ["yes"] * 9 + ["no"]) == pytest.approx((9 / 3 + 1.0) / 10)
    assert leave_equal_out("red", ["red"] * 10, [str(number) for number in range(10)]) == 1.0
    with pytest.raises(ValueError, match="3 golds and 1 marks"):
        leave_equal_out("red", ["red"] * 3, ["x"])
    draw = random.Random(4)
    for _ in range(1000):
        records = [{"answer": draw.choice("ab"), "mark": draw.choice("xyz")} for _ in range(10)]
        found = leave_equal_out("a", [each["answer"] for each in records], [each["mark"] for each in records])
        assert found == pytest.approx(slow_leave_equal_out("a", records), abs=1e-12)


# --- VQA accuracy: the official files ---------------------------------------------------------------------------------


def annotation(number: int, votes: list[str], kind: str, question: str, with_ids: bool = True) -> dict[str, Any]:
    answers = [
        {"answer": vote, "answer_confidence": "yes"} | ({"answer_id": place + 1} if with_ids else {})
        for place, vote in enumerate(votes)
    ]
    more = {"question_type": question, "multiple_choice_answer": votes[0], "answer_type": kind}
    return {"question_id": number, "image_id": number // 1000, "answers": answers} | more


def test_the_official_files(tmp_path: Path) -> None:
    rows = [
        annotation(1000, ["yes"] * 10, "yes/no", "is the"),
        annotation(1001, ["2"] * 3 + ["3"] * 7, "number", "how many"),
        annotation(2000, ["Red."] * 2 + ["the blue"] * 8, "other", "what color is the"),
    ]
    gold = write_json(tmp_path / "annotations.json", {"info": {}, "license": {}, "annotations": rows})
    answers = [
        {"question_id": 2000, "answer": "red"},
        {"question_id": 1001, "answer": "two"},
        {"question_id": 1000, "answer": "Yes"},
    ]
    predicted = write_json(tmp_path / "results.json", answers)
    # Unanimous "yes" is not "Yes"; three of ten agree with 2; two of ten with red.
    found = score("vqa", gold, predicted)
    assert found["score"] == pytest.approx((0.0 + 0.9 + 0.6) / 3) and found["n"] == 3
    expected = {
        "perAnswerType number": 0.9,
        "perAnswerType other": 0.6,
        "perAnswerType yes/no": 0.0,
        "perQuestionType how many": 0.9,
        "perQuestionType is the": 0.0,
        "perQuestionType what color is the": 0.6,
    }
    assert found["figures"] == pytest.approx(expected)
    # Before 2021 the prediction is always normalised and golds keep their case: "red" is not "Red".
    assert score("vqa.official-2016", gold, predicted)["score"] == pytest.approx((1.0 + 0.9 + 0.0) / 3)
    assert score("vqa.evalai", gold, predicted)["score"] == pytest.approx((1.0 + 0.9 + 0.6) / 3)
    # LLaVA's answers file, with a byte order mark and Windows' line ends.
    llava = [
        {"question_id": row["question_id"], "prompt": "p", "text": row["answer"], "metadata": {}} for row in answers
    ]
    lines = write_lines(tmp_path / "answers.jsonl", llava)
    lines.write_bytes(b"\xef\xbb\xbf" + lines.read_bytes().replace(b"\n", b"\r\n"))
    assert score("vqa", gold, lines)["score"] == found["score"]
    assert "perAnswerType number: 90.00 %" in score_text("vqa", gold, predicted)


def test_files_without_answer_ids_are_scored_as_the_official_loop_scores_them(tmp_path: Path) -> None:
    votes = [["yes"] * 10, ["no"] * 6 + ["yes"] * 4]
    rows = [annotation(number, each, "yes/no", "is", with_ids=False) for number, each in enumerate(votes)]
    gold = write_json(tmp_path / "annotations.json", {"annotations": rows})
    predicted = write_json(tmp_path / "results.json", [{"question_id": n, "answer": "yes"} for n in range(2)])
    # All ten records are the same: nobody is left. Of the others the six who said no have four to agree with.
    assert score("vqa", gold, predicted)["score"] == pytest.approx((0.0 + 0.6) / 2)
    assert score("vqa.evalai", gold, predicted)["score"] == 1.0


@pytest.mark.parametrize(
    ("gold", "answers", "message"),
    [
        ({"questions": []}, [], r"gold.json is not a JSON object with the key 'annotations'"),
        ({"annotations": [{"question_id": 1}]}, [], r"gold.json: entry 0: image_id: Field required"),
        (None, [{"answer": "x"}], r"predicted.json: entry 0 has none of the keys question_id, questionId"),
        (None, [{"question_id": 1}], r"predicted.json: entry 0 has none of the keys prediction, predict, pred"),
        (None, [{"question_id": 1, "answer": 3}], r"entry 0: answer: Input should be a valid string"),
        (None, [{"question_id": [1], "answer": "x"}], r"entry 0: the id is \[1\]; give a number or a text"),
        (None, ["x"], r"entry 0 has none of the keys question_id"),
        (None, [3], r"entry 0 is no object"),
        (None, [], r"predicted.json holds no answers"),
        (None, [{"question_id": 1, "answer": "x"}] * 2, r"entry 1 has the id '1', which an earlier one has too"),
        (None, [{"question_id": 2, "answer": "x"}], r"has the id '2', which the gold file lacks"),
    ],
)
def test_wrong_files_are_refused(gold: Any, answers: Any, message: str, tmp_path: Path) -> None:
    right = {"annotations": [annotation(1, ["x"] * 10, "other", "what")]}
    paths = write_json(tmp_path / "gold.json", gold or right), write_json(tmp_path / "predicted.json", answers)
    with pytest.raises(DataError, match=message):
        score("vqa", *paths)


def test_marks_of_ones_own_file_are_checked(tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "gold.jsonl", [{"id": "1", "answers": ["x"] * 3, "facts": {"marks": ["a"]}}])
    predicted = write_lines(tmp_path / "predicted.jsonl", [{"id": "1", "prediction": "x"}])
    with pytest.raises(DataError, match="facts of '1' have 1 marks for 3 answers"):
        score("vqa", gold, predicted)
