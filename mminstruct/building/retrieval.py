"""Finding what is near: texts by the words they share (BM25), pictures by features without a model.

    texts ──▶ Bm25 ──search(query, k)──▶ numbers of the k best, best first
    picture ──colours, and where they are──▶ [112]        (texts: `words.text_features`)
    features [N, D] ──nearest(row, k)──▶ numbers of the k most alike
    features [N, D] ──whole──▶ whole numbers, whose products are the same on every machine

All of it is deterministic: equal scores go by number, and nothing depends on Python's own hashes.
"""

from __future__ import annotations

import functools
import math
from array import array
from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np
from PIL import Image

from mminstruct.building.words import words

Array = np.ndarray


class Bm25:
    """Okapi BM25 over texts (Robertson and Zaragoza 2009, section 3.3), with the idf that is never negative.

    A text's score is the sum over the query's words of `idf * f * (k1 + 1) / (f + k1 * (1 - b + b * length / mean))`, f
    being how often it has the word, and `idf = ln(1 + (N - n + 0.5) / (n + 0.5))` of a word that n of N texts have.
    """

    def __init__(self, texts: Iterable[str], k1: float = 1.2, b: float = 0.75) -> None:
        """Six bytes of memory for each different word of a text; the texts themselves are not kept."""
        lengths = array("l")
        self._found: dict[str, tuple[array[int], array[int]]] = {}
        for number, text in enumerate(texts):
            counts = Counter(words(text))
            lengths.append(counts.total())
            for word, count in counts.items():
                places = self._found.get(word)
                if places is None:
                    places = self._found[word] = array("i"), array("H")
                places[0].append(number)
                places[1].append(min(count, 65_535))
        self._count = len(lengths)
        self._k1 = k1
        long = np.array(lengths, np.float64)
        self._norm = k1 * (1 - b + b * long / max(float(long.mean()) if self._count else 0.0, 1e-9))

    def scores(self, query: str) -> Array:
        """Each text's score, [N]."""
        scores = np.zeros(self._count)
        for word, count in Counter(words(query)).items():
            if word in self._found:
                rows, often = (np.asarray(values) for values in self._found[word])
                idf = math.log(1 + (self._count - len(rows) + 0.5) / (len(rows) + 0.5))
                scores[rows] += count * idf * often * (self._k1 + 1) / (often + self._norm[rows])
        return scores

    def search(self, query: str, k: int, leave_out: Collection[int] = ()) -> list[int]:
        """The numbers of the `k` best texts that share a word with the query, best first."""
        scores = self.scores(query)
        scores[list(leave_out)] = 0
        return best(scores, k, 0.0)


def best(scores: Array, k: int, above: float = -math.inf) -> list[int]:
    """The numbers of the `k` greatest scores [N] above a bound, the greatest first and equal ones by number."""
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
    return best(scores, k)


def whole(features: Array) -> Array:
    """Features of length 1 at most in 1/65536, float64 of whole numbers [N, D].

    Sums of their products are exact whatever the order, so a matrix product of many rows at once gives the same numbers
    as one row after the other, and on every machine.
    """
    return np.rint(features.astype(np.float64) * 65536)


def picture_features(picture: Image.Image) -> Array:
    """What colours a picture has and where, [112], of length 1.

    Of the picture at 32 x 32: the mean colour in each field of a 4 x 4 grid (48), and the shares of 4 x 4 x 4 colours,
    as roots (64), so that the product of two is Hellinger's affinity.
    """
    # With the gap a large picture is first made smaller by a whole number, which takes a third of the time.
    small = np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BOX, reducing_gap=1.0), np.int64)
    grid = small.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).ravel() / 255 - 0.5
    bins = (small // 64) @ np.array([16, 4, 1])
    shares = np.bincount(bins.ravel(), minlength=64) / bins.size
    return _unit(np.concatenate([_unit(grid), np.sqrt(shares)])).astype(np.float32)


def _unit(values: Array) -> Array:
    length = float(np.sqrt(values @ values))
    return values / length if length else values


@functools.lru_cache(maxsize=4096)  # what is found is found again and again
def cut(text: str, words: int) -> str:
    """The first `words` words of a text, one space between them."""
    return " ".join(text.split()[:words])
