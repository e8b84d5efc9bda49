"""M2RAG's queries with what was retrieved for them: out of files in its layout, or of a museum that is really searched.

Museum(seed, corpus) ──BM25 over captions and texts, colours of pictures──▶ Query, Query, ...
queries.jsonl + retrieved.jsonl, or + corpora ──────────────────────────────▶ Query, Query, ...
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from mminstruct.building import BadItem
from mminstruct.building.retrieval import Bm25, nearest, picture_features
from mminstruct.data_builders.worlds.exhibits import FACTS, Exhibit, exhibit, other_value
from mminstruct.data_builders.worlds.questions import questions
from mminstruct.data_builders.worlds.scenes import Scene, scene
from mminstruct.errors import DataError, MediaError
from mminstruct.files import JsonLines, each_jsonl
from mminstruct.media import open_image

Task = Literal["image_cap", "mmqa", "fact_verify", "image_rerank"]

# Factify's five classes and the three that M2RAG's prompts promise. Its own script compares where it should assign, so
# the five stay.
CATEGORIES = MappingProxyType(
    {
        "Support_Text": "Support",
        "Support_Multimodal": "Support",
        "Insufficient_Text": "Insufficient",
        "Insufficient_Multimodal": "Insufficient",
        "Refute": "Refute",
    }
)
# How often another question is drawn instead of one that was asked; a small museum has no more at some time.
_TRIES = 20


@dataclass(frozen=True)
class Picture:
    """A file or a scene; `where` is the line that names it."""

    source: Path | Scene
    caption: str = ""
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Query:
    """One item.

    Attributes:
        number: its place among those of its task.
        pictures: those that the query itself has, in order.
        slots: of the prompt.
        retrieved: best first.
        gold: the text, or the caption of the picture, that has the answer, where that is known.
        document: of a claim.
        target: the picture that a caption describes.
        category: of a claim, one of five.
        where: the file and line that it comes from, if any.
    """

    id: str
    task: Task
    number: int
    answer: str
    retrieved: tuple[Picture | str, ...]
    pictures: tuple[Picture, ...] = ()
    slots: dict[str, str] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    gold: str | None = None
    document: str | None = None
    target: Picture | None = None
    category: str | None = None
    parents: tuple[str, ...] = ()
    where: str = ""


class Museum:
    """`size` exhibits that are searched. Pictures to be described are of other scenes, those behind them."""

    def __init__(self, seed: int, size: int, top_k: int) -> None:
        self.seed, self.top_k = seed, top_k
        self.exhibits = [exhibit(seed, number) for number in range(size)]
        self.passages = [one.passage for one in self.exhibits]
        self.labels = [Picture(one.scene, one.caption) for one in self.exhibits]
        self.described = [Picture(one.scene, one.scene.captions()[0]) for one in self.exhibits]

    def queries(self, task: Task, count: int) -> Iterator[Query]:
        makers = {
            "image_cap": self._captions,
            "mmqa": self._questions,
            "fact_verify": self._claims,
            "image_rerank": self._rankings,
        }
        yield from makers[task](count)

    @functools.cached_property
    def _told(self) -> tuple[list[Picture | str], Bm25]:
        """Passages and labels."""
        return [*self.passages, *self.labels], Bm25([*self.passages, *(one.caption for one in self.labels)])

    def _captions(self, count: int) -> Iterator[Query]:
        features = np.stack([picture_features(one.scene.draw()) for one in self.exhibits])
        for number, new in self._new(count):
            near = nearest(picture_features(new.draw()), features, self.top_k)
            yield Query(
                id=f"mm-rait/image_cap/{number}",
                task="image_cap",
                number=number,
                answer=new.captions()[0],
                retrieved=tuple(self.described[one] for one in near),
                pictures=(Picture(new),),
                parents=(new.id,),
            )

    def _questions(self, count: int) -> Iterator[Query]:
        """Every other one is answered by a text, the others by a picture that its label names."""
        corpus, search = self._told
        asked: set[str] = set()
        for number in range(count):
            chance, shown = self._chosen("mmqa", number)
            for _ in range(_TRIES):
                if number % 2 == 0:
                    kind = chance.choice(shown.told)
                    question = shown.question(kind, shown.name, chance)
                    answer, gold = shown.statement(kind, shown.facts[kind], shown.name, chance), shown.passage
                else:
                    question, answer = chance.choice(questions(shown.scene, shown.name))
                    gold = shown.caption
                if question not in asked:
                    break
                shown = chance.choice(self.exhibits)
            asked.add(question)
            yield Query(
                id=f"mm-rait/mmqa/{number}",
                task="mmqa",
                number=number,
                answer=answer,
                retrieved=tuple(corpus[one] for one in search.search(question, self.top_k)),
                slots={"question": question},
                gold=gold if self.top_k else None,
                parents=(shown.scene.id,),
            )

    def _claims(self, count: int) -> Iterator[Query]:
        """The five classes in turn. With `Multimodal` the claim's picture is the document's, with `Text` another."""
        corpus, search = self._told
        claimed: set[str] = set()
        for number in range(count):
            chance, shown = self._chosen("fact_verify", number)
            category = list(CATEGORIES)[number % len(CATEGORIES)]
            label = CATEGORIES[category]
            for _ in range(_TRIES):
                if label == "Insufficient":
                    shown = next(one for one in self._from(shown) if _open(one))
                kind = chance.choice(_open(shown) if label == "Insufficient" else shown.told)
                value = shown.facts[kind]
                value = other_value(kind, value, chance) if label == "Refute" else value
                claim = shown.statement(kind, value, shown.name, chance)
                if claim not in claimed:
                    break
                shown = chance.choice(self.exhibits)
            claimed.add(claim)
            same = category.endswith("Multimodal") or (label == "Refute" and chance.random() < 0.5)
            pictured = shown if same else chance.choice(self._from(shown)[1:])
            own = (shown.number, len(self.exhibits) + shown.number)
            yield Query(
                id=f"mm-rait/fact_verify/{number}",
                task="fact_verify",
                number=number,
                answer=label,
                retrieved=tuple(corpus[one] for one in search.search(claim, self.top_k, own)),
                pictures=(Picture(pictured.scene), Picture(shown.scene)),
                slots={"claim": claim},
                document=shown.passage,
                category=category,
                parents=(shown.scene.id,),
            )

    def _rankings(self, count: int) -> Iterator[Query]:
        search = Bm25([one.caption for one in self.described])
        for number, new in self._new(count):
            caption = new.captions()[0]
            found = search.search(caption, self.top_k + 5)
            near = [self.described[one] for one in found if self.described[one].caption != caption]
            yield Query(
                id=f"mm-rait/image_rerank/{number}",
                task="image_rerank",
                number=number,
                answer="",
                retrieved=tuple(near[: self.top_k]),
                slots={"caption": caption},
                target=Picture(new, caption),
                parents=(new.id,),
            )

    def _new(self, count: int) -> Iterator[tuple[int, Scene]]:
        for number in range(count):
            yield number, scene(self.seed, len(self.exhibits) + number)

    def _from(self, first: Exhibit) -> list[Exhibit]:
        """All exhibits, from one on and round."""
        return [*self.exhibits[first.number :], *self.exhibits[: first.number]]

    def _chosen(self, task: Task, number: int) -> tuple[random.Random, Exhibit]:
        chance = random.Random(f"mm-rait/{task}/{self.seed}/{number}")
        return chance, chance.choice(self.exhibits)


def _open(one: Exhibit) -> list[str]:
    """Facts that nothing tells. A label tells technique and year, whatever the passage does."""
    return [kind for kind in FACTS if kind not in (*one.told, "technique", "year")]


def queries_of_files(
    task: Task,
    queries: Path,
    retrieved: Path | None,
    texts: Path | None,
    pictures: Path | None,
    media_root: Path | None,
    top_k: int,
) -> Iterator[Query | BadItem]:
    """The queries of files in M2RAG's layout.

    Bad are lines that are not as described, of the corpora too, and queries for which the file of candidates has no
    line.
    """
    found = _Retrieved(retrieved, media_root) if retrieved else _Searched(texts, pictures, media_root)
    for number, (line, value) in enumerate(each_jsonl(queries)):
        where = f"{queries}:{line}"
        made: Query | BadItem
        try:
            made = _query(task, number, _Row(value, where, media_root or queries.parent), found, top_k)
        except (DataError, MediaError) as error:
            made = BadItem(where, error)
        yield from found.bad
        found.bad.clear()
        yield made


def _query(task: Task, number: int, row: _Row, found: _Retrieved | _Searched, top_k: int) -> Query:
    """The query of a line. Raises `DataError`, or `MediaError` of its picture."""
    name = row.text("id")
    query: dict[str, Any] = {
        "id": f"mm-rait/{task}/{name}",
        "task": task,
        "number": number,
        "parents": (name,),
        "where": row.where,
    }
    if task in ("image_cap", "image_rerank"):
        caption, own = row.text("caption"), row.picture("image_path")
        if task == "image_rerank":
            near = found.near(row, name, caption, None, top_k, only_pictures=True)
            target = Picture(own.source, caption, own.where)
            others = tuple(one for one in near if isinstance(one, Picture) and one.source != own.source)
            return Query(**query, answer="", retrieved=others, slots={"caption": caption}, target=target)
        near = found.near(row, name, None, own, top_k, only_pictures=True)
        cands = tuple(one for one in near if isinstance(one, str) or one.source != own.source)
        return Query(**query, answer=caption, retrieved=cands, pictures=(own,))
    if task == "mmqa":
        question, answers = row.text("query"), row.texts("answer")
        gold = row.value.get("pos_text") or row.value.get("pos_image_caption")
        return Query(
            **query,
            answer=answers[0],
            answers=answers,
            retrieved=found.near(row, name, question, None, top_k),
            slots={"question": question},
            gold=gold if top_k else None,
        )
    category = row.text("category")
    if category not in {**CATEGORIES, **{label: label for label in CATEGORIES.values()}}:
        raise DataError(f"{row.where}: category is {category!r}; it is one of {', '.join(CATEGORIES)}")
    claim = row.text("claim")
    return Query(
        **query,
        answer=CATEGORIES.get(category, category),
        retrieved=found.near(row, name, claim, None, top_k),
        pictures=(row.picture("claim_image"), row.picture("document_image")),
        slots={"claim": claim},
        document=row.text("document"),
        category=category,
    )


class _Row:
    """One line of a file."""

    def __init__(self, value: Any, where: str, root: Path) -> None:
        if isinstance(value, DataError):  # no JSON
            raise value
        if not isinstance(value, dict):
            raise DataError(f"{where} is a {type(value).__name__}; a line is an object, mend or drop it")
        self.value: dict[str, Any] = value
        self.where, self.root = where, root

    def text(self, *keys: str) -> str:
        """The text, or whole number, under the first of these keys that is there."""
        value = next((self.value[key] for key in keys if key in self.value), None)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DataError(f"{self.where}: {keys[0]!r} must be a text; mend or drop the line")
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.value.get(key)
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
            raise DataError(f"{self.where}: {key!r} must be a text or a list of texts; mend or drop the line")
        return tuple(found)

    def picture(self, key: str, *captions: str) -> Picture:
        caption = self.text(*captions) if any(name in self.value for name in captions) else ""
        return Picture(self.root / self.text(key), caption, self.where)


class _Retrieved:
    """What a file says was retrieved, read again when it is asked for."""

    def __init__(self, path: Path, media_root: Path | None) -> None:
        self.path, self.root = path, media_root or path.parent
        self.rows = JsonLines(path)
        self.places: dict[str, int] = {}
        self.bad: list[BadItem] = []
        for number, (line, value) in enumerate(self.rows):
            where = f"{path}:{line}"
            try:
                row = _Row(value, where, self.root)
                self._candidates(row)
                self.places[row.text("id")] = number
            except DataError as error:
                self.bad.append(BadItem(where, error))

    def _candidates(self, row: _Row) -> tuple[Picture | str, ...]:
        cands = row.value.get("cands")
        if not isinstance(cands, list):
            raise DataError(f"{row.where}: 'cands' must be a list; mend or drop the line")
        return tuple(
            cand if isinstance(cand, str) else _Row(cand, row.where, row.root).picture("image_path", "image_caption")
            for cand in cands
        )

    def near(
        self, row: _Row, name: str, text: str | None, picture: Picture | None, k: int, only_pictures: bool = False
    ) -> tuple[Picture | str, ...]:
        if name not in self.places:
            raise DataError(f"{row.where}: {self.path} has no line of the id {name!r}; search again, or drop the query")
        line, value = self.rows[self.places[name]]
        return self._candidates(_Row(value, f"{self.path}:{line}", self.root))


class _Searched:
    """What BM25 finds in captions and texts, or colours among pictures; of both, what is found is read again."""

    def __init__(self, texts: Path | None, pictures: Path | None, media_root: Path | None) -> None:
        self.texts = None if texts is None else JsonLines(texts)
        self.pictures = None if pictures is None else JsonLines(pictures)
        self.root = media_root or (Path() if pictures is None else pictures.parent)
        self.sources: list[str] = []  # of the pictures
        self.bad: list[BadItem] = []
        self.unusable: set[int] = set()
        self.search = Bm25(self._told())
        self.features: np.ndarray | None = None

    def _told(self) -> Iterator[str]:
        """Captions of all pictures, then all texts."""
        for line, value in () if self.pictures is None else self.pictures:
            try:
                picture = self._picture(line, value)
            except DataError as error:
                self.sources.append("")
                yield self._unusable(len(self.sources) - 1, self.pictures, line, error)
                continue
            self.sources.append(str(picture.source))
            yield picture.caption
        for number, (line, value) in enumerate(() if self.texts is None else self.texts, start=len(self.sources)):
            try:
                told = self._text(line, value)
            except DataError as error:
                told = self._unusable(number, self.texts, line, error)
            yield told

    def _unusable(self, number: int, file: JsonLines | None, line: int, error: DataError | MediaError) -> str:
        """Note a line of a corpus that cannot be used; what is searched instead of it, which is like nothing."""
        assert file is not None
        self.unusable.add(number)
        self.bad.append(BadItem(f"{file.path}:{line}", error))
        return ""

    def _picture(self, line: int, value: Any) -> Picture:
        assert self.pictures is not None
        return _Row(value, f"{self.pictures.path}:{line}", self.root).picture("image_path", "caption")

    def _text(self, line: int, value: Any) -> str:
        assert self.texts is not None
        return _Row(value, f"{self.texts.path}:{line}", self.root).text("text")

    def _at(self, number: int) -> Picture | str:
        if self.pictures is not None and number < len(self.sources):
            return self._picture(*self.pictures[number])
        assert self.texts is not None
        return self._text(*self.texts[number - len(self.sources)])

    def near(
        self, row: _Row, name: str, text: str | None, picture: Picture | None, k: int, only_pictures: bool = False
    ) -> tuple[Picture | str, ...]:
        count = len(self.sources)
        if picture is not None:
            if self.pictures is None or not count:
                return ()
            seen = _features(picture)
            if self.features is None:
                self.features = np.zeros((count, len(seen)), seen.dtype)
                for number, (line, value) in enumerate(self.pictures):
                    if number not in self.unusable:
                        try:
                            self.features[number] = _features(self._picture(line, value))
                        except MediaError as error:
                            self._unusable(number, self.pictures, line, error)
            own = str(picture.source)
            same = {number for number, source in enumerate(self.sources) if source == own}
            return tuple(self._at(one) for one in nearest(seen, self.features, k, same | self.unusable))
        others = 0 if self.texts is None else len(self.texts)
        left_out = range(count, count + others) if only_pictures else ()
        return tuple(self._at(one) for one in self.search.search(text or "", k, left_out))


def _features(picture: Picture) -> np.ndarray:
    if not isinstance(picture.source, Path):
        return picture_features(picture.source.draw())
    try:
        return picture_features(open_image(picture.source))
    except MediaError as error:
        raise MediaError(f"{picture.where}: {error}") from None
