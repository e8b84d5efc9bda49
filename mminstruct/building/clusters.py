"""k-means over vectors of whole numbers, such as `words.text_vectors` gives: the same clusters on every machine.

    vectors [n, d] ──first_centres (k-means++)──▶ [k, d] ──Lloyd's steps──▶ labels [n], centres [k, d]

Centres are rounded to whole numbers, so all distances are whole numbers and exact in float64 whatever the order of the
sums; ties go to the first centre.
"""

from __future__ import annotations

import random

import numpy as np

_ROWS = 4096  # whose distances are held at once


def k_means(vectors: np.ndarray, k: int, seed: int = 0, steps: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n] and centres [k, d]. Where there are no more than k different vectors, each has a cluster of its own.

    Raises:
        ValueError: no vectors, or k is less than 1.
    """
    centres = first_centres(vectors, k, seed)
    labels = np.full(len(vectors), -1)
    for _ in range(steps):
        nearest = distances(vectors, centres).argmin(axis=1)
        if (nearest == labels).all():
            break
        labels = nearest
        for cluster in range(len(centres)):
            members = vectors[labels == cluster].astype(np.float64)
            if len(members):  # a centre that lost all stays where it is
                centres[cluster] = np.rint(members.sum(axis=0) / len(members))
    return labels, centres


def first_centres(vectors: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii, 2007): each next centre is a vector drawn by its squared distance to the
    nearest so far; at most k, fewer where there are fewer different vectors."""
    if not len(vectors) or k < 1:
        raise ValueError(f"{len(vectors)} vectors and {k} clusters; give one of each at least")
    chance = random.Random(seed)
    chosen = [chance.randrange(len(vectors))]
    away = distances(vectors, vectors[chosen])[:, 0]
    while len(chosen) < k and away.any():
        along = np.cumsum(away)
        chosen.append(int(np.searchsorted(along, chance.randrange(int(along[-1])), side="right")))
        away = np.minimum(away, distances(vectors, vectors[chosen[-1:]])[:, 0])
    return vectors[chosen].astype(np.float64)


def distances(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances [n, k]."""
    wide = centres.astype(np.float64)
    own = (wide * wide).sum(axis=1)
    parts = []
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS].astype(np.float64)
        parts.append((rows * rows).sum(axis=1, keepdims=True) - 2 * rows @ wide.T + own)
    return np.concatenate(parts)
