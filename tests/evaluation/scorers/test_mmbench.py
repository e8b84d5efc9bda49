"""MMBench, MMMB and AI2D: tables of options, rotations that must all be right, and the harnesses' readings."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer
from mminstruct.evaluation.scorers.mmbench import lmms_eval_letter

from ..parsing.test_letters import slow_vlmevalkit
from ..texts import options, texts
from .files import score, write_lines

FIRST = ["a red cat", "a dog", "nothing", "two dogs"]
COLUMNS = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "l2-category", "image", "split"]


def row(index: int, answer: str, turn: int = 0, options: list[str] = FIRST, **further: Any) -> dict[str, Any]:
    """A question, or its rotation: the options move `turn` places to the left, and the answer with them."""
    moved = options[turn:] + options[:turn]
    gold = "ABCD"[("ABCD".index(answer) - turn) % len(options)]
    cells = dict(zip("ABCD", moved, strict=False))
    return (
        {
            "index": index + 1_000_000 * turn,
            "question": "What is it?\nLook.",
            "answer": gold,
            "category": "ocr",
            "l2-category": "coarse_perception",
            "split": "dev",
        }
        | cells
        | further
    )


def table(path: Path, rows: list[dict[str, Any]], delimiter: str = "\t") -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        names = COLUMNS + (["prediction"] if any("prediction" in line for line in rows) else [])
        writer = csv.DictWriter(stream, names, delimiter=delimiter, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def answered(rows: list[dict[str, Any]], *predictions: str) -> list[dict[str, Any]]:
    return [line | {"prediction": text} for line, text in zip(rows, predictions, strict=True)]


ROWS = [
    *[row(1, "B", turn) for turn in range(4)],
    *[row(2, "A", turn, category="color", **{"l2-category": "logic_reasoning"}) for turn in range(4)],
    row(3, "D", 0),
]


def test_a_question_is_right_when_all_its_rotations_are(tmp_path: Path) -> None:
    gold = table(tmp_path / "MMBench_DEV_EN.tsv", ROWS)
    # Of question 1 all rotations are right, of question 2 the last is not; question 3 is read by its option's text.
    texts = ["B", "(A)", "D.", "The answer is C", "A", "D", "C", "A", "it is two dogs"]
    predicted = table(tmp_path / "model_MMBench_DEV_EN.tsv", answered(ROWS, *texts))
    found = score("mmbench", gold, predicted)
    assert found["score"] == pytest.approx(2 / 3) and found["n"] == 9
    assert found["figures"] == {"CP": 1.0, "LR": 0.0, "color": 0.0, "ocr": 1.0}
    vanilla = score("mmbench.vanilla", gold, predicted)
    assert vanilla["score"] == 1 and vanilla["figures"]["color"] == 1
    as_csv = table(tmp_path / "model.csv", answered(ROWS, *texts), ",")
    assert score("mmbench", gold, as_csv) == found
    one_pass = table(tmp_path / "one.tsv", answered([ROWS[0], ROWS[4], ROWS[8]], "B", "A", "?"))
    assert score("mmbench", gold, one_pass)["score"] == pytest.approx(2 / 3)
    assert score("mmbench", predicted, predicted) == found


def test_splits_have_figures_of_their_own(tmp_path: Path) -> None:
    rows = [row(1, "A"), row(2, "A", split="test"), row(3, "A", split="test")]
    path = table(tmp_path / "x.tsv", answered(rows, "A", "A", "B"))
    assert score("mmbench", path, path)["figures"] == {
        "CP (dev)": 1.0,
        "CP (test)": 0.5,
        "Overall (dev)": 1.0,
        "Overall (test)": 0.5,
        "ocr (dev)": 1.0,
        "ocr (test)": 0.5,
    }


def test_answers_of_llavas_script_and_unknown_questions(tmp_path: Path) -> None:
    gold = table(tmp_path / "gold.tsv", [row(1, "B"), row(2, "A")])
    lines = [
        {"question_id": 1, "round_id": 0, "text": "B"},
        {"question_id": 2, "text": "B"},
        {"question_id": 9, "text": "A"},
    ]
    assert score("mmbench", gold, write_lines(tmp_path / "answers.jsonl", lines))["score"] == 0.5
    with pytest.raises(DataError, match=r"answers no question of the gold file"):
        score("mmbench", gold, write_lines(tmp_path / "other.jsonl", lines[2:]))
    with pytest.raises(DataError, match=r"jsonl:1 answers rotated options \(round_id 1\)"):
        score("mmbench", gold, write_lines(tmp_path / "r.jsonl", [{"question_id": 1, "round_id": 1, "text": "A"}]))


def test_words_that_pandas_takes_for_empty_cells_are_no_options(tmp_path: Path) -> None:
    rows = [row(1, "C", options=["a red cat", "None", "three dogs", ""], prediction="none, but three dogs")]
    path = table(tmp_path / "x.tsv", rows)
    assert score("mmbench", path, path)["score"] == 1  # with the option None there would be two texts in it


def test_exact_matching_equals_a_slow_restatement_of_circular_eval() -> None:
    chance = random.Random(4)
    for name, now in (("mmbench.exact-matching", True), ("mmbench.exact-matching-2024", False)):
        items, said, choices = [], [], list(options("circular", 600, 4, 4))
        for number, found in enumerate(choices):
            turn = number % 3
            said.append(next(texts(f"{number}", 1)) if chance.random() < 0.4 else "ABCD"[turn])
            index = 1_000_000 * turn + number // 3
            items.append(
                Item(str(index), answers=("ABCD"[turn],), choices=tuple(found.values()), group=str(number // 3))
            )
        hits = 0
        for group in range(200):
            rotations = range(3 * group, 3 * group + 3)
            hits += all(slow_vlmevalkit(said[at], choices[at], now) == items[at].answers[0] for at in rotations)
        assert 20 < hits < 180 and scorer(name).score(items, said).score == pytest.approx(hits / 200)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", "B"),
        ("B.", "B"),
        ("(B)", "B"),
        ("(B).", "B"),
        (":B", "B"),
        ("It is B", "B"),
        ("A cat is here, B", None),  # the article stops the first step, and no marks are around a letter
        ("A dog", "A"),  # of up to three words an article is the letter
        ("I see two cats and a dog", "B"),
        ("E", "E"),
        ("A B", None),
        ("", None),
    ],
)
def test_lmms_evals_letters(answer: str, expected: str | None) -> None:
    assert lmms_eval_letter(answer, dict(zip("ABCD", FIRST, strict=True))) == expected


def test_lmms_evals_random_letters_are_its_sequence() -> None:
    def item(index: int, answer: str) -> Item:
        return Item(str(index), answers=(answer,), choices=tuple(FIRST), group=str(index % 1_000_000))

    items = [item(number + turn * 1_000_000, "ABCD"[turn]) for turn in range(2) for number in range(50, 0, -1)]
    said = ["?" if number % 2 else "A" for number in range(50)] + ["?"] * 50
    random.seed(2680)
    hits = 0
    for number in range(1, 51):  # the questions by their index; each one's rotations until one is wrong
        right = True
        for text, answer in ((said[50 - number], "A"), (said[100 - number], "B")):
            if right and text == "?":
                right = "ABCDE"[random.randint(0, 4)] == answer
        hits += right
    found = scorer("mmbench.lmms-eval").score(items, said)
    assert found.score == pytest.approx(hits / 50) and 0 < hits < 50


def test_lmms_eval_takes_nan_for_the_text_of_a_missing_option() -> None:
    three = Item("1", answers=("B",), choices=("an apple", "a fruit", "a tree"))
    assert lmms_eval_letter("it is a banana", {"A": "an apple", "B": "a fruit", "C": "a tree"}) == "D"
    assert lmms_eval_letter("it is a banana, a fruit", {"A": "an apple", "B": "a fruit", "C": "a tree"}) is None
    assert lmms_eval_letter("it is a banana", {"A": "an apple", "B": "a fruit"}) is None  # C and D
    assert scorer("mmbench.lmms-eval").score([three], ["it is a banana"]).verdicts[0].answer == "D"


def test_lmms_evals_static_tasks_draw_no_letters() -> None:
    item = Item("1", answers=("B",), choices=tuple(FIRST))
    said = ["A B", "I choose B or C", "?", "B"]  # the first reading finds two letters; the second takes A and the last
    verdicts = scorer("mmbench.lmms-eval-static").score([item] * 4, said).verdicts
    assert [verdict.answer for verdict in verdicts] == ["A", "C", None, "B"]


def test_mmmb_takes_the_mean_of_the_languages(tmp_path: Path) -> None:
    gold, predicted = tmp_path / "gold", tmp_path / "predicted"
    gold.mkdir(), predicted.mkdir()
    english, arabic = [row(1, "B"), row(1, "B", 1), row(2, "A")], [row(1, "B")]
    table(gold / "MMMB_en.tsv", english)
    table(gold / "MMMB_ar.tsv", arabic)
    table(predicted / "Parrot-7B_MMMB_en.tsv", answered(english, "B", "B", "A"))
    table(predicted / "Parrot-7B_MMMB_ar.csv", answered(arabic, "B"), ",")
    found = score("mmmb", gold, predicted)
    assert found["figures"] == {"ar": 1.0, "en": 0.5} and found["score"] == 0.75
    assert score("mmmb.vanilla", gold, predicted)["score"] == 1
    alone = score("mmmb", gold / "MMMB_en.tsv", predicted / "Parrot-7B_MMMB_en.tsv")
    assert alone["score"] == 0.5 and alone["figures"] == {}
    (predicted / "other_en.tsv").write_text("x")
    with pytest.raises(DataError, match=r"predicted has two files of the language 'en'"):
        score("mmmb", gold, predicted)
    with pytest.raises(DataError, match=r"has no file whose name says a language"):
        score("mmmb", tmp_path, predicted)


def test_ai2d_in_its_files_and_rules(tmp_path: Path) -> None:
    rows = [{"question": "?", "options": ["cat", "dog", "a cow", "ant"], "answer": str(number)} for number in (1, 2, 3)]
    gold = write_lines(tmp_path / "ai2d.jsonl", rows)
    said = ["B. dog", "c", "it is an ant"]
    predicted = write_lines(tmp_path / "p.jsonl", [{"index": n, "prediction": text} for n, text in enumerate(said)])
    assert score("ai2d", gold, predicted)["score"] == pytest.approx(2 / 3)
    assert score("ai2d.lmms-eval-2024", gold, predicted)["score"] == pytest.approx(1 / 3)
    assert score("ai2d.vlmevalkit", gold, predicted)["score"] == pytest.approx(2 / 3)
    path = table(tmp_path / "AI2D_TEST.tsv", answered([row(1, "B"), row(2, "A")], "(B)", "B"))
    assert score("ai2d", path, path)["score"] == 0.5
    with pytest.raises(DataError, match=r"jsonl:1: answer '4' is no number of one of the 4 options"):
        score("ai2d", write_lines(tmp_path / "x.jsonl", [rows[0] | {"answer": 4}]), predicted)


@pytest.mark.parametrize(
    ("text", "found", "whole"),
    [
        ("B", 1, 1),
        ("b", 1, 1),
        ("(B)", 1, 1),
        ("B.", 1, 1),
        ("  B. dog", 1, 0),
        ("B ", 0, 0),
        ("b. dog", 0, 0),
        ("A", 0, 0),
    ],
)
def test_ai2d_by_lmms_eval(text: str, found: int, whole: int) -> None:
    item = Item("1", answers=("B",), choices=("cat", "dog"))
    assert scorer("ai2d.lmms-eval").score([item], [text]).score == found
    assert scorer("ai2d.lmms-eval-2024").score([item], [text]).score == whole


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [row(1, "A") | {"answer": ""}],
            r"x.tsv:3: answer '' is none of the options A, B, C, D; give the table of a split",
        ),
        ([row(1, "A") | {"answer": "E"}], r"answer 'E' is none of the options"),
        ([row(1, "A") | {"index": "x"}], r"index is 'x' and not a whole number"),
        ([row(1, "A"), row(1, "A")], r"x.tsv:5 has the id '1', which an earlier one has too"),
        ([row(1, "A")], r"x.tsv has no column 'prediction' but index, question"),
    ],
)
def test_wrong_tables(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    path = table(tmp_path / "x.tsv", rows)
    with pytest.raises(DataError, match=message):
        score("mmbench", path, path)


def test_spreadsheets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x.xlsx is no table in text; save it as TSV or CSV"):
        score("mmbench", table(tmp_path / "g.tsv", ROWS), tmp_path / "x.xlsx")
