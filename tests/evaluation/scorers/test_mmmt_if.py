"""PIF, PIF-N-K and the curve over turns: computed by hand, and by counting over random chats."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.scorers import Item
from mminstruct.evaluation.scorers.mmmt_if import METRIC

from .files import score, write_json, write_lines

NO_COMMA = {"id": "punctuation:no_comma"}
SHORT = {"id": "sentences:max_words", "kwargs": {"num_words": 3}}
CHATS = [
    {"id": "c", "turns": [{"question": "hi"}, {"question": "a", "instructions": [NO_COMMA]}, {"instructions": [SHORT]}]}
]
ANSWERS: list[dict[str, Any]] = [
    {"id": "c", "turn": 1, "responses": ["x, y", "x"]},
    {"id": "c", "turn": 2, "responses": ["a b c d", "a, b"]},
    {"id": "c", "turn": 3, "responses": ["a b c d", "a b."]},
]


def test_instructions_add_up_over_the_turns(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "chats.json", CHATS)
    found = score("mmmt-if", gold, write_lines(tmp_path / "answers.jsonl", ANSWERS))
    # Turn 1 has no instruction. Turn 2: 1 and 0 of 1. Turn 3: 1 and 2 of 2.
    assert found["score"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert found["figures"] == {"PIF-2-1": 1.0, "PIF-2-2": 0.0, "turn 2": 0.5, "turn 3": 0.75}


def test_one_answer_each_and_a_missing_one(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "chats.json", CHATS)
    one = [line | {"responses": line["responses"][:1]} for line in ANSWERS[:2]]
    found = score("mmmt-if", gold, write_lines(tmp_path / "answers.jsonl", one))
    assert found["score"] == 0.5 and found["missing"] == 1
    assert found["figures"] == {"PIF-1-1": 0.5, "turn 2": 1.0, "turn 3": 0.0}


def test_pif_n_k_never_rises_with_k_and_counts_whole_answers() -> None:
    draw = random.Random(5)
    for _ in range(200):
        answers = draw.randrange(1, 5)
        items, texts, whole = [], [], []
        for turn in range(draw.randrange(1, 6)):
            given = [NO_COMMA, SHORT][: draw.randrange(1, 3)]
            facts = {"instructions": given, "turn": turn + 1}
            mine = [draw.choice(["a", "a, b", "a b c d e", "a, b c d e", ""]) for _ in range(answers)]
            items += [Item(id=f"{turn}#{n}", group=str(turn), facts=facts) for n in range(answers)]
            texts += mine
            whole.append(sum(bool(t) and "," not in t and (len(given) < 2 or len(t.split()) <= 3) for t in mine))
        figures = METRIC.variant().score(items, texts).figures
        shares = [figures[f"PIF-{answers}-{k}"] for k in range(1, answers + 1)]
        assert shares == [sum(count >= k for count in whole) / len(whole) for k in range(1, answers + 1)]
        assert shares == sorted(shares, reverse=True)  # type: ignore[type-var]


def test_no_instructions_have_no_figures() -> None:
    assert METRIC.variant().score([Item(id="1")], ["x"]).figures == {"score": None}
    assert METRIC.variant().score([], []).score is None


@pytest.mark.parametrize(
    ("chats", "answers", "message"),
    [
        ([{"id": "c", "turns": []}], ANSWERS, "turns: Tuple should have at least 1 item"),
        (
            [{"id": "c", "turns": [{"instructions": [{"id": "x"}]}]}],
            ANSWERS,
            r"entry 0: turn 1: no instruction is called 'x'",
        ),
        (
            [{"id": "c", "turns": [{"instructions": [{"id": "language:response_language"}]}]}],
            ANSWERS,
            "cannot be checked by program",
        ),
        (CHATS, [*ANSWERS, ANSWERS[0]], r"answers.jsonl:4 has the id 'c/1#0'"),
        (CHATS, [ANSWERS[0] | {"turn": 7}], r"has the id 'c/7', which the gold file lacks"),
    ],
)
def test_wrong_files(chats: Any, answers: Any, message: str, tmp_path: Path) -> None:
    gold = write_json(tmp_path / "chats.json", chats)
    with pytest.raises(DataError, match=message):
        score("mmmt-if", gold, write_lines(tmp_path / "answers.jsonl", answers))
