"""LLaVA-Bench's reviews: the official script's ratio, with and without what could not be read."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation import scorers
from mminstruct.evaluation.scorers import Item, scorer

from .files import score, score_text, write_lines


def review(number: int, pair: Any, category: str = "llava_bench_conv", **more: Any) -> dict[str, Any]:
    ids = {"id": number + 1, "question_id": number, "answer1_id": "a", "answer2_id": "b"}
    return {**ids, "category": category, "content": "8 7\nBoth.", "tuple": pair, **more}


REVIEWS = [
    review(0, [8.0, 6.0]),
    review(1, [10.0, 9.0]),
    review(2, [-1, -1], "llava_bench_detail"),
    review(3, [5.0, 10.0], "llava_bench_detail"),
]


def test_reviews_as_published(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "reviews.jsonl", REVIEWS)
    found = score("llava-bench", path, path)
    assert found["score"] == pytest.approx(25 / 23) and found["excluded"] == found["unparsed"] == 1
    assert found["figures"] == {
        "llava_bench_conv": pytest.approx(15 / 18),
        "llava_bench_detail": pytest.approx(2.0),
        "reference": pytest.approx(23 / 30),
        "model": pytest.approx(25 / 30),
    }
    old = score("llava-bench.llava", path, path)
    assert old["score"] == pytest.approx(24 / 22) and "excluded" not in old and old["unparsed"] == 1
    assert old["figures"]["llava_bench_detail"] == pytest.approx(9 / 4)
    assert "llava-bench.readable: 108.70 %" in score_text("llava-bench", path, path)


def test_failures_alone_are_a_hundred_per_cent_for_the_script_and_nothing_here(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "reviews.jsonl", [review(n, [-1, -1]) for n in range(3)])
    assert score("llava-bench.llava", path, path)["score"] == pytest.approx(1.0)
    assert score("llava-bench", path, path)["score"] is None


def test_the_questions_are_gold_too(tmp_path: Path) -> None:
    questions = [
        {"question_id": n, "image": "001.jpg", "category": "conv" if n < 2 else "detail", "text": "What?"}
        for n in range(4)
    ]
    gold, reviews = write_lines(tmp_path / "questions.jsonl", questions), write_lines(tmp_path / "r.jsonl", REVIEWS)
    assert score("llava-bench", gold, reviews)["figures"] == score("llava-bench", reviews, reviews)["figures"]
    part = write_lines(tmp_path / "part.jsonl", REVIEWS[:1])
    assert score("llava-bench", gold, part)["score"] == pytest.approx(0.75)  # of the reviews that there are


def test_old_reviews_without_category_and_with_score(tmp_path: Path) -> None:
    lines = [{"question_id": n, "score": [8, 4 + n], "content": ""} for n in range(2)]
    path = write_lines(tmp_path / "reviews.jsonl", lines)
    found = score("llava-bench", path, path)
    assert found["score"] == pytest.approx(9 / 16) and set(found["figures"]) == {"reference", "model"}


def printed(reviews: list[dict[str, Any]]) -> dict[str, float]:
    """What summarize_gpt_review.py prints: both means rounded to 3 places, then the ratio to 1."""
    groups = defaultdict(list)
    for one in reviews:
        groups[one["category"]].append(one["tuple"])
        groups["all"].append(one["tuple"])
    found = {}
    for name, pairs in groups.items():
        reference, model = (round(float(mean), 3) for mean in np.asarray(pairs).mean(0))
        found[name] = round(model / reference * 100, 1)
    return found


def test_random_reviews_against_the_script(tmp_path: Path) -> None:
    draw = random.Random(0)
    for number in range(80):
        reviews = []
        for place in range(draw.randrange(1, 40)):
            failed = draw.random() < 0.1 and place > 3  # the first is whole, so no mean is 0
            pair = [-1, -1] if failed else [draw.randrange(2, 21) / 2, draw.randrange(2, 21) / 2]
            kind = draw.choice(["conv", "detail", "complex"]) if place > 3 else "conv"
            reviews.append(review(place, pair, f"llava_bench_{kind}"))
        if any(all(one["tuple"][0] < 0 for one in reviews if one["category"] == kind["category"]) for kind in reviews):
            continue
        path = write_lines(tmp_path / f"{number}.jsonl", reviews)
        items, texts = scorers.read(scorers.metric("llava-bench"), path, path)
        found = scorer("llava-bench.llava").score(items, texts).figures
        expected = printed(reviews)
        # Unrounded here: the script's two roundings move the figure by less than 0.05 + what 0.0005 in a mean does.
        assert 100 * (found["score"] or 0) == pytest.approx(expected.pop("all"), abs=0.25)
        assert {name: 100 * (found[name] or 0) for name in expected} == pytest.approx(expected, abs=0.6)
        whole = [one for one in reviews if one["tuple"][0] > 0]
        sums = np.asarray([one["tuple"] for one in whole]).sum(0)
        assert scorer("llava-bench").score(items, texts).score == pytest.approx(sums[1] / sums[0])


def test_both_orders() -> None:
    """Pairs are (reference, model) in either order: won twice, lost twice, a tie, a disagreement, a failure."""
    items = [Item(id=str(n), kind="conv") for n in range(5)]
    texts = ["[[5, 8], [4, 9]]", "[[9, 3], [8, 2]]", "[[6, 6], [5, 7]]", "[[8, 6], [6, 9]]", "[[5, 8], null]"]
    found = scorer("llava-bench").score(items, texts)
    figures = found.figures
    assert (figures["won"], figures["lost"], figures["tied"], figures["disagreed"]) == (0.25, 0.25, 0.5, 0.25)
    assert found.excluded == 1 and figures["score"] == pytest.approx((8.5 + 2.5 + 6.5 + 7.5) / (4.5 + 8.5 + 5.5 + 7))
    assert scorer("llava-bench").score(items[:1], ["an answer"]).score is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question_id": 0}, None),
        ({"question_id": 0, "tuple": [1]}, "reviews.jsonl:1: tuple: Value error, 1 scores; a review has two"),
        ({"question_id": 0, "tuple": ["x", 1]}, "reviews.jsonl:1: tuple.0: Input should be a valid number"),
        ({"tuple": [1, 2]}, "reviews.jsonl:1: question_id: Field required"),
    ],
)
def test_wrong_reviews(line: Any, message: str | None, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "reviews.jsonl", [line])
    if message is None:
        assert score("llava-bench", path, path)["excluded"] == 1
        return
    with pytest.raises(DataError, match=message):
        score("llava-bench", path, path)
