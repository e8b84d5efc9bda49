"""M2RAG: captions as `captions` scores them, verdicts on facts by counting."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation import scorers
from mminstruct.evaluation.scorers import Item

from .files import score, write_lines

FACTS = scorers.scorer("m2rag.fact-verification")
GOLD = ["Support_Multimodal", "Support_Text", "Refute", "Insufficient_Text", "Insufficient_Multimodal"]


def test_captions_and_answers_are_those_of_captions(tmp_path: Path) -> None:
    gold = write_lines(
        tmp_path / "mmqa.jsonl",
        [{"id": "a", "answer": ["a red dog runs", "the dog"]}, {"id": "b", "image_caption": "a cat sleeps"}],
    )
    given = write_lines(tmp_path / "out.jsonl", [{"id": "a", "text": "A dog."}, {"id": "b", "text": "a cat sleeps"}])
    items, texts = scorers.read(scorers.metric("m2rag"), gold, given)
    expected = scorers.scorer("captions").score(items, texts).figures
    found = score("m2rag", gold, given)
    assert found["score"] == found["figures"]["ROUGE_L"] == expected["ROUGE_L"]
    for name in ("CIDEr", "Bleu_1", "Bleu_4"):
        assert found["figures"][name] == pytest.approx(expected[name])


def test_facts_in_miniature(tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "val.jsonl", [{"id": f"val_{n}", "category": name} for n, name in enumerate(GOLD)])
    answers = ["Support", "Refute", "The claim is refuted: Refute.", "Insufficient", "no idea"]
    given = write_lines(tmp_path / "out.jsonl", [{"id": f"val_{n}", "text": text} for n, text in enumerate(answers)])
    found = score("m2rag", gold, given, "--variant", "fact-verification")
    # support: 1 of gold 2, given 1. refute: 1 of gold 1, given 2. insufficient: 1 of gold 2, given 1.
    assert found["score"] == 0.6 and found["unparsed"] == 1
    assert found["figures"]["F1"] == pytest.approx(2 / 3)
    assert found["figures"]["F1 refute"] == pytest.approx(2 / 3)


def test_macro_f1_equals_precision_and_recall() -> None:
    draw = random.Random(9)
    names = ["support", "refute", "insufficient"]
    for _ in range(200):
        pairs = [(draw.choice(names), draw.choice([*names, "?"])) for _ in range(draw.randrange(1, 12))]
        items = [Item(id=str(n), answers=(gold,)) for n, (gold, _) in enumerate(pairs)]
        texts = [None if given == "?" else given.title() for _, given in pairs]
        found = FACTS.score(items, texts).figures
        assert found["score"] == pytest.approx(sum(gold == given for gold, given in pairs) / len(pairs))
        f1 = []
        for name in {gold for gold, _ in pairs}:
            right = sum(gold == given == name for gold, given in pairs)
            precision = right / max(1, sum(given == name for _, given in pairs))
            recall = right / sum(gold == name for gold, _ in pairs)
            f1.append(2 * precision * recall / (precision + recall) if right else 0.0)
        assert found["F1"] == pytest.approx(sum(f1) / len(f1))


def test_wrong_files(tmp_path: Path) -> None:
    out = write_lines(tmp_path / "out.jsonl", [{"id": "a", "text": "support"}])
    gold = write_lines(tmp_path / "g.jsonl", [{"id": "a", "category": "true"}])
    with pytest.raises(DataError, match="item a: 'true' is none of support, refute, insufficient"):
        score("m2rag.fact-verification", gold, out)
    with pytest.raises(DataError, match=r"g.jsonl:1: answer: Field required"):
        score("m2rag", write_lines(tmp_path / "g.jsonl", [{"id": "a", "claim": "x"}]), out)
    assert FACTS.variant.total([], [])["F1"] is None


def test_a_variant_of_the_other_task_is_left_out(tmp_path: Path) -> None:
    gold = write_lines(tmp_path / "g.jsonl", [{"id": "a", "answer": ["a red kite"]}])
    out = write_lines(tmp_path / "out.jsonl", [{"id": "a", "text": "a red kite"}])
    [row] = score("m2rag", gold, out, "--compare-variants")
    assert row["variant"] == "generation" and row["score"] == pytest.approx(1.0)
    with pytest.raises(
        DataError, match=r"out\.jsonl has the id 'a', which the gold file lacks"
    ):  # a wrong file is wrong for all
        score("m2rag", write_lines(tmp_path / "g.jsonl", [{"id": "b", "answer": ["x"]}]), out, "--compare-variants")
