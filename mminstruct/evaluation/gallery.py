"""Questions with their images and answers, for a page that needs no other file.

BenchmarkResult ── seeded sample ──▶ Collection([Exhibit], pictures as data URIs, each once)
                                         ├─ stills ──▶ a few right and a few wrong ones, readable without scripts
                                         └─ data ────▶ JSON of all, to be looked through
"""

from __future__ import annotations

import base64
import io
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mminstruct.errors import MediaError
from mminstruct.evaluation.benchmark import LETTERS
from mminstruct.evaluation.item import Item
from mminstruct.evaluation.results import BenchmarkResult
from mminstruct.evaluation.scorers import Verdict
from mminstruct.media import FrameSampling, open_image, open_video

THUMBNAIL = 448
"""Longest side of an image in the gallery, in pixels; smaller images keep their own size."""
PAGE_ITEMS = 400
"""How many questions of a benchmark a page holds, unless told otherwise."""
LOOKS = {"right": "✓", "wrong": "✗", "partly right": "◐"}
CUT_OFF, UNPARSED, NO_ANSWER = "cut off", "unparsed", "no answer"


@dataclass(frozen=True)
class Side:
    """One model's answer. `notes` are what to know of it; `given` is the letter that was read out of it, if any."""

    name: str
    text: str
    verdict: str
    notes: list[str]
    given: str


@dataclass(frozen=True)
class Exhibit:
    """One question as a page shows it.

    Attributes:
        head, look: its headline and the style class of its card.
        pictures: (number of the picture in the collection, what it is).
        earlier: question and reply of each earlier turn, for each side.
        choices: letter and text of each option, and whether it is the right one.
        golds: the gold answers, each once.
        tags: what it can be filtered by.
        order: numbers by which it can be sorted.
    """

    id: str
    head: str
    look: str
    question: str
    pictures: list[tuple[int, str]]
    earlier: list[list[str]]
    choices: list[tuple[str, str, bool]]
    golds: list[str]
    types: list[str]
    tags: list[str]
    sides: list[Side]
    order: dict[str, float]


class Pictures:
    """Small copies of pictures, each once, however many questions are about it.

    Args:
        missing: whether a picture that cannot be read is left out; otherwise it is an error.
    """

    def __init__(self, missing: bool = False) -> None:
        self.sources: list[str] = []
        self._missing = missing
        self._places: dict[str, int] = {}
        self._numbers: dict[tuple[str, Path], int | None] = {}

    def of(self, item: Item) -> list[tuple[int, str]]:
        """(number, what it is) of an item's images and of the first frames of its videos. Raises `MediaError`."""
        media = [("image", path) for path in item.images] + [("video", path) for path in item.videos]
        found = []
        for place, (kind, path) in enumerate(media, start=1):
            number = self._number(kind, path)
            if number is not None:
                what = "image" if kind == "image" else "first frame of the video"
                found.append((number, what if len(media) == 1 else f"{what} {place} of {len(media)}"))
        return found

    def _number(self, kind: str, path: Path) -> int | None:
        if (kind, path) not in self._numbers:
            try:
                picture = open_image(path) if kind == "image" else open_video(path, FrameSampling(limit=1)).frames[0]
            except MediaError:
                if not self._missing:
                    raise
                self._numbers[kind, path] = None
                return None
            source = data_uri(picture)
            if source not in self._places:
                self._places[source] = len(self.sources)
                self.sources.append(source)
            self._numbers[kind, path] = self._places[source]
        return self._numbers[kind, path]


@dataclass(frozen=True)
class Still:
    """An exhibit outside the script's reach; a picture that stands further up already has no source here."""

    exhibit: Exhibit
    pictures: list[tuple[int, str, str]]


@dataclass(frozen=True)
class Collection:
    """What of a benchmark a page shows.

    Attributes:
        pictures: addresses of all pictures.
        total: how many questions there are; where it is more than there are exhibits, these are a sample.
        orders: (key of `Exhibit.order`, `-` in front for falling, label), the first one being the one at the start.
        sampled: how the sample was drawn, in words.
    """

    exhibits: list[Exhibit]
    pictures: list[str]
    total: int
    orders: list[tuple[str, str]]
    sampled: str = "a random sample"
    stills: list[Still] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """What the script reads; pictures that stand in the page already are left to it to find there."""
        shown = {number for still in self.stills for number, _, source in still.pictures if source}
        tags = Counter(tag for exhibit in self.exhibits for tag in exhibit.tags)
        types = Counter(name for exhibit in self.exhibits for name in exhibit.types)
        return {
            "items": [asdict(exhibit) for exhibit in self.exhibits],
            "pictures": [None if number in shown else source for number, source in enumerate(self.pictures)],
            "tags": list(tags.items()),
            "types": sorted(types.items()),
            "orders": self.orders,
        }


def collection(result: BenchmarkResult, most: int, seed: int, each: int) -> Collection:
    """At most `most` of the questions, drawn with a seed, in their order; `each` right and wrong ones as stills.

    Raises:
        MediaError: an image cannot be read any more.
    """
    items, verdicts = result.predictions.items, result.scores[result.benchmark.primary_scorer].verdicts
    replies = {item.id: reply.text for item, reply in zip(items, result.predictions.replies, strict=True)}
    by_id = {item.id: item for item in items}
    pictures = Pictures()
    exhibits = []
    judged = [place for place, verdict in enumerate(verdicts) if not verdict.excluded]
    for place in (judged[number] for number in sample(len(judged), most, seed)):
        item, reply = items[place], result.predictions.replies[place]
        one = side("model", item, reply.text, verdicts[place], reply.finish == "length")
        exhibits.append(
            Exhibit(
                head=one.verdict,
                look=one.verdict.split()[0],
                earlier=[[by_id[name].question, replies[name]] for name in item.after],
                tags=[one.verdict, *(note for note in one.notes if note in (CUT_OFF, UNPARSED, NO_ANSWER))],
                sides=[one],
                order={"place": place, "score": verdicts[place].score, "length": len(reply.text)},
                **asked(item, pictures),
            )
        )
    orders = [
        ("place", "as asked"),
        ("score", "lowest score first"),
        ("-score", "highest score first"),
        ("-length", "longest answer first"),
    ]
    groups = [[e for e in exhibits if e.look != "right"], [e for e in exhibits if e.look == "right"]]
    return Collection(
        exhibits, pictures.sources, len(items), orders, stills=stills(groups, pictures.sources, each, seed)
    )


def asked(item: Item, pictures: Pictures) -> dict[str, Any]:
    """What of an exhibit does not depend on who answers."""
    return {
        "id": item.id,
        "question": item.question,
        "pictures": pictures.of(item),
        "choices": [
            (letter, choice, letter in item.answers or choice in item.answers)
            for letter, choice in zip(LETTERS, item.choices, strict=False)
            if choice
        ],
        # Ten annotators often gave few different answers; each is shown once, in the order in which they stand.
        "golds": list(dict.fromkeys(item.answers)),
        "types": list(item.types),
    }


def side(name: str, item: Item, text: str, verdict: Verdict, cut_off: bool) -> Side:
    """A model's answer to an item, with what to know of it."""
    notes = []
    if not text:
        notes.append(NO_ANSWER)
    if not verdict.parsed:
        notes.append(UNPARSED)
    if cut_off:
        notes.append(CUT_OFF)
    if verdict.parsed and verdict.answer is not None and verdict.answer != text:
        notes.append(f"read as {verdict.answer!r}")
    if 0 < verdict.score < 1:
        notes.append(f"scores {verdict.score:.2f}")
    given = verdict.answer if item.choices and verdict.parsed and verdict.answer is not None else ""
    return Side(name, text, verdict_of(verdict.score), notes, given)


def verdict_of(score: float) -> str:
    return "right" if score >= 1.0 else "partly right" if score > 0 else "wrong"


def sample(count: int, most: int, seed: int) -> list[int]:
    """All places below `count`, or `most` of them, in their order."""
    return list(range(count)) if count <= most else sorted(random.Random(seed).sample(range(count), most))


def stills(groups: Sequence[Sequence[Exhibit]], sources: Sequence[str], each: int, seed: int) -> list[Still]:
    """`each` exhibits of every group, of different pictures as far as there are."""
    shown: set[int] = set()
    found = []
    for group in groups:
        fresh: list[Exhibit] = []
        repeated: list[Exhibit] = []
        seen = set(shown)
        for exhibit in random.Random(seed).sample(list(group), len(group)):
            numbers = {number for number, _ in exhibit.pictures}
            (repeated if numbers & seen else fresh).append(exhibit)
            seen |= numbers
        for exhibit in sorted((fresh + repeated)[:each], key=lambda one: one.order["place"]):
            pictures = []
            for number, what in exhibit.pictures:
                pictures.append((number, what, "" if number in shown else sources[number]))
                shown.add(number)
            found.append(Still(exhibit, pictures))
    return found


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
