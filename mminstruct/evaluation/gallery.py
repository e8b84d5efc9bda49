"""A sample of questions with their images and answers, right ones and wrong ones, for a page that needs no other file.

BenchmarkResult ── seeded sample ──▶ [Exhibit(images as data URIs, question, golds, prediction, verdict)]
"""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass

from PIL import Image

from mminstruct.evaluation.results import BenchmarkResult
from mminstruct.media import open_image

THUMBNAIL = 320
"""Longest side of an image in the gallery, in pixels; smaller images keep their own size."""


@dataclass(frozen=True)
class Exhibit:
    """One question as the gallery shows it; `verdict` is "right", "partly right" or "wrong"."""

    images: list[str]
    question: str
    answers: list[str]
    prediction: str
    kind: str
    score: float
    verdict: str


def exhibits(result: BenchmarkResult, each: int, seed: int) -> list[Exhibit]:
    """Up to `each` answers that are wholly right and `each` that are not, drawn with a seed; wrong ones first."""
    verdicts = result.scores[result.benchmark.primary_scorer].verdicts
    places = [place for place, verdict in enumerate(verdicts) if not verdict.excluded]
    right = [place for place in places if result.primary(place) >= 1.0]
    wrong = [place for place in places if result.primary(place) < 1.0]
    draw = random.Random(seed)
    chosen = [sorted(draw.sample(group, min(each, len(group)))) for group in (wrong, right)]
    return [_exhibit(result, place) for group in chosen for place in group]


def _exhibit(result: BenchmarkResult, place: int) -> Exhibit:
    item, score = result.predictions.items[place], result.primary(place)
    return Exhibit(
        images=[data_uri(open_image(path)) for path in item.images],
        question=item.question,
        # Ten annotators often gave few different answers; each is shown once, in the order in which they stand.
        answers=list(dict.fromkeys(item.answers)),
        prediction=result.predictions.texts[place],
        kind=item.types[-1] if item.types else "",
        score=score,
        verdict="right" if score >= 1.0 else "partly right" if score > 0 else "wrong",
    )


def data_uri(picture: Image.Image) -> str:
    """A thumbnail as a `data:` address: PNG where the picture is small (drawings stay sharp), else JPEG."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    lossless = max(picture.size) <= THUMBNAIL // 2
    stream = io.BytesIO()
    if lossless:
        small.save(stream, format="PNG", optimize=True)
    else:
        small.save(stream, format="JPEG", quality=85)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{encoded}"
