"""Retrieval: recall at k, mean reciprocal rank and median rank, of images for texts and of texts for images.

    similarity [images, texts] + which texts are of which image ──▶ rank of the first right one for each query
    ranked lists {query: [candidate, ...]} + {query: [right ones]} ──▶ the same

A query's rank is that of its best right candidate, counted from 1. The score is the mean of recall at 1, 5
and 10 over the directions there are. Recall at k is "a right one is among the first k" (as CLIP, BLIP and ALBEF report
it for COCO and Flickr30k), not the share of all right ones.

Ties: `pessimistic` ranks a right candidate behind all wrong ones of equal similarity, so that a model that gives all
the same similarity scores 0. `optimistic` ranks it before them. Programs that sort leave ties to the order of the file;
where there are none, all agree.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mminstruct.errors import DataError
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.official import Official, json_object, record, unique, unique_items
from mminstruct.evaluation.scorers.metric import Figures, JudgeAll, Metric, Variant, Verdict, all_predicted, each

AT = (1, 5, 10)
MATRICES = (".npy", ".npz")
TO_TEXT, TO_IMAGE = "image-to-text", "text-to-image"


class Ranked(Official):
    """How many wrong candidates are before, and how many level with, the best right one; None where it is not there."""

    better: int | None
    level: int = 0


def judge(rank: Callable[[Ranked], int | None]) -> JudgeAll:
    """`judge_all` of ranks. A verdict's score is the reciprocal rank, its part the rank (0: not in the list)."""

    def one(text: str, item: Item) -> Verdict:
        found = rank(_ranked(text, item))
        if found is None:
            return Verdict(0.0, parts=(0.0,))
        return Verdict(1 / found, answer=str(found), parts=(float(found),))

    return each(one)


def _ranked(text: str, item: Item) -> Ranked:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise DataError(
            f"item {item.id}: a prediction of retrieval is a JSON array of candidates, best first"
        ) from None
    if isinstance(value, dict):
        return record(f"item {item.id}", value, Ranked)
    if not isinstance(value, list):
        raise DataError(f"item {item.id}: a prediction of retrieval is a JSON array of candidates, best first")
    right = set(item.answers)
    places = [place for place, name in enumerate(value) if str(name) in right]
    return Ranked(better=places[0] if places else None)


def total(items: Sequence[Item], verdicts: Sequence[Verdict]) -> Figures:
    """Recalls, mean reciprocal and median rank, by direction where items have one as their kind."""
    found: Figures = {"score": None}
    recalls: list[float] = []
    for kind in sorted({item.kind for item in items}):
        of_kind = [verdict for item, verdict in zip(items, verdicts, strict=True) if item.kind == kind]
        ranks = [verdict.parts[0] if verdict.parts else 0.0 for verdict in of_kind]
        name = f"{kind} " if kind else ""
        for k in AT:
            recall = sum(0 < rank <= k for rank in ranks) / len(ranks)
            recalls.append(recall)
            found[f"{name}R@{k}"] = recall
        found[f"{name}MRR"] = sum(verdict.score for verdict in of_kind) / len(of_kind)
        # A right one that is not in a list stands behind everything.
        middle = statistics.median(rank or float("inf") for rank in ranks)
        found[f"{name}median rank"] = None if middle == float("inf") else middle
    if recalls:
        found["score"] = sum(recalls) / len(recalls)
    return found


# --- files ------------------------------------------------------------------------------------------------------------


class _Gold(Official):
    """The texts of each image, by their columns, for a matrix."""

    texts_of_image: tuple[tuple[int, ...], ...] = Field(min_length=1)


class _Names(Official):
    names: tuple[int | str, ...] = Field(min_length=1)


def read_gold(path: Path) -> list[Item]:
    """`{"texts_of_image": [[0, 1, 2, 3, 4], ...]}` for a matrix of similarities, or `{query: [right candidates]}`."""
    entries = list(json_object(path))
    if any(key == "texts_of_image" for key, _, _ in entries):
        owned = record(str(path), {key: value for key, _, value in entries}, _Gold).texts_of_image
        return unique_items(_both_ways(path, owned))
    return unique_items(
        (place, Item(id=key, answers=tuple(str(name) for name in record(place, {"names": value}, _Names).names)))
        for key, place, value in entries
    )


def _both_ways(path: Path, owned: Sequence[Sequence[int]]) -> Iterator[tuple[str, Item]]:
    owners: dict[int, list[int]] = {}
    for image, texts in enumerate(owned):
        if not texts:
            raise DataError(f"{path}: image {image} has no texts; leave the image out")
        yield f"{path}: image {image}", Item(f"image {image}", answers=tuple(map(str, texts)), kind=TO_TEXT)
        for text in texts:
            owners.setdefault(text, []).append(image)
    for text, images in sorted(owners.items()):
        yield f"{path}: text {text}", Item(f"text {text}", answers=tuple(map(str, images)), kind=TO_IMAGE)


def read_predictions(path: Path) -> dict[str, str]:
    """A matrix [images, texts] in `.npy` or `.npz` (array `similarity`), or `{query: [candidates]}` in JSON."""
    if path.suffix in MATRICES:
        images, texts = _matrix(path).shape  # what is in it is looked up by `pair`, as a text it would be large
        return {f"image {number}": "" for number in range(images)} | {f"text {number}": "" for number in range(texts)}
    return unique(
        (place, key, json.dumps(list(record(place, {"names": value}, _Names).names)))
        for key, place, value in json_object(path)
    )


def pair(items: Sequence[Item], found: Mapping[str, str], path: Path) -> tuple[list[Item], list[str | None]]:
    """Every query needs a ranked list; of a matrix, what stands before and level with the best right candidate."""
    kept, texts = all_predicted(items, found, path)
    if path.suffix not in MATRICES:
        return kept, texts
    matrix = _matrix(path)
    return kept, [_rank_in(matrix, item).model_dump_json() for item in kept]


def _rank_in(matrix: Any, item: Item) -> Ranked:
    side, _, number = item.id.partition(" ")
    row = matrix[int(number)] if side == "image" else matrix[:, int(number)]
    right = [int(name) for name in item.answers]
    best = row[right].max()
    level = int((row == best).sum()) - int((row[right] == best).sum())
    return Ranked(better=int((row > best).sum()), level=level)


def _matrix(path: Path) -> Any:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        matrix = loaded if path.suffix == ".npy" else loaded["similarity"]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give the file in it") from None
    except KeyError:
        raise DataError(
            f"{path} has no array 'similarity'; save it with numpy.savez(path, similarity=matrix)"
        ) from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is no array ({error}); save it with numpy.save") from None
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise DataError(f"{path} is of shape {matrix.shape} and type {matrix.dtype}; give numbers [images, texts]")
    if not np.isfinite(matrix).all():
        raise DataError(f"{path} holds NaN or infinity; give finite similarities")
    return matrix


def pessimistic(found: Ranked) -> int | None:
    """The rank behind all wrong candidates that are level."""
    return None if found.better is None else found.better + found.level + 1


def optimistic(found: Ranked) -> int | None:
    """The rank before all wrong candidates that are level."""
    return None if found.better is None else found.better + 1


METRIC = Metric(
    name="retrieval",
    summary="Recall at 1, 5 and 10 and ranks, of images for texts and of texts for images.",
    variants=(
        Variant(
            "pessimistic",
            "Recall as salesforce/ALBEF and BLIP report it (itm_eval); a tie with a wrong candidate is lost.",
            judge(pessimistic),
            total,
        ),
        Variant("optimistic", "The same; a tie with a wrong candidate is won.", judge(optimistic), total),
    ),
    files=(
        '{"texts_of_image": [[0, 1], ...]} and a matrix [images, texts] in .npy or .npz, or {query: [right]} and '
        "{query: [candidates, best first]}"
    ),
    gold=read_gold,
    predictions=read_predictions,
    pairing=pair,
)
