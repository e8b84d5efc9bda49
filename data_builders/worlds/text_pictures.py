"""Pictures with text, and what is written in them: of a world that knows, or of files that an engine reads.

    worlds, seed ──▶ Poster | Page ─┐
    source=FOLDER ──▶ file ─────────┼─▶ TextPicture ──read──▶ Seen(lines that can be read, agreement)
    source=DATA SET ──▶ file, lines ┘

Builders of text-rich data share this: they say what they ask about the lines.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from mminstruct import formats
from mminstruct.building import BadItem, Builder, Job
from mminstruct.config import Config
from mminstruct.conversation import Media
from mminstruct.data_builders.worlds.poster_texts import LANGUAGES
from mminstruct.data_builders.worlds.posters import Poster, poster
from mminstruct.data_builders.worlds.receipts import Page, form, receipt
from mminstruct.errors import DataError, MediaError
from mminstruct.evidence.agreement import Agreement, agreement
from mminstruct.evidence.engines import EngineName, load_engine
from mminstruct.evidence.given import box_file, box_files, noted
from mminstruct.evidence.ocr import OcrEngine, TextLine, read_at, shrinking
from mminstruct.formats.native import MANIFEST
from mminstruct.media import image_size, open_image

World = Literal["posters", "receipts", "forms"]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
UNKNOWN = "nobody knows what the pictures of a folder say"
LICENCE = "Apache-2.0 of the procedural pictures; that of the pictures otherwise"


class TextOptions(Config):
    """Which pictures, and who reads them.

    Args:
        worlds: procedural pictures, in turn.
        pictures: how many of them.
        seed: of theirs.
        languages: of posters, in turn.
        source: a folder of pictures instead, with those in its subfolders; with engine=given also a data set that such
            a builder wrote, whose pictures are not read again.
        engine: who reads: `known` is the world itself, which knows what it wrote; `given` are annotations.
        annotations: the folder of them, where it is another than the source (`mminstruct/evidence/given.py`).
        second: another engine, which reads the same; how far the two agree is kept with each record.
        tesseract_language: as Tesseract calls it (`eng`, `deu`, `eng+deu`).
        short_edge: pictures are read with at most so many pixels along their shorter edge; null: as they are.
        least_height: of a line, in pixels at that size; smaller ones are left out.
        least_confidence: of an engine in a line.
    """

    worlds: list[World] = Field(default=["posters", "receipts", "forms"], min_length=1)
    pictures: int = Field(default=100, ge=1)
    seed: int = 0
    languages: list[str] = Field(default=list(LANGUAGES), min_length=1)
    source: Path | None = None
    engine: Literal["known", "given", "tesseract", "rapidocr"] = "known"
    annotations: Path | None = None
    second: EngineName | None = None
    tesseract_language: str = "eng"
    short_edge: int | None = Field(default=None, ge=16)
    least_height: float = Field(default=8.0, ge=0)
    least_confidence: float = Field(default=0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _someone_reads(self) -> TextOptions:
        if self.source is not None and self.engine == "known":
            raise ValueError(f"{UNKNOWN}; add engine=rapidocr, engine=tesseract or engine=given")
        if self.source is None and self.engine == "given":
            raise ValueError("engine=given reads annotations of your pictures; add source=FOLDER")
        if self.annotations is not None and self.engine != "given":
            raise ValueError("annotations are read by engine=given; add it, or leave them out")
        if self.second is not None and self.second == self.engine:
            raise ValueError(f"engine and second are both {self.second}; two readings of one engine say nothing")
        if unknown := sorted(set(self.languages) - set(LANGUAGES)):
            raise ValueError(f"no posters are written in {unknown[0]!r}; there are {', '.join(LANGUAGES)}")
        return self


@dataclass(frozen=True)
class TextPicture:
    """A picture of a world, or a file by its name below the folder.

    Attributes:
        given: the file of its annotation, or its lines.
        engine: who read these.
        noted: what a data set says of the file, which was whole when that was built.
    """

    id: str
    source: Poster | Page | Path
    given: Path | tuple[TextLine, ...] | None = None
    engine: str = ""
    noted: Media | None = None


@dataclass(frozen=True)
class Seen:
    """
    Attributes:
        lines: that can be read, places in the picture's pixels.
        second: the second engine's; None without one.
        agreement: of both, before lines were left out.
        size: of the picture, in pixels.
        picture: mode RGB of a file, P of a world; None where nobody has looked at it yet.
    """

    lines: list[TextLine]
    second: list[TextLine] | None
    agreement: Agreement | None
    size: tuple[int, int]
    picture: Image.Image | None

    def scores(self) -> dict[str, float]:
        found = {"ocr_confidence": round(statistics.fmean(line.confidence for line in self.lines), 4)}
        if self.agreement is not None:
            found["ocr_disagreement"] = round(self.agreement.disagreement, 4)
        return found


class TextBuilder(Builder[TextPicture]):
    """What builders of text-rich data have in common."""

    options: TextOptions
    licence = LICENCE

    def __init__(self, options: Config | None = None) -> None:
        super().__init__(options)
        chosen = self.options
        asked = None if chosen.engine in ("known", "given") else chosen.engine
        self.engine = None if asked is None else load_engine(asked, chosen.tesseract_language)
        self.second = None if chosen.second is None else load_engine(chosen.second, chosen.tesseract_language)

    def items(self) -> Iterator[TextPicture | BadItem]:
        chosen = self.options
        if chosen.source is not None:
            if chosen.engine != "given":
                yield from (TextPicture(name, chosen.source / name) for name in _files(chosen.source))
            elif (chosen.source / MANIFEST).is_file():
                yield from _of_records(chosen.source)
            else:
                yield from _annotated(chosen.source, chosen.annotations or chosen.source)
            return
        of_world = {world: 0 for world in chosen.worlds}
        for number in range(chosen.pictures):
            world = chosen.worlds[number % len(chosen.worlds)]
            drawn = _drawn(world, chosen.seed, of_world[world], chosen.languages)
            of_world[world] += 1
            yield TextPicture(drawn.id, drawn)

    def count(self) -> int | None:
        return self.options.pictures if self.options.source is None else None

    def read(self, item: TextPicture, job: Job) -> Seen:
        """What can be read in a picture; `job` counts the lines that are left out.

        Raises:
            MediaError: a file is no whole picture, or an engine failed at it.
        """
        picture, size = self._opened(item)
        first = _known(item) if self.engine is None else self._read_by(self.engine, picture)
        second = None if self.second is None else self._read_by(self.second, picture)
        agreed = None if second is None else agreement(first, second)
        lines = self._readable(first, size, job)
        return Seen(lines, None if second is None else self._readable(second, size, job), agreed, size, picture)

    def save(self, item: TextPicture, seen: Seen, job: Job) -> Media:
        """The picture as it is; a file keeps its bytes."""
        if not isinstance(item.source, Path):
            return job.save(seen.picture or item.source.draw(), item.id)
        if seen.picture is None and item.noted is not None:
            return job.copy_noted(item.source, item.id, item.noted)
        return job.copy(item.source, item.id, seen.picture)

    def _opened(self, item: TextPicture) -> tuple[Image.Image | None, tuple[int, int]]:
        """The picture, where somebody is to look at it, and its size."""
        looked_at = self.engine is not None or self.second is not None
        if not isinstance(item.source, Path):
            return item.source.draw() if looked_at else None, item.source.size
        noted = item.noted
        if noted is not None and noted.width and noted.height and noted.sha256 and not looked_at:
            return None, (noted.width, noted.height)
        picture = open_image(item.source)
        return picture, picture.size

    def where(self, item: TextPicture) -> str:
        return str(item.given) if isinstance(item.given, Path) else ""

    def evidence(self, item: TextPicture, seen: Seen) -> dict[str, Any]:
        """For a record's `extra`: who read what and where, so that other data can be made without reading again."""
        lines = [
            {"text": line.text, "quad": quad, "confidence": round(line.confidence, 3)}
            for line, quad in zip(seen.lines, _shares(seen), strict=True)
        ]
        reading: dict[str, Any] = {
            "engine": item.engine or _called(self.engine),
            "short_edge": self.options.short_edge,
        }
        if self.second is not None and seen.agreement is not None:
            reading |= {"second": _called(self.second), "agreement": seen.agreement.record()}
        return {"facts": {"lines": lines}, "ocr": reading}

    def _read_by(self, engine: OcrEngine, picture: Image.Image | None) -> list[TextLine]:
        assert picture is not None  # opened because there is an engine
        colored = picture if picture.mode == "RGB" else picture.convert("RGB")
        return read_at(engine, colored, self.options.short_edge)

    def _readable(self, lines: Sequence[TextLine], size: tuple[int, int], job: Job) -> list[TextLine]:
        scale = shrinking(size, self.options.short_edge)
        found = []
        for line in lines:
            if line.height * scale < self.options.least_height:
                job.drop("line too small")
            elif line.confidence < self.options.least_confidence:
                job.drop("engine not sure of line")
            else:
                found.append(line)
        return found


def _drawn(world: World, seed: int, number: int, languages: Sequence[str]) -> Poster | Page:
    if world == "posters":
        return poster(seed, number, languages)
    return receipt(seed, number) if world == "receipts" else form(seed, number)


def _known(item: TextPicture) -> list[TextLine]:
    if isinstance(item.given, Path):
        return box_file(item.given)
    if item.given is not None:
        return list(item.given)
    if isinstance(item.source, Path):
        raise DataError(f"{UNKNOWN}; add engine=rapidocr, engine=tesseract or engine=given")
    return item.source.lines()


def _annotated(source: Path, annotations: Path) -> Iterator[TextPicture | BadItem]:
    """Pictures with their annotations; then what is wrong with annotations that belong to none."""
    if not annotations.is_dir():
        raise DataError(f"the folder of annotations {annotations} does not exist; check the option annotations")
    used = set()
    for name in _files(source):
        found = next((path for path in map(annotations.joinpath, box_files(name)) if path.is_file()), None)
        if found is None:
            wanted = " or ".join(box_files(name))
            yield BadItem(
                name,
                DataError(f"{annotations} has no {wanted} for the picture {name}; add it, or take the picture out"),
            )
        else:
            used.add(found)
            yield TextPicture(name, source / name, found, "given")
    for path in sorted({*annotations.rglob("*.csv"), *annotations.rglob("*.txt")} - used):
        yield BadItem(
            str(path), DataError(f"{path} is an annotation of no picture in {source}; add that, or remove this")
        )


def _of_records(source: Path) -> Iterator[TextPicture | BadItem]:
    """The pictures of a data set that has read them, each once, with the lines that were kept."""
    names = set()
    for record in formats.read(source):
        if len(record.media) != 1:
            yield BadItem(
                record.id,
                DataError(
                    f"{source}: {record.id!r} has {len(record.media)} pictures; of one it is known what was read"
                ),
            )
            continue
        name = record.media[0].path.removeprefix("images/")
        if name in names:
            continue
        names.add(name)
        path, media = source / record.media[0].path, record.media[0]
        try:
            size = (media.width, media.height) if media.width and media.height else image_size(path)
            engine, lines = noted(record, size)
        except (DataError, MediaError) as error:
            yield BadItem(record.id, type(error)(f"{source}: {error}"))
            continue
        yield TextPicture(name, path, tuple(lines), engine, media)


def _files(folder: Path) -> list[str]:
    """Names of pictures below a folder."""
    if not folder.is_dir():
        raise DataError(f"the folder of pictures {folder} does not exist; check the option source")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"there is no picture in {folder} (names end in {', '.join(sorted(SUFFIXES))}); check source")
    return [path.relative_to(folder).as_posix() for path in found]


def _shares(seen: Seen) -> list[list[list[float]]]:
    """The lines' quads in shares of the picture; engines see corners of slanting text a little outside of it."""
    quads = np.array([line.quad for line in seen.lines], np.float64).reshape(-1, 4, 2)
    found: list[list[list[float]]] = np.round((quads / seen.size).clip(0, 1), 5).tolist()
    return found


def _called(engine: OcrEngine | None) -> str:
    return "known" if engine is None else f"{engine.name} {engine.version}"
