"""Annotations as people give them of pictures and clips, and worlds that give such annotations of what they draw.

    WORLDS[kind](seed, number) ──▶ Piece(annotations, question-answer pairs that are true, pictures or frames)

The kinds are those of Syphus (MIMIC-IT, arXiv 2306.05425).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import Field

from mminstruct.conversation import Record
from mminstruct.data_builders.worlds import album_facts, changes, clip_facts, clips, scenes, walks

Kind = Literal["scene", "difference", "general-difference", "video", "first-person", "story"]


class Instance(Record):
    category: str
    bbox: tuple[float, float, float, float]


class PictureFacts(Record):
    """What is known of one of several pictures; boxes are (left, top, right, bottom) in shares of it."""

    title: str = ""
    tags: list[str] = Field(default_factory=list)
    captions: list[str] = Field(default_factory=list)
    objects: list[Instance] = Field(default_factory=list)


class Facts(Record):
    """A line of a file of one's own: pictures or a video, and what people wrote about them.

    Attributes:
        sentences: of a scene, its things; of two pictures, differences; of a video, what happens.
        timestamps: (start, end) of each sentence, in seconds.
        objects: what is in view at each sentence (first-person).
        title, description: of the whole (story).
        pictures: what is known of each picture (general-difference, story).
    """

    id: str
    images: list[str] = Field(default_factory=list)
    video: str | None = None
    title: str = ""
    description: str = ""
    sentences: list[str] = Field(default_factory=list)
    timestamps: list[tuple[float, float]] = Field(default_factory=list)
    objects: list[list[str]] = Field(default_factory=list)
    pictures: list[PictureFacts] = Field(default_factory=list)

    def fits(self, kind: Kind) -> str | None:
        """What lacks for this kind of preset, or None."""
        if kind in ("video", "first-person"):
            if self.video is None or self.images:
                return "give one 'video' and no 'images'"
            if not self.sentences or len(self.timestamps) != len(self.sentences):
                return (
                    f"{len(self.sentences)} sentences and {len(self.timestamps)} timestamps; give one [start, end] each"
                )
            if any(start < 0 or end < start for start, end in self.timestamps):
                return "a timestamp ends before it begins"
            if kind == "first-person" and self.objects and len(self.objects) != len(self.sentences):
                return f"{len(self.objects)} lists of objects for {len(self.sentences)} sentences"
            return None
        least, most = {"scene": (1, 1), "story": (2, 100)}.get(kind, (2, 2))
        if self.video is not None or not least <= len(self.images) <= most:
            return f"{len(self.images)} images; give {least if least == most else f'{least} to {most}'} and no 'video'"
        if kind in ("scene", "difference"):
            return None if self.sentences else "no sentences"
        if len(self.pictures) != len(self.images):
            return f"{len(self.pictures)} pictures' facts for {len(self.images)} images"
        return None


@dataclass(frozen=True)
class Material:
    """Annotations, and the pairs that a world knows besides."""

    facts: Facts
    known: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Piece:
    """What one item is made of: annotations, and files or pictures that are drawn; a clip has a rate.

    `where` is the file and line of the annotations, if they are of a file.
    """

    id: str
    material: Material
    files: tuple[Path, ...] = ()
    draw: Callable[[], list[Image.Image]] | None = None
    rate: int | None = None
    where: str = ""


def _scene(seed: int, number: int) -> Piece:
    drawn = scenes.scene(seed, number)
    facts = Facts(id=drawn.id, images=["1"], sentences=[*album_facts.things_of(drawn), drawn.captions()[1]])
    return Piece(drawn.id, Material(facts, tuple(album_facts.of_scene(drawn))), draw=lambda: [drawn.draw()])


def _difference(seed: int, number: int) -> Piece:
    album = changes.pair(seed, number)
    told = [album_facts.difference(change) for change in album.changes[0]]
    facts = Facts(id=album.id, images=["1", "2"], sentences=told)
    return Piece(album.id, Material(facts, tuple(album_facts.of_pair(album))), draw=lambda: _drawn(album.scenes))


def _general_difference(seed: int, number: int) -> Piece:
    name = f"two/{seed}/{number}"
    chance = random.Random(name)
    both = (scenes.scene(seed, 2 * number), scenes.scene(seed, 2 * number + 1))
    pictures = [
        PictureFacts(
            captions=one.captions()[:2], objects=[Instance(category=kind, bbox=box) for kind, box in one.boxes()]
        )
        for one in both
    ]
    facts = Facts(id=name, images=["1", "2"], pictures=pictures)
    return Piece(name, Material(facts, tuple(album_facts.of_two(*both, chance))), draw=lambda: _drawn(both))


def _video(seed: int, number: int) -> Piece:
    clip = clips.clip(seed, number)
    told = clip_facts.sentences(clip)
    facts = Facts(
        id=clip.id,
        video="clip",
        sentences=[sentence for _, _, sentence in told],
        timestamps=[(start, end) for start, end, _ in told],
    )
    known = clip_facts.known(clip, random.Random(clip.id))
    pairs = tuple((one.question, one.answer) for one in known)
    return Piece(clip.id, Material(facts, pairs), draw=clip.frames, rate=clips.RATE)


def _first_person(seed: int, number: int) -> Piece:
    walk = walks.walk(seed, number)
    told = walk.narrations()
    facts = Facts(
        id=walk.id,
        video="clip",
        sentences=[sentence for _, _, sentence, _ in told],
        timestamps=[(start, end) for start, end, _, _ in told],
        objects=[names for _, _, _, names in told],
    )
    return Piece(walk.id, Material(facts, tuple(walk.known())), draw=walk.frames, rate=clips.RATE)


def _story(seed: int, number: int) -> Piece:
    album = changes.story(seed, number)
    happened: list[list[str]] = [[], *([album_facts.happening(change) for change in made] for made in album.changes)]
    pictures = [
        PictureFacts(
            title=f"Picture {place}",
            tags=sorted({thing.color for thing in one.things} | {thing.shape for thing in one.things}),
            captions=[one.captions()[0], *told],
        )
        for place, (one, told) in enumerate(zip(album.scenes, happened, strict=True), start=1)
    ]
    facts = Facts(
        id=album.id,
        images=[str(place) for place in range(1, len(pictures) + 1)],
        title=f"Shapes on {album.scenes[0].ground}",
        description=f"{len(pictures)} pictures of one wall, one after the other.",
        pictures=pictures,
    )
    return Piece(album.id, Material(facts, tuple(album_facts.of_story(album))), draw=lambda: _drawn(album.scenes))


def _drawn(drawn: Sequence[scenes.Scene]) -> list[Image.Image]:
    return [one.draw() for one in drawn]


WORLDS: dict[Kind, Callable[[int, int], Piece]] = {
    "scene": _scene,
    "difference": _difference,
    "general-difference": _general_difference,
    "video": _video,
    "first-person": _first_person,
    "story": _story,
}
