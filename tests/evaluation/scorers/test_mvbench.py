"""MVBench: the first word against the gold letter, lmms-eval's reading, and the files of tasks and of results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item, scorer

from ..texts import texts
from .files import score, write_json, write_lines

ITEM = Item("1", answers=("B",))


@pytest.mark.parametrize(
    ("text", "official", "guarded", "lmms_eval"),
    [
        ("(B) The cup.", 1, 1, 1),
        ("(b)", 1, 1, 1),
        ("B.", 1, 1, 1),
        ("b) x", 1, 1, 1),
        ("(B)The cup", 1, 1, 1),
        ("B:The cup", 0, 0, 1),
        ("", 1, 0, 0),  # the empty text is part of "(b)"
        ("( A", 1, 0, 0),
        ("The (B)", 0, 0, 1),
        ("(A) or (B)", 0, 0, 0),
        ("A dog, so (B)", 0, 0, 0),
        ("(C)", 0, 0, 0),
    ],
)
def test_the_rules_by_hand(text: str, official: int, guarded: int, lmms_eval: int) -> None:
    for name, expected in (("official", official), ("guarded", guarded)):
        assert scorer(f"mvbench.{name}").score([ITEM], [text]).score == expected, name
    verdict = scorer("mvbench.lmms-eval").score([ITEM], [text]).verdicts[0]
    assert verdict.score == lmms_eval and verdict.parsed == (text != "")


def slow_check(pred: str, gt: str) -> bool:
    """check_ans: the first words of both, in lower case."""
    chosen, gold = pred.lower().split(" ")[0], gt.lower().split(" ")[0]
    return gold.find(chosen.replace(".", "")) >= 0 or chosen.find(gold) >= 0


def slow_mcq(text: str) -> str:
    """mcq_acc's reading of one side, in the order of the source."""
    match = re.compile(r"^([A-E])\.\s*(.+)$", re.IGNORECASE).match(text.strip())
    if match:
        return match.group(1).upper()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    out = text
    for mark in [
        ";",
        "/",
        "[",
        "]",
        '"',
        "{",
        "}",
        "(",
        ")",
        "=",
        "+",
        "\\",
        "_",
        "-",
        ">",
        "<",
        "@",
        "`",
        ",",
        "?",
        "!",
    ]:
        beside = mark + " " in text or " " + mark in text or re.search(r"(\d)(\,)(\d)", text) is not None
        out = out.replace(mark, "" if beside else " ")
    out = re.compile(r"(?!<=\d)(\.)(?!\d)").sub("", out, count=32)
    out = out.strip("'").strip('"').strip(")").strip("(").strip().lower()
    letter = re.search(r"\b([A-E])\b", out, re.IGNORECASE)
    return letter.group(1).upper() if letter else out


def test_the_rules_equal_slow_restatements() -> None:
    right = 0
    for text in texts("mvbench", 1500):
        assert scorer("mvbench.official").score([ITEM], [text]).score == float(slow_check(text, "(B) a cup.")), text
        guarded = slow_check(text, "(B)") and any(c in text.lower().split(" ")[0] for c in "abcdefg")
        assert scorer("mvbench.guarded").score([ITEM], [text]).score == float(guarded), text
        found = scorer("mvbench.lmms-eval").score([ITEM], [text]).verdicts[0]
        assert found.score == float(bool(text) and slow_mcq(text) == "B"), text
        right += int(found.score)
    assert right > 50


def test_a_file_of_results_knows_its_tasks_by_their_counts(tmp_path: Path) -> None:
    entries = [
        {"pred": "(A) up", "gt": "(A) up"},
        {"pred": "(B) down", "gt": "(A) up."},
        {"pred": "", "gt": "(C) left"},
    ]
    value = {"acc_dict": {"Action Sequence": [1, 2], "Moving Count": [1, 1]}, "res_list": entries}
    path = write_json(tmp_path / "videochat2.json", value)
    found = score("mvbench", path, path)
    assert found["score"] == pytest.approx(2 / 3)
    assert found["figures"] == {"Action Sequence": 0.5, "Moving Count": 1.0}
    lmms = score("mvbench.lmms-eval", path, path)
    assert lmms["score"] == 0.5 and lmms["figures"] == {"Action Sequence": 0.5}  # the empty text is left out
    named = [entry | {"task_type": "Moving Count"} for entry in entries]
    pllava = write_json(tmp_path / "all_results.json", {"acc_dict": {}, "result_list": named})
    assert score("mvbench.guarded", pllava, pllava)["figures"] == {"Moving Count": pytest.approx(1 / 3)}


def test_the_folder_of_the_tasks_files(tmp_path: Path) -> None:
    question = {"video": "1.mp4", "question": "?", "candidates": ["up", "down"], "answer": "down"}
    write_json(tmp_path / "action_count.json", [question, question | {"answer": "up"}])
    write_json(tmp_path / "state_change.json", [question])
    lines = [("action_count/0", "B"), ("action_count/1", "B"), ("state_change/0", "B")]
    predicted = write_lines(tmp_path / "p.jsonl", [{"id": name, "prediction": text} for name, text in lines])
    found = score("mvbench", tmp_path, predicted)
    assert found["score"] == pytest.approx(2 / 3) and found["figures"]["action_count"] == 0.5
    as_object = write_json(tmp_path.parent / "object.json", dict(lines))
    assert score("mvbench", tmp_path, as_object)["score"] == found["score"]
    alone = write_lines(tmp_path / "q.jsonl", [{"id": "state_change/0", "prediction": "B"}])
    assert score("mvbench", tmp_path / "state_change.json", alone)["n"] == 1
    with pytest.raises(DataError, match=r"entry 0: answer 'left' is none of the candidates"):
        score("mvbench", write_json(tmp_path / "x.json", [question | {"answer": "left"}]), predicted)
    with pytest.raises(DataError, match=r"entry 0: gt 'up' begins with no letter"):
        score("mvbench", *[write_json(tmp_path / "y.json", [{"pred": "A", "gt": "up"}])] * 2)
    with pytest.raises(DataError, match=r"is no file of results"):
        score("mvbench", tmp_path / "state_change.json", write_json(tmp_path / "z.json", {"a": 1}))
