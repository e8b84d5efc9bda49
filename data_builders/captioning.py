"""Captions of pictures and clips by a vision-language model: brief, detailed, of so many words, or with their text.

    picture, or frames of a clip ──prompt of a kind──▶ caption ──checked──▶ conversation of one turn

Without a model templates answer: of worlds by what they know, of a folder of one's own by what can be measured.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.prompt import Prompt, Told, dialogue
from mminstruct.building.request import Parameters
from mminstruct.building.rows import rows
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Media, Message, Part, Record, VideoPart, image, message
from mminstruct.data_builders.worlds import album_facts, clip_facts
from mminstruct.data_builders.worlds.clips import Clip, clip
from mminstruct.data_builders.worlds.measured import picture_told
from mminstruct.data_builders.worlds.own_files import OwnFile, own_files, shown, watch
from mminstruct.data_builders.worlds.scenes import NUMBERS, Scene, listed, scene
from mminstruct.errors import DataError, ReplyError
from mminstruct.media import open_image

PROMPTS = Path(__file__).parent / "prompts" / "captioning.yaml"
BRIEF, DETAILED = (3, 25), (20, 400)  # words of these two kinds

Kind = Literal["brief", "detailed", "words", "text"]


class KindFile(Config):
    system: str
    instructions: list[str] = Field(min_length=1)


class PromptFile(Config):
    brief: KindFile
    detailed: KindFile
    words: KindFile
    text: KindFile


@functools.cache
def prompt_file() -> PromptFile:
    return validate(PromptFile, load_yaml(PROMPTS), where=str(PROMPTS))


class Read(Record):
    """A line of a file of text that has been read in pictures or clips: the file's path below the folder, and lines."""

    file: str
    lines: list[str]


@dataclass(frozen=True)
class Seen:
    """What a caption is asked of.

    Attributes:
        what: `picture` or `video`.
        times: of a video's frames, in seconds.
        words: the fewest and the most that the caption may have.
        brief, told: what templates may say: one short sentence, and all sentences.
        lines: of text in it.
    """

    kind: Kind
    what: str
    times: tuple[float, ...]
    words: tuple[int, int]
    brief: str
    told: tuple[str, ...]
    lines: tuple[str, ...] = ()

    def fill(self, text: str) -> str:
        return text.format(what=self.what, least=self.words[0], most=self.words[1])


class CaptionPrompt(Prompt[Seen, str]):
    name = "captioning/caption"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, max_tokens=1024)

    def messages(self, facts: Seen) -> list[Message]:
        file: KindFile = getattr(prompt_file(), facts.kind)
        parts: list[Part | str] = [*shown(facts.times)] if facts.times else [image()]
        if facts.kind == "text":
            parts.append("Lines of text:\n" + "\n".join(facts.lines))
        return dialogue(Told(system=facts.fill(file.system)), *parts)

    def parse(self, reply: str, facts: Seen) -> str:
        caption = " ".join(reply.split())
        count, (least, most) = len(caption.split()), facts.words
        if not least <= count <= most:
            raise ReplyError(f"the caption has {count} words; write {least} to {most}")
        said = _plain(caption)
        if facts.kind == "text" and not any(_plain(line) in said for line in facts.lines if _plain(line)):
            raise ReplyError("none of the lines of text stands in the caption word for word")
        return caption

    def template(self, facts: Seen, rng: random.Random) -> str:
        if facts.kind == "brief":
            return facts.brief
        if facts.kind == "text":
            quoted = [f'"{line}"' for line in facts.lines]
            return f"{facts.brief} The text in it reads {listed(quoted)}."
        if facts.kind == "detailed":
            return " ".join(facts.told)
        chosen: list[str] = []
        for sentence in dict.fromkeys([facts.brief, *rng.sample(facts.told, len(facts.told))]):
            if len(" ".join([*chosen, sentence]).split()) <= facts.words[1]:
                chosen.append(sentence)
        return " ".join(chosen)


@dataclass(frozen=True)
class Item:
    """A scene or clip of the worlds, or a file, with the lines of text that were read in it."""

    id: str
    source: Scene | Clip | OwnFile
    lines: tuple[str, ...] = ()


class Captioning(Builder[Item]):
    name = "captioning"
    version = "2"
    summary = "Captions of pictures and clips by a vision-language model: brief, detailed, of so many words, with text."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            kinds: each gives one conversation a picture or clip; `text` only where lines of text are known.
            world: pictures or clips, where no folder is given.
            items: how many of the world.
            seed: of the world.
            folder: pictures and clips of one's own instead.
            lines: JSON lines {"file", "lines": [...]} of text that was read in files of the folder.
            words: the fewest and the most of the kind `words`.
            frames: of a clip that the model sees.
            frame_side: pixels that no side of such a frame exceeds.
        """

        kinds: list[Kind] = Field(default=["brief", "detailed", "words", "text"], min_length=1)
        world: Literal["scenes", "clips"] = "scenes"
        items: int = Field(default=100, ge=1)
        seed: int = 0
        folder: Path | None = None
        lines: Path | None = None
        words: tuple[int, int] = (10, 40)
        frames: int = Field(default=8, ge=1, le=128)
        frame_side: int = Field(default=448, ge=16)

        @model_validator(mode="after")
        def _words_rise_and_lines_have_a_folder(self) -> Captioning.Options:
            if not 1 <= self.words[0] <= self.words[1]:
                raise ValueError(f"words: {self.words[0]} to {self.words[1]}; give the fewest and the most")
            if self.lines is not None and self.folder is None:
                raise ValueError("lines are of a folder's files; give folder, too")
            return self

    options: Options

    def items(self) -> Iterator[Item | BadItem]:
        if self.options.folder is None:
            for number in range(self.options.items):
                make = scene if self.options.world == "scenes" else clip
                made = make(self.options.seed, number)
                yield Item(made.id, made)
            return
        lines: dict[str, list[str]] = {}
        if self.options.lines is not None:
            yield from _broken(self.options.lines, lines)
        for one in own_files(self.options.folder):
            yield Item(one.id, one, tuple(lines.get(one.id, ())))

    def count(self) -> int | None:
        return self.options.items if self.options.folder is None else None

    def make(self, item: Item, job: Job) -> Iterator[Conversation]:
        medium, shows, times, told = self._look(item, job)
        brief, *rest = told
        for kind in self.options.kinds:
            if kind == "text" and not any(map(_plain, item.lines)):
                job.drop("no lines of text are known")
                continue
            words = {"brief": BRIEF, "detailed": DETAILED, "words": self.options.words}.get(kind, (3, DETAILED[1]))
            what = "picture" if medium.kind == "image" else "video"
            lines = item.lines if kind == "text" else ()
            seen = Seen(kind, what, times, words, brief, tuple(rest), lines)
            answer = job.ask(CaptionPrompt(), seen, shows)
            file: KindFile = getattr(prompt_file(), kind)
            instruction = seen.fill(job.random.choice(file.instructions))
            place: Part = image() if medium.kind == "image" else VideoPart(index=0)
            yield Conversation(
                id=f"captioning/{item.id}/{kind}",
                messages=[message("user", place, f"\n{instruction}"), message("assistant", answer.value)],
                media=[medium],
                task=f"captioning+{kind}",
                extra=_evidence(item.source, lines),
                provenance=job.provenance([item.id], answer),
            )

    def _look(self, item: Item, job: Job) -> tuple[Media, list[Media], tuple[float, ...], list[str]]:
        """The picture or clip, what of it is shown to a model, times of frames, and what templates may say."""
        source = item.source
        if isinstance(source, Scene):
            medium = job.save(source.draw(), source.id)
            captions = source.captions()
            return medium, [medium], (), [captions[1], captions[0], *album_facts.things_of(source), *captions[2:]]
        if isinstance(source, Clip):
            watched = watch(source, job, self.options.frames, self.options.frame_side)
            return watched.clip, watched.frames, watched.times, _clip_told(source)
        if source.kind == "image":
            picture = open_image(source.path)
            medium = job.copy(source.path, source.id, picture)
            return medium, [medium], (), _measured(picture_told(picture), "picture")
        watched = watch(source, job, self.options.frames, self.options.frame_side)
        first = picture_told(watched.pictures[0]).replace("picture of", "video of")
        return watched.clip, watched.frames, watched.times, _measured(first, "video")


def _evidence(source: Scene | Clip | OwnFile, lines: Sequence[str]) -> dict[str, Any] | None:
    found: dict[str, Any] = {"lines": list(lines)} if lines else {}
    if isinstance(source, Scene):
        found["facts"] = source.facts()
    return found or None


def _clip_told(made: Clip) -> list[str]:
    shapes = made.movers()
    scenes = f"{NUMBERS[len(made.shots)]} scene{'s' * (len(made.shots) > 1)}"
    counted = f"{NUMBERS[len(shapes)] if len(shapes) < len(NUMBERS) else len(shapes)} shapes"
    moving = [mover for mover in made.movers() if mover.events][:1] or made.movers()[:1]
    among = listed([f"{clip_facts.a(mover.name)} that {clip_facts.deed(mover)}" for mover in moving])
    grounds = [f"{clip_facts.a(shot.ground)} background" for shot in made.shots]
    told = [f"{scenes.capitalize()} with {counted}, among them {among}.", f"The scenes have {listed(grounds)}."]
    if len(made.shots) == 1:
        told[1] = f"All of it takes place on {grounds[0]}."
    return told + [sentence for _, _, sentence in clip_facts.sentences(made)]


def _measured(first: str, what: str) -> list[str]:
    return [
        first,
        first,
        f"More than its size and its light is not known of this {what}, for no model has looked at it.",
    ]


def _broken(path: Path, found: dict[str, list[str]]) -> Iterator[BadItem]:
    """Puts lines of text into `found`, by file, and gives the lines of another form, or of a file that is there."""

    def put(where: str, read: Read) -> None:
        if read.file in found:
            raise DataError(f"{where}: {read.file} stands twice; put its lines into one")
        found[read.file] = read.lines

    yield from (one for one in rows(path, Read, put) if one is not None)


def _plain(said: str) -> str:
    """Capital letters, punctuation and spaces aside."""
    return " ".join(re.findall(r"\w+", said.casefold()))


BUILDER = Captioning
