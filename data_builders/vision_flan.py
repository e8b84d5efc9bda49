"""Vision-Flan's way (Xu et al., arXiv 2402.11690): labelled data as many tasks, each with an instruction by hand.

    tasks/vision_flan/TASK.yaml ──source──▶ instance's fields ──input, output──▶ one question with its answer
                                instruction, licence, citation, cap ─────────┘

A task is one YAML file: what it is read from (a world of this project, or a local copy of a public data set), how the
instruction words it, and the templates of what is asked and answered. The text of a conversation is the instruction, a
blank line and the instance's own input; the picture stands behind it, as in the published files. No task gives more
than its cap, and all that are left give alike often from the first item on.

A task over a world asks about pictures until its cap is full; several tasks share a picture.
"""

from __future__ import annotations

import fnmatch
import functools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from mminstruct.building import Builder, Job
from mminstruct.building.builder import BadItem
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Message, Part, Provenance, image, text
from mminstruct.data_builders.sources import WORLDS, Drawn, Files, Row, Source, World
from mminstruct.data_builders.sources.labels import Answer, Choices, lettered, options_for, slot_names
from mminstruct.data_builders.worlds.scenes import Scene
from mminstruct.errors import ConfigError, DataError, did_you_mean

FOLDER = Path(__file__).parent / "tasks" / "vision_flan"
_IDLE = 3000  # pictures of a world without one that a task can ask about, until it is given up
_IMAGE = image()

Split = Literal["train", "heldout", "all"]


class Task(Config):
    """One file of `tasks/vision_flan/`.

    Attributes:
        name: `DATA SET+TASK`.
        citation: of the data set, as BibTeX; records carry its key.
        instructions: the task in an expert's words; a conversation gets one of them.
        input: what stands below the instruction, with slots for fields of the instance, `{options}` too.
        output: the answer's wording, with `{answer}`.
        options: the words to choose from, the field that lists them, or nothing.
        cap: the most conversations that the task gives.
        split: that of the data set which is read.
        held_out: whether the task is for testing on tasks that were not trained.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+\+[a-z0-9-]+$")
    dataset: str
    licence: str
    citation: str = Field(pattern=r"^@\w+\{[^,\s]+,")
    source: Source
    split: str = "train"
    instructions: list[str] = Field(min_length=1)
    input: str = ""
    output: str = "{answer}"
    options: Choices | list[str] | None = None
    answer: Answer = Answer()
    cap: int = Field(default=10_000, ge=1)
    held_out: bool = False

    @field_validator("input", "output")
    @classmethod
    def _slots_are_names(cls, value: str) -> str:
        slot_names(value)
        return value

    @functools.cached_property
    def citation_key(self) -> str:
        return self.citation.partition("{")[2].partition(",")[0]


@functools.cache
def tasks(folder: Path = FOLDER) -> dict[str, Task]:
    """All tasks of a folder by name, in the order of their files. Raises `ConfigError`."""
    found: dict[str, Task] = {}
    for path in sorted(folder.glob("*.yaml")):
        task = validate(Task, load_yaml(path), where=str(path))
        if task.name in found or path.stem != task.name.replace("+", "-"):
            raise ConfigError(f"{path} holds the task {task.name!r}; name the file {task.name.replace('+', '-')}.yaml")
        found[task.name] = task
    return found


@dataclass(frozen=True)
class Instance:
    task: Task
    key: str
    fields: dict[str, Any]
    where: str


@dataclass(frozen=True)
class Picture:
    """A picture, drawn or as a file, and what is asked about it; `name` is where it goes below `images`."""

    id: str
    name: str
    source: Drawn | Path
    asked: tuple[Instance, ...]


class VisionFlan(Builder[Picture]):
    name = "vision-flan"
    version = "2"
    summary = (
        "Vision-Flan's way: expert-written tasks over labelled pictures, of worlds and of your copies of data sets."
    )
    licence = "Apache-2.0 for the worlds; each record of a data set has its own"

    class Options(Config):
        """What is built.

        Args:
            tasks: names or patterns (`charts+*`); left out, all that have their data.
            split: tasks to train on, those held out, or both.
            cap: conversations of each task, where its own cap is not lower.
            folders: where local copies lie, by the name that a task's source has (`folders.vqav2=DIR`).
            task_folder: a folder of your own tasks, beside those that are here.
            per_picture: conversations about one picture at most.
            picture: whether it stands behind the text, as published, before it, or either way.
            seed: of the worlds, and of what is drawn where a data set has more than a cap.
        """

        tasks: list[str] = Field(default=[])
        split: Split = "train"
        cap: int = Field(default=100, ge=1)
        folders: dict[str, Path] = Field(default={})
        task_folder: Path | None = None
        per_picture: int = Field(default=8, ge=1)
        picture: Literal["behind", "before", "either"] = "behind"
        seed: int = 0

    options: Options

    def chosen(self) -> list[Task]:
        """The tasks that are built. Raises `ConfigError` where one that was named cannot be."""
        known = dict(tasks())
        if self.options.task_folder is not None:
            own = tasks(self.options.task_folder)
            if twice := sorted(own.keys() & known.keys()):
                raise ConfigError(f"{self.options.task_folder} has the task {twice[0]!r}, which is there already")
            known |= own
        names = {task.source.folder for task in known.values() if isinstance(task.source, Files)}
        if stray := sorted(self.options.folders.keys() - names):
            raise ConfigError(f"folders: no task reads {stray[0]!r}.{did_you_mean(stray[0], names)}")
        fits = {"train": (False,), "heldout": (True,), "all": (False, True)}[self.options.split]
        found: dict[str, Task] = {}
        for pattern in self.options.tasks or ["*"]:
            if pattern in known:
                task = known[pattern]
                self._require(task, fits)
                found[pattern] = task
                continue
            matching = [known[name] for name in known if fnmatch.fnmatchcase(name, pattern)]
            if not matching:
                raise ConfigError(f"no task is called {pattern!r}.{did_you_mean(pattern, known)}")
            found |= {task.name: task for task in matching if task.held_out in fits and self._has_data(task)}
        if not found:
            raise ConfigError(
                f"no task of {', '.join(self.options.tasks)} with split={self.options.split} has its data; give folders"
            )
        return list(found.values())

    def _require(self, task: Task, fits: tuple[bool, ...]) -> None:
        if task.held_out not in fits:
            other = "heldout" if task.held_out else "train"
            raise ConfigError(f"the task {task.name} is not of split={self.options.split}; add split={other}")
        if not self._has_data(task) and isinstance(task.source, Files):
            raise ConfigError(
                f"the task {task.name} reads a local copy of {task.dataset} ({task.source.layout(task.split)}); "
                f"add folders.{task.source.folder}=DIR"
            )

    def _has_data(self, task: Task) -> bool:
        return isinstance(task.source, World) or task.source.folder in self.options.folders

    def items(self) -> Iterator[Picture | BadItem]:
        """Pictures of all sources, from that on which fewest conversations of each task have been built so far."""
        streams = self._streams()
        built = dict.fromkeys(range(len(streams)), 0)
        while built:
            first = min(built, key=lambda index: (built[index] / streams[index][0], index))
            picture = next(streams[first][1], None)
            if picture is None:
                del built[first]
                continue
            if isinstance(picture, Picture):
                built[first] += len(picture.asked)
            yield picture

    def _streams(self) -> list[tuple[int, Iterator[Picture | BadItem]]]:
        """(number of tasks, pictures) of each source."""
        worlds: dict[str, list[Task]] = {}
        folders: dict[str, list[Task]] = {}
        for task in self.chosen():
            if isinstance(task.source, World):
                worlds.setdefault(task.source.reader, []).append(task)
            else:
                folders.setdefault(task.source.folder, []).append(task)
        return [
            *((len(found), self._of_world(name, found)) for name, found in worlds.items()),
            *((len(found), self._of_folder(name, found)) for name, found in folders.items()),
        ]

    def _of_world(self, world: str, found: list[Task]) -> Iterator[Picture | BadItem]:
        """Pictures of a world, each with those tasks that fit it and have asked least, until all caps are full."""
        counts = dict.fromkeys(range(len(found)), 0)
        last = dict(counts)
        number = 0
        while counts:
            drawn = WORLDS[world].make(self.options.seed, number)
            chance = random.Random(f"vision-flan/{drawn.id}")
            asked: list[Instance] = []
            for index in sorted(counts, key=lambda index: (counts[index], index)):
                task = found[index]
                slots = task.source.slots(drawn, chance) if isinstance(task.source, World) else None
                if slots is None:
                    if number - last[index] > _IDLE:
                        raise ConfigError(
                            f"no picture of {world} fits the task {task.name} any more; ask for another kind"
                        )
                    continue
                asked.append(Instance(task, f"{self.options.seed}/{number}", slots, drawn.id))
                counts[index], last[index] = counts[index] + 1, number
                if counts[index] == min(task.cap, self.options.cap):
                    del counts[index]
                if len(asked) == self.options.per_picture:
                    break
            number += 1
            if asked:
                yield Picture(drawn.id, drawn.id, drawn, tuple(asked))

    def _of_folder(self, folder: str, found: list[Task]) -> Iterator[Picture | BadItem]:
        """Rows that are broken, then pictures of a local copy, shuffled; of a task that has more instances than its cap
        a random part."""
        root = self.options.folders[folder]
        if not root.is_dir():
            raise DataError(f"{root} is no folder; folders.{folder} names that of the local copy")
        pictures: dict[str, list[Instance]] = {}
        told: set[str] = set()  # several tasks read one file
        for task in found:
            rows, bad = self._rows(task, root)
            yield from (one for one in bad if one.id not in told)
            told.update(one.id for one in bad)
            for row in self._drawn(task, rows):
                asked = pictures.setdefault(row.picture, [])
                asked.append(Instance(task, row.key, row.fields, row.where))
        order = sorted(pictures)
        random.Random(f"vision-flan/{self.options.seed}/{folder}").shuffle(order)
        for name in order:
            for start in range(0, len(pictures[name]), self.options.per_picture):
                part = tuple(pictures[name][start : start + self.options.per_picture])
                yield Picture(f"{folder}/{name}/{start}", f"{folder}/{name}", root / name, part)

    def _rows(self, task: Task, root: Path) -> tuple[list[Row], list[BadItem]]:
        """The rows of a task, and those that are broken."""
        if not isinstance(task.source, Files):
            raise TypeError(f"{task.name} is not read of files")
        rows: list[Row] = []
        bad: list[BadItem] = []
        seen: set[str] = set()
        for row in task.source.rows(root, task.split):
            if isinstance(row, BadItem):
                bad.append(row)
                continue
            if row.key in seen:
                raise DataError(f"{row.where}: the key {row.key!r} stands twice; name a field that tells rows apart")
            seen.add(row.key)
            rows.append(row)
        if not rows and not bad:
            raise DataError(f"{root} has no instance of the task {task.name}; check its split and its `where`")
        return rows, bad

    def _drawn(self, task: Task, rows: list[Row]) -> Iterable[Row]:
        most = min(task.cap, self.options.cap)
        if len(rows) <= most:
            return rows
        chance = random.Random(f"vision-flan/{self.options.seed}/{task.name}")
        return (rows[index] for index in sorted(chance.sample(range(len(rows)), most)))

    def make(self, item: Picture, job: Job) -> Iterator[Conversation]:
        if isinstance(item.source, Path):
            media = job.copy(item.source, item.name)
        else:
            media = job.save(item.source.draw(), item.name)
        facts = {"facts": item.source.facts()} if isinstance(item.source, Scene) else {}
        for instance in item.asked:
            task = instance.task
            question, answer, answers, options = worded(instance, job.random)
            yield Conversation(
                id=f"vision-flan/{task.name}/{instance.key}",
                messages=[
                    Message(role="user", content=self._content(question, job.random)),
                    Message(role="assistant", content=[text(answer)]),
                ],
                media=[media],
                options=options,
                answers=answers,
                task=task.name,
                extra={"citation": task.citation_key} | facts,
                provenance=Provenance(builder=self.name, version=self.version, parents=[item.id], licence=task.licence),
            )

    def _content(self, question: str, chance: random.Random) -> list[Part]:
        place = self.options.picture
        if place == "before" or (place == "either" and chance.random() < 0.5):
            return [_IMAGE, text(f"\n{question}")]
        return [text(f"{question}\n"), _IMAGE]


def worded(instance: Instance, chance: random.Random) -> tuple[str, str, list[str], list[str] | None]:
    """(question, answer, right answers, options) of an instance. Raises `DataError` where a field is missing."""
    task, where = instance.task, instance.where
    answers = task.answer.read(instance.fields, chance, where)
    options = options_for(task.options, answers[0], instance.fields, chance, where)
    slots = {**instance.fields, "answer": answers[0]}
    if options is not None:
        slots["options"] = lettered(options)
    try:
        asked, answer = task.input.format_map(slots).strip(), task.output.format_map(slots)
    except KeyError as error:
        raise DataError(f"{where}: the task {task.name} wants the field {error}; check its templates") from None
    question = chance.choice(task.instructions)
    return f"{question}\n\n{asked}" if asked else question, answer, answers, options


BUILDER = VisionFlan
