"""KMS as VLR-Bench's own program counts it, ROUGE and BLEU by hand and by slow lists."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation.parsing.ngrams import added, bleu_parts
from mminstruct.evaluation.scorers import Item
from mminstruct.evaluation.scorers.vlr_bench import METRIC, corpus_bleu, overlap_f1, words

from .files import score, write_json

ROWS: list[dict[str, Any]] = [
    {"result": "The EIFFEL tower in Paris.<|eot_id|>", "label": "It is the Eiffel Tower in Paris."},
    {"result": "에펠탑은 파리에 있다", "label": "에펠탑은 파리에 있다"},
    {"result": "Parisian life", "label": "It is in Paris."},
    {"result": "", "label": "x"},
]
KEYS = [("Eiffel", "paris"), ("에펠탑", "파리"), ("Paris", "Life"), ("x", "y")]
for row, (first, second), language in zip(ROWS, KEYS, ["en", "ko", "en", "en"], strict=True):
    row |= {"answer_keyword1": first, "answer_keyword2": second, "language": language}


def test_both_keywords_anywhere(tmp_path: Path) -> None:
    path = write_json(tmp_path / "qwenvlchat.json", ROWS)
    found = score("vlr-bench", path, path)
    assert found["score"] == 0.75
    assert found["figures"]["KMS en"] == pytest.approx(2 / 3) and found["figures"]["KMS ko"] == 1.0
    first = score("vlr-bench", path, path, "--variant", "of-300")
    assert first["score"] == pytest.approx(3 / 600) and first["figures"]["KMS ko"] == pytest.approx(1 / 300)


def test_kms_equals_the_slow_one() -> None:
    draw = random.Random(6)
    pieces = ["Red", "red", "B", "b", " ", "<|eot_id|>", "<|EOT_ID|>", "é", "É", "1", "파"]
    items, texts, right = [], [], 0
    for number in range(1000):
        text, first, second = ("".join(draw.choice(pieces) for _ in range(draw.randrange(n))) for n in (7, 2, 3))
        items.append(Item(id=str(number), answers=("a",), facts={"keywords": [first, second]}))
        texts.append(text)
        result = text.lower().replace("<|eot_id|>", "").strip()
        if first.lower() in result and second.lower() in result:
            right += 1
    assert METRIC.variant().score(items, texts).score == right / 1000


def test_words_are_characters_in_chinese_and_korean() -> None:
    assert words("Two 東京 cats, 파리!") == ["two", "東", "京", "cats", "파", "리"]


def test_rouge_by_hand() -> None:
    assert overlap_f1(["a", "b", "a"], ["a", "a", "c"], 1) == pytest.approx(4 / 6)
    assert overlap_f1(["a", "b", "c"], ["b", "c", "d"], 2) == pytest.approx(2 / 4)
    assert overlap_f1([], ["a"], 1) == 0.0


def slow_bleu(pairs: list[tuple[list[str], list[str]]]) -> float:
    product, count, reference = 1.0, sum(len(m) for m, _ in pairs), sum(len(g) for _, g in pairs)
    for order in (1, 2, 3, 4):
        right = there = 0
        for mine, gold in pairs:
            left = [gold[i : i + order] for i in range(len(gold) - order + 1)]
            for i in range(len(mine) - order + 1):
                there += 1
                if mine[i : i + order] in left:
                    left.remove(mine[i : i + order])
                    right += 1
        if not right:
            return 0.0
        product *= right / there
    return product**0.25 * (1 if count > reference else math.exp(1 - reference / count))


def test_bleu_equals_the_slow_one() -> None:
    draw = random.Random(8)
    positive = 0
    for _ in range(300):
        pairs = [
            tuple([draw.choice("ab") for _ in range(draw.randrange(1, 10))] for _ in range(2))
            for _ in range(draw.randrange(1, 4))
        ]
        found = corpus_bleu(added(bleu_parts(mine, [gold]) for mine, gold in pairs))
        positive += found > 0
        assert found == pytest.approx(slow_bleu(pairs))  # type: ignore[arg-type]
    assert positive > 50


def test_the_data_sets_own_names_and_no_answers(tmp_path: Path) -> None:
    row = {"output": "A red cat", "keyword1": "red", "keyword2": "cat", "language": "en", "id": "q1"}
    gold = write_json(tmp_path / "gold.json", [row])
    found = score("vlr-bench", gold, write_json(tmp_path / "r.json", [{"id": "q1", "result": "a red cat"}]))
    assert found["score"] == found["figures"]["ROUGE-L"] == found["figures"]["ROUGE-2"] == 1.0
    assert METRIC.variant().total([], [])["score"] is None
    assert METRIC.variant().score([Item(id="1")], [None]).score == 0.0


@pytest.mark.parametrize(
    ("gold", "results", "message"),
    [
        ([{"label": "a", "answer_keyword1": "b"}], ROWS[:1], r"entry 0: answer_keyword2: Field required"),
        (ROWS, ROWS[:3], r"lacks the id '3'"),
        (ROWS[:1], [{"answer": "a"}], r"entry 0: result: Field required"),
    ],
)
def test_wrong_files(gold: Any, results: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        score("vlr-bench", write_json(tmp_path / "gold.json", gold), write_json(tmp_path / "r.json", results))
