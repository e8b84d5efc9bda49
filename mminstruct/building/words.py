"""Words of texts: whether one says no more than another, and how near two are, without any model.

    text ──words──▶ [str] ──content_words──▶ {stem}        support(answer, stems): share of its own among them
    texts ──text_vectors──▶ [n, 1024] of whole numbers ──similarity──▶ cosines [n, m]

Stems and words without content are those of English and Chinese. Of Chinese, Japanese and Korean each character is a
word; a Chinese numeral in front of a measure word is a number, since 三 is one in 三个 and none in 三角形.

Vectors are hashed counts of words and of pairs of neighbours, weighed by how rare each is (TF-IDF), of length 1024 and
rounded to whole numbers. Sums of whole numbers of this size are exact in any order, so what is made of them is the same
on every machine.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

DIMENSIONS = 1024
LENGTH = 1024  # of each vector, up to rounding

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_LETTER = rf"[^\W\d_{_CJK}]"
_WORD = re.compile(rf"\d+(?:[.,]\d+)*|[{_CJK}]|{_LETTER}+(?:['’]{_LETTER}+)?")
_MEASURED = re.compile("([二两三四五六七八九十])(?=[个条种根行列位次件张段])")
_CHINESE_DIGITS = dict(zip("二两三四五六七八九十", (2, 2, *range(3, 11)), strict=True))
_NUMBERS = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty",
)
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS) if word != "one"}  # "the one on the left"
_ENDINGS = ("ing", "est", "ed", "er", "es", "s", "e")
# What carries no content of its own, with the words that questions about pictures are made of.
_STOP = frozenset(
    re.findall(
        r"[\w']+",
        """
        a about above all also although an and any are as at be because been being below both but by can could did do
        does each either else for from had has have he her here his how however i if in into is it its it's just less
        let like many more most much must neither no nor not of off on one only or other our out over own same shall she
        should show shown shows so some such than that that's the their them then there therefore these they this those
        through thus to too under up us very was we were what when where which while who whom whose why will with within
        without would yes you your answer appear appears contain contains depict depicted depicts exactly image located
        photo picture pictured placed seen stand stands visible
        """,
    )
) | frozenset(
    "的了是在有和与及或这那此其之被把从到为以于着过也都就而且但但是吗呢吧啊么什哪谁怎样个条种根行列位次件张段一"
)


def words(text: str) -> list[str]:
    """Words and numbers in lower case; numbers up to twenty as digits ("one" stays), without marks of thousands."""
    text = _MEASURED.sub(lambda found: f" {_CHINESE_DIGITS[found[1]]} ", text)
    found = [word.casefold() for word in _WORD.findall(text)]
    return [word.replace(",", "") if word[0].isdigit() else _DIGITS.get(word, word) for word in found]


def content_words(text: str) -> set[str]:
    """The words that say something, without their endings: wider and widest are one, and so are plants and planted."""
    return {_stem(word) for word in words(text) if word not in _STOP}


@functools.lru_cache(1 << 16)
def _stem(word: str) -> str:
    ending = next((one for one in _ENDINGS if word.endswith(one) and len(word) - len(one) >= 3), "")
    word = word.removesuffix(ending)
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word.isalpha() else word


def numbers(text: str) -> set[str]:
    """The numbers in a text, in digits."""
    return {word for word in words(text) if word[0].isdigit()}


def support(text: str, evidence: Set[str]) -> float:
    """The share of a text's content words that are among those of the evidence; 1 where it has none."""
    said = content_words(text)
    return len(said & evidence) / len(said) if said else 1.0


@dataclass(frozen=True)
class Rarity:
    """In how many of some texts each place of a vector is used."""

    texts: int
    having: Mapping[int, int]

    def weight(self, place: int) -> float:
        return 1 + math.log((1 + self.texts) / (1 + self.having.get(place, 0))) if self.texts else 1.0


def rarity(texts: Sequence[str]) -> Rarity:
    return Rarity(len(texts), Counter(place for text in texts for place in _grams(text)))


def text_vectors(texts: Sequence[str], rare: Rarity | None = None) -> np.ndarray:
    """One vector a text, float32 [n, 1024], of whole numbers.

    Args:
        rare: how rare words are; left out, among these texts.
    """
    rare = rare or rarity(texts)
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    for row, text in enumerate(texts):
        weights = {place: count * rare.weight(place) for place, count in _grams(text).items()}
        length = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
        for place, weight in weights.items():
            vectors[row, place] = round(LENGTH * weight / length)
    return vectors


@functools.lru_cache(maxsize=4096)  # what is compared is compared again and again
def _grams(text: str) -> Mapping[int, int]:
    found = [_stem(word) for word in words(text)]
    pairs = [f"{one} {other}" for one, other in itertools.pairwise(found)]
    return Counter(zlib.crc32(gram.encode()) % DIMENSIONS for gram in [*found, *pairs])


def text_features(text: str) -> np.ndarray:
    """The vector of one text whose words count alike, float32 [1024], of length 1 (0 without words)."""
    features: np.ndarray = unit(text_vectors([text], Rarity(0, {})))[0].astype(np.float32)
    return features


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines [n, m] of vectors [n, d] and [m, d]; 0 where one of them is empty."""
    return unit(one) @ unit(other).T


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors [n, d] of length 1, float64; those that are empty stay so."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return wide / np.where(lengths > 0, lengths, 1)
