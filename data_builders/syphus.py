"""Syphus (MIMIC-IT, arXiv 2306.05425): questions and answers of annotations, by a preset for each kind of material.

    annotations ──preset──▶ system, examples, user ──model──▶ "Question: ...\\nAnswer: ..." ──checked──▶ pairs

A preset is a YAML file: what the model is told, examples, and rules that replies have to keep; `prompts/syphus-*.yaml`
are six, and a file of one's own works wherever a name does. In the published code the reader of replies is switched off
and its output is raw text; here each reply is read, held to the preset's rules, and sent back where it breaks one.

Without a file of one's own the material is that of worlds whose facts are known, and without a model templates answer
out of them, so all that they say is true.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mminstruct.building import BadItem, Builder, Job
from mminstruct.building.prompt import Example, Prompt, Told, dialogue
from mminstruct.building.replies import require_different
from mminstruct.building.request import Parameters
from mminstruct.building.rows import rows
from mminstruct.config import Config, load_yaml, validate
from mminstruct.conversation import Conversation, Media, Message, Part, VideoPart, image, message
from mminstruct.data_builders.worlds.annotated import WORLDS, Facts, Instance, Kind, Material, Piece
from mminstruct.data_builders.worlds.known import varied
from mminstruct.errors import ConfigError, DataError, ReplyError, did_you_mean
from mminstruct.media import FrameSampling

PROMPTS = Path(__file__).parent / "prompts"
NOT_KEPT = {"id", "images", "video"}  # the record says these itself
MOST_SENTENCES = 50  # of a scene's, as Syphus has it

Pairs = list[tuple[str, str]]


class Rules(Config):
    """What a reply has to keep.

    Attributes:
        least, most: pairs.
        question_words: words of a question, at most.
        never: words that nothing may contain.
        one_of: words of which the pairs contain one at least.
        times: whether clock times and seconds may be named.
        people: whether somebody may be called "person X".
    """

    least: int = Field(default=1, ge=1)
    most: int = Field(default=20, ge=1)
    question_words: int = Field(default=60, ge=3)
    never: list[str] = Field(default_factory=list)
    one_of: list[str] = Field(default_factory=list)
    times: bool = True
    people: bool = True

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Rules:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is above most ({self.most})")
        return self

    def check(self, pairs: Pairs) -> None:
        """Raises `ReplyError`, in words for the model."""
        if not self.least <= len(pairs) <= self.most:
            wanted = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            raise ReplyError(f"there are {len(pairs)} pairs; write {wanted}")
        long = next((question for question, _ in pairs if len(question.split()) > self.question_words), None)
        if long is not None:
            raise ReplyError(f"the question {long!r} has more than {self.question_words} words")
        said = "\n".join(part for pair in pairs for part in pair)
        if found := self._forbidden(said):
            raise ReplyError(f"it says {found!r}, which it must not")
        if self.one_of and not any(_word(word, "").search(said) for word in self.one_of):
            raise ReplyError(f"it says none of {', '.join(self.one_of)}")

    def allow(self, pair: tuple[str, str]) -> bool:
        """Whether a pair may stand in a reply."""
        return len(pair[0].split()) <= self.question_words and self._forbidden("\n".join(pair)) is None

    def _forbidden(self, said: str) -> str | None:
        patterns = [_word(word) for word in self.never]
        patterns += [] if self.times else [_TIME]
        patterns += [] if self.people else [_PERSON]
        found = next(filter(None, (pattern.search(said) for pattern in patterns)), None)
        return None if found is None else found[0]


class Shot(Config):
    """An example: annotations, and the reply as text or as a list of pairs."""

    facts: Facts
    reply: str | list[dict[str, str]]

    def flat(self) -> str:
        """A list of pairs becomes lines of "key: value", as Syphus flattens it."""
        if isinstance(self.reply, str):
            return self.reply.strip()
        return "\n".join(f"{key}: {value}" for pair in self.reply for key, value in pair.items())


class Preset(Config):
    """
    Attributes:
        kind: how annotations are worded.
        digits: of the times that the model is told; Syphus rounds to whole seconds.
    """

    kind: Kind
    system: str
    digits: int = Field(default=1, ge=0, le=3)
    rules: Rules = Rules()
    examples: list[Shot] = Field(default_factory=list)


class SyphusPrompt(Prompt[Material, Pairs]):
    """The reply is a list of (question, answer)."""

    name = "syphus/pairs"
    parameters: ClassVar[Parameters] = Parameters(temperature=0.7, top_p=0.95, max_tokens=3200)

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        shots = [Example(question=worded(preset, shot.facts), reply=shot.flat()) for shot in preset.examples]
        self.told = Told(system=preset.system, examples=shots)

    def messages(self, facts: Material) -> list[Message]:
        return dialogue(self.told, worded(self.preset, facts.facts))

    def parse(self, reply: str, facts: Material) -> Pairs:
        found = lines(reply)
        self.preset.rules.check(found)
        return found

    def template(self, facts: Material, rng: random.Random) -> str:
        """Of what the world knows; of annotations alone, which sentence comes when, and what there is."""
        rules = self.preset.rules
        known = [pair for pair in facts.known or _of_annotations(facts.facts) if rules.allow(pair)]
        count = min(max(rules.least, rng.randint(4, 7)), rules.most)
        chosen = varied(known, lambda pair: pair[0], rng, count)
        return "\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in chosen)


class Syphus(Builder[Piece]):
    name = "syphus"
    version = "1"
    summary = "Syphus (MIMIC-IT): questions and answers of annotated scenes, differences, clips, walks and stories."
    licence = "Apache-2.0"
    asks = True

    class Options(Config):
        """What is built.

        Args:
            preset: video, scene, difference, general-difference, first-person, story, or a YAML file.
            items: how many of the preset's world, where no file is given.
            seed: of the world.
            facts: JSON lines of annotations instead; docs/builders/syphus.md has the keys of each kind.
            media_root: the folder of that file's pictures and videos; left out, the file's own.
            turns: each pair a conversation of its own that names the others, as in MIMIC-IT, or all of them in one.
            frames: takes these frames of a clip as pictures, as MIMIC-IT does, and not the clip.
        """

        preset: str = "video"
        items: int = Field(default=100, ge=1)
        seed: int = 0
        facts: Path | None = None
        media_root: Path | None = None
        turns: Literal["single", "all"] = "single"
        frames: FrameSampling | None = None

    options: Options

    def __init__(self, options: Config | None = None) -> None:
        super().__init__(options)
        self.label, self.preset = preset(self.options.preset)
        self.prompt = SyphusPrompt(self.preset)

    def items(self) -> Iterator[Piece | BadItem]:
        if self.options.facts is None:
            for number in range(self.options.items):
                yield WORLDS[self.preset.kind](self.options.seed, number)
            return
        root = self.options.media_root or self.options.facts.parent

        def piece(where: str, facts: Facts) -> Piece:
            lacks = facts.fits(self.preset.kind)
            if lacks is not None:
                raise DataError(f"{where}: {lacks}, for presets of the kind {self.preset.kind}; mend or drop it")
            names = facts.images if facts.video is None else [facts.video]
            return Piece(facts.id, Material(facts), tuple(root / name for name in names), where=where)

        yield from rows(self.options.facts, Facts, piece)

    def where(self, item: Piece) -> str:
        return item.where

    def count(self) -> int | None:
        return self.options.items if self.options.facts is None else None

    def make(self, item: Piece, job: Job) -> Iterator[Conversation]:
        media = self._media(item, job)
        answer = job.ask(self.prompt, item.material)
        shown: list[Part] = [
            VideoPart(index=index) if medium.kind == "video" else image(index) for index, medium in enumerate(media)
        ]
        name = f"syphus/{self.label}/{item.id}"
        names = [f"{name}/{number}" for number in range(len(answer.value))]
        groups = [[pair] for pair in answer.value] if self.options.turns == "single" else [answer.value]
        for number, group in enumerate(groups):
            messages: list[Message] = []
            for question, reply in group:
                start = [*shown, f"\n{question}"] if not messages else [question]
                messages += [message("user", *start), message("assistant", reply)]
            single = self.options.turns == "single"
            yield Conversation(
                id=names[number] if single else name,
                messages=messages,
                media=media,
                task=f"syphus+{self.label}",
                context_ids=[other for other in names if other != names[number]] if single else None,
                extra={"facts": item.material.facts.model_dump(mode="json", exclude_defaults=True, exclude=NOT_KEPT)},
                provenance=job.provenance([item.id], answer),
            )

    def _media(self, item: Piece, job: Job) -> list[Media]:
        sampling = self.options.frames
        if item.material.facts.video is None:
            if item.draw is not None:
                return [job.save(one, f"{item.id}/{number}") for number, one in enumerate(item.draw(), start=1)]
            return [job.copy(file, name) for file, name in zip(item.files, item.material.facts.images, strict=True)]
        if item.draw is not None:
            drawn, rate = item.draw(), item.rate or 1
            if sampling is None:
                return [job.save_clip(drawn, item.id, rate)]
            taken = [drawn[index] for index in sampling.indices(len(drawn), rate)]
        else:
            clip, video = job.copy_clip(item.files[0], item.material.facts.video, sampling)
            if sampling is None:
                return [clip]
            taken = list(video.frames)
        return [job.save(frame, f"{item.id}/{number}") for number, frame in enumerate(taken, start=1)]


def preset(name: str) -> tuple[str, Preset]:
    """Name and content of a preset, by name or by file. Raises `ConfigError`."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path.stem, validate(Preset, load_yaml(path), where=str(path))
    known = {file.stem.removeprefix("syphus-"): file for file in sorted(PROMPTS.glob("syphus-*.yaml"))}
    if name not in known:
        raise ConfigError(f"no preset of syphus is called {name!r}.{did_you_mean(name, known)}")
    return name, validate(Preset, load_yaml(known[name]), where=str(known[name]))


def lines(reply: str) -> Pairs:
    """(question, answer) of `Question: ...` and `Answer: ...` that take turns; a text may go on over lines.

    Raises:
        ReplyError: other text in front, an empty text, one that stands without the other, a question twice.
    """
    parts: list[tuple[str, str]] = []
    for line in reply.strip().splitlines():
        if match := re.match(r"\s*(Question|Answer):\s*(.*)", line):
            parts.append((match[1], match[2].strip()))
        elif not parts and line.strip():
            raise ReplyError(f"it begins with {line.strip()[:40]!r}; begin with 'Question:' and write nothing else")
        elif parts and line.strip():
            parts[-1] = (parts[-1][0], f"{parts[-1][1]}\n{line.strip()}".strip())
    if not parts:
        raise ReplyError("there is no line that begins with 'Question:'")
    if [label for label, _ in parts] != ["Question", "Answer"] * (len(parts) // 2):
        raise ReplyError("lines with 'Question:' and 'Answer:' must take turns, and a question comes first")
    if any(not content for _, content in parts):
        raise ReplyError("a question or an answer is empty")
    require_different([question for _, question in parts[::2]])
    return [(question, answer) for (_, question), (_, answer) in zip(parts[::2], parts[1::2], strict=True)]


def worded(preset: Preset, facts: Facts) -> str:
    """The user's text of a preset."""
    if preset.kind == "scene":
        chosen = random.Random(f"syphus/{facts.id}").sample(facts.sentences, len(facts.sentences))[:MOST_SENTENCES]
        return "\n".join(chosen)
    if preset.kind == "difference":
        return "\n".join(facts.sentences)
    if preset.kind == "general-difference":
        return "\n\n".join(
            "\n".join([f"Picture {number}:", *one.captions, "objects:", *map(_boxed, one.objects)])
            for number, one in enumerate(facts.pictures, start=1)
        )
    if preset.kind == "video":
        times = [[_rounded(time, preset.digits) for time in pair] for pair in facts.timestamps]
        return f"timestamps: {json.dumps(times)}\nsentences: {json.dumps(facts.sentences, ensure_ascii=False)}"
    if preset.kind == "first-person":
        return "\n\n".join(
            f"timestamp: {_rounded(start, preset.digits)}\ndescription: {sentence}\n"
            f"objects: {', '.join(facts.objects[number]) if facts.objects else '(not noted)'}"
            for number, ((start, _), sentence) in enumerate(zip(facts.timestamps, facts.sentences, strict=True))
        )
    told = [f"album: {facts.title}", f"description: {facts.description}"]
    for number, one in enumerate(facts.pictures, start=1):
        notes = json.dumps(one.captions, ensure_ascii=False)
        told.append(f"\nimage {number}: {one.title}\ntags: {', '.join(one.tags)}\nannotations: {notes}")
    return "\n".join(told)


def _boxed(one: Instance) -> str:
    return f"{one.category}: [{', '.join(f'{edge:.3f}' for edge in one.bbox)}]"


def _rounded(time: float, digits: int) -> float | int:
    return round(time, digits) if digits else round(time)


def _of_annotations(facts: Facts) -> Pairs:
    """What annotations alone answer, where no world knows more."""
    said = [sentence.strip().rstrip(".") for sentence in facts.sentences]
    said += [caption.strip().rstrip(".") for one in facts.pictures for caption in one.captions]
    order = sorted(range(len(facts.timestamps)), key=lambda number: facts.timestamps[number])
    told = [said[number] for number in order] if order else said
    found = [("What can be said of what I see?", f"{'. '.join(told)}.")]
    found += [(f"Is it true that {_clause(sentence)}?", "Yes, you can see that.") for sentence in dict.fromkeys(told)]
    for thing in dict.fromkeys(name for names in facts.objects for name in names):
        found.append((f"Is there any {thing} in front of me?", f"Yes, you can see the {thing} for a while."))
    if order:
        found += [("What comes first, as I see it?", f"{told[0]}."), ("What comes last, as I see it?", f"{told[-1]}.")]
        for before, after in itertools.pairwise(told):
            if told.count(before) == 1:
                found.append((f'What comes after "{before}"?', f"{after}."))
    return found


def _clause(sentence: str) -> str:
    return f"{sentence[0].lower()}{sentence[1:]}" if sentence else sentence


def _word(word: str, plural: str = "s?") -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(word)}{plural}\b", re.IGNORECASE)


_TIME = re.compile(r"\b\d+:\d\d\b|\b\d+(?:\.\d+)?\s*(?:s|secs?|seconds?|minutes?)\b|\btime ?stamps?\b", re.IGNORECASE)
_PERSON = re.compile(r"\b(?:[Pp]erson|[Mm]an|[Ww]oman|[Pp]layer) [A-Z]\b")


BUILDER = Syphus
