"""First of three steps of MM-Instruct: new instructions out of pictures' descriptions and sampled seed instructions.

MM-Instruct (Liu et al., 2024, 234K pairs) is not MMInstruct (973K), and neither is this project.

    description + 3 seeds ──▶ <I1>...</I1> ... ──rules──▶ instructions     (mm-instruct-bank makes general ones of them)

Pictures are those of the world of scenes, or of any data set whose first answer describes its picture. A record asks
for tasks about its picture and lists them; `extra` has them one by one.

Without a model the templates build instructions of the seeds' kinds by a small grammar (`prompts/mm_instruct.yaml`).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mminstruct import formats
from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.replies import require_different, tagged
from mminstruct.building.request import Parameters
from mminstruct.building.rows import records
from mminstruct.building.words import Rarity, rarity, similarity, text_vectors, unit, words
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Media, Message, image, message
from mminstruct.data_builders.worlds import scene_facts
from mminstruct.data_builders.worlds.compositions import Box, many
from mminstruct.data_builders.worlds.scenes import Scene, scene
from mminstruct.errors import DataError, ReplyError
from mminstruct.evidence.facts import facts_of

PROMPTS = Path(__file__).parent / "prompts" / "mm_instruct.yaml"
SHOWN = 3  # seeds in a prompt
LEAST, MOST = 4, 60  # words of an instruction
SAME = 0.95  # the cosine from which an instruction is a copy
TOLD = frozenset({"description", "descriptions", "caption", "captions"})


class Asking(Told):
    question: str


class Shot(Config):
    description: str
    instruction: str
    answer: str


class Answering(Asking):
    shots: list[Shot]


class KindFile(Config):
    seeds: list[str]
    start: list[str]
    core: list[str]
    end: list[str]


class PromptFile(Config):
    expand: Asking
    summarise: Asking
    answer: Answering
    kinds: dict[str, KindFile]


class BankFile(Config):
    instructions: list[str] = Field(min_length=1)


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


@functools.cache
def _seed_kinds() -> dict[str, str]:
    """Every seed instruction with its kind."""
    return {seed: kind for kind, file in prompt_file().kinds.items() for seed in file.seeds}


@functools.cache
def _phrasings() -> tuple[list[str], Rarity, np.ndarray]:
    """The kind of each phrasing, of seeds and of those of the templates, and their vectors of length 1."""
    told = list(_seed_kinds().items())
    for kind, file in prompt_file().kinds.items():
        told += [(f"{core}, {end}".replace("<thing>", "object"), kind) for core in file.core for end in file.end]
    texts = [text for text, _ in told]
    rare = rarity(texts)
    return [kind for _, kind in told], rare, unit(text_vectors(texts, rare))


def kind_of(instruction: str) -> str:
    """The kind of the phrasing that an instruction is nearest to."""
    kinds, rare, vectors = _phrasings()
    return kinds[int((vectors @ text_vectors([instruction], rare)[0]).argmax())]


@dataclass(frozen=True)
class Described:
    """A picture with a text about it.

    Attributes:
        things: names and boxes, where they are known and no two have one name.
        source: its scene, or its file.
        where: what names it, of a data set.
    """

    id: str
    description: str
    things: Sequence[tuple[str, Box]]
    source: Scene | Path
    where: str = ""

    def facts(self) -> dict[str, Any]:
        """For a record's `extra`, where there are any."""
        instances = [{"category": name, "bbox": list(box)} for name, box in self.things]
        return {"facts": {"instances": instances}} if instances else {}

    def media(self, job: Job) -> Media:
        if isinstance(self.source, Scene):
            return job.save(self.source.draw(), self.id)
        return job.copy(self.source, f"{self.id}{self.source.suffix}")


class PictureOptions(Config):
    """Where pictures come from.

    Args:
        scenes: how many procedural pictures, where no data set is given.
        seed: of the scenes.
        descriptions: a data set of any format instead, with one picture a record, and its description as first answer.
        media_root: the folder of its pictures, where that is not the data set's own.
    """

    scenes: int = Field(default=100, ge=1)
    seed: int = 0
    descriptions: Path | None = None
    media_root: Path | None = None


def pictures(options: PictureOptions) -> Iterator[Described | BadItem]:
    """Bad are records without one picture and a description."""
    if options.descriptions is None:
        for number in range(options.scenes):
            drawn = scene(options.seed, number)
            yield Described(drawn.id, scene_facts.caption(drawn), drawn.boxes(), drawn)
        return
    root = formats.media_root(options.descriptions, options.media_root)
    for number, found in enumerate(records(options.descriptions)):
        if isinstance(found, BadItem):
            yield found
            continue
        where, record = found
        told = next((one.text.strip() for one in record.messages if one.role == "assistant"), "")
        if not told or [medium.kind for medium in record.media] != ["image"]:
            problem = (
                f"{where}: {record.id!r} has {len(record.media)} media and {'a' if told else 'no'} description; give "
                f"records of one picture and an answer that describes it"
            )
            yield BadItem(where, DataError(problem))
            continue
        source = formats.media_source(record.media[0].path, root)
        if isinstance(source, str):
            problem = f"{where}: the picture of {record.id!r} is no file; convert with --unpack"
            yield BadItem(where, DataError(problem))
            continue
        try:
            things = _things(record)
        except DataError as error:
            yield BadItem(where, DataError(f"{where}: {error}"))
            continue
        yield Described(f"{options.descriptions.stem}/{number}", told, things, source, where)


def _things(record: Conversation) -> Sequence[tuple[str, Box]]:
    """What a record says is where, if each has a name of its own: else no statement about one would be plain."""
    facts = facts_of(record)
    found = [] if facts is None else [(one.category, one.bbox) for one in facts.instances]
    return found if len({name for name, _ in found}) == len(found) else ()


@dataclass(frozen=True)
class Expanding:
    """Facts of the prompt: what is shown, which seeds, how many instructions are wanted."""

    description: str
    things: Sequence[tuple[str, Box]]
    seeds: Sequence[str]
    count: int


class ExpandPrompt(Prompt[Expanding, list[str]]):
    name = "mm-instruct/expand"
    parameters: ClassVar[Parameters] = Parameters(temperature=1.0, max_tokens=1024)

    def messages(self, facts: Expanding) -> list[Message]:
        file = prompt_file().expand
        told = Told(system=file.system.format(count=facts.count))
        shown = "\n".join(f"- {seed}" for seed in facts.seeds)
        return dialogue(told, file.question.format(description=facts.description, seeds=shown))

    def parse(self, reply: str, facts: Expanding) -> list[str]:
        found = [" ".join(one["I"].split()) for one in tagged(reply, "I")]
        if len(found) != facts.count:
            raise ReplyError(f"there are {len(found)} tasks; write {facts.count}")
        require_different(found)
        return found

    def template(self, facts: Expanding, rng: random.Random) -> str:
        """Each of a seed's kind in turn; `<thing>` is one of the picture's."""
        names = [name for name, _ in facts.things] or ["largest object"]
        written: dict[str, None] = {}
        while len(written) < facts.count:
            kind = prompt_file().kinds[kind_of(facts.seeds[len(written) % len(facts.seeds)])]
            start, core, end = (rng.choice(part) for part in (kind.start, kind.core, kind.end))
            written[f"{start} {core}, {end}.".replace("<thing>", rng.choice(names))] = None
        return "\n".join(f"<I{number}>{one}</I{number}>" for number, one in enumerate(written, start=1))


EXPAND = ExpandPrompt()


def expanding(picture: Described, count: int, chance: random.Random, own: Sequence[str] = ()) -> Expanding:
    """The facts of one picture with seeds by chance: of one's own, or each of another kind."""
    if own:
        shown = chance.sample(own, min(SHOWN, len(own)))
    else:
        kinds = chance.sample(list(prompt_file().kinds), SHOWN)
        shown = [chance.choice(prompt_file().kinds[kind].seeds) for kind in kinds]
    return Expanding(picture.description, picture.things, shown, count)


def unfit(instruction: str, shown: Sequence[str]) -> str | None:
    """The rule that leaves an instruction out, if one does."""
    count = len(words(instruction))
    if not LEAST <= count <= MOST:
        return "an instruction is too short" if count < LEAST else "an instruction is too long"
    if TOLD & set(words(instruction)):
        return "an instruction speaks of the description"
    vectors = text_vectors([instruction, *shown])
    if similarity(vectors[:1], vectors[1:]).max() >= SAME:
        return "an instruction copies a seed"
    return None


class MMInstructExpand(Builder[Described]):
    name = "mm-instruct-expand"
    version = "2"
    summary = "MM-Instruct's first step: new instructions, written by a model of descriptions and seed instructions."
    licence = "Apache-2.0"
    asks = True

    class Options(PictureOptions):
        """What is built, besides `PictureOptions`.

        Args:
            each: instructions a picture.
            seeds: a YAML file with `instructions` of one's own, in place of the seeds that are shown.
        """

        each: int = Field(default=4, ge=1, le=20)
        seeds: Path | None = None

    options: Options

    @functools.cached_property
    def _seeds(self) -> list[str]:
        """Of one's own; none: those of the prompt file."""
        file = self.options.seeds
        return [] if file is None else validate(BankFile, load_yaml(file), where=str(file)).instructions

    def items(self) -> Iterator[Described | BadItem]:
        return pictures(self.options)

    def where(self, item: Described) -> str:
        return item.where

    def count(self) -> int | None:
        return self.options.scenes if self.options.descriptions is None else None

    def make(self, item: Described, job: Job) -> Iterator[Conversation]:
        media = item.media(job)
        facts = expanding(item, self.options.each, job.random, self._seeds)
        answer = job.ask(EXPAND, facts)
        kept = []
        for instruction in answer.value:
            rule = unfit(instruction, facts.seeds)
            if rule is None:
                kept.append(instruction)
            else:
                job.drop(rule)
        if not kept:
            return
        asked = f"\nSuggest {many(len(kept))} {'task' if len(kept) == 1 else 'different tasks'} about this picture."
        listed = "\n".join(f"{number}. {one}" for number, one in enumerate(kept, start=1))
        yield Conversation(
            id=f"mm-instruct-expand/{item.id}",
            messages=[message("user", image(), asked), message("assistant", listed)],
            media=[media],
            task="mm-instruct+expand",
            extra={"instructions": kept, "seeds": list(facts.seeds), "things": [name for name, _ in item.things]}
            | item.facts(),
            provenance=job.provenance([item.id], answer),
        )


BUILDER = MMInstructExpand
