"""MIMIC-IT's packing: each instruction behind related ones as examples (arXiv 2306.05425, section 3.1).

    data set of any format, or scenes with questions ──▶ Instruction(pictures, question, answer), ...
        in-context    the most alike by picture and by question, each with a picture of its own ─┐
        conversation  the turns before it about the same picture, which is shown once ───────────┴─▶ earlier turns,
                                                                                                     context_ids
What is alike is told by colours and by hashed words, without a model, or by an open_clip model of one's own. An example
that tells the asked answer is never taken. `mminstruct data convert --to mimicit` writes the published files of it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mminstruct import formats
from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.clip import Clip
from mminstruct.building.retrieval import best, picture_features, whole
from mminstruct.building.rows import records
from mminstruct.building.words import text_features, words
from mminstruct.config import Config
from mminstruct.conversation import Conversation, ImagePart, Media, Part, TextPart, image, message, text
from mminstruct.data_builders.worlds.pictures import Source, keep, placed
from mminstruct.data_builders.worlds.questions import questions
from mminstruct.data_builders.worlds.scenes import Scene, scene
from mminstruct.errors import ConfigError, DataError, MediaError, MminstructError
from mminstruct.files import FileState, file_state, sha256_once
from mminstruct.media import image_size, open_image

_ROWS = 256  # of a block whose likeness is held at once


@dataclass(frozen=True)
class Instruction:
    """A question about some pictures and its answer.

    `examples` are those that stand before it, the nearest last; `broken` is what is wrong with the record instead;
    `where` is its place in the source.
    """

    id: str
    question: str = ""
    answer: str = ""
    pictures: tuple[Source, ...] = ()
    keys: tuple[str, ...] = ()  # of the pictures' content
    parent: str = ""
    examples: tuple[Instruction, ...] = ()
    broken: MminstructError | None = None
    where: str = ""


@dataclass(frozen=True)
class Group:
    """Instructions about the same pictures that follow one another, so that these are written once."""

    id: str
    instructions: tuple[Instruction, ...]


class MimicIt(Builder[Group]):
    name = "mimic-it"
    version = "3"
    summary = "MIMIC-IT's packing: instructions of a data set behind related ones as in-context examples."
    licence = "that of the data set"

    class Options(Config):
        """What is packed and how.

        Args:
            source: a data set of any format; left out, questions about scenes.
            format, split: of the source, where it does not say.
            media_root: the folder of the source's pictures; left out, the source's own.
            copy_media: whether pictures become files of the build; otherwise they are named by absolute paths.
            scenes, questions: how many, and how many questions each, where no source is given.
            seed: of the scenes.
            layout: whether examples have pictures of their own or are earlier turns about one picture.
            shots: at most so many examples.
            related: by what examples are found, `both` takes them in turn. (in-context)
            block: instructions are searched among so many neighbours in the source, so large sets need little memory.
            max_uses: an instruction is an example at most so often within a block. (in-context)
            max_words: all examples together have at most so many words; the farthest go first.
            same_answer: take examples that tell the asked answer, as yes or no questions may need.
            clip: the folder of an open_clip model that tells what is alike.
        """

        source: Path | None = None
        format: str | None = None
        split: str | None = None
        media_root: Path | None = None
        copy_media: bool = True
        scenes: int = Field(default=200, ge=1)
        questions: int = Field(default=3, ge=1)
        seed: int = 0
        layout: Literal["in-context", "conversation"] = "in-context"
        shots: int = Field(default=3, ge=0)
        related: Literal["both", "picture", "instruction"] = "both"
        block: int = Field(default=2000, ge=2)
        max_uses: int = Field(default=20, ge=1)
        max_words: int = Field(default=1024, ge=0)
        same_answer: bool = False
        clip: Path | None = None

    options: Options

    def items(self) -> Iterator[Group]:
        found = self._of_scenes() if self.options.source is None else self._of_source(self.options.source)
        packer = _Packer(self.options)
        while block := list(islice(found, self.options.block)):
            whole = [one for one in block if one.broken is None]
            packed = iter(
                packer.conversation(whole) if self.options.layout == "conversation" else packer.in_context(whole)
            )
            ready = (next(packed) if one.broken is None else one for one in block)
            for _, same in groupby(ready, key=lambda one: one.id if one.broken or not one.keys else one.keys):
                group = tuple(same)
                yield Group(group[0].id, group)

    def where(self, item: Group) -> str:
        return item.instructions[0].where

    def _of_scenes(self) -> Iterator[Instruction]:
        for number in range(self.options.scenes):
            drawn = scene(self.options.seed, number)
            asked = questions(drawn)
            step = max(1, len(asked) // self.options.questions)
            # A step that shares no factor with the number of questions: every kind comes, and none twice.
            chosen = [asked[(number + place * step) % len(asked)] for place in range(self.options.questions)]
            for place, (question, answer) in enumerate(dict.fromkeys(chosen)):
                yield Instruction(f"{drawn.id}/{place}", question, answer, (drawn,), (drawn.id,), drawn.id)

    def _of_source(self, source: Path) -> Iterator[Instruction]:
        chosen = self.options.format or formats.detect(source)
        options: dict[str, Any] = {} if self.options.split is None else {"split": self.options.split}
        if formats.embeds(source, chosen, options):
            raise ConfigError(f"the pictures of {source} stand within its files; unpack them by data convert --unpack")
        root = formats.media_root(source, self.options.media_root)
        for found in records(source, chosen, **options):
            if isinstance(found, BadItem):
                yield Instruction(found.id, broken=found.problem, where=found.id)
            else:
                where, record = found
                yield from (replace(one, where=where) for one in _instructions(record, root, where))

    def make(self, item: Group, job: Job) -> Iterator[Conversation]:
        kept: dict[Source, Media] = {}
        for one in item.instructions:
            if one.broken is not None:
                raise one.broken
            for turn in (*one.examples, one):
                for picture in turn.pictures:
                    if picture not in kept:
                        kept[picture] = self._media(picture, job, turn.id)
            yield self._conversation(one, kept, job)

    def _conversation(self, item: Instruction, kept: dict[Source, Media], job: Job) -> Conversation:
        together = self.options.layout == "conversation"
        messages = []
        shown: list[Media] = []
        counts = []
        for turn in (*item.examples, item):
            own = [] if together and shown else [kept[one] for one in turn.pictures]
            shown += own
            counts.append(len(own))
        media, places = placed(shown)
        left = iter(places)
        for turn, count in zip((*item.examples, item), counts, strict=True):
            pictures: list[Part] = [image(next(left)) for _ in range(count)]
            messages += [message("user", *pictures, text(turn.question)), message("assistant", turn.answer)]
        if len(item.examples) < self.options.shots:
            job.drop("fewer examples than shots", self.options.shots - len(item.examples))
        return Conversation(
            id=f"{self.name}/{item.id}",
            messages=messages,
            media=media,
            task=f"{self.name}+{self.options.layout}",
            context_ids=[f"{self.name}/{one.id}" for one in item.examples],
            provenance=job.provenance(list(dict.fromkeys([item.parent, *(one.parent for one in item.examples)]))),
        )

    def _media(self, source: Source, job: Job, where: str) -> Media:
        if self.options.copy_media or isinstance(source, Scene):
            return keep(source, job, where)
        image_size(source)
        return Media(path=str(source.absolute()))


def _instructions(record: Conversation, root: Path, where: str) -> Iterator[Instruction]:
    """Each turn with its answer. A turn without pictures is about those that were shown last."""
    turns = [turn for turn in record.messages if turn.role != "system"]
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2) or not turns:
        yield Instruction(
            record.id, broken=DataError(f"{where}: {record.id!r} is no row of questions and answers; drop it")
        )
        return
    if any(not isinstance(part, TextPart) for turn in turns[1::2] for part in turn.content):
        yield Instruction(record.id, broken=DataError(f"{where}: {record.id!r} has a picture in an answer; drop it"))
        return
    sources: tuple[Source, ...] = ()
    keys: tuple[str, ...] = ()
    for number, (asked, answered) in enumerate(zip(turns[::2], turns[1::2], strict=True)):
        own = [record.media[part.index].path for part in asked.content if isinstance(part, ImagePart)]
        if any(path.startswith("data:") for path in own):
            problem = f"{where}: {record.id!r} has a data: URI; convert the data set first"
            yield Instruction(record.id, broken=DataError(problem))
            return
        if own:
            files = [root / path for path in own]
            try:
                _require(files)
            except MediaError as error:
                yield Instruction(record.id, broken=MediaError(f"{where}: of {record.id!r}, {error}"))
                return
            sources, keys = tuple(files), tuple(sha256_once(file) for file in files)
        name = record.id if len(turns) == 2 else f"{record.id}#{number}"
        yield Instruction(name, asked.text.strip(), answered.text.strip(), sources, keys, record.id)


def _require(files: Sequence[Path]) -> None:
    """Raises `MediaError` for the first that is missing or no whole picture: later, it would end its whole block."""
    for file in files:
        if not file.is_file():
            raise MediaError(f"the picture {file} is not there; check the path, or set media_root")
        _open(file, file_state(file))


@functools.lru_cache(maxsize=4096)  # one picture is asked about again and again
def _open(file: Path, state: FileState | None) -> None:
    """Raises `MediaError` where it cannot be opened."""
    open_image(file)


class _Packer:
    """Chooses the examples of a block's instructions."""

    def __init__(self, options: MimicIt.Options) -> None:
        self.options = options
        self.clip = None if options.clip is None else Clip(options.clip)

    def conversation(self, block: Sequence[Instruction]) -> Iterator[Instruction]:
        """The turns about the same pictures before each, the last ones nearest."""
        before: dict[tuple[str, ...], list[Instruction]] = {}
        for one in block:
            same = before.setdefault(one.keys, [])
            yield self._with(one, reversed(same))
            same.append(one)

    def in_context(self, block: Sequence[Instruction]) -> Iterator[Instruction]:
        """The most alike with other pictures, by picture and by question in turn; each picture gives one example."""
        uses: Counter[str] = Counter()
        apart: dict[str, list[int]] = {}
        for number, one in enumerate(block):
            for key in one.keys:
                apart.setdefault(key, []).append(number)
        wanted = 8 * self.options.shots + 16  # some of which tell the answer or are used up
        for number, (one, likeness) in enumerate(zip(block, self._likeness(block), strict=True)):
            same = {number, *(place for key in one.keys for place in apart[key])}
            for scores in likeness:
                scores[list(same)] = -np.inf
            order = dict.fromkeys(chain.from_iterable(zip(*(best(scores, wanted) for scores in likeness), strict=True)))
            near = (block[place] for place in order if place not in same)
            found = self._with(one, (other for other in near if uses[other.id] < self.options.max_uses), apart=True)
            uses.update(example.id for example in found.examples)
            yield found

    def _with(self, one: Instruction, candidates: Iterable[Instruction], apart: bool = False) -> Instruction:
        """The instruction behind the first candidates that fit, the nearest last; `apart`: no two of one picture."""
        chosen: list[Instruction] = []
        left = self.options.max_words
        for candidate in candidates:
            if len(chosen) == self.options.shots:
                break
            if apart and any(set(candidate.keys) & set(other.keys) for other in chosen):
                continue
            if tells(candidate, one) and not self.options.same_answer:
                continue
            left -= len(candidate.question.split()) + len(candidate.answer.split())
            if left < 0:
                break
            chosen.append(candidate)
        return replace(one, examples=tuple(reversed(chosen)))

    def _likeness(self, block: Sequence[Instruction]) -> Iterator[list[np.ndarray]]:
        """For each instruction how much all of them are like it, [N] for each way; the other way decides among equals.

        Many have the same pictures or the same question, so the products are those of the different ones.
        """
        if not block:
            return
        shown, pictures = _different([one.keys for one in block])
        asked, questions = _different([one.question for one in block])
        told = text_features if self.clip is None else self.clip.text
        seen = whole(np.stack([self._pictures(block[number].pictures) for number in pictures]))
        said = whole(np.stack([told(block[number].question) for number in questions]))
        for start in range(0, len(block), _ROWS):
            rows = slice(start, start + _ROWS)
            for by_picture, by_question in zip(seen[shown[rows]] @ seen.T, said[asked[rows]] @ said.T, strict=True):
                picture, question = by_picture[shown], by_question[asked]
                ways = {"picture": 100 * picture + question, "instruction": picture + 100 * question}
                yield list(ways.values()) if self.options.related == "both" else [ways[self.options.related]]

    def _pictures(self, pictures: Sequence[Source]) -> np.ndarray:
        """The mean over an instruction's pictures; nothing is near one that has none."""
        seen = picture_features if self.clip is None else self.clip.picture
        drawn = [one.draw() if isinstance(one, Scene) else open_image(one) for one in pictures]
        if not drawn:
            return np.zeros_like(seen(scene(0, 0).draw()))
        mean: np.ndarray = np.mean([seen(one) for one in drawn], axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _different(values: Sequence[Hashable]) -> tuple[np.ndarray, list[int]]:
    """Which of the different values each is, [N], and where each of these stands first."""
    numbers: dict[Hashable, int] = {}
    places = np.array([numbers.setdefault(value, len(numbers)) for value in values])
    return places, np.unique(places, return_index=True)[1].tolist()


def tells(example: Instruction, asked: Instruction) -> bool:
    """Whether the asked answer stands within an example, word for word, or the example asks the same of the same."""
    answer = _plain(asked.answer)
    if answer in _plain(example.question) or answer in _plain(example.answer):
        return True
    return example.keys == asked.keys and _plain(example.question) == _plain(asked.question)


@functools.lru_cache(maxsize=10_000)
def _plain(told: str) -> str:
    """A text's words with a space around each, so that words are found whole."""
    return f" {' '.join(words(told))} "


BUILDER = MimicIt
