"""The metric `worlds`: short answers, letters, instructions, and its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.scorers import scorer

from .files import score, write_lines

CAPITALS = {"id": "change_case:english_capital"}
END = {"id": "startend:end_checker", "kwargs": {"end_phrase": "over"}}


def judged(item: Item, text: str | None, name: str = "worlds") -> float:
    return scorer(name).score([item], [text]).verdicts[0].score


def test_short_answers() -> None:
    item = Item("1", answers=("3", "3 euros"))
    assert [judged(item, text) for text in ("3", "Three.", "3 Euros", "4", "", None)] == [1, 1, 1, 0, 0, 0]
    assert judged(item, "Three", "worlds.strict") == 0 and judged(item, "3 euros", "worlds.strict") == 1


def test_letters() -> None:
    item = Item("1", answers=("B",), choices=("red", "blue", "green"))
    assert [judged(item, text) for text in ("B", "(B)", "B. blue", "Blue.", "A", "red", "Both")] == [
        1,
        1,
        1,
        1,
        0,
        0,
        0,
    ]
    assert not scorer("worlds").score([item], ["none of them"]).verdicts[0].parsed
    texts = Item("2", answers=("blue",), choices=("red", "blue"))  # asked for the text: a letter is no answer
    assert judged(texts, "B") == 0 and judged(texts, "blue") == 1


def test_instructions_and_gold_are_both_needed() -> None:
    item = Item("1", answers=("light blue",), facts={"checks": [CAPITALS, END], "others": ["blue", "white"]})
    assert judged(item, "LIGHT BLUE, OVER") == 1
    assert judged(item, "Light blue, over") == 0  # not in capitals
    assert judged(item, "LIGHT BLUE") == 0  # does not end so
    assert judged(item, "WHITE, OVER") == 0 and judged(item, "LIGHT BLUE OR WHITE, OVER") == 0
    figures = scorer("worlds").score([item, item], ["light blue", "RED OVER"]).figures
    assert figures == {"score": 0.0, "content": 0.5, "follows": 0.5}


def test_files_and_broken_facts(tmp_path: Path) -> None:
    gold = [
        {"id": "a", "answers": ["yes"], "kind": "yes-no"},
        {"id": "b", "answers": ["A"], "choices": ["x", "y"], "kind": "other"},
    ]
    told = [{"id": "a", "prediction": "Yes."}, {"id": "b", "prediction": "B"}]
    paths = write_lines(tmp_path / "gold.jsonl", gold), write_lines(tmp_path / "told.jsonl", told)
    found = score("worlds", *paths)
    assert found["score"] == 0.5 and found["figures"] == {"other": 0.0, "yes-no": 1.0}
    with pytest.raises(DataError, match=r"facts of '1': checks: .*mend the gold file"):
        judged(Item("1", answers=("x",), facts={"checks": 3}), "x")
    with pytest.raises(DataError, match="no instruction is called 'x'"):
        judged(Item("1", answers=("x",), facts={"checks": [{"id": "x"}]}), "x")
