"""Finding what is near: texts by the words they share (BM25), pictures by features without a model.

    texts ──▶ Bm25 ──search(query, k)──▶ numbers of the k best, best first
    picture ──colours, and where they are──▶ [112]        (texts: `words.text_features`)
    features [N, D] ──nearest(row, k)──▶ numbers of the k most alike

All of it is deterministic: equal scores go by number, and nothing depends on Python's own hashes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from mminstruct.building.words import words

Array = np.ndarray


class Bm25:
    """Okapi BM25 over texts (Robertson and Zaragoza 2009, section 3.3), with the idf that is never negative.

    A text's score is the sum over the query's words of `idf * f * (k1 + 1) / (f + k1 * (1 - b + b * length / mean))`, f
    being how often it has the word, and `idf = ln(1 + (N - n + 0.5) / (n + 0.5))` of a word that n of N texts have.
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        counted = [Counter(words(text)) for text in texts]
        lengths = np.array([counts.total() for counts in counted], np.float64)
        norm = k1 * (1 - b + b * lengths / max(float(lengths.mean()) if texts else 0.0, 1e-9))
        found: dict[str, tuple[list[int], list[int]]] = {}
        for number, counts in enumerate(counted):
            for word, count in counts.items():
                numbers, frequencies = found.setdefault(word, ([], []))
                numbers.append(number)
                frequencies.append(count)
        self._count = len(texts)
        self._weights: dict[str, tuple[Array, Array]] = {}
        for word, (numbers, frequencies) in found.items():
            rows, often = np.array(numbers), np.array(frequencies, np.float64)
            idf = math.log(1 + (len(texts) - len(rows) + 0.5) / (len(rows) + 0.5))
            self._weights[word] = rows, idf * often * (k1 + 1) / (often + norm[rows])

    def scores(self, query: str) -> Array:
        """Each text's score, [N]."""
        scores = np.zeros(self._count)
        for word, count in Counter(words(query)).items():
            if word in self._weights:
                rows, weights = self._weights[word]
                scores[rows] += count * weights
        return scores

    def search(self, query: str, k: int, leave_out: Collection[int] = ()) -> list[int]:
        """The numbers of the `k` best texts that share a word with the query, best first."""
        scores = self.scores(query)
        scores[list(leave_out)] = 0
        return _best(scores, k, 0.0)


def _best(scores: Array, k: int, above: float) -> list[int]:
    if k < 1:
        return []
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        rows = np.flatnonzero((scores > above) & (scores >= least))
    else:
        rows = np.flatnonzero(scores > above)
    found: list[int] = rows[np.argsort(-scores[rows], kind="stable")][:k].tolist()
    return found


def nearest(query: Array, features: Array, k: int, leave_out: Collection[int] = ()) -> list[int]:
    """The numbers of the `k` rows of `features` [N, D] with the greatest product with `query` [D], best first."""
    scores = features @ query
    scores[list(leave_out)] = -np.inf
    return _best(scores, k, -math.inf)


def picture_features(picture: Image.Image) -> Array:
    """What colours a picture has and where, [112], of length 1.

    Of the picture at 32 x 32: the mean colour in each field of a 4 x 4 grid (48), and the shares of 4 x 4 x 4 colours,
    as roots (64), so that the product of two is Hellinger's affinity.
    """
    small = np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BOX), np.int64)
    grid = small.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).ravel() / 255 - 0.5
    bins = (small // 64) @ np.array([16, 4, 1])
    shares = np.bincount(bins.ravel(), minlength=64) / bins.size
    return _unit(np.concatenate([_unit(grid), np.sqrt(shares)])).astype(np.float32)


def _unit(values: Array) -> Array:
    length = float(np.sqrt(values @ values))
    return values / length if length else values


def cut(text: str, words: int) -> str:
    """The first `words` words of a text, one space between them."""
    return " ".join(text.split()[:words])
