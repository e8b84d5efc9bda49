"""Recalls and ranks of matrices and of ranked lists, both ways, with ties: by hand, and by sorting."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mminstruct.errors import DataError
from mminstruct.evaluation import scorers
from mminstruct.evaluation.scorers.retrieval import METRIC

from .files import score, write_json


def test_matrix_by_hand(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "gold.json", {"texts_of_image": [[0, 1], [2]]})
    np.save(tmp_path / "similarity.npy", np.array([[0.1, 0.9, 0.5], [0.8, 0.2, 0.7]]))
    found = score("retrieval", gold, tmp_path / "similarity.npy")["figures"]
    # Image 0: text 1 first. Image 1: text 0 (wrong) before text 2. Text 0: image 1 first; texts 1 and 2: right.
    assert found["image-to-text R@1"] == 0.5 and found["image-to-text R@5"] == 1.0
    assert found["image-to-text MRR"] == 0.75 and found["image-to-text median rank"] == 1.5
    assert found["text-to-image R@1"] == pytest.approx(2 / 3) and found["text-to-image MRR"] == pytest.approx(2.5 / 3)


def slow_ranks(matrix: np.ndarray, owned: list[list[int]], lose_ties: bool) -> tuple[list[int], list[int]]:
    """Sort candidates by similarity, right ones last (or first) among equals, and look for the first right one."""

    def rank(row: list[float], right: list[int]) -> int:
        order = sorted(range(len(row)), key=lambda n: (-row[n], (n in right) == lose_ties))
        return 1 + min(order.index(n) for n in right)

    owner = {text: image for image, texts in enumerate(owned) for text in texts}
    texts = sorted(owner)
    return (
        [rank(list(matrix[image]), texts) for image, texts in enumerate(owned)],
        [rank(list(matrix[:, text]), [owner[text]]) for text in texts],
    )


@pytest.mark.parametrize("variant", ["pessimistic", "optimistic"])
def test_matrices_equal_sorting(variant: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    for _ in range(60):
        images = int(draw.integers(1, 12))
        owned = [[2 * image, 2 * image + 1] for image in range(images)]
        matrix = draw.integers(0, 6, (images, 2 * images)).astype(np.float32)
        np.savez(tmp_path / "s.npz", similarity=matrix)
        gold = write_json(tmp_path / "gold.json", {"texts_of_image": owned})
        items, texts = scorers.read(METRIC, gold, tmp_path / "s.npz")
        found = METRIC.variant(variant).score(items, texts).figures
        ways = slow_ranks(matrix, owned, lose_ties=variant == "pessimistic")
        recalls = []
        for name, ranks in zip(("image-to-text", "text-to-image"), ways, strict=True):
            for k in (1, 5, 10):
                recalls.append(sum(rank <= k for rank in ranks) / len(ranks))
                assert found[f"{name} R@{k}"] == pytest.approx(recalls[-1])
            assert found[f"{name} MRR"] == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks))
            assert found[f"{name} median rank"] == statistics.median(ranks)
        assert found["score"] == pytest.approx(sum(recalls) / 6)


def test_all_equal_is_worth_nothing_or_everything(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "gold.json", {"texts_of_image": [[n] for n in range(20)]})
    np.save(tmp_path / "s.npy", np.zeros((20, 20)))
    assert score("retrieval", gold, tmp_path / "s.npy")["score"] == 0.0
    assert score("retrieval", gold, tmp_path / "s.npy", "--variant", "optimistic")["score"] == 1.0


def test_ranked_lists(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "gold.json", {"a": [3], "b": ["x", "y"], "c": ["z"]})
    lists = write_json(tmp_path / "ranked.json", {"a": ["1", "2", "3"], "b": ["y"], "c": ["x"]})
    found = score("retrieval", gold, lists)["figures"]
    assert found == {
        "R@1": pytest.approx(1 / 3),
        "R@5": pytest.approx(2 / 3),
        "R@10": pytest.approx(2 / 3),
        "MRR": pytest.approx((1 / 3 + 1) / 3),
        "median rank": 3,
    }
    only = write_json(tmp_path / "gold.json", {"c": ["z"]})
    none = score("retrieval", only, write_json(tmp_path / "ranked.json", {"c": ["x"]}))["figures"]
    assert none["median rank"] is None and none["MRR"] == 0.0
    assert METRIC.variant().total([], []) == {"score": None}


@pytest.mark.parametrize(
    ("gold", "matrix", "message"),
    [
        ([[0], [1]], np.zeros((1, 2)), r"lacks the id 'image 1'"),
        ([[0]], np.zeros((1, 2)), r"has the id 'text 1', which the gold file lacks"),
        ([[]], np.zeros((1, 1)), "image 0 has no texts"),
        ([[0]], np.zeros(1), r"is of shape \(1,\)"),
        ([[0]], np.full((1, 1), np.nan), "holds NaN"),
        ([[0]], np.array([["a"]]), "type <U1; give numbers"),
        ([[0]], np.array([[None]]), "is no array"),
    ],
)
def test_wrong_matrices(gold: Any, matrix: np.ndarray, message: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "gold.json", {"texts_of_image": gold})
    np.save(tmp_path / "s.npy", matrix, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        score("retrieval", path, tmp_path / "s.npy")


def test_wrong_files(tmp_path: Path) -> None:
    gold = write_json(tmp_path / "gold.json", {"texts_of_image": [[0]]})
    np.savez(tmp_path / "s.npz", other=np.zeros((1, 1)))
    with pytest.raises(DataError, match="has no array 'similarity'"):
        score("retrieval", gold, tmp_path / "s.npz")
    with pytest.raises(DataError, match=r"'a': names"):
        score("retrieval", write_json(tmp_path / "g.json", {"a": []}), write_json(tmp_path / "r.json", {"a": ["b"]}))
