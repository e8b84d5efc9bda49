"""ANLS in five variants: the vectors that tell them apart, slow re-statements, and the official files."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.lists import listed
from mminstruct.evaluation.scorers.anls import mmf, pix2struct, rrc, stvqa_paper, vlmevalkit

from .files import score, write_json

ALL = (rrc, mmf, stvqa_paper, vlmevalkit, pix2struct)


@pytest.mark.parametrize(
    ("answers", "prediction", "expected"),
    [
        # (rrc, mmf, stvqa-paper, vlmevalkit, pix2struct)
        (["ab"], "ax", (0.5, 0.5, 0.0, 0.5, 0.5)),  # exactly one half
        (["hello world"], "hello   world", (1.0, 11 / 13, 11 / 13, 1.0, 11 / 13)),
        (["Yes"], "yes.", (0.75,) * 5),
        (["12"], "13", (0.5, 0.5, 0.0, 0.5, 0.5)),  # half a number is half right
        ([""], "", (1.0,) * 5),
        (["a"], "", (0.0,) * 5),
        (["abc", "abd", "x"], "abd", (1.0,) * 5),
        (["abcd"], "abxy", (0.5, 0.5, 0.0, 0.5, 0.5)),
        (["abcde"], "abxyz", (0.0,) * 5),
        (["abc"], "  abx  ", (6 / 7, 2 / 3, 0.0, 2 / 3, 0.0)),  # raw lengths: one edit of seven characters
        (["ß"], "s", (0.5, 0.0, 0.0, 0.0, 0.0)),  # upper case of ß has two characters
        (["OK"], "ok", (1.0,) * 5),
    ],
)
def test_variants_differ(answers: list[str], prediction: str, expected: tuple[float, ...]) -> None:
    assert tuple(scorer(prediction, answers) for scorer in ALL) == pytest.approx(expected)


def slow_edits(first: str, second: str) -> int:
    """The recursion of the definition."""

    @functools.cache
    def edits(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        change = edits(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(edits(i - 1, j) + 1, edits(i, j - 1) + 1, change)

    return edits(len(first), len(second))


def slow(name: str, prediction: str, answers: list[str]) -> float:
    best = 0.0
    for answer in answers:
        if name in ("rrc", "vlmevalkit"):
            texts = [" ".join(text.lower().split()) for text in (answer, prediction)]
        elif name == "mmf":
            texts = [text.lower().strip() for text in (answer, prediction)]
        else:
            texts = [answer.lower(), prediction.lower()]
        lengths = [len(text.upper()) for text in (answer, prediction)] if name == "rrc" else [len(t) for t in texts]
        distance = slow_edits(*texts) / max(lengths) if max(lengths) else 0.0
        keeps = distance < 0.5 if name == "stvqa_paper" else 1 - distance >= 0.5
        best = max(best, 1 - distance if keeps else 0.0)
    return best


def test_variants_equal_the_slow_ones() -> None:
    draw = random.Random(0)
    pieces = ["ab", "A", " ", "  ", "ß", "1", "\t", "é", ".", "İ"]
    for _ in range(1000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 6)))
        answers = [
            "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 6))) for _ in range(draw.randrange(1, 3))
        ]
        if draw.random() < 0.5:
            answers.append(text[:1] + draw.choice(pieces) + text[2:])
        for scorer in ALL:
            expected = slow(scorer.__name__, text, answers)
            assert scorer(text, answers) == pytest.approx(expected, abs=1e-12), (scorer.__name__, text, answers)


DOCVQA = {
    "dataset_name": "SP-DocVQA",
    "dataset_version": "1.0",
    "dataset_split": "val",
    "data": [
        {
            "questionId": 49153,
            "question": "What is the value?",
            "question_types": ["figure/diagram", "table/list"],
            "image": "documents/pybv0228_81.png",
            "docId": 14465,
            "answers": ["0.28", "0.280"],
            "data_split": "val",
        },
        {"questionId": 24580, "question": "Name?", "image": "documents/b.png", "answers": ["Itc  Limited"]},
    ],
}


def test_the_files_of_docvqa(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "val_v1.0.json", DOCVQA)
    submitted = [{"questionId": 24580, "answer": "ITC limited"}, {"questionId": 49153, "answer": "0.2"}]
    predicted = write_json(tmp_path / "submission.json", submitted)
    # one edit of four characters; no edit once the blanks are single.
    found = score("anls", gold, predicted)
    assert found["score"] == pytest.approx((0.75 + 1.0) / 2)
    assert found["figures"] == {"question_types figure/diagram": 0.75, "question_types table/list": 0.75}
    assert score("anls.mmf", gold, predicted)["score"] == pytest.approx((0.75 + 11 / 12) / 2)


def test_the_files_of_infographicvqa(tmp_path: Path) -> None:
    row = {
        "questionId": 1,
        "question": "?",
        "image_local_name": "1.jpeg",
        "answers": ["5"],
        "answer_type": ["non span"],
        "evidence": ["map", "photo/pciture/visual_objects"],
        "operation/reasoning": ["counting"],
    }
    other = row | {"questionId": 2, "evidence": ["map"], "operation/reasoning": []}
    gold = write_json(tmp_path / "gold.json", {"data": [row, other]})
    predicted = write_json(
        tmp_path / "submission.json", [{"questionId": 1, "answer": "5"}, {"questionId": 2, "answer": "7"}]
    )
    assert score("anls", gold, predicted)["figures"] == {
        "answer_type None span": 0.5,
        "evidence Map": 0.5,
        "evidence Visual/Layout": 1.0,
        "operation/reasoning Counting": 1.0,
    }


def test_the_files_of_stvqa(tmp_path: Path) -> None:
    data = [{"question_id": 7, "file_path": "coco-text/a.jpg", "question": "?", "answers": ["ab", "cd"]}]
    gold = write_json(tmp_path / "train_task_3.json", {"data": data})
    predicted = write_json(tmp_path / "submission.json", [{"question_id": 7, "answer": "ax"}])
    assert score("anls.mmf", gold, predicted)["score"] == 0.5
    assert score("anls.stvqa-paper", gold, predicted)["score"] == 0.0


def test_vlmevalkit_counted_the_raw_texts_before(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "gold.json", {"data": [{"questionId": 1, "answers": ["a b"]}]})
    said = write_json(tmp_path / "said.json", [{"questionId": 1, "answer": "a  x"}])
    assert score("anls.vlmevalkit", gold, said)["score"] == pytest.approx(2 / 3)  # one edit, of 3 characters
    assert score("anls.vlmevalkit-2024", gold, said)["score"] == pytest.approx(3 / 4)  # of 4


def test_tables_of_vlmevalkit(tmp_path: Path) -> None:
    table = tmp_path / "DocVQA_VAL.tsv"
    table.write_text("index\timage\tquestion\tanswer\tprediction\n1\tAA\t?\t['ab', \"c'd\"]\tc'd\n2\tAA\t?\tx y\tx\n")
    assert score("anls.vlmevalkit", table, table)["score"] == pytest.approx((1.0 + 0.0) / 2)
    assert listed("[1, 'b']") == ["1", "b"] and listed("[open") == ["[open"] and listed("[a]") == ["[a]"]


@pytest.mark.parametrize(
    ("gold", "lines", "message"),
    [
        (
            {"data": [{"questionId": 1, "answers": []}]},
            [],
            r"gold.json: entry 0: answers: Tuple should have at least 1",
        ),
        ({"data": [{"answers": ["x"]}]}, [], r"gold.json: entry 0: questionId: Field required"),
        ({"data": [{"questionId": 1, "answers": ["x"], "evidence": [1]}]}, [], r"entry 0: evidence.0: Input should be"),
        ([], [], r"gold.json is not a JSON object with the key 'data'"),
        (DOCVQA, [{"questionId": 1, "answer": ["a", "b"]}], r"entry 0: answer: Input should be a valid string"),
        (DOCVQA, [{"questionId": 49153, "answer": "a"}], r"submission.json lacks the id '24580' of the gold file"),
    ],
)
def test_wrong_files_are_refused(gold: Any, lines: Any, message: str, tmp_path: Path) -> None:
    paths = write_json(tmp_path / "gold.json", gold), write_json(tmp_path / "submission.json", lines)
    with pytest.raises(DataError, match=message):
        score("anls", *paths)
