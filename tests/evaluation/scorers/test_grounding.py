"""Boxes are read in each convention and compared as the official scorer does it: by hand, and by counting pixels."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.boxes import first_box, overlap
from mminstruct.evaluation.scorers.grounding import qwen_box

from .files import score, write_json, write_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is at [12, 40, 300, 512].", (12, 40, 300, 512)),
        ("<box>(12,40),(300,512)</box>", (12, 40, 300, 512)),
        ("[[012,040,300,512]]", (12, 40, 300, 512)),
        ("{<12><40><30><51>}", (12, 40, 30, 51)),
        ("(0.1, .2, 0.3, 0.45)", (0.1, 0.2, 0.3, 0.45)),
        ("1 2 3 4", (1, 2, 3, 4)),
        ("0.1,0.2,0.3,0.4.", (0.1, 0.2, 0.3, 0.4)),
        ("[-1, 2, 3, 4] or [5, 6, 7, 8]", (-1, 2, 3, 4)),
        ("[1, 2, 3]", None),
        ("4 dogs at 1, 2, 3, 4", None),
        ("no", None),
        ("", None),
    ],
)
def test_first_box(text: str, expected: tuple[float, ...] | None) -> None:
    assert first_box(text) == expected


def slow_qwen(text: str) -> tuple[float, ...] | None:
    pairs = re.findall(r"\((.*?)\),\((.*?)\)", text)
    if not pairs or "," not in pairs[0][0] or "," not in pairs[0][1]:
        return None
    corners = [part.split(",") for part in pairs[0]]
    if [len(corner) for corner in corners] != [2, 2]:
        return None
    try:
        return tuple(float(number) for corner in corners for number in corner)
    except ValueError:
        return None


def test_qwen_box_equals_the_slow_one() -> None:
    draw = random.Random(2)
    pieces = ["(", ")", "),(", ",", "1", "23", " ", "x", "(1,2),(3,4)", "(5,6)", "\n", ".5", "-"]
    for _ in range(2000):
        text = "".join(draw.choice(pieces) for _ in range(draw.randrange(1, 9)))
        assert qwen_box(text) == slow_qwen(text), repr(text)


def test_overlap_equals_counting_pixels() -> None:
    draw = random.Random(3)
    for _ in range(300):
        first, second = ([draw.randrange(9) for _ in range(4)] for _ in range(2))
        cells = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (first, second)]
        common, union = len(cells[0] & cells[1]), len(cells[0] | cells[1])
        expected = common / union if cells[0] and cells[1] else 0.0
        assert overlap(tuple(first), tuple(second)) == pytest.approx(expected)  # type: ignore[arg-type]


GOLD = [
    {"image": "a.jpg", "sent": "dog", "bbox": [0, 0, 100, 50], "width": 200, "height": 100},
    {"image": "a.jpg", "sent": "cat", "bbox": [100, 0, 200, 100], "width": 200, "height": 100},
]


@pytest.mark.parametrize(
    ("variant", "answers"),
    [
        ("qwen-vl", ["(0,0),(499.5,999)", "(500,0),(999,999)"]),
        ("internvl", ["[[0,0,500,1000]]", "box[0.5, 0, 1, 1]"]),
        ("lmms-eval", ["[0, 0, 0.5, 1]", "at [0.5, 0, 1.0, 1]."]),
        ("thousand", ["[0, 0, 500, 1000]", "(500,0),(1000,1000)"]),
        ("unit", ["[0, 0, 0.5, 1.0]", "[0.5, 0, 1, 1]"]),
        ("pixel", ["[0, 0, 100, 100]", "[100, 0, 200, 100]"]),
    ],
)
def test_each_convention(variant: str, answers: list[str], tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "refcoco_val.jsonl", GOLD)
    given = write_json(tmp_path / "answers.json", [{"answer": text} for text in answers])
    found = score("grounding", gold, given, "--variant", variant)
    # The first box is twice as high as the right one: an IoU of exactly 0.5 counts.
    assert found["score"] == found["figures"]["acc@0.5"] == 1.0
    assert found["figures"]["acc@0.7"] == 0.5 and found["figures"]["IoU"] == pytest.approx(0.75, abs=1e-3)


def test_internvl_takes_small_numbers_for_parts_of_one(tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "g.jsonl", [GOLD[0] | {"bbox": [0, 0, 0.4, 0.1]}] * 2)
    given = write_json(tmp_path / "a.json", [{"answer": "[0,0,2,1]"}, {"answer": "[0,0,3,1]"}])
    # 0 + 0 + 2 + 1 < 4: two images wide; 0 + 0 + 3 + 1 = 4: thousandths, 0.6 x 0.1 pixels.
    found = score("grounding", gold, given, "--variant", "internvl")
    assert found["score"] == 0.5 and found["figures"]["acc@0.7"] == 0.0
    assert score("grounding", gold, given, "--variant", "thousand")["score"] == 1.0


def test_no_box_has_its_centre_in_the_corner(tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "g.jsonl", GOLD)
    given = write_json(tmp_path / "a.json", [{"answer": "(0, 0, 1, 1)"}, {"answer": ".5"}])
    found = score("grounding", gold, given, "--variant", "lmms-eval")
    assert found["unparsed"] == 2 and found["figures"]["Center_ACC"] == 0.5 and found["score"] == 0.0


def test_one_file_of_outputs_for_both(tmp_path: Path) -> None:
    outputs = [
        {"answer": "(0,0),(999,999)", "gt_bbox": [0, 0, 30, 20], "hw": [20, 30]},
        {"answer": "nothing", "gt_bbox": [0, 0, 30, 20], "hw": [20, 30]},
        {"answer": "(999,999),(0,0)", "gt_bbox": [0, 0, 30, 20], "hw": [20, 30]},
    ]
    path = write_json(tmp_path / "refcoco_val.json", outputs)
    found = score("grounding", path, path)
    assert found["score"] == pytest.approx(1 / 3) and found["unparsed"] == 1 and found["figures"]["acc@0.9"] == 1 / 3


@pytest.mark.parametrize(
    ("gold", "answers", "message"),
    [
        ([GOLD[0] | {"bbox": [1, 2]}], [{"answer": "x"}], r"refcoco.jsonl:1: bbox"),
        (GOLD, [{"answer": "x"}], r"lacks the id '1'"),
        (GOLD, [{"text": "x"}, {"answer": "x"}], r"entry 0: answer: Field required"),
        ([{"image": "a"}], [{"answer": "x"}], r"bbox: Field required"),
    ],
)
def test_wrong_files(gold: Any, answers: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        score("grounding", write_lines(tmp_path / "refcoco.jsonl", gold), write_json(tmp_path / "a.json", answers))
