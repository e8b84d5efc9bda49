"""OCRBench and OCR-VQA: containment with its quirks, sums by type, and their files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, metric
from mminstruct.evaluation.scorers.ocrbench import FORMULAS

from .files import score, score_text, write_json

WORD, NUMBER = "Regular Text Recognition", "Digit String Recognition"


def judged(text: str, answers: list[str], dataset: str, kind: str) -> tuple[float, ...]:
    item = Item(id="1", answers=tuple(answers), kind=kind, detail=dataset)
    return tuple(variant.score([item], [text]).score or 0.0 for variant in metric("ocrbench").variants)


@pytest.mark.parametrize(
    ("text", "answers", "dataset", "kind", "expected"),
    [
        # (official, lmms-eval, lmms-eval-2024, vlmevalkit)
        ("It says HELLO.", ["hello"], "IIIT5K", WORD, (1, 1, 1, 1)),
        ("hello\nworld", ["Hello World"], "IIIT5K", WORD, (1, 1, 1, 1)),
        ("10", ["1"], "ORAND", NUMBER, (1, 1, 1, 1)),  # a part is enough
        ("", [""], "ORAND", NUMBER, (1, 1, 1, 1)),
        ("x", ["a", "X "], "ORAND", NUMBER, (1, 1, 1, 1)),
        ("hel lo", ["hello"], "IIIT5K", WORD, (0, 0, 0, 0)),
        ("\uff28\uff25llo\u3000you\uff01", ["hello you!"], "IIIT5K", WORD, (0, 1, 0, 0)),  # full width
        ("1", ["\uff11"], "ORAND", NUMBER, (0, 1, 0, 0)),
        ("\uff41b", ["ab"], "HME100k", FORMULAS, (0, 0, 0, 0)),  # not in formulas
        ("x ^ 2 + Y", ["x ^ { 2 }", "x^2+Y"], "HME100k", FORMULAS, (1, 1, 0, 1)),  # 2024 lowers one side only
        ("x ^ 2 + y", ["x^2+Y"], "HME100k", FORMULAS, (0, 0, 0, 0)),
        ("A b", ["ab"], "HME100k", FORMULAS, (0, 0, 1, 0)),
        ("a\nb", ["ab"], "HME100k", FORMULAS, (1, 1, 1, 1)),
        ("a b", ["ab"], "HME100k", WORD, (1, 1, 1, 0)),  # VLMEvalKit goes by the type
        ("a b", ["ab"], "", FORMULAS, (1, 1, 1, 1)),
    ],
)
def test_variants_differ(text: str, answers: list[str], dataset: str, kind: str, expected: tuple[int, ...]) -> None:
    assert judged(text, answers, dataset, kind) == expected


def slow(text: str, answers: list[str], dataset: str) -> int:
    """The loop of example.py, which cleans the prediction anew for each answer."""
    result = 0
    for answer in answers:
        if dataset == "HME100k":
            answer = answer.strip().replace("\n", " ").replace(" ", "")
            text = text.strip().replace("\n", " ").replace(" ", "")
        else:
            answer = answer.lower().strip().replace("\n", " ")
            text = text.lower().strip().replace("\n", " ")
        if text.find(answer) >= 0:
            result = 1
    return result


def test_official_equals_the_slow_one() -> None:
    draw, variant = random.Random(0), metric("ocrbench").variant("official")
    pieces = ["A", "b", " ", "\n", "1", "é", "İ", "\t", ""]
    for _ in range(1000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 8)))
        answers = [
            "".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4))) for _ in range(draw.choice([1, 2]))
        ]
        dataset = draw.choice(["HME100k", "svt"])
        item = Item(id="1", answers=tuple(answers), kind="x", detail=dataset)
        assert variant.score([item], [text]).score == slow(text, answers, dataset), (text, answers, dataset)


def rows() -> list[dict[str, Any]]:
    return [
        {"dataset_name": "IIIT5K", "type": WORD, "question": "?", "image_path": "a.png", "answers": ["CENTRE"]},
        {"dataset_name": "ORAND", "type": NUMBER, "question": "?", "image_path": "b.png", "answers": "17"},
        {"dataset_name": "textVQA", "type": "Scene Text-centric VQA", "question": "?", "answers": ["stop", "Stop it"]},
        {"dataset_name": "HME100k", "type": FORMULAS, "question": "?", "answers": ["x ^ { 2 }"]},
    ]


def test_the_official_result_file(tmp_path: Path) -> None:
    said = ["The centre", "71", "Stop", "x^{2}"]
    result = [row | {"predict": text, "result": 1} for row, text in zip(rows(), said, strict=True)]
    both = write_json(tmp_path / "model.json", result)
    found = score("ocrbench", both, both)
    assert found["score"] == 3.0 and found["missing"] == 0
    assert found["figures"] == {
        "accuracy": 0.75,
        "Text Recognition": 1.0,
        NUMBER: 0.0,
        FORMULAS: 1.0,
        WORD: 1.0,
        "Scene Text-centric VQA": 1.0,
    }
    assert score_text("ocrbench", both, both).startswith("ocrbench.official: 3.0000, n = 4")
    del result[0]["predict"]
    result[1]["predict"] = 0  # as the official script marks what was not run
    part = write_json(tmp_path / "part.json", result)
    found = score("ocrbench", write_json(tmp_path / "OCRBench.json", rows()), part)
    assert found["score"] == 2.0 and found["missing"] == 2


def test_ids_of_the_file_are_used_where_it_has_them(tmp_path: Path) -> None:
    named = [row | {"id": 10 - number} for number, row in enumerate(rows())]
    gold = write_json(tmp_path / "OCRBench.json", named)
    said = [{"id": 10, "predict": "centre"}, {"id": 7, "predict": "x ^ {2}"}]
    assert score("ocrbench", gold, write_json(tmp_path / "said.json", said[::-1]))["score"] == 2.0


def test_ids_that_come_twice_are_none(tmp_path: Path) -> None:
    twice = [row | {"id": 7, "predict": text} for row, text in zip(rows(), ["centre", "", "", "x^{2}"], strict=True)]
    both = write_json(tmp_path / "result.json", twice)
    assert score("ocrbench", both, both)["score"] == 2.0
    named = write_json(
        tmp_path / "OCRBench.json", [row | {"id": number} for number, row in enumerate(rows(), start=50)]
    )
    assert score("ocrbench", named, both)["score"] == 2.0, "places, where the answers have no ids of their own"


def test_tables_of_vlmevalkit(tmp_path: Path) -> None:
    table = tmp_path / "OCRBench.tsv"
    table.write_text(
        "index\timage\tquestion\tanswer\tcategory\tprediction\n"
        f"0\tAA\t?\t['CENTRE']\t{WORD}\tcentre\n1\tAA\t?\t['x ^ 2']\t{FORMULAS}\tx^2\n"
    )
    assert score("ocrbench.vlmevalkit", table, table)["score"] == 2.0


@pytest.mark.parametrize(
    ("gold", "said", "message"),
    [
        ([{"answers": []}], [], r"gold.json: entry 0: answers: Tuple should have at least 1 item"),
        (rows(), [], r"said.json holds no predictions"),
        (rows(), ["x"], r"said.json: entry 0 is no object"),
        (rows(), [{"predict": ["x"]}], r"entry 0: predict: Input should be a valid string"),
        (rows(), [{"predict": "x"}] * 5, r"has the id '\\n4', which the gold file lacks"),
        (rows(), [{"id": 9, "predict": "x"}], r"has the id '9', which the gold file lacks"),
    ],
)
def test_wrong_files_are_refused(gold: Any, said: Any, message: str, tmp_path: Path) -> None:
    paths = write_json(tmp_path / "gold.json", gold), write_json(tmp_path / "said.json", said)
    with pytest.raises(DataError, match=message):
        score("ocrbench", *paths)


# --- OCR-VQA ----------------------------------------------------------------------------------------------------------

BOOKS = {
    "0310252717": {"questions": ["Who wrote it?", "Is it a novel?"], "answers": ["Ann Lee", "No"], "split": 3},
    "1111": {"questions": ["Who?"], "answers": ["x"], "split": 1},
}


def test_the_files_of_ocrvqa(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "dataset.json", BOOKS)
    by_id = [{"question_id": "0310252717_1", "answer": "no "}, {"question_id": "0310252717_0", "answer": "ann lee."}]
    found = score("ocrvqa", gold, write_json(tmp_path / "by_id.json", by_id))
    assert found["score"] == 0.5 and found["n"] == 2, "the book of the training set is left out"
    assert score("ocrvqa.strict", gold, tmp_path / "by_id.json")["score"] == 0.0
    by_question = [
        {"image": "images/0310252717.jpg", "question": "Is it a novel?", "answer": "No"},
        {"image": "0310252717", "question": "Who wrote it?", "answer": "Ann Lee"},
    ]
    assert score("ocrvqa.strict", gold, write_json(tmp_path / "by_question.json", by_question))["score"] == 1.0
    assert score("ocrvqa", gold, write_json(tmp_path / "by_order.json", ["Ann Lee", "Yes"]))["score"] == 0.5
    table = tmp_path / "OCRVQA_TEST.tsv"
    table.write_text("index\tquestion\tanswer\tprediction\n0\t?\tNo\tno\n1\t?\tAnn\tBob\n")
    assert score("ocrvqa", table, table)["score"] == 0.5


def test_one_file_of_both_as_qwen_vl_writes_it(tmp_path: Path) -> None:
    rows = [{"answer": "Ann lee", "annotation": ["Ann Lee"]}, {"answer": "no.", "annotation": "No"}]
    both = write_json(tmp_path / "ocrvqa_test_0.json", rows)
    assert score("ocrvqa", both, both)["score"] == 0.5
    with pytest.raises(DataError, match=r"bad.json: entry 0: annotation: Field required"):
        score("ocrvqa", write_json(tmp_path / "bad.json", [{"answer": "x"}]), both)


def test_ocrvqa_equals_the_slow_one() -> None:
    draw, variant = random.Random(3), metric("ocrvqa").variant("vlmevalkit")
    pieces = ["No", " ", ".", "é", "\n", "A", "İ"]
    for _ in range(1000):
        gold, text = ("".join(draw.choice(pieces) for _ in range(draw.randrange(0, 4))) for _ in range(2))
        text = draw.choice([text, gold.upper(), f" {gold}\n"])
        expected = gold.lower().strip() == text.lower().strip()
        assert variant.score([Item(id="1", answers=(gold,))], [text]).score == expected, (gold, text)


@pytest.mark.parametrize(
    ("gold", "said", "message"),
    [
        ({"1": {"questions": ["a"], "answers": [], "split": 3}}, ["x"], r"'1' has 1 questions and 0 answers; mend it"),
        ({"1": {"questions": ["a"]}}, ["x"], r"gold.json: '1': answers: Field required"),
        ({"1": {"questions": ["a"], "answers": ["b"], "split": 2}}, ["x"], r"the gold file holds no questions"),
        (BOOKS, [{"image": "2", "question": "Who?", "answer": "x"}], r"which the gold file lacks"),
        (BOOKS, ["x"], r"has 1 answers without ids for 2 questions"),
    ],
)
def test_wrong_files_of_ocrvqa_are_refused(gold: Any, said: Any, message: str, tmp_path: Path) -> None:
    paths = write_json(tmp_path / "gold.json", gold), write_json(tmp_path / "said.json", said)
    with pytest.raises(DataError, match=message):
        score("ocrvqa", *paths)
