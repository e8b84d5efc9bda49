"""InstructBLIP's way (Dai et al., arXiv 2305.06500): a bank of templates by kind of task, and balanced data sets.

    draw 0, 1, ... ──data set d with probability ~ sqrt(size of d)──▶ an instance of it ──▶ a template of its kind

`prompts/instructblip.yaml` has ten and more templates for each kind of task (section 2.1), and one file in
`tasks/instructblip/` says of a data set of which kind it is and where it is read from: a world of this project, a task
of `tasks/vision_flan/` (one copy of a data set serves both builders), or files of its own. As in the paper some data
sets are held out, weights can be changed by hand (section 2.4), and four frames stand for a video.
"""

from __future__ import annotations

import functools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mminstruct.building import Builder, Job
from mminstruct.building.builder import BadItem
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Media, Message, Part, Provenance, image, text
from mminstruct.data_builders.sources import WORLDS, Files, Row, Source
from mminstruct.data_builders.sources.labels import Answer, Choices, lettered, options_for, slot_names
from mminstruct.data_builders.vision_flan import tasks as flan_tasks
from mminstruct.data_builders.worlds.appearances import Clip
from mminstruct.data_builders.worlds.charts import Chart
from mminstruct.errors import ConfigError, DataError, did_you_mean
from mminstruct.media import FrameSampling, open_video

FOLDER = Path(__file__).parent / "tasks" / "instructblip"
TEMPLATES = Path(__file__).parent / "prompts" / "instructblip.yaml"
FRAMES = 4  # of a video (section 3.2)
_WINDOW = 64  # draws within which those of one picture are put together

Kind = Literal[
    "captioning",
    "vqa",
    "multiple_choice",
    "question_generation",
    "reading",
    "classification",
    "video",
    "dialogue",
    "llava",
]
_SLOTS: dict[str, set[str]] = {
    "captioning": set(),
    "vqa": {"question"},
    "multiple_choice": {"question", "options"},
    "question_generation": {"answer"},
    "reading": {"question", "text"},
    "classification": {"question", "options"},
    "video": {"question"},
    "dialogue": {"question", "history"},
    "llava": {"question"},
}


class Dataset(Config):
    """One file of `tasks/instructblip/`: of `world`, `task` and `source` exactly one.

    Attributes:
        world: the world, with `asks`, the kinds of questions about its pictures and their wording, and `size`, the
            number that stands for the world in the formula.
        task: a task of `tasks/vision_flan/`, whose source, answer and options are taken over.
        question: the wording of a question of a task or a source; of a question that is to be generated, its answer.
        turns: the field with the turns of a conversation in LLaVA's form, which is taken over whole.
        weight: by hand, for `adjust`.
        cap: the most instances that are used, and that count in the formula.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    kind: Kind
    held_out: bool = False
    world: Literal["scenes", "charts", "clips"] | None = None
    asks: dict[str, str] = Field(default_factory=dict)
    size: int | None = Field(default=None, ge=1)
    task: str | None = None
    source: Source | None = None
    split: str = "train"
    question: str = ""
    turns: str = ""
    answer: Answer = Answer()
    options: Choices | list[str] | None = None
    licence: str = "Apache-2.0"
    citation: str = ""
    weight: float = Field(default=1.0, gt=0)
    cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_source(self) -> Dataset:
        if sum(one is not None for one in (self.world, self.task, self.source)) != 1:
            raise ValueError("give exactly one of world, task and source")
        if self.world is not None:
            if self.size is None or not self.asks:
                raise ValueError("a world wants size and asks")
            known = WORLDS[self.world].questions
            for kind, wording in self.asks.items():
                slot_names(wording)
                if kind not in known:
                    raise ValueError(f"there is no question {kind!r} about {self.world}.{did_you_mean(kind, known)}")
        slot_names(self.question)
        return self


@functools.cache
def datasets() -> dict[str, Dataset]:
    """All data sets by name; those of Vision-Flan's tasks with what these say. Raises `ConfigError`."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        dataset = validate(Dataset, load_yaml(path), where=str(path))
        if path.stem != dataset.name:
            raise ConfigError(f"{path} holds the data set {dataset.name!r}; name the file {dataset.name}.yaml")
        if dataset.task is not None:
            if dataset.task not in flan_tasks():
                raise ConfigError(
                    f"{path}: no task is called {dataset.task!r}.{did_you_mean(dataset.task, flan_tasks())}"
                )
            task = flan_tasks()[dataset.task]
            same = ("source", "split", "answer", "options", "licence", "citation")
            dataset = dataset.model_copy(update={name: getattr(task, name) for name in same})
        found[dataset.name] = dataset
    return found


@functools.cache
def templates() -> dict[str, list[str]]:
    """The templates of each kind. Raises `ConfigError` where one has a slot that its kind does not fill."""
    found: dict[str, list[str]] = load_yaml(TEMPLATES)
    if found.keys() != _SLOTS.keys():
        raise ConfigError(f"{TEMPLATES} has the kinds {', '.join(found)}, not {', '.join(_SLOTS)}")
    for kind, lines in found.items():
        for line in lines:
            if strange := slot_names(line) - _SLOTS[kind]:
                raise ConfigError(f"{TEMPLATES}: {line!r} of {kind} has the slot {sorted(strange)[0]}")
    return found


def probabilities(sizes: Sequence[int], weights: Sequence[float]) -> list[float]:
    """Of each data set, weight * sqrt(size), normalised (section 2.4)."""
    shares = [weight * math.sqrt(size) for size, weight in zip(sizes, weights, strict=True)]
    return [share / sum(shares) for share in shares]


@dataclass(frozen=True)
class Instance:
    """One draw: its number, the data set, and the fields that templates and answer are made of."""

    number: int
    dataset: Dataset
    fields: dict[str, Any]
    question: str
    where: str


@dataclass
class Picture:
    """A picture or a clip and the draws about it; `name` is where it goes below `images`."""

    id: str
    name: str
    source: Any
    asked: list[Instance] = field(default_factory=list)
    used: set[tuple[str, str]] = field(default_factory=set)


class InstructBlip(Builder[Picture]):
    name = "instructblip"
    version = "1"
    summary = (
        "InstructBLIP's way: a bank of templates by kind of task, data sets drawn by the square root of their sizes."
    )
    licence = "Apache-2.0 for the worlds; each record of a data set has its own"

    class Options(Config):
        """What is built.

        Args:
            count: conversations.
            datasets: names; left out, all that have their data.
            split: data sets to train on, those held out, or both.
            folders: where local copies lie, as for vision-flan.
            cap: the most instances of each data set that are used and count in the formula.
            adjust: whether the weights in the data sets' files count too.
            weights: your own, by name, in place of those.
            per_picture: conversations about one procedural picture at most.
            seed: of everything that is drawn.
        """

        count: int = Field(default=1000, ge=1)
        datasets: list[str] = Field(default=[])
        split: Literal["train", "heldout", "all"] = "train"
        folders: dict[str, Path] = Field(default={})
        cap: int | None = Field(default=None, ge=1)
        adjust: bool = False
        weights: dict[str, float] = Field(default={})
        per_picture: int = Field(default=8, ge=1)
        seed: int = 0

    options: Options

    def chosen(self) -> list[Dataset]:
        """The data sets that are drawn from. Raises `ConfigError` where one that was named cannot be."""
        known = datasets()
        for name in [*self.options.datasets, *self.options.weights]:
            if name not in known:
                raise ConfigError(f"no data set is called {name!r}.{did_you_mean(name, known)}")
        folders = {one.source.folder for one in known.values() if isinstance(one.source, Files)}
        if stray := sorted(self.options.folders.keys() - folders):
            raise ConfigError(f"folders: no data set reads {stray[0]!r}.{did_you_mean(stray[0], folders)}")
        fits = {"train": (False,), "heldout": (True,), "all": (False, True)}[self.options.split]
        found = []
        for name in self.options.datasets or known:
            dataset = known[name]
            named = bool(self.options.datasets)
            if dataset.held_out not in fits:
                if named:
                    raise ConfigError(f"the data set {name} is not of split={self.options.split}; choose split=all")
                continue
            if isinstance(dataset.source, Files) and dataset.source.folder not in self.options.folders:
                if named:
                    raise ConfigError(
                        f"the data set {name} reads a local copy ({dataset.source.layout(dataset.split)}); "
                        f"add folders.{dataset.source.folder}=DIR"
                    )
                continue
            found.append(dataset)
        return found

    def weight(self, dataset: Dataset) -> float:
        return self.options.weights.get(dataset.name, dataset.weight if self.options.adjust else 1.0)

    def items(self) -> Iterator[Picture | BadItem]:
        """Rows that are broken, then pictures with what was drawn about them, window by window of draws."""
        chosen = self.chosen()
        rows = {one.name: _Rows(one, self.options) for one in chosen if isinstance(one.source, Files)}
        # Several data sets may read one file.
        yield from {bad.id: bad for one in rows.values() for bad in one.bad}.values()
        if empty := next((one for one in rows.values() if not one.rows), None):
            raise DataError(f"{empty.root} has no instance of {empty.name}; check the copy and its split")
        sizes = [
            min(size, one.cap or size, self.options.cap or size)
            for one in chosen
            for size in [len(rows[one.name].rows) if one.name in rows else one.size or 1]
        ]
        shares = probabilities(sizes, [self.weight(one) for one in chosen])
        chance = random.Random(f"instructblip/{self.options.seed}")
        drawn: Counter[str] = Counter()  # pictures of each world so far
        for start in range(0, self.options.count, _WINDOW):
            window: dict[str, Picture] = {}
            for number in range(start, min(start + _WINDOW, self.options.count)):
                (dataset,) = chance.choices(chosen, shares)
                if dataset.world is not None:
                    self._ask(dataset, number, window, drawn, chance)
                    continue
                row = rows[dataset.name].next()
                name = f"{rows[dataset.name].folder}/{row.picture}"
                new = Picture(f"{start}/{name}", name, rows[dataset.name].root / row.picture)
                picture = window.setdefault(name, new)
                picture.asked.append(Instance(number, dataset, row.fields, dataset.question, row.where))
            yield from window.values()

    def count(self) -> int | None:
        return None

    def _ask(
        self, dataset: Dataset, number: int, window: dict[str, Picture], drawn: Counter[str], chance: random.Random
    ) -> None:
        """A question of a data set about a world's picture in the window, or about a new one."""
        world = dataset.world or ""
        for picture in [one for one in window.values() if one.id.startswith(f"{world}/")]:
            if len(picture.asked) < self.options.per_picture and _asked(dataset, number, picture, chance):
                return
        while True:
            known = WORLDS[world].make(self.options.seed, drawn[world])
            drawn[world] += 1
            picture = Picture(known.id, known.id, known)
            if _asked(dataset, number, picture, chance):
                window[known.id] = picture
                return

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        media = _media(item, job)
        pictures = [image(index) for index in range(len(media))]
        for instance in item.asked:
            dataset = instance.dataset
            if dataset.turns:
                messages, answers, options = _turns(instance, pictures), None, None
            else:
                question, answers, options = worded(instance, job.random)
                messages = [
                    Message(role="user", content=[*pictures, text(f"\n{question}")]),
                    Message(role="assistant", content=[text(answers[0])]),
                ]
            citation = dataset.citation.partition("{")[2].partition(",")[0]
            yield Conversation(
                id=f"instructblip/{dataset.name}/{instance.number}",
                messages=messages,
                media=media,
                options=options,
                answers=answers,
                task=f"instructblip+{dataset.name}",
                extra={"kind": dataset.kind} | ({"citation": citation} if citation else {}),
                provenance=Provenance(
                    builder=self.name, version=self.version, parents=[item.id], licence=dataset.licence
                ),
            )


class _Rows:
    """The rows of a data set of files, in a new order each time that all have been drawn."""

    def __init__(self, dataset: Dataset, options: InstructBlip.Options) -> None:
        if not isinstance(dataset.source, Files):
            raise TypeError(f"{dataset.name} is not read of files")
        self.folder = dataset.source.folder
        self.root = options.folders[self.folder]
        self.name = dataset.name
        found = list(dataset.source.rows(self.root, dataset.split))
        self.rows = [one for one in found if isinstance(one, Row)]
        self.bad = [one for one in found if isinstance(one, BadItem)]
        self._chance = random.Random(f"instructblip/{options.seed}/{dataset.name}")
        self._most = min(len(self.rows), dataset.cap or len(self.rows), options.cap or len(self.rows))
        self._kept = self._chance.sample(range(len(self.rows)), self._most)
        self._left: list[int] = []

    def next(self) -> Row:
        if not self._left:
            self._left = self._chance.sample(self._kept, self._most)
        return self.rows[self._left.pop()]


def _asked(dataset: Dataset, number: int, picture: Picture, chance: random.Random) -> bool:
    """Ask a data set's question about a picture, of a kind that it was not asked; whether there was one."""
    for kind in chance.sample(list(dataset.asks), len(dataset.asks)):
        if (dataset.name, kind) in picture.used:
            continue
        slots = WORLDS[dataset.world or ""].questions[kind](picture.source, chance)
        if slots is not None:
            if isinstance(picture.source, Chart):
                slots["text"] = ", ".join(picture.source.texts())
            picture.used.add((dataset.name, kind))
            picture.asked.append(Instance(number, dataset, slots, dataset.asks[kind], picture.id))
            return True
    return False


def _media(item: Picture, job: Job) -> list[Media]:
    """The picture, or the frames of the video."""
    if isinstance(item.source, Clip):
        return [job.save(frame, f"{item.name}/{index}") for index, frame in enumerate(item.source.frames())]
    if not isinstance(item.source, Path):
        return [job.save(item.source.draw(), item.name)]
    if any(one.dataset.kind != "video" for one in item.asked):
        return [job.copy(item.source, item.name)]
    video = open_video(item.source, FrameSampling(limit=FRAMES))
    return [
        job.save(frame, f"{item.name}/{index}").model_copy(update={"timestamps": [time]})
        for index, (frame, time) in enumerate(zip(video.frames, video.timestamps, strict=True))
    ]


def worded(instance: Instance, chance: random.Random) -> tuple[str, list[str], list[str] | None]:
    """(instruction, right answers, options) of a draw. Raises `DataError` where a field is missing."""
    dataset, fields, where = instance.dataset, instance.fields, instance.where
    answers = dataset.answer.read(fields, chance, where)
    options = options_for(dataset.options, answers[0], fields, chance, where)
    try:
        question = instance.question.format_map(fields)
    except KeyError as error:
        raise DataError(f"{where}: the data set {dataset.name} wants the field {error}; check its file") from None
    slots = {
        "question": question,
        "answer": question.rstrip("."),  # of a question that is to be generated
        "options": lettered(options) if options is not None else "",
        "history": fields.get("history", ""),
        "text": fields.get("text", ""),
    }
    return chance.choice(templates()[dataset.kind]).format_map(slots), answers, options


def _turns(instance: Instance, pictures: Sequence[Part]) -> list[Message]:
    """A conversation of LLaVA's own form: its turns as they are, the picture in front."""
    said = instance.fields.get(instance.dataset.turns)
    messages: list[Message] = []
    for turn in said if isinstance(said, list) else []:
        role = {"human": "user", "gpt": "assistant"}.get(str(turn.get("from"))) if isinstance(turn, dict) else None
        if role != ("user", "assistant")[len(messages) % 2] or not isinstance(turn.get("value"), str):
            raise DataError(f"{instance.where} is not a conversation of human and gpt in turns; mend or drop the row")
        words = turn["value"].replace("<image>", "").strip()
        content: list[Part] = [*pictures, text(f"\n{words}")] if not messages else [text(words)]
        messages.append(Message(role="user" if role == "user" else "assistant", content=content))
    if not messages or len(messages) % 2:
        raise DataError(f"{instance.where} has {len(messages)} turns; a conversation has an answer to each question")
    return messages


BUILDER = InstructBlip
