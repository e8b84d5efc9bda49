"""Captions: BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D as pycocoevalcap computes them, without Java.

    captions ── tokens of the Penn Treebank without punctuation ──▶ n-grams ── CIDEr, BLEU, ROUGE-L ──▶ figures

The headline is CIDEr as the program prints it (1.203 is "120.3" in papers); it is at most 10. Facts of pycocoevalcap
1.2 (`bleu_scorer.py`, `rouge.py`, `cider_scorer.py`, `ptbtokenizer.py`) that a score depends on:

- CIDEr is CIDEr-D: for each order from 1 to 4 the clipped cosine of tf-idf vectors, times a Gaussian (sigma 6) of the
  difference in length, where a caption's length is its number of *bigrams*; the mean over orders and references, times
  10. The idf is that of the references of the images that are scored: another set of images gives the same captions
  other scores, and with a single image all idf and so the score are 0.
- ROUGE-L takes the best precision and the best recall over the references, which may be of two different ones, and
  weighs with beta 1.2. It splits at single blanks, the others at any white space: an empty caption is one empty word.
- BLEU adds up over all captions; the reference length is that of the closest reference, the shorter of two. It has
  1e-15 and 1e-9 added to numerator and denominator and is never exactly 0.
- Brackets stay as tokens such as `-lrb-`; see `parsing/ptb.py` for the tokens.
- Images without a prediction are left out, as `COCO.loadRes` and the official example do it.

METEOR and SPICE are not computed: each is a Java program with its own data, and no other program gives its numbers.

CIDEr of a part of the images (a domain of NoCaps) is the mean over that part with the idf of the whole.

`vlmevalkit` is VLMEvalKit's `COCO_Caption_Scorer`: the same formulas on the raw strings, so that "dog." and "Dog" are
not "dog".
"""

from __future__ import annotations

import ast
import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import (
    Official,
    json_lines_or_list,
    json_list,
    record,
    records,
    table,
    unique,
    unique_items,
)
from mminstruct.evaluation.parsing.ngrams import ORDERS, added, bleu_parts, common_subsequence, ngrams
from mminstruct.evaluation.parsing.ptb import caption_tokens
from mminstruct.evaluation.scorers.metric import (
    Figures,
    JudgeAll,
    Metric,
    Predictions,
    Variant,
    Verdict,
    only_predicted,
)
from mminstruct.files import as_text, read_json

BETA, SIGMA = 1.2, 6.0
TINY, SMALL = 1e-15, 1e-9
BEST_CIDER = 10.0

Tokens = Callable[[Sequence[str]], list[str]]
Grams = Counter[tuple[Hashable, ...]]


def rouge_l(caption: str, references: Sequence[str]) -> float:
    """ROUGE-L of a caption whose tokens are joined by blanks."""
    words = caption.split(" ")
    precision = recall = 0.0
    for reference in references:
        gold = reference.split(" ")
        common = common_subsequence(words, gold)
        precision, recall = max(precision, common / len(words)), max(recall, common / len(gold))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def bleu(parts: Sequence[float]) -> list[float]:
    """BLEU-1 to BLEU-4 of summed `bleu_parts`."""
    words, reference, there, right = parts[0], parts[1], parts[2:6], parts[6:10]
    ratio = (words + TINY) / (reference + SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    found, product = [], 1.0
    for order in ORDERS:
        product *= (right[order - 1] + TINY) / (there[order - 1] + SMALL)
        found.append(product ** (1 / order) * brevity)
    return found


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption, in [0, 10], with the idf of all these references."""
    golds = [[ngrams(reference.split()) for reference in group] for group in references]
    images: Counter[tuple[Hashable, ...]] = Counter()
    for group in golds:
        images.update(set().union(*group))
    everything = math.log(len(captions)) if captions else 0.0
    idf = {gram: everything - math.log(count) for gram, count in images.items()}
    found = []
    for caption, group in zip(captions, golds, strict=True):
        mine = _Vector(ngrams(caption.split()), idf, everything)
        similar = math.fsum(mine.similar(_Vector(gold, idf, everything)) for gold in group)
        found.append(similar / len(ORDERS) / len(group) * BEST_CIDER)
    return found


class _Vector:
    """The tf-idf of a caption's n-grams, with their norms by order and the number of its bigrams."""

    def __init__(self, grams: Grams, idf: dict[tuple[Hashable, ...], float], unseen: float) -> None:
        self.weights = {gram: count * idf.get(gram, unseen) for gram, count in grams.items()}
        squares = dict.fromkeys(ORDERS, 0.0)
        for gram, weight in self.weights.items():
            squares[len(gram)] += weight**2
        self.norms = {order: math.sqrt(square) for order, square in squares.items()}
        self.bigrams = sum(count for gram, count in grams.items() if len(gram) == 2)

    def similar(self, gold: _Vector) -> float:
        """The sum over the orders of clipped cosine times length penalty; `self` is the prediction."""
        products = dict.fromkeys(ORDERS, 0.0)
        for gram, weight in self.weights.items():
            other = gold.weights.get(gram)
            if other is not None:
                products[len(gram)] += min(weight, other) * other
        penalty = math.exp(-((self.bigrams - gold.bigrams) ** 2) / (2 * SIGMA**2))
        norms = {order: self.norms[order] * gold.norms[order] for order in ORDERS}
        return math.fsum(penalty * products[order] / norms[order] for order in ORDERS if norms[order] != 0)


def judge(tokens: Tokens) -> JudgeAll:
    """`judge_all` after a tokeniser. A verdict's score is CIDEr, its parts are `bleu_parts` and ROUGE-L."""

    def judge_all(items: Sequence[Item], predictions: Predictions) -> list[Verdict]:
        captions = tokens([text or "" for text in predictions])
        lines = iter(tokens([answer for item in items for answer in item.answers]))
        golds = [[next(lines) for _ in item.answers] for item in items]
        return [
            Verdict(
                0.0 if text is None else score,
                answer=caption,
                parsed=text is not None,
                parts=(
                    *bleu_parts(caption.split(), [reference.split() for reference in gold]),
                    rouge_l(caption, gold),
                ),
            )
            for text, caption, gold, score in zip(predictions, captions, golds, cider_d(captions, golds), strict=True)
        ]

    return judge_all


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """CIDEr, BLEU and ROUGE-L of some images, and CIDEr of each kind of image."""
    names = [f"Bleu_{order}" for order in ORDERS]
    if not verdicts:
        return dict.fromkeys(["score", *names, "ROUGE_L", "CIDEr"])
    sums = added(verdict.parts for verdict in verdicts)
    cider = _mean_score(verdicts)
    figures: Figures = {"score": cider, **dict(zip(names, bleu(sums), strict=True))}
    figures |= {"ROUGE_L": sums[-1] / len(verdicts), "CIDEr": cider}
    for kind in sorted({item.kind for item in items} - {""}):
        of_kind = [verdict for item, verdict in zip(items, verdicts, strict=True) if item.kind == kind]
        figures[f"CIDEr {kind}"] = _mean_score(of_kind)
    return figures


def _mean_score(verdicts: Sequence[Verdict]) -> float:
    return math.fsum(verdict.score for verdict in verdicts) / len(verdicts)


# --- files ------------------------------------------------------------------------------------------------------------


class _Image(Official):
    id: int | str
    domain: str = ""


class _Caption(Official):
    image_id: int | str
    caption: str


class _Sentence(Official):
    raw: str


class _Split(Official):
    """An image of Karpathy's `dataset_coco.json` and `dataset_flickr30k.json`."""

    filename: str
    sentences: tuple[_Sentence, ...]
    split: str
    cocoid: int | None = None


class _Answers(Official):
    captions: tuple[str, ...]


def read_references(path: Path) -> list[Item]:
    """Reference captions, in any of the layouts of `METRIC.files`. Raises `DataError` with file and place."""
    if path.suffix in (".token", ".txt"):
        return unique_items(_token_file(path))
    if path.suffix == ".tsv":
        return unique_items(_tsv(path))
    value = read_json(path)
    if isinstance(value, dict) and "annotations" in value:
        return unique_items(_coco(path, value))
    if isinstance(value, dict) and "images" in value:
        return unique_items(_karpathy(path))
    if isinstance(value, dict):
        return unique_items(
            (f"{path}: {name!r}", Item(id=name, answers=_texts(f"{path}: {name!r}", given)))
            for name, given in value.items()
        )
    return unique_items(_grouped(path, list(records(json_list(path), _Caption))))


def _coco(path: Path, value: dict[str, Any]) -> Iterator[tuple[str, Item]]:
    grouped = {
        item.id: (place, item) for place, item in _grouped(path, records(json_list(path, "annotations"), _Caption))
    }
    if "images" not in value:
        yield from grouped.values()
        return
    for _, image in records(json_list(path, "images"), _Image):
        if str(image.id) in grouped:
            place, item = grouped[str(image.id)]
            yield place, Item(id=item.id, answers=item.answers, kind=image.domain)


def _grouped(path: Path, lines: Any) -> Iterator[tuple[str, Item]]:
    answers: dict[str, list[str]] = {}
    for _, line in lines:
        answers.setdefault(str(line.image_id), []).append(line.caption)
    for name, captions in answers.items():
        yield f"{path}: image {name}", Item(id=name, answers=tuple(captions))


def _karpathy(path: Path) -> Iterator[tuple[str, Item]]:
    for place, image in records(json_list(path, "images"), _Split):
        if image.split == "test":
            name = image.filename if image.cocoid is None else str(image.cocoid)
            yield place, Item(id=name, answers=tuple(sentence.raw for sentence in image.sentences))


def _token_file(path: Path) -> Iterator[tuple[str, Item]]:
    answers: dict[str, list[str]] = {}
    with as_text(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    for number, line in enumerate(lines, start=1):
        name, tab, caption = line.partition("\t")
        image, mark, _ = name.rpartition("#")
        if not tab or not mark:
            raise DataError(f"{path}:{number} is not 'image.jpg#0<tab>caption'; give Flickr30k's token file")
        answers.setdefault(image, []).append(caption)
    for image, captions in answers.items():
        yield f"{path}: image {image}", Item(id=image, answers=tuple(captions))


def _tsv(path: Path) -> Iterator[tuple[str, Item]]:
    """VLMEvalKit's table: `index`, and `answer` with a list as Python writes it."""
    for place, row in table(path):
        if "index" not in row or "answer" not in row:
            raise DataError(f"{place} lacks the column 'index' or 'answer'; give VLMEvalKit's table")
        try:
            given = ast.literal_eval(row["answer"])
        except (ValueError, SyntaxError):
            raise DataError(
                f"{place}: answer: not a list of texts such as ['a dog']; give VLMEvalKit's table"
            ) from None
        yield place, Item(id=row["index"], answers=_texts(place, given))


def _texts(place: str, given: Any) -> tuple[str, ...]:
    texts = record(place, {"captions": [given] if isinstance(given, str) else given}, _Answers).captions
    if not texts:
        raise DataError(f"{place} has no caption; give at least one")
    return texts


def read_captions(path: Path) -> dict[str, str]:
    """Captions of a model, `[{image_id, caption}]`, lines of such, or `{image: caption}`: image -> caption."""
    if path.suffix == ".tsv":
        return unique((place, *_row(place, row)) for place, row in table(path))
    value = None if _is_lines(path) else read_json(path)
    if isinstance(value, dict):
        found = {}
        for name, given in value.items():
            texts = _texts(f"{path}: {name!r}", given)
            if len(texts) > 1:
                raise DataError(f"{path}: {name!r} has {len(texts)} captions; give the one to score")
            found[name] = texts[0]
        return found
    return unique(
        (place, str(line.image_id), line.caption) for place, line in records(json_lines_or_list(path), _Caption)
    )


def _row(place: str, row: dict[str, str]) -> tuple[str, str]:
    if "index" not in row or "prediction" not in row:
        raise DataError(f"{place} lacks the column 'index' or 'prediction'; give VLMEvalKit's table of results")
    return row["index"], row["prediction"]


def _is_lines(path: Path) -> bool:
    """Whether the first line of a file is a whole JSON object with an `image_id`."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        first = stream.readline()
    try:
        value = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and "image_id" in value


METRIC = Metric(
    name="captions",
    summary="CIDEr-D, BLEU and ROUGE-L of captions; no METEOR and no SPICE.",
    variants=(
        Variant(
            "official",
            "pycocoevalcap 1.2 (tylin/coco-caption), with the tokens of its Stanford PTBTokenizer.",
            judge(caption_tokens),
            total,
        ),
        Variant(
            "vlmevalkit",
            "open-compass/VLMEvalKit, image_caption.py, COCO_Caption_Scorer: the raw strings, case and marks kept.",
            judge(list),
            total,
        ),
    ),
    files=(
        "COCO's or NoCaps' annotations, Karpathy's split, Flickr30k's token file, a TSV or {image: [caption]}; and "
        "results [{image_id, caption}] or {image: caption}"
    ),
    gold=read_references,
    predictions=read_captions,
    pairing=only_predicted,
    best=BEST_CIDER,
)
